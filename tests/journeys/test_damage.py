"""Runs that are damaged, complete, or of a later time: every verb says what is wrong and what to do."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from clearhead.core.files import MANIFEST, sha256, to_json

if TYPE_CHECKING:
    from conftest import Terminal


def from_the_future(file: Path) -> None:
    """Give a file a format that is not known yet; its hash fits."""
    file.write_text(to_json(json.loads(file.read_text()) | {"format": 99}))
    folder = next(parent for parent in file.parents if (parent / MANIFEST).exists())
    if file.name != MANIFEST:
        listed = json.loads((folder / MANIFEST).read_text())
        listed["files"][file.relative_to(folder).as_posix()] = {"bytes": file.stat().st_size, "sha256": sha256(file)}
        (folder / MANIFEST).write_text(to_json(listed))


READING = [
    ["sample", "story-1", "--num-tokens", "5"],
    ["eval", "story-1"],
    ["train", "--resume", "story-1", "--steps", "30"],
    ["runs", "show", "story-1"],
    ["runs", "reproduce", "story-1"],
    ["export", "story-1", "eject", "--to", "ejected"],
]


@pytest.mark.parametrize(
    "name",
    [MANIFEST, "run.json", "data.json", f"checkpoints/step-20/{MANIFEST}", "checkpoints/step-20/state.json"],
)
def test_a_newer_format_is_refused_by_every_verb(terminal: Terminal, own_run: Path, name: str) -> None:
    from_the_future(own_run / name)
    for command in READING:
        said = terminal.refused(*command)
        assert re.search(rf"{name} was written by a newer version of clearhead: .* format 99.*; update clearhead", said)
    answer = terminal.type("runs", "verify", "story-1")
    assert answer.code == 2
    assert f"{name} was written by a newer version of clearhead" in answer.out


@pytest.mark.parametrize("name", [MANIFEST, "run.json"])
def test_the_other_runs_are_listed_beside_one_of_a_newer_format(terminal: Terminal, own_run: Path, name: str) -> None:
    shutil.copytree(own_run, own_run.with_name("story-2"))
    from_the_future(own_run / name)
    strange, known = sorted(terminal.do("runs", "list", "--json").json, key=lambda row: row["run"])
    assert "was written by a newer version of clearhead" in strange["trouble"]
    assert known["step"] == 20
    said = terminal.do("runs", "list").out
    assert re.search(rf"story-1 .*cannot be read: .*{name} was written by a newer version", said)
    assert "story-2" in said


def damage(run: Path, *steps: int) -> None:
    for step in steps:
        file = run / "checkpoints" / f"step-{step}" / "model.safetensors"
        file.write_bytes(file.read_bytes()[:-1])


def test_a_damaged_step_is_passed_over_for_one_that_is_named(terminal: Terminal, own_run: Path) -> None:
    damage(own_run, 20)
    for command in (["sample", "last", "--num-tokens", "5"], ["eval", "last"], ["sample", "last@last"]):
        said = terminal.do(*command).err
        assert re.fullmatch(
            r"\S+step-20/model.safetensors is not what was written: .*; using step 15 instead\.\n", said
        )
    assert re.search(
        r"step-20/model.safetensors .*; runs/story-1@15 is whole\.$", terminal.refused("sample", "last@20")
    )
    resumed = terminal.do("train", "--resume", "last", "--steps", "22")
    assert "at step 15" in resumed.err
    assert "using step 15 instead" in resumed.out


def test_without_a_whole_step_the_way_on_is_told(terminal: Terminal, own_run: Path) -> None:
    damage(own_run, 15, 20)
    said = terminal.refused("sample", "last")
    assert re.search(
        r"No saved step .*step-20/model\.safetensors .*; clearhead runs verify runs/story-1 names all", said
    )
    (own_run / "tokenizer" / "tokenizer.json").write_text("{}")
    said = terminal.refused("eval", "last")
    assert "tokenizer.json is not what was written" in said
    assert "put it back from a copy (clearhead runs verify runs/story-1 names all that is damaged)" in said


def test_a_run_that_is_complete_says_how_to_make_it_longer(terminal: Terminal, own_run: Path) -> None:
    said = terminal.do("train", "--resume", "last").out
    assert "The run is complete already, at step 20; " in said
    assert re.search(r" train --resume story-1 --steps 40 makes it longer\.\n", said)
    assert terminal.do("train", "--resume", "last", "--json").json["reason"] == "budget"


def test_what_cannot_train_here_is_refused_before_there_is_a_run(terminal: Terminal) -> None:
    terminal.write("story.txt", "The cat sat on the mat.\n" * 40)
    said = terminal.refused("train", "story.txt", "--steps", "3", "--preset", "tiny", "--model.kernel", "flex")
    assert "The flex kernel cannot do this here" in said
    assert said.endswith("set model.kernel = fused.")
