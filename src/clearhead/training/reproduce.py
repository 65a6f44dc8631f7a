"""A run trained anew from its own record, and compared with it hash by hash."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from clearhead.core import run as runs
from clearhead.core.config import build
from clearhead.core.errors import UserError
from clearhead.core.events import Event, read
from clearhead.core.files import manifest
from clearhead.core.run import Run
from clearhead.core.runtime import Runtime
from clearhead.store import checkpoint
from clearhead.training import fit
from clearhead.training.config import RunConfig
from clearhead.training.schedule import Plan
from clearhead.training.session import Record, Session


@dataclass(frozen=True, slots=True)
class Compared:
    """One stored thing of a run and its counterpart in the run made anew: SHA-256 each, None where there is none."""

    name: str
    recorded: str
    rebuilt: str | None

    @property
    def equal(self) -> bool:
        """Whether every bit is the same."""
        return self.recorded == self.rebuilt


@dataclass(frozen=True, slots=True)
class Reproduction:
    """How far a run made anew is the run that its record tells of.

    Args:
        reasons: why the two may differ, such as another version of torch; empty where they must not.
    """

    run: Run
    compared: tuple[Compared, ...]
    reasons: tuple[str, ...]

    @property
    def equal(self) -> bool:
        """Whether everything that was compared has the same bits."""
        return all(each.equal for each in self.compared)


def reproduce(run: Run, path: Path, watch: Callable[[Event], None] = lambda _: None) -> Reproduction:
    """Read a run's texts again, train it anew at `path` as far as it was saved, and compare the stored tensors.

    Tokenizer, validation text, weights, averages and optimizers' memory of every saved step are compared. What tells
    when and where (run.json, the seconds in state.json, the events' times) differs by nature and is not.

    Args:
        watch: told of each event of the new training.

    Raises:
        UserError: the run was not trained from its beginning, has no saved step, or its text has changed.
        DamagedFile: its files are not what was written.
    """
    run.verify()
    require_own_training(run)
    saved = [step for step in run.steps() if checkpoint.is_whole(run.step_folder(step))]
    if not saved:
        raise UserError(f"{run.path} has no whole saved step, so there is nothing to compare with.")
    session = rebuild(run, path, frozenset(saved))
    for event in fit.train(session, stop_after=max(saved)):
        watch(event)
    description = run.describe()
    frozen = build(Runtime, description["runtime"], where="runtime")
    reasons = fit.inexact_reasons(frozen, session.runtime, description, None)
    return Reproduction(session.run, (*compare_texts(run, session.run), *compare_steps(run, session.run)), (*reasons,))


def require_own_training(run: Run) -> None:
    """Refuse a run that began with the weights of another model.

    Raises:
        UserError: it was imported, or is a run with a smaller vocabulary.
    """
    description = run.describe()
    if "imported" in description:
        raise UserError(f"{run.path} was imported and has no training to be repeated.")
    if "compacted_from" in description:
        whole = description["compacted_from"]["run"]
        raise UserError(f"{run.path} began with the weights of {whole}; reproduce that run, then compact it.")


def rebuild(run: Run, path: Path, steps: frozenset[int]) -> Session:
    """Lay a run down anew from its record, ready to be trained as it was."""
    description, sources = run.describe(), run.data()
    config = build(RunConfig, description["config"], where="")
    frozen = description["runtime"]
    train = replace(config.train, threads=frozen["threads"], device=frozen["device"], keep="newest")
    names = [str(run.path / "stdin.txt") if name == "-" else name for name in sources["names"]]
    session = fit.create(names, replace(config, train=train), path, command="clearhead runs reproduce")
    if session.data.sources["fingerprint"] != sources["fingerprint"]:
        runs.remove(session.run)
        raise UserError(f"The text of {run.path} has changed since the run began; bring the old text back.")
    plans = recorded_plans(run)
    session.state.plan = plans.get(0, session.state.plan)
    return replace(session, record=Record(plans, steps))


def recorded_plans(run: Run) -> dict[int, Plan]:
    """Return each plan of a run by the step after which it came into force."""
    names = {field.name for field in fields(Plan)}
    lines = [line for line in read(run.path) if line["event"] == "planned"]
    return {line["step"]: Plan(**{name: line[name] for name in names & line.keys()}) for line in lines}


def compare_texts(run: Run, other: Run) -> list[Compared]:
    """Compare what was made of the texts."""
    ours, theirs = manifest(run.path), manifest(other.path)
    kept = (runs.VALIDATION_FILE, runs.VALIDATION_ROWS_FILE)
    made = [name for name in ours if name in kept or name.startswith(f"{runs.TOKENIZER_FOLDER}/")]
    return [Compared(name, ours[name]["sha256"], _hash(theirs, name)) for name in made]


def compare_steps(run: Run, other: Run) -> list[Compared]:
    """Compare the tensors of every whole saved step."""
    compared = []
    for step in run.steps():
        folder, counterpart = run.step_folder(step), other.step_folder(step)
        if not checkpoint.is_whole(folder):
            continue
        theirs = manifest(counterpart) if counterpart.is_dir() else {}
        for name, entry in manifest(folder).items():
            if name != checkpoint.STATE_FILE:
                compared.append(Compared(f"step-{step}/{name}", entry["sha256"], _hash(theirs, name)))
    return compared


def _hash(listed: dict[str, Any], name: str) -> str | None:
    return listed[name]["sha256"] if name in listed else None
