"""What happens beside the steps of a run: evaluations, samples, saved steps, early ends, and what is counted once."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from typing import Any

from torch import nn

from clearhead.core import events as journal
from clearhead.core.events import Event, Measured, StopReason, Warned
from clearhead.generation.engine import Request, prompt_ids, write
from clearhead.store import checkpoint
from clearhead.text import shards
from clearhead.training import dataset, preflight
from clearhead.training.dataset import Dataset
from clearhead.training.evaluate import Evaluator, Score
from clearhead.training.loop import Hooks, State
from clearhead.training.schedule import Plan
from clearhead.training.session import Session, step_budget

Stop = Callable[[], StopReason | None]
"""Asked after each step; a reason ends the run early."""

SAMPLE_SEED = 1
OVERLAP_WARNING = 0.05
"""The share of overlapping validation text from which on its loss says little."""

REPLAN_SHARE = 0.5
"""The share of a timed run after which its length is set anew, once, by the speed measured until then."""


def never() -> None:
    """Never stop early."""


def build_hooks(session: Session, stop: Stop, stop_after: int | None) -> Hooks:
    """Return everything that the loop should call for a run on disk."""
    return Hooks(
        evaluate=evaluation(session),
        sample=sampling(session),
        save=saving(session),
        save_due=lambda step: step % save_every(session) == 0,
        snapshot_due=snapshots(session).__contains__,
        stop=stopping(stop, stop_after),
        replan=replanning(session),
    )


def save_every(session: Session) -> int:
    """Return the steps between saved steps."""
    return session.config.train.save_every or session.state.plan.evaluate_every


def evaluation(session: Session) -> Callable[[nn.Module, bool], dict[str, Score]]:
    """Return what scores the validation part, and beside it an equally long slice of the training part."""
    data, context = session.data, session.config.model.context_length
    count = min(len(data.validation), len(data.training))
    end = dataset.document_end(session.config.model, data.tokenizer)
    validation = Evaluator(data.validation_source(), context, data.byte_lengths, end)
    training = Evaluator(training_slice(data, count), context, data.byte_lengths, end)

    def evaluate(model: nn.Module, sampled: bool) -> dict[str, Score]:
        scores = {"validation": validation.score(model, sampled=sampled)}
        # The whole rule is for the validation part; the training slice is there to be compared with during the run.
        if sampled:
            scores["train"] = training.score(model, sampled=True)
        return scores

    return evaluate


def training_slice(data: Dataset, count: int) -> shards.Tokens:
    """Return the first tokens of the training part, as many as the validation part has."""
    return shards.in_memory(data.training.read(0, count), data.tokenizer.vocabulary_size)


def sampling(session: Session) -> Callable[[nn.Module], list[tuple[str, str, int]]]:
    """Return what lets the model write a text from the run's prompt, always with the same luck."""
    train, tokenizer = session.config.train, session.data.tokenizer
    prompt = train.sample_prompt or ""
    request = Request(prompt=prompt_ids(tokenizer, prompt), num_tokens=train.sample_tokens, seed=SAMPLE_SEED)

    def sample(model: nn.Module) -> list[tuple[str, str, int]]:
        was_training = model.training
        model.eval()
        text = write(model, tokenizer, request)[0]
        model.train(was_training)
        return [(prompt, text, SAMPLE_SEED)]

    return sample


def snapshots(session: Session) -> frozenset[int]:
    """Return the steps whose weights are kept to be looked at later."""
    spaced = session.config.train.keep == "spaced"
    return checkpoint.log_spaced(session.state.plan.steps) if spaced else frozenset()


def saving(session: Session) -> Callable[[State, bool], str | None]:
    """Return what stores a step, and then removes those that need not stay.

    A step that cannot be resumed from holds weights and state alone.
    """
    keep, spaced = session.config.train.keep or "newest", snapshots(session)

    def save(state: State, resumable: bool) -> str:
        folder = checkpoint.save(
            session.run,
            checkpoint.Checkpoint(
                step=state.step,
                model=checkpoint.model_tensors(session.model),
                state=state.to_dict(),
                average=state.average,
                optimizer=session.optimizer.tensors() if resumable else {},
            ),
        )
        if resumable:
            checkpoint.rotate(session.run, keep, spaced)
        return folder.relative_to(session.run.path).as_posix()

    return save


