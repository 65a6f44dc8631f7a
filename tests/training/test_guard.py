"""Batches that must not be learned from, and memory that runs out: injected through the objective and the model."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from clearhead.core.config import merge
from clearhead.core.events import Event, Measured, Planned, Stepped, Stopped, Warned, read
from clearhead.core.run import Selection
from clearhead.model.build import build_model
from clearhead.model.config import GptConfig
from clearhead.store import checkpoint
from clearhead.text.batches import Batch, ShuffledWindows
from clearhead.text.shards import in_memory
from clearhead.training import fit, guard, reproduce
from clearhead.training.config import RunConfig, TrainConfig
from clearhead.training.guard import Recent
from clearhead.training.loop import Hooks, steps
from clearhead.training.objective import Loss, Objective, next_token
from clearhead.training.optim import build_optimizer
from clearhead.training.recipes import recipe
from clearhead.training.schedule import Plan
from clearhead.training.session import Session
from clearhead.training.state import State

TOKENS = in_memory(np.random.default_rng(3).integers(0, 11, 4001, dtype=np.int32), 11)
BATCHES = ShuffledWindows(tokens=TOKENS, context_length=7, sequences_per_step=6, seed=1)
Batches = Callable[[int], list[Batch[Any]]]


class Training:
    """A small model on its way, whose weights and memory can be looked at between events."""

    def __init__(self, num_steps: int, *, dropout: float = 0.0, batches: Batches = BATCHES, **train: Any) -> None:
        model = GptConfig(num_layers=1, num_heads=2, width=12, context_length=7, dropout=dropout)
        self.config = RunConfig(model=model, train=TrainConfig(**train))
        self.model = build_model(model, 11, seed=5)
        self.optimizer = build_optimizer(self.config.optimizer, self.model)
        self.state = State(plan=Plan(num_steps, 1000))
        self.batches = batches

    def events(self, objective: Objective = next_token) -> Iterator[Event]:
        return steps(self.model, self.batches, objective, self.optimizer, self.config, state=self.state, hooks=Hooks())

    def memory(self) -> dict[str, Tensor]:
        """Return a copy of all weights and of the optimizers' memory."""
        named = dict(self.model.named_parameters()) | self.optimizer.tensors()
        return {name: tensor.detach().clone() for name, tensor in named.items()}

    def losses(self, objective: Objective = next_token) -> list[float]:
        return [event.loss for event in self.events(objective) if isinstance(event, Stepped)]


def is_one_of(batches: Batches, numbers: Collection[int]) -> Callable[[Batch[Tensor]], bool]:
    """Return what recognizes some batches by what is in them, however often they are asked for."""
    rows = {batches(number)[0].tokens[0].tobytes() for number in numbers}
    return lambda batch: batch.tokens[0].numpy().astype(np.int32).tobytes() in rows


def bad_loss(value: float) -> Objective:
    def objective(model: nn.Module, batch: Batch[Tensor]) -> Loss:
        loss = next_token(model, batch)
        return replace(loss, total=loss.total + value)

    return objective


def bad_gradient(value: float) -> Objective:
    def objective(model: nn.Module, batch: Batch[Tensor]) -> Loss:
        loss = next_token(model, batch)
        weight = next(model.parameters()).flatten()[3]
        # Adds nothing to the loss, and `value` to the gradient of one weight.
        return replace(loss, total=loss.total + (weight - weight.detach()) * value)

    return objective


def bad_activation(value: float) -> Objective:
    def objective(model: nn.Module, batch: Batch[Tensor]) -> Loss:
        def disturb(_module: nn.Module, _inputs: Any, output: Tensor) -> Tensor:
            disturbed = output.clone()
            disturbed[0, 1, 2] = value
            return disturbed

        with model.blocks[0].register_forward_hook(disturb):  # type: ignore[index, union-attr, operator]
            return next_token(model, batch)

    return objective


def bad_on(numbers: Collection[int], bad: Objective, batches: Batches = BATCHES) -> Objective:
    hit = is_one_of(batches, numbers)
    return lambda model, batch: (bad if hit(batch) else next_token)(model, batch)


