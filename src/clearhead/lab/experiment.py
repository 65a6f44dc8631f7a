"""A small experiment: named changes of one recipe, each trained at several seeds, kept so that it can go on later."""

from __future__ import annotations

import json
import math
import re
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float64

from clearhead.core import run as runs
from clearhead.core.config import merge, to_dict
from clearhead.core.errors import DamagedFile, UserError
from clearhead.core.events import Event, read
from clearhead.core.files import read_json, to_json, write_atomically
from clearhead.core.run import Run, Selection
from clearhead.show.history import nats, number
from clearhead.text import origin
from clearhead.training import fit
from clearhead.training.config import RunConfig
from clearhead.training.session import Session, probe
from clearhead.training.watch import Stop, never

STUDY_FILE = "study.json"
EVALUATIONS = 12
"""How often each run is evaluated on its way: the points of its curve."""

STEPS_SHARE = 0.7
"""The part of a timed experiment that is spent in steps; the rest evaluates, writes and saves."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Arm:
    """One of the things compared.

    Args:
        changes: the settings in which it differs from the recipe, by nested or dotted names.
        about: what it is, in a few words.
    """

    name: str
    changes: Mapping[str, Any] = field(default_factory=dict)
    about: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Experiment:
    """Arms of one recipe, each trained on the same text at the same seeds.

    Args:
        name: what its folder is called.
        base: the settings that all arms share, among them how long each run is.
        minutes: for the whole experiment, which all runs then share as equally many steps; without it the length is
            that of `base`.
    """

    name: str
    texts: tuple[str, ...]
    base: RunConfig
    arms: tuple[Arm, ...]
    seeds: tuple[int, ...]
    minutes: float | None = None

    def config(self, arm: Arm, seed: int) -> RunConfig:
        """Return the settings of one run."""
        return merge(self.base, {**arm.changes, "train.seed": seed})

    def arm(self, name: str) -> Arm:
        """Return the arm of a name."""
        return next(arm for arm in self.arms if arm.name == name)


@dataclass(frozen=True)
class Outcome:
    """One run of an experiment that came to its end; everything is read back from its files."""

    arm: str
    seed: int
    run: Run

    @cached_property
    def events(self) -> list[dict[str, Any]]:
        """The run's events."""
        return read(self.run.path)

    @cached_property
    def description(self) -> dict[str, Any]:
        """The run's run.json."""
        return self.run.describe()

    @property
    def parameters(self) -> int:
        """How many parameters were trained."""
        return int(self.description["parameters"]["total"])

    @property
    def tokens(self) -> int:
        """How many targets were trained on."""
        return int(self.events[-1]["tokens"])

    @property
    def train_seconds(self) -> float:
        """The seconds spent in steps alone."""
        return number(self._last_evaluation.get("train_seconds"))

    @property
    def nats_per_token(self) -> float:
        """The loss on the whole validation text after the last step; NaN where training broke off."""
        return number(self._last_evaluation.get("nats_per_token"))

    @property
    def bits_per_byte(self) -> float | None:
        """The same in bits per byte, where the tokenizer loses no text."""
        bits: float | None = self._last_evaluation.get("bits_per_byte")
        return bits

    @property
    def standard_error(self) -> float:
        """How far, by the spread of its windows, another validation text would move the loss."""
        return number(self._last_evaluation.get("standard_error"))

    @property
    def curve(self) -> tuple[Float64[np.ndarray, " N"], Float64[np.ndarray, " N"]]:
        """The steps at which the run was evaluated on its way, and its validation losses there."""
        found = [line for line in self._evaluations if line["sampled"]]
        return np.array([float(line["step"]) for line in found]), np.array([nats(line) for line in found])

    @property
    def sample(self) -> str:
        """What the model wrote last."""
        return next((str(line["text"]) for line in reversed(self.events) if line["event"] == "sampled"), "")

    def measured(self, name: str) -> Mapping[str, Any] | None:
        """Return what was measured under a name in this run, or None."""
        found = [line["values"] for line in self.events if line["event"] == "measured" and line["name"] == name]
        return found[-1] if found else None

    @property
    def _evaluations(self) -> list[dict[str, Any]]:
        return [line for line in self.events if line["event"] == "evaluated" and line["split"] == "validation"]

    @property
    def _last_evaluation(self) -> dict[str, Any]:
        return next((line for line in reversed(self._evaluations) if not line["sampled"]), {})


Watch = Callable[[Arm, int, Event], None]
"""Told of every event, with the arm and the seed of its run."""


def nothing(_arm: Arm, _seed: int, _event: Event) -> None:
    """Watch nothing."""


