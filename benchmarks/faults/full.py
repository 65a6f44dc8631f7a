"""R4: the disk takes no more, at a limit on the size of files, at any call, or for good on a small disk."""

from __future__ import annotations

import contextlib
import errno
import os
import resource
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from clearhead.core.errors import CannotWrite
from clearhead.store.checkpoint import is_whole
from faults.crashes import count_calls, judge, undisturbed
from faults.operations import Operation, Watcher, watching
from faults.victims import SHORT, fork, live, run_of, settle, wait

Trial = dict[str, Any]
REFUSED = 3
NOT_MOUNTED = "skipped: no small disk can be mounted here"
SMALL_DISK_BYTES = 192 << 10


class Full(Watcher):
    """Refuses, from the n-th operation on, everything that takes room."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.number = number

    def before(self, operation: Operation) -> None:
        super().before(operation)
        takes_room = operation.kind in ("write", "mkdir") or (operation.kind == "open" and operation.length == 0)
        if self.count >= self.number and takes_room:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), operation.path)


def full_disks(home: Path, limit: int | None = None) -> list[Trial]:
    """Return 20 limits on the size of a file, 20 calls from which on the disk is full, and a small disk."""
    undisturbed(SHORT, home)
    largest = max(file.stat().st_size for file in (home / f"undisturbed-{SHORT.steps}").rglob("*") if file.is_file())
    calls = count_calls(SHORT, home)
    trials: list[Trial] = [{"how": "size", "number": largest * part // 20} for part in range(20)]
    trials += [{"how": "call", "number": 1 + calls * part // 20} for part in range(20)]
    trials += [{"how": "disk", "number": SMALL_DISK_BYTES}]
    return trials if limit is None else trials[:: max(1, len(trials) // limit)][:limit]


def filled(trial: Trial, home: Path) -> str:
    """Live on a disk that fills up: it must end with a sentence, keep what was saved, and go on when there is room."""
    place = home / f"R4-{trial['how']}-{trial['number']}"
    settle(place)
    with small_disk(place, trial["how"] == "disk") as mounted:
        if not mounted:
            return NOT_MOUNTED
        code = wait(fork(lambda: live_filling(trial, place)))
        if code not in (0, REFUSED):
            return f"it ended with {code} in place of a sentence"
        run = run_of(place)
        damaged = [step for step in run.steps() if not is_whole(run.step_folder(step))]
        unfinished = [path.name for path in place.rglob("*.tmp-*")]
        if damaged or unfinished:
            return f"damaged steps {damaged}, unfinished {unfinished}"
        if mounted != place:  # room again: the same place on a larger disk
            shutil.copytree(place, mounted, dirs_exist_ok=True)
        settle(mounted)
        trouble = judge(SHORT, mounted, home)
    shutil.rmtree(place)
    return trouble


def live_filling(trial: Trial, place: Path) -> int:
    """Live until the disk is full; the exit code says whether that came as the error that it should."""
    if trial["how"] == "size":
        resource.setrlimit(resource.RLIMIT_FSIZE, (trial["number"], resource.RLIM_INFINITY))
    watcher = Full(trial["number"] if trial["how"] == "call" else 10**9)
    try:
        with watching(watcher, place):
            live(SHORT, place)
    except CannotWrite as error:
        return REFUSED if str(place) in str(error) else 1
    return 0


@contextlib.contextmanager
def small_disk(place: Path, wanted: bool) -> Iterator[Path | None]:
    """Mount a small disk at a place; give where to go on with room, or None where nothing can be mounted."""
    if not wanted:
        yield place
        return
    options = f"size={SMALL_DISK_BYTES}"
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(place)], capture_output=True, check=False
    )
    if done.returncode:
        yield None
        return
    try:
        settle(place)
        yield place.with_suffix(".larger")
    finally:
        subprocess.run(["umount", "-l", str(place)], check=True)
        shutil.rmtree(place.with_suffix(".larger"), ignore_errors=True)