FAULTS = {
    f"{where.__name__}-{value}": where(value)
    for where in (bad_loss, bad_gradient, bad_activation)
    for value in (math.nan, math.inf, -math.inf)
}
SPIKES = {
    "loss-times-1000": lambda model, batch: replace(loss := next_token(model, batch), total=loss.total * 1000),
    "loss-outlier": bad_loss(1e9),
    "gradient-outlier": bad_gradient(1e9),
}


def check_skipped(training: Training, objective: Objective, number: int, code: str) -> None:
    """Train, and require that one batch was passed over without a trace in weights and moments."""
    before = training.memory()
    for event in training.events(objective):
        now = training.memory()
        if isinstance(event, Warned):
            assert (event.code, event.step) == (code, number)
            assert f"batch {number} " in event.message
            assert f"at step {number + 1} " in event.message
            assert set(before) <= set(now)
            for name, tensor in before.items():
                assert torch.equal(tensor, now[name]), name
        if isinstance(event, Measured):
            assert event.subject == "skipped_batch"
            assert event.values["batch"] == number
        before = now
    assert isinstance(event, Stopped)
    assert event.reason == "budget"
    assert training.state.skipped == [number]
    assert all(tensor.isfinite().all() for tensor in training.memory().values())


@pytest.mark.parametrize("fault", FAULTS)
def test_what_is_not_finite_is_skipped_before_it_changes_anything(fault: str) -> None:
    check_skipped(Training(9), bad_on([4], FAULTS[fault]), 4, "non_finite")


@pytest.mark.parametrize("fault", SPIKES)
def test_a_spike_is_skipped_too(fault: str) -> None:
    check_skipped(Training(guard.FEWEST + 5), bad_on([guard.FEWEST + 2], SPIKES[fault]), guard.FEWEST + 2, "spike")


def test_without_the_guard_the_fault_would_reach_the_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Recent, "judge", lambda *_: None)
    training = Training(9)
    list(training.events(bad_on([4], FAULTS["bad_gradient-nan"])))
    assert not all(tensor.isfinite().all() for tensor in training.memory().values())


def test_a_run_with_a_skipped_batch_is_one_that_never_saw_it() -> None:
    """Dropout's luck belongs to the step, so leaving the batch out of the text's order gives the same bits."""
    skipping, never = Training(9, dropout=0.2), Training(9, dropout=0.2)
    list(skipping.events(bad_on([4], bad_loss(math.nan))))
    never.batches = lambda number: BATCHES(number if number < 4 else number + 1)
    list(never.events())
    assert all(torch.equal(tensor, never.memory()[name]) for name, tensor in skipping.memory().items())


def test_what_is_judged_a_spike() -> None:
    recent = Recent()
    for step in range(guard.FEWEST):
        assert recent.judge(1e6, 1e6) is None
        recent.take(2.0 + 0.01 * step, 0.5)
    assert recent.judge(3.6, 4.9) is None
    assert recent.judge(3.7, 0.5) == "spike"
    assert recent.judge(2.0, 5.1) == "spike"
    assert recent.judge(2.0, math.nan) == "non_finite"
    assert recent.judge(-math.inf, 0.5) == "non_finite"
    for _ in range(guard.WINDOW):
        recent.take(1.0, 0.5)
    assert len(recent.losses) == len(recent.norms) == guard.WINDOW
    assert recent.judge(2.1, 0.5) == "spike"


def test_batch_after_batch_ends_the_run_and_they_are_named() -> None:
    training = Training(9)
    events = list(training.events(bad_on(range(4, 20), bad_loss(math.nan))))
    stopped = events[-1]
    assert isinstance(stopped, Stopped)
    assert stopped.reason == "non_finite"
    assert stopped.message == "batches 4, 5, 6 could not be learned from at step 5"
    assert training.state.step == 4


# Whole runs on disk.


