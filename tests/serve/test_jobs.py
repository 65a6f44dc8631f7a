"""Trainings as child processes: they begin, pause, stop so that nothing is lost, and say why they did not."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from clearhead.core.errors import UserError
from clearhead.core.events import Follower
from clearhead.core.events import read as read_events
from clearhead.core.run import Run
from clearhead.serve import jobs
from clearhead.serve.jobs import Job, Jobs


def wait_for(what: Callable[[], bool], seconds: float = 60.0) -> None:
    until = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < until, "it did not happen"
        time.sleep(0.01)


class Stub:
    """Stands in for the process of a training."""

    def __init__(self, program: str) -> None:
        self.program = program

    def __call__(self, command: list[str], **settings: object) -> object:
        return POPEN([sys.executable, "-c", self.program, *command[4:]], **settings)  # type: ignore[call-overload]


POPEN = jobs.subprocess.Popen
SLEEPS = """
import signal, sys, time
signal.signal(signal.SIGINT, lambda *_: sys.exit(130))
print("ready", file=sys.stderr, flush=True)
time.sleep(60)
"""
COMPLAINS = "import sys; sys.exit('first line\\nclearhead: The text is empty.')"


@pytest.fixture
def here() -> Iterator[Jobs]:
    made = Jobs()
    yield made
    made.close()


def start(here: Jobs, monkeypatch: pytest.MonkeyPatch, program: str, run: Path) -> Job:
    monkeypatch.setattr(jobs.subprocess, "Popen", Stub(program))
    return here.start(["a.txt"], run, ["--minutes", "1"])


def test_a_job_runs_what_one_would_type(here: Jobs, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    job = start(here, monkeypatch, "import sys; sys.exit(' '.join(sys.argv[1:]))", tmp_path / "run")
    wait_for(lambda: not job.going)
    assert job.complaint == f"--minutes 1 --run {tmp_path / 'run'} --quiet -- a.txt"


def test_what_went_wrong_is_told(here: Jobs, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    job = start(here, monkeypatch, COMPLAINS, tmp_path / "run")
    wait_for(lambda: not job.going)
    assert job.complaint == "The text is empty."
    assert here.going == []
    assert here.of(tmp_path / "run") is job


def test_a_run_has_one_job_at_a_time_and_a_stopped_one_did_nothing_wrong(
    here: Jobs, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    job = start(here, monkeypatch, SLEEPS, tmp_path / "run")
    with pytest.raises(UserError, match="being trained already"):
        here.resume(tmp_path / "run")
    wait_for(lambda: bool(job._said.read_text()))
    job.pause()
    assert job.going
    assert job.paused
    here.close()
    assert not job.going
    assert job.complaint == ""


@pytest.mark.slow
def test_a_training_is_followed_stopped_and_gone_on_with(here: Jobs, tmp_path: Path) -> None:
    text = tmp_path / "text.txt"
    text.write_text("the cat sat on the mat. " * 400)
    run = tmp_path / "runs" / "cat"
    job = here.start([str(text)], run, ["--preset", "lecture", "--steps", "4000", "--threads", "1"])
    follower = Follower(run)
    wait_for(lambda: follower.look() and follower.events[-1]["step"] > 3)
    job.stop()
    wait_for(lambda: not job.going)
    follower.look()
    assert job.complaint == ""
    assert follower.events == read_events(run)
    assert follower.events[-1]["reason"] == "signal"
    saved = Run(run).steps()[-1]
    again = here.resume(run)
    wait_for(lambda: follower.look() and follower.events[-1]["step"] > saved)
    here.close()
    assert not again.going
