"""Trainings as child processes: each goes on by itself, and is seen by the events that it writes and nothing else."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from clearhead.core.errors import UserError

PATIENCE_SECONDS = 10.0
"""How long a training may take to save and end when the one who started it goes."""


class Job:
    """One training in a process of its own.

    Args:
        arguments: what stands after `clearhead train` on a command line that does the same.
        run: the folder that the run has or will have.
        said: where its error stream goes.
    """

    def __init__(self, arguments: Sequence[str], run: Path, said: Path) -> None:
        self.run = run
        self.paused = False
        self._said = said
        with said.open("wb") as stream:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "clearhead", "train", *arguments],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=stream,
                start_new_session=True,  # Ctrl-C at the server's terminal is for the server, which then stops its jobs
            )

    @property
    def going(self) -> bool:
        """Whether its process is there, paused or not."""
        return self._process.poll() is None

    @property
    def complaint(self) -> str:
        """The last line that it wrote to its error stream, where it ended with an error."""
        if self.going or self._process.returncode in (0, 128 + signal.SIGINT):
            return ""
        lines = self._said.read_text(errors="replace").strip().splitlines()
        return lines[-1].removeprefix("clearhead: ") if lines else f"It ended with code {self._process.returncode}."

    def pause(self) -> None:
        """Hold it where it is; it keeps its memory and computes nothing."""
        self._send(signal.SIGSTOP)
        self.paused = True

    def go_on(self) -> None:
        """Let a paused one go on."""
        self._send(signal.SIGCONT)
        self.paused = False

    def stop(self) -> None:
        """Let it finish its step, save and end; `--resume` goes on with it, exactly."""
        self._send(signal.SIGINT)
        if self.paused:
            self.go_on()

    def wait(self, seconds: float) -> None:
        """Wait until it has ended, at most so long."""
        try:
            self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            return

    def _send(self, number: int) -> None:
        if self.going:
            os.kill(self._process.pid, number)


class Jobs:
    """The trainings that were started from here, by the folder of their run."""

    def __init__(self) -> None:
        self._jobs: dict[Path, Job] = {}
        self._folder = tempfile.TemporaryDirectory(prefix="clearhead-jobs-")

    def of(self, run: Path) -> Job | None:
        """Return the newest job of a run, if it was started from here."""
        return self._jobs.get(run.resolve())

    @property
    def going(self) -> list[Job]:
        """The jobs whose process is there."""
        return [job for job in self._jobs.values() if job.going]

    def start(self, texts: Sequence[str], run: Path, settings: Sequence[str]) -> Job:
        """Train a new run on texts (none: the built-in tales).

        Args:
            settings: flags of `clearhead train`.
        """
        return self._begin([*settings, "--run", str(run), "--quiet", *(("--", *texts) if texts else ())], run)

    def resume(self, run: Path) -> Job:
        """Go on with a run where it was last saved."""
        return self._begin(["--resume", str(run), "--quiet"], run)

    def close(self) -> None:
        """Let every job save and end, all at once; no more can be started."""
        going = self.going
        for job in going:
            job.stop()
        until = time.monotonic() + PATIENCE_SECONDS
        for job in going:
            job.wait(max(0.0, until - time.monotonic()))
        self._folder.cleanup()

    def _begin(self, arguments: Sequence[str], run: Path) -> Job:
        before = self.of(run)
        if before is not None and before.going:
            raise UserError(f"{run.name} is being trained already.")
        said = Path(self._folder.name) / f"{time.monotonic_ns()}.txt"
        job = self._jobs[run.resolve()] = Job(arguments, run, said)
        return job
