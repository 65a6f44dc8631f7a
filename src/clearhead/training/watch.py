"""What happens beside the steps of a run: evaluations, samples, saved steps, early ends, and what is counted once."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, replace
from typing import Any

from clearhead.core import events as journal
from clearhead.core.events import Event, Measured, Started, StopReason, Warned
from clearhead.core.files import sha256, sync
from clearhead.core.run import RUN_FILE, Run, versions
from clearhead.store import checkpoint
from clearhead.training import preflight
from clearhead.training.dataset import Dataset
from clearhead.training.expectation import (
    MEASURED_TRAINING_BYTES,
    Expectation,
    expect,
    is_covered,
    measure_bytes,
    spread,
)
from clearhead.training.loop import Hooks
from clearhead.training.schedule import Plan
from clearhead.training.session import (
    EVALUATION_SHARE,
    Record,
    Session,
    bring_back,
    last_evaluation_seconds,
    step_budget,
)
from clearhead.training.state import State

Stop = Callable[[], StopReason | None]
"""Asked after each step; a reason ends the run early."""

OVERLAP_WARNING = 0.05
"""The share of overlapping validation text from which on its loss says little."""

REPLAN_SHARE = 0.5
"""The share of a timed run after which its length is set anew, once, by the speed measured until then."""

TOO_SOON = 0.25
"""A timed run with half of its steps done in less than this share of its time was planned in a slow moment."""


def never() -> None:
    """Never stop early."""


def build_hooks(session: Session, stop: Stop, stop_after: int | None) -> Hooks:
    """Return everything that the loop should call for a run on disk."""
    return Hooks(
        evaluate=session.task.evaluation(session.config),
        sample=session.task.sampling(session.config),
        save=saving(session),
        save_due=save_due(session),
        snapshot_due=snapshots(session).__contains__,
        stop=stopping(stop, stop_after),
        replan=replanning(session) if session.record is None else prescribed(session.record),
        rewind=rewinding(session),
    )


def save_due(session: Session) -> Callable[[int], bool]:
    """Return what says whether a step should be saved: by plan, or because the run's record has it.

    The plan holds in a run made anew too, or a run that went back would find another step to go back to.
    """
    recorded = recorded_steps(session)

    def due(step: int) -> bool:
        every = session.config.train.save_every or session.state.plan.evaluate_every
        return step % every == 0 or step in recorded

    return due


def recorded_steps(session: Session) -> frozenset[int]:
    """Return the steps that the record of a run made anew names: they are what the two are compared by."""
    return frozenset() if session.record is None else session.record.steps


def snapshots(session: Session) -> frozenset[int]:
    """Return the steps whose weights are kept to be looked at later."""
    spaced = session.config.train.keep == "spaced"
    return checkpoint.log_spaced(session.state.plan.steps) if spaced else frozenset()


def saving(session: Session) -> Callable[[State, bool], str | None]:
    """Return what stores a step, and then removes those that need not stay.

    A step that cannot be resumed from holds weights and state alone.
    """
    keep, spaced, recorded = session.config.train.keep or "newest", snapshots(session), recorded_steps(session)

    def save(state: State, resumable: bool) -> str:
        if resumable:
            # A power loss must not leave a step whose history it took.
            sync(session.run.path / journal.FILE)
        folder = checkpoint.save(
            session.run,
            checkpoint.Checkpoint(
                step=state.step,
                model=checkpoint.model_tensors(session.model),
                state=state.to_dict(),
                average=state.average,
                optimizer=session.optimizer.tensors() if resumable else None,
            ),
        )
        if resumable:
            checkpoint.rotate(session.run, keep, spaced, recorded)
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
    """Return what sets the length of a timed run anew: when half of its time is over, and if its steps end too soon."""
    minutes = session.config.train.minutes

    def replan(state: State) -> tuple[Plan, str] | None:
        if minutes is None or state.plan.cooldown_start is not None:
            return None
        share = state.seconds / (60 * minutes)
        too_soon = 2 * state.step >= state.plan.steps and share < TOO_SOON
        if not too_soon and (state.replanned or share < REPLAN_SHARE):
            return None
        state.replanned = state.replanned or not too_soon
        step_seconds = state.train_seconds / state.step
        # Evaluations may have taken more than their share so far: what is over is over.
        time_left = 60 * minutes - last_evaluation_seconds(session, step_seconds) - state.seconds
        left = min(step_budget(session, step_seconds) - state.train_seconds, (1 - EVALUATION_SHARE) * time_left)
        steps = state.step + max(1, int(left / step_seconds))
        over = "half of the steps are" if too_soon else f"half of {minutes:g} minutes is"
        speed = f"{state.step / state.seconds:.1f} steps a second"
        return lengthened(session, state.plan, steps), f"{over} over, at {speed}"

    return replan


def lengthened(session: Session, plan: Plan, steps: int) -> Plan:
    """Return a plan of so many steps; one that became several times as long is not evaluated several times as often."""
    fixed = session.config.train.evaluate_every is not None
    every = plan.evaluate_every if fixed else plan.evaluate_every * max(1, steps // plan.steps)
    return replace(plan, steps=steps, evaluate_every=every)


def prescribed(record: Record) -> Callable[[State], tuple[Plan, str] | None]:
    """Return what brings the plans of an earlier run into force when that run did."""

    def replan(state: State) -> tuple[Plan, str] | None:
        plan = record.plans.get(state.step, state.plan)
        return None if plan == state.plan else (plan, "as recorded")

    return replan


def rewinding(session: Session) -> Callable[[State], Event | None]:
    """Return what takes a run in trouble back to the last step before that was saved by plan.

    Steps that were saved because somebody stopped the run do not count: whether there is one must not change what is
    learned. What was saved later belongs to a past that no longer is, and goes.
    """
    run = session.run

    def rewind(state: State) -> Event | None:
        due = (session.config.train.save_every or state.plan.evaluate_every, state.plan.evaluate_every)
        earlier = [step for step in run.steps() if step < state.step and any(step % every == 0 for every in due)]
        step = next((step for step in reversed(earlier) if can_be_resumed(run, step)), None)
        if step is None:
            return None
        checkpoint.drop_after(run, step)
        vars(state).update(vars(bring_back(session, step)))
        return started(session, step)

    return rewind


def can_be_resumed(run: Run, step: int) -> bool:
    """Say whether a saved step is whole, and more than a picture of the weights."""
    folder = run.step_folder(step)
    return checkpoint.is_resumable(folder) and checkpoint.is_whole(folder)


def started(session: Session, resumed_from: int | None) -> Event:
    """Return the event with which a run begins, or begins again from a saved step."""
    return Started(
        **clock(session.state),
        resumed_from=resumed_from,
        config_sha256=sha256(session.run.path / RUN_FILE),
        versions=versions(),
        exactness=session.exactness,
    )


def first_measurements(session: Session) -> Iterator[Event]:
    """Yield what is known before the first update."""
    loss = preflight.first_loss(session.model, session.objective, session.batches(0), session.runtime.device)
    tokens_at_once = session.batches.tokens_per_step // session.state.plan.micro_batches
    sizes = preflight.measure_sizes(session.model, tokens_at_once)
    task = session.task
    values = {
        "initial_loss": loss,
        "log_vocabulary": math.log(task.choices),
        "sentence": preflight.explain_first_loss(loss, task.choices, task.alternative),
        "parameters": {"total": sizes.parameters, **sizes.by_role},
        "flops_per_token": sizes.flops_per_token,
        "memory_bytes": sizes.memory_bytes,
        "split": task.data.sources["split"],
    }
    yield measured(session.state, "preflight", values)
    if getattr(session.model, "reads_ahead", False):
        yield Warned(
            **clock(session.state),
            code="reads_ahead",
            message="the model reads the tokens that it is to predict, so its losses are not those of a language model",
            try_="clearhead lab run mask",
        )


def with_background(session: Session, events: Iterator[Event]) -> Iterator[Event]:
    """Pass a loop's events on; after its first step, count the baselines in another thread and tell what it found.

    The thread reads tokens only, so it has no influence on what is learned.
    """
    found = {line.get("name") for line in journal.read(session.run.path) if line["event"] == "measured"}
    if "baselines" in found:
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
    """Count what the loss is compared with, and what was to be expected of the run."""
    expected = session.expected or expect_run(session)
    compared = session.task.compared_with(session.config)
    return compared | ({"expected": asdict(expected)} if expected else {})


def expect_run(session: Session) -> Expectation | None:
    """Return the loss to expect of a run at the end of its plan, or None where the law does not know its kind."""
    data = session.data
    if not isinstance(data, Dataset) or data.byte_lengths is None:
        return None
    split_ = data.sources["split"]
    if not is_covered(session.config, split_["training_bytes"]):
        return None
    reach = split_["training_bytes"] / split_["training_tokens"]
    where = spread(len(data.training), math.ceil(MEASURED_TRAINING_BYTES / reach))
    training = b"".join(data.tokenizer.decode_bytes(data.training.read(start, end)) for start, end in where)
    return expect(
        measure_bytes(training, data.tokenizer.decode_bytes(data.validation), split_["training_bytes"]),
        parameters=sum(parameter.numel() for parameter in session.model.parameters()),
        tokens=session.state.plan.steps * session.batches.tokens_per_step,
        bytes_per_token=reach,
        dropout=getattr(session.config.model, "dropout", 0.0),
        decay=getattr(session.config.optimizer, "weight_decay", 0.0),
    )


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
