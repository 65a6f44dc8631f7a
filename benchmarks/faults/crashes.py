"""R1: killed before and after every call that changes a file. R2: killed at random, also twice, also while resuming."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import time
from collections.abc import Iterator
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

from clearhead.core.events import Event
from clearhead.core.files import read_json
from clearhead.core.run import Run
from clearhead.store import checkpoint
from clearhead.store.integrity import inspect
from faults.operations import Operation, Watcher, watching
from faults.victims import MIDDLE, SHORT, Victim, finish, fork, kill, live, result, run_of, settle, wait

Trial = dict[str, Any]

FEW = 10
LONGEST_SAVE_SECONDS = 0.08
START_UP_SECONDS = 0.2


class Killer(Watcher):
    """Kills its own process before or after the n-th operation."""

    def __init__(self, number: int, when: str) -> None:
        super().__init__()
        self.number, self.when = number, when

    def before(self, operation: Operation) -> None:
        super().before(operation)
        if (self.count, self.when) == (self.number, "before"):
            os.kill(os.getpid(), signal.SIGKILL)

    def after(self, operation: Operation) -> None:
        self.failed(operation)

    def failed(self, operation: Operation) -> None:
        if (self.count, self.when) == (self.number, "after"):
            os.kill(os.getpid(), signal.SIGKILL)


def undisturbed(victim: Victim, place: Path) -> dict[str, Any]:
    """Return the result of a victim that nothing happens to; it is kept beside the victims' places."""
    kept = place / f"undisturbed-{victim.steps}.json"
    if not kept.exists():
        began = time.monotonic()
        trouble = finish(victim, place / f"undisturbed-{victim.steps}")
        if trouble:
            raise RuntimeError(trouble)
        found = result(place / f"undisturbed-{victim.steps}") | {"seconds": time.monotonic() - began}
        kept.write_text(json.dumps(found))
    return dict(read_json(kept))


def victim_for(trials: int) -> Victim:
    """Return whom many trials or a few are done to."""
    return SHORT if trials < FEW else MIDDLE


def judge(victim: Victim, place: Path, home: Path) -> str:
    """Go on with a disturbed run, and say how its end differs from that of an undisturbed one."""
    trouble = finish(victim, place)
    if trouble:
        return trouble
    found, expected = result(place), undisturbed(victim, home)
    for what in ("step", "hashes", "losses"):
        if found[what] != expected[what]:
            return f"{what} differ"
    seen = inspect(run_of(place))
    return "; ".join([*seen.troubles, *(f"{path} was left over" for path in seen.leftovers)])


def survivors(place: Path, committed: int) -> str:
    """Say what is wrong with what a crash left: a step that was told as saved must be there and load."""
    run = run_of(place)
    if not run.path.exists():
        return "the run is gone" if committed else ""
    run.verify()
    step, troubles = checkpoint.search(run)
    if troubles:
        return troubles[0]
    if step is None:
        return f"step {committed} is gone" if committed else ""
    checkpoint.load(run, step)
    return f"step {committed} is gone; {step} is the newest" if step < committed else ""


def committed_by(note: Path) -> int:
    """Return the last step that a killed process told as saved."""
    return int(note.read_text()) if note.exists() else 0


def telling(note: Path) -> Any:
    """Return what writes down each saved step, outside the watched place and at once: a kill may come at any time."""
    draft = note.with_suffix(".draft")

    def tell(event: Event) -> None:
        if event.name == "saved":
            draft.write_text(str(event.step))
            draft.replace(note)

    return tell


# R1


def count_calls(victim: Victim, home: Path) -> int:
    """Return how many calls change files in the whole life of a victim."""
    place, note = home / "counted", home / "calls.txt"

    def act() -> None:
        watcher = Watcher()
        settle(place)
        with watching(watcher, place):
            live(victim, place)
        note.write_text(str(watcher.count))

    if wait(fork(act)):
        raise RuntimeError("the counted run failed")
    return int(note.read_text())


def enumerate_calls(home: Path, limit: int | None = None) -> list[Trial]:
    """Return a trial for each call in a short life, before and after it; or `limit` of them, evenly spaced."""
    undisturbed(SHORT, home)
    calls = count_calls(SHORT, home)
    trials = [{"number": number, "when": when} for number in range(1, calls + 1) for when in ("before", "after")]
    return trials if limit is None else trials[:: max(1, len(trials) // limit)][:limit]


def killed_at_call(trial: Trial, home: Path) -> str:
    """Kill a short run at one call, then check what is left and go on with it."""
    place = home / f"R1-{trial['number']}-{trial['when']}"
    note = place.with_suffix(".saved")
    settle(place)

    def act() -> None:
        with watching(Killer(trial["number"], trial["when"]), place):
            live(SHORT, place, telling(note))

    ended = wait(fork(act))
    if ended != -signal.SIGKILL:
        return f"it was not killed, but ended with {ended}"
    trouble = survivors(place, committed_by(note)) or judge(SHORT, place, home)
    shutil.rmtree(place)
    return trouble


# R2


def random_kills(home: Path, kills: int) -> list[Trial]:
    """Return kills at random: half of them while a step is saved, a quarter followed by another one."""
    victim = victim_for(kills)
    undisturbed(victim, home)
    rng = random.Random(1)
    return [
        {
            "number": number,
            "in_save": rng.randrange(1, victim.steps // victim.save_every) if number % 2 else None,
            "moment": rng.random(),
            "again": rng.random() if number % 4 == 0 else None,
            "in_start_up": number % 8 == 0,
            "few": kills < FEW,
        }
        for number in range(kills)
    ]


def killed_at_random(trial: Trial, home: Path) -> str:
    """Kill a run at a random moment, some of them once more, then go on with it."""
    victim = SHORT if trial["few"] else MIDDLE
    place = home / f"R2-{trial['number']}"
    note, seconds = place.with_suffix(".saved"), undisturbed(victim, home)["seconds"]
    settle(place)
    for moment in moments(trial, seconds):
        reading, writing = os.pipe()
        child = fork(partial(live_announcing, victim, place, trial["in_save"], writing))
        os.close(writing)
        if trial["in_save"] is not None:
            os.read(reading, 1)  # nothing comes, and the pipe is closed, where the run has fewer saves left
        time.sleep(moment)
        kill(child)
        os.close(reading)
        trouble = survivors(place, committed_by(note))
        if trouble:
            return trouble
    trouble = judge(victim, place, home)
    shutil.rmtree(place)
    return trouble


def live_announcing(victim: Victim, place: Path, number: int | None, writing: int) -> None:
    """Live, and write a byte into a pipe where the n-th save begins."""
    save, saves = checkpoint.save, count(1)

    def announce(run: Run, step: checkpoint.Checkpoint) -> Path:
        if next(saves) == number:
            os.write(writing, b".")
        return save(run, step)

    checkpoint.save = announce
    live(victim, place, telling(place.with_suffix(".saved")))


def moments(trial: Trial, seconds: float) -> Iterator[float]:
    """Yield the seconds to wait before each kill: from the start, or from the beginning of a save."""
    yield trial["moment"] * (LONGEST_SAVE_SECONDS if trial["in_save"] is not None else seconds)
    if trial["again"] is not None:
        yield trial["again"] * (START_UP_SECONDS if trial["in_start_up"] else seconds / 2)
