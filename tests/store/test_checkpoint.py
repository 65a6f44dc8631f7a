"""Steps on disk: whole, checked, fallen back from, and rotated."""

import re
from itertools import pairwise
from pathlib import Path

import pytest
import torch

from clearhead.core.errors import DamagedFile, NewerFormat, UserError
from clearhead.core.run import Run
from clearhead.store import checkpoint
from clearhead.store.checkpoint import Checkpoint

TENSORS = {"a.weight": torch.arange(15.0).view(3, 5), "b": torch.tensor(2.0)}


def stored(run: Run, step: int, best: int | None = None, *, resumable: bool = True) -> Path:
    named = None if best is None else {"step": best, "nats_per_token": 1.0, "weights": "raw"}
    optimizer = {"a.weight/momentum": torch.ones(3, 5) * step} if resumable else None
    return checkpoint.save(run, Checkpoint(step, TENSORS, {"step": step, "best": named}, None, optimizer))


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return Run(tmp_path / "r")


def test_everything_comes_back_to_the_bit(run: Run) -> None:
    stored(run, 7)
    back = checkpoint.load(run, 7)
    assert all(torch.equal(back.model[name], TENSORS[name]) for name in TENSORS)
    assert back.optimizer is not None
    assert torch.equal(back.optimizer["a.weight/momentum"], torch.ones(3, 5) * 7)
    assert back.state == {"step": 7, "best": None}
    assert back.average is None