def stopping(stop: Stop, stop_after: int | None) -> Callable[[State], tuple[StopReason, str] | None]:
    """Return what ends a run before its plan does."""

    def ask(state: State) -> tuple[StopReason, str] | None:
        reason = stop()
        if reason is not None:
            return reason, "asked to stop"
        if stop_after is not None and state.step >= stop_after:
            return "budget", f"--stop-after {stop_after}"
        return None

    return ask


def replanning(session: Session) -> Callable[[State], tuple[Plan, str] | None]:
    """Return what sets the length of a timed run anew, once, when half of its time is over."""
    minutes = session.config.train.minutes

    def replan(state: State) -> tuple[Plan, str] | None:
        if minutes is None or state.replanned or state.seconds < REPLAN_SHARE * 60 * minutes:
            return None
        state.replanned = True
        if state.plan.cooldown_start is not None:
            return None
        left = step_budget(session, state.train_seconds / state.step) - state.train_seconds
        plan = replace(state.plan, steps=state.step + max(1, int(left * state.step / state.train_seconds)))
        return plan, f"half of {minutes:g} minutes is over, at {state.step / state.seconds:.1f} steps a second"

    return replan


def first_measurements(session: Session) -> Iterator[Event]:
    """Yield what is known before the first update."""
    loss = preflight.first_loss(session.model, session.objective, session.batches(0), session.runtime.device)
    tokens_at_once = session.batches.tokens_per_step // session.state.plan.micro_batches
    sizes = preflight.measure_sizes(session.model, tokens_at_once)
    vocabulary_size = session.data.tokenizer.vocabulary_size
    values = {
        "initial_loss": loss,
        "log_vocabulary": math.log(vocabulary_size),
        "sentence": preflight.explain_first_loss(loss, vocabulary_size),
        "parameters": {"total": sizes.parameters, **sizes.by_role},
        "flops_per_token": sizes.flops_per_token,
        "memory_bytes": sizes.memory_bytes,
        "split": session.data.sources["split"],
    }
    yield measured(session.state, "preflight", values)


def with_background(session: Session, events: Iterator[Event]) -> Iterator[Event]:
    """Pass a loop's events on; after its first step, count the baselines in another thread and tell what it found.

    The thread reads tokens only, so it has no influence on what is learned.
    """
    found = {line.get("name") for line in journal.read(session.run.path) if line["event"] == "measured"}
    if {"baselines", "overlap"} <= found:
        yield from events
        return
    with ThreadPoolExecutor(max_workers=1) as pool:
        counting: Future[dict[str, Any]] | None = None
        for event in events:
            if event.name == "stopped" and counting is not None:
                yield from background_events(session, counting)
                counting = None
            yield event
            if counting is None and event.name == "stepped" and "baselines" not in found:
                counting = pool.submit(count_once, session)
                found.add("baselines")
            elif counting is not None and counting.done():
                yield from background_events(session, counting)
                counting = None


def count_once(session: Session) -> dict[str, Any]:
    """Count what the loss is compared with: n-gram baselines, the overlap of the parts, and the text's own floor."""
    floor = dataset.measure_floor(session.data, session.config.model.context_length)
    return {
        "baselines": dataset.measure_baselines(session.data),
        "overlap": dataset.measure_overlap(session.data),
        **({"floor": floor} if floor else {}),
    }


def background_events(session: Session, counting: Future[dict[str, Any]]) -> Iterator[Event]:
    """Yield what the other thread has counted, and a warning where the parts overlap much."""
    found = counting.result()
    for name, values in found.items():
        yield measured(session.state, name, values)
        # Tales repeat each other's wordings by design, and their floor says what that is worth.
        if name == "overlap" and values["share"] > OVERLAP_WARNING and "floor" not in found:
            yield Warned(
                **clock(session.state),
                code="overlap",
                message=f"{values['share']:.0%} of the validation text also stands in the training text, "
                "so its loss says less about new text",
                try_=f"clearhead runs show {session.run.name}",
            )


def measured(state: State, subject: str, values: dict[str, Any]) -> Event:
    """Return the event of something counted once."""
    return Measured(**clock(state), subject=subject, values=values)


def clock(state: State) -> dict[str, Any]:
    """Return the fields that tell when an event happened."""
    return {"step": state.step, "tokens": state.tokens, "seconds": round(state.seconds, 4)}