def open_folder(experiment: Experiment, path: Path | None = None) -> tuple[Path, Experiment]:
    """Return the experiment's folder and the experiment with its length settled.

    An experiment on the same text with the same recipe and arms is found again, so it goes on where it stopped; more
    seeds than before are trained in addition.

    Args:
        path: where it is kept; without one, below the runs folder.

    Raises:
        UserError: another experiment is kept at `path`, or the text comes from standard input.
    """
    if "-" in experiment.texts:
        raise UserError("A study reads its text many times; store standard input in a file and name that.")
    wanted = request(experiment)
    for folder in [path] if path else sorted(runs.runs_folder().glob(f"lab-{experiment.name}-*")):
        stored = read_study(folder)
        if stored is not None and stored["request"] == wanted:
            return folder, with_steps(experiment, stored["steps"])
    if path is not None:
        runs.require_free(path)
    folder = path or runs.new_path(f"lab-{experiment.name}")
    steps = planned_steps(experiment)
    folder.mkdir(parents=True, exist_ok=True)
    stored = {"format": 1, "study": experiment.name, "request": wanted, "steps": steps}
    write_atomically(folder / STUDY_FILE, to_json(stored))
    return folder, with_steps(experiment, steps)


def read_study(folder: Path) -> dict[str, Any] | None:
    """Return what stands in a folder's study.json, or None where there is no such file."""
    try:
        stored: dict[str, Any] = read_json(folder / STUDY_FILE)
    except DamagedFile:
        return None
    return stored


def request(experiment: Experiment) -> dict[str, Any]:
    """Return what makes two experiments the same one: text, settings and arms, but not the number of seeds."""
    corpus = origin.read_texts(experiment.texts, experiment.base.text)
    wanted = {
        "texts": [str(Path(name).absolute()) for name in experiment.texts],
        "fingerprint": corpus.fingerprint,
        "minutes": experiment.minutes,
        "base": to_dict(experiment.base),
        "arms": {arm.name: to_dict(experiment.config(arm, 0)) for arm in experiment.arms},
    }
    plain: dict[str, Any] = json.loads(json.dumps(wanted))
    return plain


def planned_steps(experiment: Experiment) -> int | None:
    """Return how many steps every run gets, so that all of them together take the experiment's minutes."""
    if experiment.minutes is None:
        return experiment.base.train.steps
    seconds = 0.0
    for arm in experiment.arms:
        config = experiment.config(arm, experiment.seeds[0])
        config = replace(config, train=replace(config.train, steps=1, minutes=None, evaluate_every=1))
        with tempfile.TemporaryDirectory(prefix="clearhead-lab-") as folder:
            session = fit.create(experiment.texts, config, Path(folder) / "probe", fixed_context=True)
            seconds += probe(session).step_seconds
    return max(EVALUATIONS, int(STEPS_SHARE * 60 * experiment.minutes / (seconds * len(experiment.seeds))))


def with_steps(experiment: Experiment, steps: int | None) -> Experiment:
    """Return the experiment with runs of so many steps, evaluated evenly on the way."""
    if steps is None:
        return experiment
    every = experiment.base.train.evaluate_every or math.ceil(steps / EVALUATIONS)
    train = replace(experiment.base.train, steps=steps, minutes=None, evaluate_every=every)
    return replace(experiment, base=replace(experiment.base, train=train))


def outcomes(experiment: Experiment, folder: Path, *, stop: Stop = never, watch: Watch = nothing) -> Iterator[Outcome]:
    """Train what is not trained yet and yield every run of the experiment; all arms of one seed before the next seed.

    When `stop` answers, the present run is saved and nothing more is yielded.
    """
    for seed in experiment.seeds:
        for index, arm in enumerate(experiment.arms):
            run = Run(folder / f"{slug(arm.name)}-{seed}")
            if not is_finished(run):
                first = index == 0 and seed == experiment.seeds[0]
                session = open_session(experiment, arm, seed, run.path)
                for event in fit.train(session, stop=stop, baselines=first):
                    watch(arm, seed, event)
                if not is_finished(run):
                    return
            yield Outcome(arm.name, seed, run)


def slug(name: str) -> str:
    """Return an arm's name as it stands in a folder's."""
    return re.sub(r"[^\w.]+", "-", name).strip("-")


def open_session(experiment: Experiment, arm: Arm, seed: int, path: Path) -> Session:
    """Return a run of the experiment, new or where it was last saved."""
    if (path / runs.RUN_FILE).exists():
        return fit.resume(Selection(Run(path), "last"))
    command = f"clearhead lab run {experiment.name}"
    return fit.create(experiment.texts, experiment.config(arm, seed), path, fixed_context=True, command=command)


def is_finished(run: Run) -> bool:
    """Say whether a run came to its end, be it a bad one."""
    events = read(run.path)
    return bool(events) and events[-1]["event"] == "stopped" and events[-1]["reason"] != "signal"


def require_equal_tokens(found: Sequence[Outcome]) -> int:
    """Return the number of targets that every run was trained on; a run that broke off does not count.

    Raises:
        UserError: some runs were trained on more than others.
    """
    tokens = {outcome.tokens for outcome in found if math.isfinite(outcome.nats_per_token)}
    if len(tokens) > 1:
        counts = ", ".join(f"{outcome.arm} {outcome.tokens:,}" for outcome in found)
        raise UserError(f"The runs were not trained on equally many tokens: {counts}.")
    return tokens.pop() if tokens else 0
