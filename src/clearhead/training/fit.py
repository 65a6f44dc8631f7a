"""A whole run, from texts to a trained model on disk: what the command line, the library and the lab call."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from torch import nn

from clearhead.core import run as runs
from clearhead.core.config import build, to_dict
from clearhead.core.errors import UserError
from clearhead.core.events import Event, Planned, Stopped, Warned, read, record
from clearhead.core.files import lock
from clearhead.core.run import Run
from clearhead.core.runtime import Runtime, choose_device, choose_precision, choose_threads
from clearhead.core.words import counted
from clearhead.model.build import build_model
from clearhead.model.family_config import as_language_model
from clearhead.store import checkpoint
from clearhead.text.corpus import Corpus
from clearhead.training import devices, preflight
from clearhead.training.config import RunConfig
from clearhead.training.expectation import Expectation
from clearhead.training.loop import steps
from clearhead.training.schedule import Plan
from clearhead.training.session import Session, assemble, bring_back
from clearhead.training.task import Data, Reading, Task
from clearhead.training.tasks import TASKS
from clearhead.training.watch import Stop, build_hooks, clock, first_measurements, never, started, with_background

DEFAULT_MINUTES = 2.0
COMPLETE_ALREADY = "the run was complete already"
PATIENT_BELOW_BYTES = 5_000_000
SPACED_BELOW_PARAMETERS = 5_000_000


@runtime_checkable
class Planner(Protocol):
    """Settles, for a way to compute and a text, what its user left open.

    Args:
        expected: the loss that it then expects, if it can say.
    """

    expected: Expectation | None

    def __call__(self, runtime: Runtime, corpus: Corpus) -> RunConfig: ...


def create(
    texts: Sequence[str | Path],
    config: RunConfig,
    path: Path | None = None,
    *,
    fixed_context: bool = False,
    command: str = "",
    notify: Callable[[str], None] = lambda _: None,
    plan: Planner | None = None,
) -> Session:
    """Read texts, settle everything that was left open, and lay the run down on disk.

    Args:
        path: the new run's folder; without one, a fresh name under the runs folder.
        fixed_context: the user named the context length, so a text too short for it is refused.
        notify: told in a sentence about each choice made on the user's behalf.
        plan: asked for the settings once the text is read; `config` then only says how to read and compute.
    """
    if path is not None:
        runs.require_free(path)
    kind = TASKS[config.task.kind]
    path = path or runs.new_path(stem_of(texts) or kind.built_in)
    runtime = choose_runtime(config)
    with keeping_stdin(path, texts) as kept_stdin:
        settled = None if plan is None else functools.partial(plan, runtime)
        task, config = kind.read(Reading(texts, kept_stdin, fixed_context, notify, settled), config)
        vocabulary_size = task.data.tokenizer.vocabulary_size
        model = build_model(config.model, vocabulary_size, seed=config.train.seed).to(runtime.device)
        config = settle(config, task.data, sum(parameter.numel() for parameter in model.parameters()))
        run = lay_down(path, config, runtime, task, model, command, kept_stdin)
    session = assemble(run, config, runtime, task, model)
    return replace(session, expected=None if plan is None else plan.expected)


@contextmanager
def keeping_stdin(path: Path, texts: Sequence[str | Path]) -> Iterator[Path | None]:
    """Give a file beside a new run for what standard input says; unless the run takes it, it does not stay."""
    if "-" not in map(str, texts):
        yield None
        return
    kept = path.parent / f".{path.name}-stdin.txt"
    kept.parent.mkdir(parents=True, exist_ok=True)
    try:
        yield kept
    finally:
        kept.unlink(missing_ok=True)


def stem_of(texts: Sequence[str | Path]) -> str:
    """Return what a new run is named after: its first text; nothing without one."""
    if not texts:
        return ""
    return "stdin" if str(texts[0]) == "-" else Path(texts[0]).name.split(".")[0]


def choose_runtime(config: RunConfig) -> Runtime:
    """Settle device, threads and precision, set torch up for them, and check what the device computes."""
    train = config.train
    device = choose_device(train.device)
    threads = choose_threads(train.threads)
    # A table of bigrams multiplies nothing and has no width.
    width = getattr(config.model, "width", 0)
    precision = choose_precision(train.precision, device, width=width)
    runtime = Runtime(device, precision, threads, train.deterministic)
    runtime.apply()
    if train.check_device:
        devices.require_right(as_language_model(config.model), runtime)
    return runtime


def settle(config: RunConfig, data: Data, num_parameters: int) -> RunConfig:
    """Return the config with everything decided that follows from the text and the model."""
    train = config.train
    if (train.steps, train.tokens, train.epochs, train.minutes) == (None, None, None, None):
        train = replace(train, minutes=DEFAULT_MINUTES)
    if train.keep is None:
        train = replace(train, keep="spaced" if num_parameters < SPACED_BELOW_PARAMETERS else "newest")
    if train.patience is None:
        small = data.sources["utf8_bytes"] < PATIENT_BELOW_BYTES
        by_step = train.steps is not None or train.tokens is not None
        train = replace(train, patience=5 if small and not by_step else 0)
    return replace(config, train=train)


def lay_down(
    path: Path,
    config: RunConfig,
    runtime: Runtime,
    task: Task,
    model: nn.Module,
    command: str,
    kept_stdin: Path | None,
) -> Run:
    """Write the files of a run that never change: they appear at once, whole and hashed."""
    data = task.data
    sizes = preflight.measure_sizes(model, config.train.sequences_per_step * config.model.context_length)
    description = {
        "name": path.name,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": command,
        "task": task.kind,
        "unit": task.unit,
        "config": to_dict(config),
        "runtime": dataclasses.asdict(runtime),
        "parameters": {"total": sizes.parameters, **sizes.by_role},
        "flops_per_token": sizes.flops_per_token,
        "vocabulary_size": data.tokenizer.vocabulary_size,
        "tokenizer": {"kind": data.tokenizer.kind, "fingerprint": data.tokenizer.fingerprint},
        "versions": runs.versions(),
        "machine": runs.machine(),
    }
    with runs.creating(path, description, data.sources) as folder:
        (folder / runs.TOKENIZER_FOLDER).mkdir()
        data.tokenizer.save(folder / runs.TOKENIZER_FOLDER)
        task.store(folder)
        if kept_stdin is not None:
            kept_stdin.rename(folder / "stdin.txt")
    return Run(path)


def resume(
    selection: runs.Selection, *, steps_in_all: int | None = None, threads: int | None = None, device: str | None = None
) -> Session:
    """Open a run where it was last saved; without a saved step, at its beginning.

    Args:
        steps_in_all: a new length of the run; what follows is then not what an uninterrupted run would do.
        threads: another number of threads than the run's; then likewise.
        device: another device; then likewise.
    """
    run = selection.run
    run.verify()
    description = run.describe()
    if "imported" in description:
        raise UserError(f"{run.path} was imported and has no training to go on with; it can be sampled and scored.")
    config = build(RunConfig, runs.part(description, "config"), where="")
    frozen = build(Runtime, runs.part(description, "runtime"), where="runtime")
    runtime = replace(
        frozen,
        threads=frozen.threads if threads is None else choose_threads(threads),
        device=choose_device(device or frozen.device),
    )
    runtime.apply()
    if config.train.check_device:
        devices.require_right(as_language_model(config.model), runtime)
    task = TASKS[config.task.kind].reopen(run, config)
    model = build_model(config.model, task.data.tokenizer.vocabulary_size, seed=config.train.seed).to(runtime.device)
    session = assemble(run, config, runtime, task, model, first_plan(run))
    return restore(session, selection, inexact_reasons(frozen, runtime, description, steps_in_all), steps_in_all)


def first_plan(run: Run) -> Plan | None:
    """Return the plan with which a run began, so that it is not made anew by another probe."""
    for line in read(run.path):
        if line["event"] == "planned" and line["step"] == 0:
            return Plan(**{field.name: line[field.name] for field in dataclasses.fields(Plan) if field.name in line})
    return None


def inexact_reasons(
    frozen: Runtime, runtime: Runtime, description: dict[str, Any], steps_in_all: int | None
) -> list[str]:
    """Return why a resumed run may not end with the bits of an uninterrupted one."""
    old, new = runs.part(description, "versions"), runs.versions()
    runs.part(description, "machine", "processor", kind=str)
    runs.part(old, "torch", kind=str)
    reasons = {
        f"{counted(frozen.threads, 'thread')} before, {runtime.threads} now": frozen.threads != runtime.threads,
        f"device {frozen.device} before, {runtime.device} now": frozen.device != runtime.device,
        f"torch {old['torch']} before, {new['torch']} now": old["torch"] != new["torch"],
        f"another processor than {description['machine']['processor']}": description["machine"] != runs.machine(),
        "deterministic algorithms are off": not runtime.deterministic,
        "only a CPU repeats exactly": runtime.device != "cpu",
        "the length was changed": steps_in_all is not None,
    }
    return [reason for reason, holds in reasons.items() if holds]


def restore(session: Session, selection: runs.Selection, reasons: list[str], steps_in_all: int | None) -> Session:
    """Put the newest whole step's weights, memory and state into a session."""
    run, state = session.run, session.state
    step, troubles = checkpoint.search(run)
    notices: tuple[str, ...] = ()
    if step is not None:
        state, notices = bring_back(session, step), checkpoint.passed_over(troubles, step)
    if steps_in_all is not None:
        if steps_in_all <= state.step:
            raise UserError(f"{run.path} is at step {state.step} already; --steps must be more than that.")
        state.plan = replace(state.plan, steps=steps_in_all, cooldown_start=None)
    if state.plan.micro_batches != session.config.train.micro_batches:
        reasons = [*reasons, f"memory ran out, so a batch is cut into {state.plan.micro_batches} parts"]
    exactness = f"approximate: {'; '.join(reasons)}" if reasons else "exact"
    return replace(session, state=state, resumed=True, exactness=exactness, notices=notices)


