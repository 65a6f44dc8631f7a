"""Whole programs, measured from outside: how long they take, until when they say something, how much memory."""

from __future__ import annotations

import os
import select
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from clearhead.core.errors import UserError
from clearhead.lab.bench.worker import environment

LOOK_SECONDS = 0.02
"""How often a running program's memory is looked at."""

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


def run_program(command: Sequence[str | Path], *, threads: int, folder: Path, word: str | None = None) -> Ended:
    """Run a program to its end; what we keep beside runs, such as caches, goes into the folder.

    Args:
        word: a text on its output or among its errors whose coming is timed; "" for the first there is.

    Raises:
        UserError: it failed; its last line is told.
    """
    own = {"CLEARHEAD_CACHE": str(folder / "cache"), "CLEARHEAD_RUNS": str(folder / "runs"), "PYTHONUNBUFFERED": "1"}
    began = time.perf_counter()
    with subprocess.Popen(
        [str(each) for each in command],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        stdin=subprocess.DEVNULL,
        cwd=folder,
        env=environment(threads) | own,
    ) as process:
        try:
            ended = _watched(process, began, word)
        finally:
            process.kill()
    if process.returncode != 0:
        last = (ended.said.strip().splitlines() or ["it said nothing"])[-1]
        raise UserError(f"{' '.join(map(str, command[:4]))} ... ended with exit code {process.returncode}: {last}")
    return ended


def _watched(process: subprocess.Popen[bytes], began: float, word: str | None) -> Ended:
    assert process.stdout is not None
    until, content, most = None, b"", 0
    while True:
        ready, _, _ = select.select([process.stdout], [], [], LOOK_SECONDS)
        most = max(most, peak_memory(process.pid))
        if not ready:
            continue
        block = os.read(process.stdout.fileno(), 1 << 16)
        content += block
        if block and word is not None and until is None and word.encode() in content:
            until = time.perf_counter() - began
        if not block:
            break
    process.wait()
    return Ended(time.perf_counter() - began, most / 1e6, content.decode(errors="replace"), until)


def peak_memory(process: int) -> int:
    """Return the most bytes of memory that a running process has had, 0 where the system does not tell.

    What the system tells after a process has ended is not used: it is never below the memory of whoever started it.
    """
    try:
        lines = Path(f"/proc/{process}/status").read_text().splitlines()
    except OSError:
        return 0
    return next((1024 * int(line.split()[1]) for line in lines if line.startswith("VmHWM:")), 0)
