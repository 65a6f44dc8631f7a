"""A run is trained anew from its own record."""

from pathlib import Path
from typing import Any

import pytest

from clearhead.core.config import merge
from clearhead.core.errors import UserError
from clearhead.core.run import Run, Selection
from clearhead.store import checkpoint
from clearhead.training import fit
from clearhead.training.recipes import recipe
from clearhead.training.reproduce import recorded_plans, reproduce

SMALL: dict[str, Any] = {
    "train.threads": 1,
    "train.evaluate_every": 3,
    "train.sample_tokens": 5,
    "train.steps": 6,
    "train.sequences_per_step": 6,
    "train.averaging": 0.9,
    "model.num_layers": 1,
    "model.num_heads": 2,
    "model.width": 12,
    "model.context_length": 13,
    "model.dropout": 0.2,
}


def train(place: Path, **changes: Any) -> Run:
    session = fit.create([place / "text.txt"], merge(recipe("tiny"), {**SMALL, **changes}))
    list(fit.train(session, stop_after=5))
    return session.run


def test_a_run_that_was_stopped_and_made_longer_comes_out_the_same(place: Path) -> None:
    run = train(place)
    list(fit.train(fit.resume(Selection(run, "last"), steps_in_all=8)))
    assert [plan.steps for plan in recorded_plans(run).values()] == [6, 8]
    seen = []
    found = reproduce(run, place / "again", seen.append)
    assert found.equal
    assert found.reasons == ()
    assert {"step-3/model.safetensors", "step-4/model.safetensors", "step-8/average.safetensors"} <= {
        each.name for each in found.compared
    }
    assert {"validation.bin", "tokenizer/tokenizer.json"} <= {each.name for each in found.compared}
    assert max(event.step for event in seen) == 8


def test_another_run_would_be_seen(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = train(place)
    monkeypatch.setattr(fit.runs, "machine", lambda: {"processor": "another"})
    stored = checkpoint.load(run, 5)
    changed = {name: tensor + 1 for name, tensor in stored.model.items()}
    checkpoint.remove_folder(run.step_folder(5))
    checkpoint.save(run, checkpoint.Checkpoint(5, changed, stored.state, stored.average, stored.optimizer))
    found = reproduce(run, place / "again")
    assert [each.name for each in found.compared if not each.equal] == ["step-5/model.safetensors"]
    assert found.reasons


def test_a_changed_text_leaves_nothing(place: Path) -> None:
    run = train(place)
    (place / "text.txt").write_text("another text\n" * 99)
    with pytest.raises(UserError, match="has changed"):
        reproduce(run, place / "again")
    assert not (place / "again").exists()


def test_a_run_without_a_step_cannot_be_compared(place: Path) -> None:
    session = fit.create([place / "text.txt"], merge(recipe("tiny"), SMALL))
    with pytest.raises(UserError, match="no whole saved step"):
        reproduce(session.run, place / "again")
