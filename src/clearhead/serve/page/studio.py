"""What all screens share: the runs, the trainings that were started here, and the models that were opened."""

from __future__ import annotations

from collections import OrderedDict
from pathlib import Path
from typing import TYPE_CHECKING

from clearhead.core import run as runs
from clearhead.core.errors import UserError
from clearhead.core.run import Run, Selection
from clearhead.serve.jobs import Jobs

if TYPE_CHECKING:
    from clearhead.generation.writer import Writer

OPEN_MODELS = 4


class Studio:
    """One person's workplace: it has no accounts, since it is reachable from this machine alone.

    Args:
        folder: where the runs are kept.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.jobs = Jobs()
        self.dark: bool | None = None
        self._writers: OrderedDict[tuple[Path, int | str], Writer] = OrderedDict()

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

    def writer(self, run: Run, step: int | str = "best") -> Writer:
        """Return a run's model at a step, opened once; the few opened last stay open.

        Raises:
            UserError: the step is not there, or not as it was written.
        """
        from clearhead.generation.writer import Writer
        from clearhead.store.load import load_selection

        key = (run.path, step)
        if key not in self._writers or isinstance(step, str):  # which step is best or last may have changed
            self._writers[key] = Writer(load_selection(Selection(run, step)))
        self._writers.move_to_end(key)
        while len(self._writers) > OPEN_MODELS:
            self._writers.popitem(last=False)
        return self._writers[key]
