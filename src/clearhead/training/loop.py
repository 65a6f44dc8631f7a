"""The one training loop. It computes and tells; it touches no file."""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any, Literal

import torch
from torch import Tensor, nn

from clearhead.core.events import (
    Evaluated,
    Event,
    Measured,
    Planned,
    Sampled,
    Saved,
    Stepped,
    Stopped,
    StopReason,
    Warned,
)
from clearhead.core.runtime import Runtime
from clearhead.text.batches import Batch
from clearhead.training.config import RunConfig
from clearhead.training.evaluate import Evaluation
from clearhead.training.objective import Objective, Step
from clearhead.training.optim import OptimizerSet
from clearhead.training.schedule import Plan, factor

COOLDOWN_SHARE = 0.2
"""Length of the cool-down after patience ran out, as a share of the steps done."""

Batches = Callable[[int], Sequence[Batch[Any]]]


@dataclass(frozen=True, slots=True)
class Best:
    """The step with the lowest validation loss of the evaluations during the run."""

    step: int
    nats_per_token: float
    weights: Literal["raw", "average"]


@dataclass
class State:
    """What a run must remember besides weights and the optimizers' memory; it is stored with every step.

    Args:
        train_seconds: spent in steps alone.
        reference: the loss at the last evaluation that gained more than one standard error on the reference before.
        without_gain: evaluations since then.
        replanned: the length of a timed run was set anew already.
        average: the running average of the weights, where one is kept.
    """

    plan: Plan
    step: int = 0
    tokens: int = 0
    seconds: float = 0.0
    train_seconds: float = 0.0
    best: Best | None = None
    reference: float = math.inf
    without_gain: int = 0
    replanned: bool = False
    average: dict[str, Tensor] | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return everything but the average as JSON values."""
        values = asdict(replace(self, average=None))
        return values | {"reference": self.reference if math.isfinite(self.reference) else None}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any], average: dict[str, Tensor] | None) -> State:
        """Bring back a stored state."""
        inner = {
            "plan": Plan(**values["plan"]),
            "best": Best(**values["best"]) if values["best"] else None,
            "reference": math.inf if values["reference"] is None else values["reference"],
        }
        return cls(**{**values, **inner, "average": average})


def nothing(*_: Any) -> None:
    """Answer no question: the default of every hook."""


@dataclass(frozen=True, slots=True)
class Hooks:
    """What the caller passes in for the loop to call.

    Args:
        evaluate: scores the model by split name; `sampled` asks for evenly spaced windows only.
        sample: writes texts with the model: (prompt, text, seed) each.
        save: stores the step and returns where; the flag says whether it must be possible to resume from it.
        save_due: says whether the step just done should be stored.
        snapshot_due: says whether at least its weights should be.
        stop: asked after each step; a reason ends the loop.
        replan: asked after each step; a new plan takes the place of the old one.
        probes: called after each step; their events are passed on.
    """

    evaluate: Callable[[nn.Module, bool], Mapping[str, Evaluation]] | None = None
    sample: Callable[[nn.Module], list[tuple[str, str, int]]] | None = None
    save: Callable[[State, bool], str | None] = nothing
    save_due: Callable[[int], bool] = nothing  # type: ignore[assignment]
    snapshot_due: Callable[[int], bool] = nothing  # type: ignore[assignment]
    stop: Callable[[State], tuple[StopReason, str] | None] = nothing
    replan: Callable[[State], tuple[Plan, str] | None] = nothing
    probes: tuple[Callable[[State], Iterator[Event]], ...] = field(default=())


PLAIN = Runtime()
NO_HOOKS = Hooks()


def steps(
    model: nn.Module,
    batches: Batches,
    objective: Objective,
    optimizer: OptimizerSet,
    config: RunConfig,
    *,
    state: State,
    runtime: Runtime = PLAIN,
    hooks: Hooks = NO_HOOKS,
) -> Iterator[Event]:
    """Train a model, from where `state` stands to the end of its plan, and yield what happens.

    Each step: the batch's gradients, summed over its micro-batches and divided by the number of targets; a check that
    they are finite; clipping; the update. The batch and the random numbers of each micro-batch are functions of (seed,
    step), so a run that is stopped and resumed ends with the same bits as one that was not.
    Closing the iterator abandons what is not saved.
    """
    return _Loop(model, batches, objective, optimizer, config, state, runtime, hooks).run()


class _Loop:
    def __init__(
        self,
        model: nn.Module,
        batches: Batches,
        objective: Objective,
        optimizer: OptimizerSet,
        config: RunConfig,
        state: State,
        runtime: Runtime,
        hooks: Hooks,
    ) -> None:
        self.model, self.batches, self.optimizer = model, batches, optimizer
        self.config, self.state, self.runtime, self.hooks = config, state, runtime, hooks
        step = Step(model, objective)
        self.compute: Callable[[Batch[Tensor]], Any] = torch.compile(step) if config.train.compile else step
        self.parameters = [p for p in model.parameters() if p.requires_grad]
        self.log_every = config.train.log_every or (1 if state.plan.steps < 10_000 else 10)
        self.began = time.perf_counter() - state.seconds
        self.saved_step = state.step if state.step else None
        self.evaluated_step: int | None = None

    def run(self) -> Iterator[Event]:
        state, hooks = self.state, self.hooks
        self.model.train()
        while state.step < state.plan.steps:
            failure = yield from self.update()
            if failure:
                yield from self.finish("non_finite", failure)
                return
            yield from self.look_up()
            asked = hooks.stop(state)
            if asked and state.step < state.plan.steps:
                yield from self.finish(*asked)
                return
            replanned = hooks.replan(state)
            if replanned:
                yield self.planned(*replanned)
        yield from self.evaluate(sampled=False)
        cooled = state.plan.cooldown_start is not None
        yield from self.finish("patience" if cooled else "budget", "the run is complete")

    def update(self) -> Generator[Event, None, str | None]:
        """Do one step; return what is wrong where the loss or its gradient is not finite."""
        began = time.perf_counter()
        state = self.state
        loss, tokens = self.gradients()
        norm = self.clip()
        if not (math.isfinite(loss) and math.isfinite(norm)):
            message = f"step {state.step + 1} has loss {loss} and gradient norm {norm}: its batch was not learned from"
            yield self.event(
                Warned, code="non_finite", message=message, try_="--optimizer.learning_rate with half the value"
            )
            return message
        self.optimizer.set_factor(factor(self.config.schedule, state.plan, state.step))
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.average()
        state.step += 1
        state.tokens += tokens
        spent = time.perf_counter() - began
        state.train_seconds += spent
        if state.step % self.log_every == 0 or state.step == state.plan.steps:
            rate = self.optimizer.learning_rate
            measured = {"loss": loss, "learning_rate": rate, "grad_norm": norm, "tokens_per_second": tokens / spent}
            yield self.event(Stepped, **measured)
        return None

    def gradients(self) -> tuple[float, int]:
        """Leave the mean gradient of the step's batch in the parameters; return its mean loss and its tokens."""
        total, weight, tokens = 0.0, 0.0, 0
        for index, batch in enumerate(self.batches(self.state.step)):
            torch.manual_seed(stream_seed(self.config.train.seed, self.state.step, index))
            tensors = to_tensors(batch, self.runtime.device)
            with self.runtime.products():
                loss = self.compute(tensors)
            loss.total.backward()
            total, weight = total + float(loss.total.detach()), weight + loss.weight
            tokens += tensors.tokens.numel()
        torch._foreach_div_([p.grad for p in self.parameters if p.grad is not None], weight)
        return total / weight, tokens

    def clip(self) -> float:
        """Scale the gradient down to the configured norm, and return the norm that it had."""
        limit = self.config.train.clip_norm
        return float(nn.utils.clip_grad_norm_(self.parameters, math.inf if limit is None else limit))

    @torch.no_grad()
    def average(self) -> None:
        """Move the running average of the weights a little towards the weights."""
        state, decay = self.state, self.config.train.averaging
        if decay is None:
            return
        weights = dict(self.model.named_parameters())
        if state.average is None:
            state.average = {name: weight.detach().clone() for name, weight in weights.items()}
        # A young average forgets faster, or it would hold on to the first, random weights.
        forget = 1.0 - min(decay, (state.step + 1) / (state.step + 10))
        torch._foreach_lerp_(list(state.average.values()), [weights[name] for name in state.average], forget)

    def look_up(self) -> Iterator[Event]:
        """Evaluate, sample and save where it is time to, and let the probes look."""
        state = self.state
        self.state.seconds = time.perf_counter() - self.began
        for probe in self.hooks.probes:
            yield from probe(state)
        last = state.step == state.plan.steps
        best = False
        if state.step % state.plan.evaluate_every == 0 or last:
            best = yield from self.evaluate(sampled=True)
            yield from self.sample()
        if best or last or self.hooks.save_due(state.step):
            yield from self.save(best)
        elif self.hooks.snapshot_due(state.step):
            self.hooks.save(state, False)

    def evaluate(self, *, sampled: bool) -> Generator[Event, None, bool]:
        """Score the splits; return whether this is the best step so far."""
        if self.hooks.evaluate is None:
            return False
        best = False
        with averaged(self.model, self.state.average):
            scores = self.hooks.evaluate(self.model, sampled)
        for split, score in scores.items():
            yield self.evaluated(split, score, sampled)
            if split == "validation":
                for subject, values in score.details.items():
                    yield self.event(Measured, subject=subject, values=values)
                if sampled:
                    best = yield from self.judge(score)
        return best

    def judge(self, score: Evaluation) -> Generator[Event, None, bool]:
        """Keep account of the best step and of patience; return whether this one is the best."""
        state = self.state
        gained = state.best is None or score.nats_per_token < state.best.nats_per_token
        # Small gains add up: they are measured from the last clear one, not from the best so far.
        if score.nats_per_token < state.reference - score.standard_error:
            state.reference, state.without_gain = score.nats_per_token, 0
        else:
            state.without_gain += 1
        if gained:
            weights: Literal["raw", "average"] = "raw" if state.average is None else "average"
            state.best = Best(state.step, score.nats_per_token, weights)
        patience = self.config.train.patience
        if patience and state.without_gain >= patience and state.plan.cooldown_start is None:
            end = state.step + max(1, round(COOLDOWN_SHARE * state.step))
            if end < state.plan.steps:
                now = factor(self.config.schedule, state.plan, state.step)
                plan = replace(state.plan, steps=end, cooldown_start=state.step, cooldown_factor=now)
                yield self.planned(plan, f"{patience} evaluations brought no gain above one standard error")
        return gained

    def sample(self) -> Iterator[Event]:
        """Let the model write."""
        if self.hooks.sample is None:
            return
        with averaged(self.model, self.state.average):
            written = self.hooks.sample(self.model)
        for prompt, text, seed in written:
            yield self.event(Sampled, prompt=prompt, text=text, seed=seed)

    def save(self, best: bool) -> Iterator[Event]:
        """Store the step where it is not stored yet."""
        if self.saved_step == self.state.step:
            return
        self.state.seconds = time.perf_counter() - self.began
        path = self.hooks.save(self.state, True)
        self.saved_step = self.state.step
        if path is not None:
            yield self.event(Saved, path=path, best=best)

    def finish(self, reason: StopReason, message: str) -> Iterator[Event]:
        """Save and say goodbye."""
        yield from self.save(best=False)
        yield self.event(Stopped, reason=reason, message=message)

    def planned(self, plan: Plan, reason: str) -> Event:
        """Change the plan, and tell."""
        self.state.plan = plan
        return self.event(Planned, **asdict(plan), reason=reason)

    def evaluated(self, split: str, score: Evaluation, sampled: bool) -> Event:
        return self.event(
            Evaluated,
            split=split,
            nats_per_token=score.nats_per_token,
            bits_per_byte=score.bits_per_byte,
            standard_error=score.standard_error,
            tokens_scored=score.tokens_scored,
            train_seconds=self.state.train_seconds,
            weights="raw" if self.state.average is None else "average",
            context_length=score.context_length,
            sampled=sampled,
            metrics=dict(score.metrics),
        )

    def event(self, kind: type[Event], **values: Any) -> Event:
        self.state.seconds = time.perf_counter() - self.began
        state = self.state
        return kind(step=state.step, tokens=state.tokens, seconds=round(state.seconds, 4), **values)


def stream_seed(seed: int, step: int, micro_batch: int) -> int:
    """Return the seed of one micro-batch's random numbers."""
    digest = hashlib.sha256(f"{seed} {step} {micro_batch}".encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def to_tensors(batch: Batch[Any], device: str) -> Batch[Tensor]:
    """Return a batch of numpy arrays as tensors on a device; ids that are to be predicted become int64."""

    def tensor(values: Any) -> Tensor | None:
        return None if values is None else torch.as_tensor(values).to(device)

    tensors: Batch[Any] = Batch(**{each.name: tensor(getattr(batch, each.name)) for each in fields(Batch)})
    return replace(tensors, targets=tensors.targets.long())


@contextmanager
def averaged(model: nn.Module, average: Mapping[str, Tensor] | None) -> Iterator[None]:
    """Put the averaged weights, where there are some, into the model for the length of a block."""
    if average is None:
        yield
        return
    weights = dict(model.named_parameters())
    raw = {name: weight.detach().clone() for name, weight in weights.items()}
    try:
        with torch.no_grad():
            for name, weight in weights.items():
                weight.copy_(average[name])
        yield
    finally:
        with torch.no_grad():
            for name, weight in weights.items():
                weight.copy_(raw[name])
