"""What all screens share: the runs, the trainings that were started here, and the models that were opened."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable
from pathlib import Path
from typing import TYPE_CHECKING, Generic, TypeVar

from clearhead.core import run as runs
from clearhead.core.errors import UserError
from clearhead.core.events import FILE
from clearhead.core.run import Run, Selection
from clearhead.serve.jobs import Jobs

if TYPE_CHECKING:
    from clearhead.generation.writer import Writer
    from clearhead.show.view import View
    from clearhead.store.load import Loaded

Value = TypeVar("Value")

OPEN_MODELS = 4
KEPT_VIEWS = 32


class Studio:
    """One person's workplace: it has no accounts, since it is reachable from this machine alone.

    Args:
        folder: where the runs are kept.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.jobs = Jobs()
        self.dark: bool | None = None
        self._models: Kept[Loaded] = Kept(OPEN_MODELS)
        self.views: Kept[View] = Kept(KEPT_VIEWS)

    def runs(self) -> list[Run]:
        """Return all runs, the newest first."""
        return runs.all_runs(self.folder)[::-1]

    def run(self, name: str) -> Run:
        """Return a run by the name of its folder.

        Raises:
            UserError: there is none of that name here.
        """
        for run in self.runs():
            if run.name == name:
                return run
        raise UserError(f"There is no run {name} in {self.folder}.")

    def trained(self, name: str) -> Run:
        """Return a run by its name, also one whose training has just begun and that is not there yet."""
        run = Run(self.folder / name)
        return run if self.jobs.of(run.path) else self.run(name)

    def new_run(self, stem: str) -> Path:
        """Return a free folder for a new run."""
        return runs.new_path(stem, self.folder)

    def model(self, run: Run, step: int | str = "best") -> Loaded:
        """Return a run's model at a step, opened once; the few opened last stay open.

        Raises:
            UserError: the step is not there, or not as it was written.
        """
        from clearhead.store.load import load_selection

        # Which step is best or last may change while the run goes on, and with each change comes an event.
        key = (run.path, step, changed(run))
        if key in self._models:
            return self._models.get(key)
        return self._models.keep(key, load_selection(Selection(run, step)))

    def writer(self, run: Run, step: int | str = "best") -> Writer:
        """Return a run's model at a step, ready to write.

        Raises:
            UserError: the step is not there, or the run was trained for another task.
        """
        from clearhead.generation.writer import Writer

        return Writer(self.model(run, step))


class Kept(Generic[Value]):
    """Values that took long to make, by what they were made from; the longest unused go first."""

    def __init__(self, at_most: int) -> None:
        self._values: OrderedDict[Hashable, Value] = OrderedDict()
        self._at_most = at_most

    def __contains__(self, key: Hashable) -> bool:
        return key in self._values

    def get(self, key: Hashable) -> Value:
        """Return the value of a key that is there."""
        self._values.move_to_end(key)
        return self._values[key]

    def keep(self, key: Hashable, value: Value) -> Value:
        """Keep a value, and return it."""
        self._values[key] = value
        while len(self._values) > self._at_most:
            self._values.popitem(last=False)
        return value


def changed(run: Run) -> int:
    """Return when the run's events last grew."""
    path = run.path / FILE
    return path.stat().st_mtime_ns if path.exists() else 0
