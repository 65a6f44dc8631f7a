"""Every file of a run is looked at, and what is wrong is named."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from clearhead.core import run as runs
from clearhead.core.events import Journal, Stepped, Stopped
from clearhead.core.files import MANIFEST, MANIFEST_FORMAT, manifest, sha256, to_json
from clearhead.core.run import Run
from clearhead.store import checkpoint
from clearhead.store.integrity import inspect, measure_room
from clearhead.text.tokenizer import ByteTokenizer, _fingerprint

CONFIG = {"config": {"train": {"log_every": None}}}


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """A run with two saved steps that has ended."""
    run = Run(tmp_path / "r-1")
    with runs.creating(run.path, CONFIG, {}) as folder:
        ByteTokenizer(end=False).save(folder / "tokenizer")
    for step in (5, 10):
        tensors = {"a": torch.full((3, 5), float(step))}
        state = {"step": step, "plan": {}, "best": None}
        checkpoint.save(run, checkpoint.Checkpoint(step, tensors, state, None, {"a/m": tensors["a"] * 2}))
    journal = Journal(run.path)
    clock = {"tokens": 1, "seconds": 1.0}
    for step in range(1, 11):
        journal.write(
            Stepped(step=step, loss=1.0, learning_rate=0.1, grad_norm=1.0, tokens_per_second=1.0, **clock)  # type: ignore[arg-type]
        )
    journal.write(Stopped(step=10, reason="budget", message="", **clock))  # type: ignore[arg-type]
    journal.close()
    (run.path / "report.html").write_text("derived")
    return run


def signed(content: dict[str, Any]) -> dict[str, Any]:
    """Return a tokenizer's description with the fingerprint that fits it."""
    return content | {"fingerprint": _fingerprint(content)}


def write_manifest_of_files(run: Run) -> None:
    """Make the manifest fit a tokenizer that was changed."""
    listed = manifest(run.path)
    file = run.tokenizer / "tokenizer.json"
    listed["tokenizer/tokenizer.json"] = {"bytes": file.stat().st_size, "sha256": sha256(file)}
    (run.path / MANIFEST).write_text(to_json({"format": MANIFEST_FORMAT, "files": listed}))


def test_a_sound_run_is_whole(run: Run) -> None:
    found = inspect(run)
    assert found.whole
    assert (found.troubles, found.leftovers, found.last_good_step) == ((), (), 10)
    listed = [path for path in run.path.rglob("*") if path.is_file() and path.name not in ("report.html", "lock")]
    assert found.files == len(listed) - 1  # events and their seal are compared as one


def swap_steps(run: Run) -> None:
    aside = run.path.parent / "aside"
    run.step_folder(5).rename(aside)
    run.step_folder(10).rename(run.step_folder(5))
    aside.rename(run.step_folder(10))


def swap_files(run: Run) -> None:
    one, other = (run.step_folder(step) / "model.safetensors" for step in (5, 10))
    first = one.read_bytes()
    one.write_bytes(other.read_bytes())
    other.write_bytes(first)


def cut_last_line(run: Run) -> None:
    lines = (run.path / "events.jsonl").read_bytes().splitlines(keepends=True)
    (run.path / "events.jsonl").write_bytes(b"".join(lines[:-1]))


def cut_lines_and_seal(run: Run) -> None:
    (run.path / "events.seal.json").unlink()
    (run.path / "events.jsonl").write_bytes(b"")


def reindent_manifest(run: Run) -> None:
    file = run.step_folder(10) / "manifest.json"
    file.write_bytes(file.read_bytes().replace(b"\n ", b"\n\t", 1))


def escape(run: Run) -> None:
    (run.path.parent / "secret").write_text("x")
    entry = {"bytes": 1, "sha256": "0" * 64}
    (run.path / "manifest.json").write_text(to_json({"format": 1, "files": {"../secret": entry}}))


