"""Whole programs, measured from outside: how long they take, until when they say something, how much memory."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from clearhead.core.errors import UserError
from clearhead.lab.bench.worker import environment

KILOBYTE = 1 if sys.platform == "darwin" else 1024
"""The unit in which the system tells how much memory a process took."""

OURS = (sys.executable, "-m", "clearhead")


@dataclass(frozen=True, slots=True)
class Ended:
    """A program that came to its end.

    Args:
        megabytes: the most memory that it had at a time.
        until_said: seconds until a word stood on its output that was waited for, else None.
    """

    seconds: float
    megabytes: float
    said: str
    until_said: float | None = None


def run_program(
    command: Sequence[str | Path], *, threads: int, folder: Path, word: str | None = None, private: Path | None = None
) -> Ended:
    """Run a program to its end.

    Args:
        word: a text on its output or among its errors whose coming is timed; "" for the first there is.
        private: where our program keeps runs and caches; without it, in the folder.

    Raises:
        UserError: it failed; its last line is told.
    """
    home = private or folder
    settings = {"CLEARHEAD_CACHE": str(home / "cache"), "CLEARHEAD_RUNS": str(home / "runs"), "PYTHONUNBUFFERED": "1"}
    began = time.perf_counter()
    process = subprocess.Popen(
        [str(each) for each in command],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        stdin=subprocess.DEVNULL,
        cwd=folder,
        env=environment(threads) | settings,
    )
    assert process.stdout is not None
    until, content = None, b""
    try:
        while block := os.read(process.stdout.fileno(), 1 << 16):
            content += block
            if word is not None and until is None and word.encode() in content:
                until = time.perf_counter() - began
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    finally:
        process.stdout.close()
        process.kill()
    seconds = time.perf_counter() - began
    text = content.decode(errors="replace")
    if process.returncode != 0:
        last = (text.strip().splitlines() or ["it said nothing"])[-1]
        raise UserError(f"{' '.join(map(str, command[:4]))} ... ended with exit code {process.returncode}: {last}")
    return Ended(seconds, usage.ru_maxrss * KILOBYTE / 1e6, text, until)