def train(
    session: Session, *, stop: Stop = never, stop_after: int | None = None, baselines: bool = True
) -> Iterator[Event]:
    """Train a session to its end, on disk and as events; the report is the caller's to write.

    Args:
        baselines: also count n-gram baselines and the overlap of the parts; one run of a study does so for all.

    Raises:
        UserError: another process trains this run.
    """
    with lock(session.run.path):
        # Only the holder of the lock may: what another process is writing looks like a leftover.
        runs.remove_leftovers(session.run)
        checkpoint.finish_stripping(session.run)
        yield from record(session.run.path, _events(session, stop, stop_after, baselines))


def _events(session: Session, stop: Stop, stop_after: int | None, baselines: bool) -> Iterator[Event]:
    state = session.state
    yield started(session, state.step if session.resumed else None)
    for notice in session.notices:
        yield Warned(
            **clock(state), code="damaged_step", message=notice, try_=f"clearhead runs verify {session.run.path}"
        )
    if state.step >= state.plan.steps and is_scored(session):
        yield Stopped(**clock(state), reason="budget", message=COMPLETE_ALREADY)
        return
    if not state.step:
        yield from first_measurements(session)
    yield Planned(**clock(state), **dataclasses.asdict(state.plan), reason="resumed" if session.resumed else "begun")
    events = steps(
        session.model,
        session.batches,
        session.objective,
        session.optimizer,
        session.config,
        state=state,
        runtime=session.runtime,
        hooks=build_hooks(session, stop, stop_after),
    )
    yield from with_background(session, events) if baselines else events


def is_scored(session: Session) -> bool:
    """Say whether the whole evaluation rule was applied at the session's step: a run ends with that, unless killed."""
    whole = [line for line in read(session.run.path) if line["event"] == "evaluated" and not line["sampled"]]
    return any(line["step"] == session.state.step for line in whole)


def train_run(
    texts: Sequence[str | Path],
    config: RunConfig,
    path: Path | None = None,
    *,
    fixed_context: bool = False,
    plan: Planner | None = None,
) -> Run:
    """Train a new run to its end and return it; the whole of `clearhead train` without the display (see `create`)."""
    session = create(texts, config, path, fixed_context=fixed_context, command="clearhead.train", plan=plan)
    for _ in train(session):
        pass
    return session.run
