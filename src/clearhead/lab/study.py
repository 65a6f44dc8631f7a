"""A study: a question, the experiment that answers it, and how the answer is read off its runs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from clearhead.core.errors import UserError
from clearhead.core.files import to_json, write_atomically
from clearhead.lab.experiment import Experiment, Outcome, Watch, nothing, open_folder, outcomes
from clearhead.show.study import Answer, render
from clearhead.training.watch import Stop, never

ANSWER_FILE = "answer.json"
PAGE_FILE = "report.html"
QUICK_MINUTES = 1.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Request:
    """What somebody asks of a study.

    Args:
        texts: what to train on; without any, the built-in tales.
        seeds: how many times each arm is trained; the study's own number if not given.
        steps: the length of every run; at most one of steps and minutes is given.
        minutes: for the whole study; the study's own number if not given.
        quick: one seed, a minute in all: to see how it goes, not to learn the answer.
        changes: settings of the recipe that all arms share, by dotted names.
    """

    texts: tuple[str, ...] = ()
    seeds: int | None = None
    steps: int | None = None
    minutes: float | None = None
    quick: bool = False
    changes: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True, slots=True)
class Study:
    """A question that an experiment answers.

    Args:
        minutes: for all of it, unless somebody asks for another length.
        experiment: makes the experiment of a request whose seeds and length are settled.
        answer: reads the answer off the experiment's runs, which are all there.
    """

    name: str
    question: str
    seeds: int
    minutes: float
    experiment: Callable[[Request], Experiment]
    answer: Callable[[Experiment, Sequence[Outcome]], Answer]


@dataclass(frozen=True, kw_only=True, slots=True)
class Result:
    """Where a study is kept, and its answer; none yet where it was stopped before its end."""

    folder: Path
    answer: Answer | None


def settled(study: Study, asked: Request) -> Request:
    """Return a request with what was left open filled in.

    Raises:
        UserError: both steps and minutes are given.
    """
    if asked.steps is not None and asked.minutes is not None:
        raise UserError("--steps and --minutes both say how long a study is; give one of them.")
    seeds = asked.seeds or (1 if asked.quick else study.seeds)
    minutes = asked.minutes
    if minutes is None and asked.steps is None:
        minutes = QUICK_MINUTES if asked.quick else study.minutes
    return Request(
        texts=asked.texts,
        seeds=seeds,
        steps=asked.steps,
        minutes=minutes,
        quick=asked.quick,
        changes=asked.changes,
    )


def run_study(
    study: Study, asked: Request, path: Path | None = None, *, stop: Stop = never, watch: Watch = nothing
) -> Result:
    """Train what the study needs, and write its answer as JSON and as a page into its folder.

    The same call again goes on where an interrupted one stopped; after the end it trains nothing.
    """
    folder, experiment = open_folder(study.experiment(settled(study, asked)), path)
    found = list(outcomes(experiment, folder, stop=stop, watch=watch))
    if len(found) < len(experiment.arms) * len(experiment.seeds):
        return Result(folder=folder, answer=None)
    answer = study.answer(experiment, found)
    write_atomically(folder / ANSWER_FILE, to_json({"format": 1, **answer.to_json()}))
    write_atomically(folder / PAGE_FILE, render(answer))
    return Result(folder=folder, answer=answer)