def create(place: Path, **changes: Any) -> Session:
    small = {"model.num_layers": 1, "model.num_heads": 2, "model.width": 12, "model.context_length": 13}
    small |= {"train.sequences_per_step": 6, "train.sample_tokens": 5, "train.threads": 1, "model.dropout": 0.2}
    config = merge(recipe("tiny"), {**small, "train.steps": 18, "train.evaluate_every": 3, **changes})
    return fit.create([place / "text.txt"], config)


def train(session: Session, objective: Objective, **keywords: Any) -> list[Event]:
    return list(fit.train(replace(session, objective=objective), **keywords))


def resume(session: Session, objective: Objective, **keywords: Any) -> tuple[Session, list[Event]]:
    again = fit.resume(Selection(session.run, "last"))
    assert again.exactness == "exact"
    return again, train(again, objective, **keywords)


def same_weights(left: Session, right: Session) -> bool:
    pairs = zip(left.model.parameters(), right.model.parameters(), strict=True)
    return all(torch.equal(a, b) for a, b in pairs)


def test_a_run_that_skipped_resumes_exactly(place: Path) -> None:
    whole = create(place)
    objective = bad_on([5, 9, 10], bad_loss(math.nan), whole.batches)
    train(whole, objective)
    assert whole.state.skipped == [5, 9, 10]
    for stop_after in (3, 5, 7, 11):
        parts = create(place)
        train(parts, objective, stop_after=stop_after)
        again, _ = resume(parts, objective)
        assert again.state.skipped == [5, 9, 10]
        assert again.state.recent == whole.state.recent
        assert same_weights(whole, again)
        assert not same_weights(whole, parts)


def test_three_in_a_row_take_the_run_back_to_a_saved_step(place: Path) -> None:
    session = create(place)
    events = train(session, bad_on([10, 11, 12], bad_loss(math.nan), session.batches))
    assert events[-1].name == "stopped"
    assert session.state.skipped == [9, 10, 11, 12]
    assert (session.state.step, session.state.rewinds) == (18, 1)
    told = [event for event in events if isinstance(event, Warned)]
    assert [event.code for event in told] == ["non_finite"] * 3 + ["rewound"]
    assert told[-1].message == "back to step 9, and on without the batches from there to 12"
    # A reader of the journal sees one past, the one that led here.
    learned = [line["step"] for line in read(session.run.path) if line["event"] == "stepped"]
    assert learned == list(range(1, 19))


def test_a_run_that_went_back_resumes_exactly(place: Path) -> None:
    """Also where somebody stopped it at a step that is not saved otherwise."""
    whole, parts = create(place), create(place)
    objective = bad_on([10, 11, 12], bad_loss(math.nan), whole.batches)
    train(whole, objective)
    train(parts, objective, stop_after=10)
    again, _ = resume(parts, objective, stop_after=11)
    again, _ = resume(parts, objective)
    assert again.state.skipped == whole.state.skipped
    assert same_weights(whole, again)