def put(name: str) -> Callable[[Run], None]:
    def harm(run: Run) -> None:
        (run.path / name).write_text("x")

    return harm


def remove(name: str) -> Callable[[Run], None]:
    return lambda run: (run.path / name).unlink()


@pytest.mark.parametrize(
    ("harm", "named"),
    [
        (swap_steps, "step-10 holds step 5"),
        (swap_files, "step-10/model.safetensors is not what was written"),
        (cut_last_line, "events.jsonl is not what was written"),
        (cut_lines_and_seal, "events.jsonl ends at step 0, and step 10 is saved"),
        (reindent_manifest, "step-10/manifest.json is not a manifest"),
        (escape, "r-1/manifest.json is not a manifest"),
        (put("extra.txt"), "extra.txt does not belong there"),
        (put("tokenizer/extra.txt"), "extra.txt does not belong there"),
        (put("checkpoints/step-5/optimizer-2.safetensors"), "optimizer-2.safetensors does not belong there"),
        (put("checkpoints/step-x"), "step-x does not belong there"),
        (remove("events.jsonl"), "events.jsonl is not what was written"),
        (remove("events.seal.json"), "events.seal.json is missing"),
        (remove("data.json"), "data.json is missing"),
        (remove("manifest.json"), "manifest.json is missing"),
        (remove("checkpoints/step-10/state.json"), "state.json is missing"),
    ],
)
def test_what_is_wrong_is_named(run: Run, harm: Callable[[Run], None], named: str) -> None:
    harm(run)
    found = inspect(run)
    assert not found.whole
    assert any(named in trouble for trouble in found.troubles), found.troubles


def test_the_last_good_step_is_one_to_go_on_from(run: Run) -> None:
    checkpoint.strip(run, 10)
    assert inspect(run).whole
    assert inspect(run).last_good_step == 5
    shutil.rmtree(run.step_folder(5))
    assert inspect(run).last_good_step is None


def test_unfinished_files_are_no_damage(run: Run) -> None:
    before = measure_room(run)
    (run.checkpoints / "step-15.tmp-0123").mkdir()
    (run.checkpoints / "step-15.tmp-0123" / "model.safetensors").write_bytes(bytes(700))
    (run.step_folder(5) / "manifest.json.tmp-0123").write_bytes(bytes(11))
    found = inspect(run)
    assert found.whole
    assert len(found.leftovers) == 2
    room = measure_room(run)
    assert room.leftovers == 711
    assert room.total == before.total + 711
    runs.remove_leftovers(run)
    assert measure_room(run) == before


def test_a_stripping_that_was_cut_short_is_finished(run: Run) -> None:
    kept = (run.step_folder(5) / "optimizer.safetensors").read_bytes()
    checkpoint.strip(run, 5)
    (run.step_folder(5) / "optimizer.safetensors").write_bytes(kept)
    assert "optimizer.safetensors does not belong there" in inspect(run).troubles[0]
    checkpoint.finish_stripping(run)
    assert inspect(run).whole
    assert checkpoint.is_resumable(run.step_folder(10))
    (run.step_folder(10) / "manifest.json").unlink()
    checkpoint.finish_stripping(run)
    assert (run.step_folder(10) / "optimizer.safetensors").exists()


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ({"format": 99}, "newer version"),
        ({"kind": "byte", "format": 1}, "fingerprint"),
        (signed({"format": 1}), "does not hold what its kind"),
        (signed({"format": 1, "kind": "word"}), "does not hold what its kind"),
    ],
)
def test_a_tokenizer_that_cannot_be_read_is_named_though_its_hash_fits(
    run: Run, content: dict[str, Any], said: str
) -> None:
    (run.tokenizer / "tokenizer.json").write_text(to_json(content))
    write_manifest_of_files(run)
    found = inspect(run)
    assert len(found.troubles) == 1
    assert "tokenizer.json" in found.troubles[0]
    assert said in found.troubles[0]
