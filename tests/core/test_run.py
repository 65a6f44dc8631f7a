"""How a run is named, found and laid down."""

import json
from pathlib import Path

import pytest

from clearhead.core import run as runs
from clearhead.core.errors import DamagedFile, NewerFormat, UserError
from clearhead.core.migrations import FORMAT
from clearhead.core.run import Run


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("CLEARHEAD_RUNS", str(tmp_path / "runs"))
    return tmp_path / "runs"


def lay_down(path: Path) -> Run:
    with runs.creating(path, {"name": path.name}, {"names": []}) as inside:
        (inside / "extra.bin").write_bytes(b"abc")
    return Run(path)


def test_a_run_appears_whole(folder: Path) -> None:
    run = lay_down(folder / "a-1")
    run.verify()
    assert run.describe() == {"format": FORMAT, "name": "a-1"}
    assert [entry.name for entry in folder.iterdir()] == ["a-1"]


@pytest.mark.parametrize("name", ["run.json", "data.json", "extra.bin"])
def test_a_changed_file_is_named(folder: Path, name: str) -> None:
    run = lay_down(folder / "a-1")
    file = run.path / name
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(DamagedFile, match=name):
        run.verify()


def test_runs_are_found_by_path_name_and_last(folder: Path) -> None:
    lay_down(folder / "a-1")
    second = lay_down(folder / "b-1")
    assert runs.find("a-1").path == folder / "a-1"
    assert runs.find(str(folder / "a-1")).path == folder / "a-1"
    assert runs.find("last") == second


@pytest.mark.parametrize(("text", "step"), [("a-1", "best"), ("a-1@7", 7), ("a-1@best", "best"), ("a-1@last", "last")])
def test_a_step_can_be_named(folder: Path, text: str, step: int | str) -> None:
    lay_down(folder / "a-1")
    assert runs.select(text, "best").step == step


@pytest.mark.parametrize(
    ("text", "sentence"),
    [("a-2", 'Did you mean "a-1"'), ("a-1@x", "no step of a run"), ("a-1@-3", "no step"), ("zzz", "no run zzz")],
)
def test_what_is_not_there_is_said(folder: Path, text: str, sentence: str) -> None:
    lay_down(folder / "a-1")
    with pytest.raises(UserError, match=sentence):
        runs.select(text, "best")


def test_without_runs_last_says_how_to_make_one(folder: Path) -> None:
    with pytest.raises(UserError, match="clearhead train"):
        runs.find("last")


def test_new_runs_are_numbered(folder: Path) -> None:
    assert runs.new_path("my text!").name == "my-text-1"
    lay_down(runs.new_path("my text!"))
    assert runs.new_path("my text!").name == "my-text-2"
    assert runs.new_path("...").name == "run-1"


def test_an_occupied_place_is_refused(folder: Path) -> None:
    run = lay_down(folder / "a-1")
    with pytest.raises(UserError, match="exists already"):
        lay_down(run.path)
    (folder / "empty").mkdir()
    lay_down(folder / "empty").verify()


def test_a_newer_format_is_refused(folder: Path) -> None:
    run = lay_down(folder / "a-1")
    (run.path / "run.json").write_text(json.dumps({"format": FORMAT + 1}))
    with pytest.raises(NewerFormat, match=f"format {FORMAT + 1}"):
        run.describe()


@pytest.mark.parametrize("content", ["[]", "{}", '{"format": "1"}', ""])
def test_what_is_no_run_is_refused(folder: Path, content: str) -> None:
    run = lay_down(folder / "a-1")
    (run.path / "run.json").write_text(content)
    with pytest.raises(DamagedFile, match=r"run\.json"):
        run.describe()


def test_steps_are_sorted_as_numbers_and_leftovers_removed(folder: Path) -> None:
    run = lay_down(folder / "a-1")
    for name in ("step-9", "step-10", "step-11.tmp-ab", "other"):
        (run.checkpoints / name).mkdir(parents=True)
    assert run.steps() == [9, 10]
    runs.remove_leftovers(run)
    assert sorted(entry.name for entry in run.checkpoints.iterdir()) == ["other", "step-10", "step-9"]