def test_a_run_that_went_back_can_be_made_anew(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its record holds the last two steps alone, and not the one that it went back to."""
    session = create(place, **{"train.save_every": 2, "train.evaluate_every": 100, "train.keep": "newest"})
    objective = bad_on([10, 11, 12], bad_loss(math.nan), session.batches)
    train(session, objective)
    assert session.run.steps() == [16, 18]
    rebuild = reproduce.rebuild
    monkeypatch.setattr(reproduce, "rebuild", lambda *given: replace(rebuild(*given), objective=objective))
    found = reproduce.reproduce(session.run, place / "again")
    assert found.equal
    assert len(found.compared) >= 4


def test_after_three_returns_it_stops(place: Path) -> None:
    session = create(place, **{"train.keep": "all"})
    events = train(session, bad_on(range(10, 80), bad_loss(math.inf), session.batches))
    stopped = events[-1]
    assert isinstance(stopped, Stopped)
    assert stopped.reason == "non_finite"
    assert "after going back 3 times" in stopped.message
    assert [event.code for event in events if isinstance(event, Warned)].count("rewound") == 3


def test_weights_that_are_not_finite_are_not_saved(place: Path) -> None:
    session = create(place)
    step = session.optimizer.step

    def overflow() -> None:
        step()
        if session.state.step >= 7:
            next(session.model.parameters()).data.view(-1)[3] = math.inf

    session.optimizer.step = overflow  # type: ignore[method-assign]
    events = train(session, next_token)
    assert isinstance(events[-1], Stopped)
    assert events[-1].reason == "non_finite"
    for saved in session.run.steps():
        tensors = checkpoint.load(session.run, saved).model.values()
        assert all(tensor.isfinite().all() for tensor in tensors)
    assert fit.resume(Selection(session.run, "last")).state.step == 6


# Memory.


def hungry(error: Exception, most_rows: int, objective: Objective = next_token) -> Objective:
    """Return an objective that finds no memory for larger batches, after it has taken half of its work."""

    def compute(model: nn.Module, batch: Batch[Tensor]) -> Loss:
        loss = objective(model, batch)
        if torch.is_grad_enabled() and len(batch.tokens) > most_rows:
            loss.total.backward()
            raise error
        return loss

    return compute


ERRORS = [
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
    RuntimeError("[enforce fail at alloc_cpu.cpp:1] DefaultCPUAllocator: can't allocate memory: you tried to ..."),
    MemoryError(),
]


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
def test_out_of_memory_halves_the_parts_and_keeps_the_loss(error: Exception) -> None:
    plain, short = Training(9), Training(9)
    events = list(short.events(hungry(error, 2)))
    planned = [event.micro_batches for event in events if isinstance(event, Planned)]
    assert planned == [2, 4]
    assert short.state.plan.micro_batches == 4
    losses = [event.loss for event in events if isinstance(event, Stepped)]
    assert losses == pytest.approx(plain.losses(), rel=1e-6)
    assert short.state.tokens == plain.state.tokens
    told = [event for event in events if isinstance(event, Warned)]
    assert [event.code for event in told] == ["out_of_memory"] * 2
    assert told[-1].try_ == "--train.micro_batches 4 from the start"


def test_the_gradients_of_a_broken_off_part_would_be_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """The twin that does not forget them ends elsewhere."""
    plain, broken = Training(3), Training(3)
    forget = broken.optimizer.zero_grad
    calls = iter([False, True, True, True, True])
    monkeypatch.setattr(broken.optimizer, "zero_grad", lambda: forget() if next(calls) else None)
    assert broken.losses(hungry(MemoryError(), 3)) != pytest.approx(plain.losses(), rel=1e-6)


def test_one_sequence_that_does_not_fit_and_other_errors_are_raised() -> None:
    with pytest.raises(MemoryError):
        list(Training(3).events(hungry(MemoryError(), 0)))
    with pytest.raises(RuntimeError, match="shapes"):
        list(Training(3).events(hungry(RuntimeError("shapes do not fit"), 2)))


@pytest.mark.parametrize("parts", [1, 2, 4, 5, 6])
def test_parts_that_were_cut_before_are_cut_further(parts: int) -> None:
    plain, short = Training(4), Training(4, batches=replace(BATCHES, micro_batches=parts))
    assert short.losses(hungry(MemoryError(), 1)) == pytest.approx(plain.losses(), rel=1e-6)


def test_a_run_that_ran_out_of_memory_says_approximate(place: Path) -> None:
    session = create(place)
    train(session, hungry(MemoryError(), 2), stop_after=5)
    planned = [line for line in read(session.run.path) if line["event"] == "planned"]
    assert [line["micro_batches"] for line in planned] == [1, 2, 4]
    assert planned[-1]["reason"] == "memory ran out at step 1; from here on the run is approximate"
    again = fit.resume(Selection(session.run, "last"))
    assert again.state.plan.micro_batches == 4
    assert again.exactness == "approximate: memory ran out, so a batch is cut into 4 parts"
    train(again, hungry(MemoryError(), 2))
    assert [line["event"] for line in read(session.run.path)].count("planned") == 4