@pytest.mark.parametrize("name", ["model.safetensors", "optimizer.safetensors", "state.json", "manifest.json"])
@pytest.mark.parametrize("damage", ["flip", "cut", "remove"])
def test_damage_is_refused_by_name(run: Run, name: str, damage: str) -> None:
    file = stored(run, 7) / name
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 4
    if damage == "remove":
        file.unlink()
    else:
        file.write_bytes(bytes(content) if damage == "flip" else bytes(content[: len(content) // 2]))
    with pytest.raises(DamagedFile) as refused:
        checkpoint.load(run, 7)
    assert name in str(refused.value) or "manifest" in name


def test_the_newest_whole_step_is_found(run: Run) -> None:
    stored(run, 5)
    stored(run, 10)
    broken = stored(run, 20) / "model.safetensors"
    broken.write_bytes(broken.read_bytes()[:-1])
    step, notices = checkpoint.newest(run)
    assert step == 10
    assert len(notices) == 1
    assert str(broken) in str(notices[0])


def test_without_a_whole_step_it_says_so(run: Run) -> None:
    with pytest.raises(UserError, match="no saved step"):
        checkpoint.newest(run)
    (stored(run, 5) / "state.json").unlink()
    with pytest.raises(DamagedFile, match="No saved step"):
        checkpoint.newest(run)


def test_a_step_that_is_being_written_does_not_count(run: Run) -> None:
    stored(run, 5)
    (run.checkpoints / "step-9.tmp-0123").mkdir()
    assert run.steps() == [5]


def test_an_optimizer_without_memory_can_be_resumed_from(run: Run) -> None:
    checkpoint.save(run, Checkpoint(3, TENSORS, {"step": 3, "best": None}, None, {}))
    stored(run, 4, resumable=False)
    assert checkpoint.newest(run)[0] == 3
    assert checkpoint.load(run, 3).optimizer == {}


def test_rotation_keeps_the_best_and_the_newest_two(run: Run) -> None:
    for step in (1, 2, 3, 4, 5):
        stored(run, step, best=2)
    checkpoint.rotate(run, "newest", frozenset())
    assert run.steps() == [2, 4, 5]


def test_rotation_leaves_the_weights_of_spaced_steps(run: Run) -> None:
    for step in (1, 2, 3, 4, 5):
        stored(run, step, best=5)
    checkpoint.rotate(run, "spaced", frozenset({1, 3}))
    assert run.steps() == [1, 3, 4, 5]
    assert checkpoint.load(run, 1).optimizer is None
    assert checkpoint.load(run, 4).optimizer
    assert checkpoint.newest(run)[0] == 5


def test_rotation_keeps_all_where_asked(run: Run) -> None:
    for step in (1, 2, 3):
        stored(run, step, best=3)
    checkpoint.rotate(run, "all", frozenset())
    assert run.steps() == [1, 2, 3]


def test_a_step_kept_to_be_looked_at_becomes_resumable(run: Run) -> None:
    stored(run, 4, resumable=False)
    with pytest.raises(UserError):
        checkpoint.newest(run)
    stored(run, 4)
    assert checkpoint.newest(run)[0] == 4


def test_the_best_step_stands_in_the_newest_state(run: Run) -> None:
    stored(run, 3, best=3)
    stored(run, 6, best=3)
    assert checkpoint.best(run)[:2] == (3, "raw")
    (run.step_folder(3) / "model.safetensors").unlink()
    step, _, troubles = checkpoint.best(run)
    assert step == 6
    said = "The best step is damaged: .*step-3/model.safetensors is missing; using step 6 instead."
    assert re.fullmatch(said, *checkpoint.passed_over(troubles, step))


def test_how_many_steps_were_passed_over_is_told(run: Run) -> None:
    for step in (5, 10, 20):
        stored(run, step)
    for step in (10, 20):
        (run.step_folder(step) / "state.json").unlink()
    step, troubles = checkpoint.newest(run)
    (said,) = checkpoint.passed_over(troubles, step)
    assert said.endswith("step-20/state.json is missing; using step 5 instead (and 1 more damaged).")
    assert checkpoint.passed_over([], step) == ()


def test_a_newer_format_is_refused(run: Run) -> None:
    from clearhead.core.files import write_manifest

    folder = stored(run, 7)
    (folder / "state.json").write_text('{"format": 99}')
    (folder / "manifest.json").unlink()
    write_manifest(folder)
    with pytest.raises(NewerFormat, match="99"):
        checkpoint.load(run, 7)


def test_spaced_steps_are_dense_at_first() -> None:
    steps = sorted(checkpoint.log_spaced(10_000))
    assert len(steps) == 31
    assert (steps[0], steps[-1]) == (1, 10_000)
    ratios = [right / left for left, right in pairwise(steps) if left >= 10]
    assert max(ratios) / min(ratios) < 1.1


def test_a_short_run_does_not_keep_every_step() -> None:
    assert sorted(checkpoint.log_spaced(20)) == [1, 2, 3, 4, 6, 7, 10, 13, 18]


@pytest.mark.parametrize("steps", [1, 2, 5, 23, 700])
def test_a_run_that_is_made_longer_keeps_its_spaced_steps(steps: int) -> None:
    assert checkpoint.log_spaced(steps) == {step for step in checkpoint.log_spaced(10 * steps) if step <= steps}


def test_weights_that_do_not_fit_are_refused() -> None:
    layer = torch.nn.Linear(3, 2)
    with pytest.raises(DamagedFile, match="bias"):
        checkpoint.load_model_tensors(layer, {"weight": torch.zeros(2, 3)})
    with pytest.raises(DamagedFile, match="weight"):
        checkpoint.load_model_tensors(layer, {"weight": torch.zeros(3, 3), "bias": torch.zeros(2)})


def test_shared_weights_are_stored_once() -> None:
    tied = torch.nn.ModuleDict({"a": torch.nn.Linear(3, 3, bias=False), "b": torch.nn.Linear(3, 3, bias=False)})
    tied["b"].weight = tied["a"].weight
    assert list(checkpoint.model_tensors(tied)) == ["a.weight"]


def test_a_damaged_older_step_does_not_end_the_run(run: Run) -> None:
    for step in (1, 2, 3):
        stored(run, step, best=3)
    (run.step_folder(1) / "manifest.json").write_text("?")
    checkpoint.rotate(run, "newest", frozenset())
    assert run.steps() == [2, 3]


def test_nothing_is_removed_while_the_newest_step_is_damaged(run: Run) -> None:
    for step in (1, 2, 3, 4):
        stored(run, step, best=4)
    (run.step_folder(4) / "state.json").unlink()
    checkpoint.rotate(run, "newest", frozenset())
    assert run.steps() == [1, 2, 3, 4]


def test_a_step_in_the_place_of_another_is_refused(run: Run) -> None:
    stored(run, 1)
    stored(run, 2).rename(run.step_folder(3))
    with pytest.raises(DamagedFile, match="step-3 holds step 2"):
        checkpoint.load(run, 3)
    assert checkpoint.newest(run)[0] == 1
