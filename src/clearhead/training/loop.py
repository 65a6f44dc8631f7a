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

from clearhead.core.errors import is_out_of_memory
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
from clearhead.core.runtime import Runtime, free_memory, seed_random_numbers
from clearhead.core.words import counted
from clearhead.text.batches import Batch
from clearhead.training.config import RunConfig
from clearhead.training.evaluate import Evaluation
from clearhead.training.guard import REWINDS, SKIPS_IN_A_ROW, Trouble
from clearhead.training.objective import Objective, Step, compiled
from clearhead.training.optim import OptimizerSet
from clearhead.training.schedule import Plan, factor
from clearhead.training.state import Best, State

COOLDOWN_SHARE = 0.2
"""Length of the cool-down after patience ran out, as a share of the steps done."""

CLIP_EPSILON = 1e-6
"""What torch adds to a norm before it divides by it."""

LOWER_RATE = "--optimizer.learning_rate with half the value"

Batches = Callable[[int], Sequence[Batch[Any]]]


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
        rewind: asked when batch after batch is bad: takes model, optimizer and state back to a saved step and tells,
            or answers None where there is none to go back to.
        probes: called after each step; their events are passed on.
    """

    evaluate: Callable[[nn.Module, bool], Mapping[str, Evaluation]] | None = None
    sample: Callable[[nn.Module], list[tuple[str, str, int]]] | None = None
    save: Callable[[State, bool], str | None] = nothing
    save_due: Callable[[int], bool] = nothing  # type: ignore[assignment]
    snapshot_due: Callable[[int], bool] = nothing  # type: ignore[assignment]
    stop: Callable[[State], tuple[StopReason, str] | None] = nothing
    replan: Callable[[State], tuple[Plan, str] | None] = nothing
    rewind: Callable[[State], Event | None] = nothing
    probes: tuple[Callable[[State], Iterator[Event]], ...] = field(default=())


PLAIN = Runtime()
NO_HOOKS = Hooks()
BATCH_FIELDS = tuple(each.name for each in fields(Batch))


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

    Each step: the batch's gradients, summed over its micro-batches and divided by the number of targets; clipping; the
    update. A batch whose loss or gradient is not finite, or far off those before, is skipped before it has changed
    anything. The batch and the random numbers of each micro-batch are functions of (seed, step) and of the batches
    skipped before, so a run that is stopped and resumed ends with the same bits as one that was not.
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
        self.compute: Callable[[Batch[Tensor]], Any] = compiled(step, runtime.device) if config.train.compile else step
        self.parameters = [p for p in model.parameters() if p.requires_grad]
        self.log_every = config.train.log_every or (1 if state.plan.steps < 10_000 else 10)
        self.began = time.perf_counter() - state.seconds
        self.saved_step = state.step if state.step else None
        self.evaluated_step: int | None = None

    def run(self) -> Iterator[Event]:
        state, hooks = self.state, self.hooks
        self.model.train()
        while state.step < state.plan.steps:
            trouble = yield from self.update()
            if trouble:
                gone_back = yield from self.rewind()
                if gone_back:
                    continue
                yield from self.finish("non_finite" if trouble == "non_finite" else "error", self.give_up())
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

    def update(self) -> Generator[Event, None, Trouble | None]:
        """Do one step, with the next batch that can be learned from; return what is wrong where there was none."""
        state = self.state
        for _ in range(SKIPS_IN_A_ROW):
            began = time.perf_counter()
            loss, targets, tokens = yield from self.gradients()
            norm = self.scale(targets)
            trouble = state.recent.judge(loss, norm)
            if trouble is None:
                self.learn(loss, norm, tokens)
            else:
                yield from self.skip(trouble, loss, norm)
            spent = time.perf_counter() - began
            state.train_seconds += spent
            if trouble is None:
                break
        if trouble is None and (state.step % self.log_every == 0 or state.step == state.plan.steps):
            rate = self.optimizer.learning_rate
            measured = {"loss": loss, "learning_rate": rate, "grad_norm": norm, "tokens_per_second": tokens / spent}
            yield self.event(Stepped, **measured)
        return trouble

    def learn(self, loss: float, norm: float, tokens: int) -> None:
        """Update the weights by the gradient in them."""
        state = self.state
        self.optimizer.set_factor(factor(self.config.schedule, state.plan, state.step))
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.average()
        state.recent.take(loss, norm)
        state.step += 1
        state.tokens += tokens

    def skip(self, trouble: Trouble, loss: float, norm: float) -> Iterator[Event]:
        """Pass over the batch at hand, and tell; nothing but gradients has to be taken back."""
        state = self.state
        self.optimizer.zero_grad()
        said = (
            "no finite loss and gradient" if trouble == "non_finite" else "far more loss or gradient than those before"
        )
        message = (
            f"batch {state.batch} has {said} at step {state.step + 1} (loss {loss:g}, gradient norm {norm:g}): skipped"
        )
        values = {"batch": state.batch, "trouble": trouble, "loss": loss, "grad_norm": norm}
        state.skipped.append(state.batch)
        yield self.event(Warned, code=trouble, message=message, try_=LOWER_RATE)
        yield self.event(Measured, subject="skipped_batch", values=values)

    def rewind(self) -> Generator[Event, None, bool]:
        """Go back to a saved step, and do not take the batches again that led from there to the trouble."""
        state = self.state
        last, rewinds = state.batch, state.rewinds
        event = self.hooks.rewind(state) if rewinds < REWINDS else None
        if event is None:
            return False
        state.rewinds = rewinds + 1
        state.skipped += range(state.batch, last)
        self.began = time.perf_counter() - state.seconds
        self.saved_step = state.step
        yield event
        message = f"back to step {state.step}, and on without the batches from there to {last - 1}"
        yield self.event(Warned, code="rewound", message=message, try_=LOWER_RATE)
        return True

    def give_up(self) -> str:
        """Return why the run cannot go on."""
        state = self.state
        batches = ", ".join(map(str, state.skipped[-SKIPS_IN_A_ROW:]))
        gone_back = f", after going back {counted(state.rewinds, 'time')}" if state.rewinds else ""
        return f"batches {batches} could not be learned from at step {state.step + 1}{gone_back}"

    def gradients(self) -> Generator[Event, None, tuple[float, float, int]]:
        """Leave the gradient of the batch, summed over its targets, in the parameters.

        Return the mean loss, the number (or the weight) of the targets, and the number of tokens.

        Where memory runs out the batch is cut into twice as many parts, and everything is computed again.
        """
        given = self.batches(self.state.batch)
        while True:
            wanted = max(self.state.plan.micro_batches, len(given))
            parts = [part for batch in given for part in batch.cut(wanted // len(given))]
            try:
                return self.accumulate(parts)
            except (MemoryError, RuntimeError) as error:
                if not is_out_of_memory(error) or all(len(part.tokens) == 1 for part in parts):
                    raise
            # Out here the error is forgotten, and with it what its frames held in memory.
            self.optimizer.zero_grad()
            free_memory(self.runtime.device)
            reason = f"memory ran out at step {self.state.step + 1}; from here on the run is approximate"
            yield self.planned(replace(self.state.plan, micro_batches=2 * wanted), reason)
            advice = f"--train.micro_batches {2 * wanted} from the start"
            yield self.event(Warned, code="out_of_memory", message=reason, try_=advice)

    def accumulate(self, parts: Sequence[Batch[Any]]) -> tuple[float, float, int]:
        """Sum the gradients of the parts."""
        total, weight, tokens = 0.0, 0.0, 0
        for index, batch in enumerate(parts):
            seed_random_numbers(stream_seed(self.config.train.seed, self.state.step, index), self.runtime.device)
            tensors = to_tensors(batch, self.runtime.device)
            with self.runtime.products():
                loss = self.compute(tensors)
            loss.total.backward()
            total, weight = total + float(loss.total.detach()), weight + loss.weight
            tokens += tensors.tokens.numel()
        return total / weight, weight, tokens

    def scale(self, targets: float) -> float:
        """Make the summed gradient a mean, and that no longer than configured; return the length of the mean.

        Both are one product, since a pass over all gradients costs a small model a hundredth of its step.
        """
        gradients = [p.grad for p in self.parameters if p.grad is not None]
        norm = float(nn.utils.get_total_norm(gradients)) / targets
        limit = self.config.train.clip_norm
        kept = 1.0 if limit is None else min(1.0, limit / (norm + CLIP_EPSILON))
        torch._foreach_mul_(gradients, kept / targets)
        return norm

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
        elif self.hooks.snapshot_due(state.step) and self.is_finite():
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
        bar = math.inf if state.best is None else state.best.nats_per_token
        gained = score.nats_per_token < bar
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
                yield self.planned(plan, f"{counted(patience, 'evaluation')} brought no gain above one standard error")
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
        if self.saved_step == self.state.step or not self.is_finite():
            return
        self.state.seconds = time.perf_counter() - self.began
        path = self.hooks.save(self.state, True)
        self.saved_step = self.state.step
        if path is not None:
            yield self.event(Saved, path=path, best=best)

    def is_finite(self) -> bool:
        """Say whether all weights are finite; others are not worth a place beside earlier ones."""
        norms: Sequence[Tensor] = torch._foreach_norm(list[Tensor](self.parameters))
        return bool(torch.stack(tuple(norms)).isfinite().all())

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

    given = {name: getattr(batch, name) for name in BATCH_FIELDS}
    tensors = {name: torch.as_tensor(each).to(device) for name, each in given.items() if each is not None}
    return Batch(**tensors | {"targets": tensors["targets"].long()})


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
