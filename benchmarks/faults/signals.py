"""R6: asked to stop by SIGTERM or SIGINT at any instant, also twice."""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import signal
import time
from pathlib import Path
from typing import Any

from clearhead.core import events
from faults.crashes import FEW, judge, survivors, undisturbed, victim_for
from faults.damage import type_command
from faults.victims import MIDDLE, SHORT, Victim, fork, run_of, settle, wait

Trial = dict[str, Any]
ASKED = {signal.SIGTERM: 143, signal.SIGINT: 130}


def interruptions(home: Path, count: int) -> list[Trial]:
    """Return instants from the start to after the end, half of them SIGTERM; every fifth is asked twice."""
    undisturbed(victim_for(count), home)
    rng = random.Random(2)
    names = ("SIGTERM", "SIGINT")
    return [
        {
            "number": number,
            "signal": names[number % 2],
            "moment": (number + rng.random()) / count,
            "twice": number % 5 == 4,
            "few": count < FEW,
        }
        for number in range(count)
    ]


def interrupted(trial: Trial, home: Path) -> str:
    """Ask a run to stop; it must say so, lose no step that it did, and go on to the same end."""
    place, asked = home / f"R6-{trial['number']}", signal.Signals[trial["signal"]]
    victim = SHORT if trial["few"] else MIDDLE
    text, seconds = settle(place), undisturbed(victim, home)["seconds"]
    command = ["train", str(text), "--preset", "tiny", "--run", str(run_of(place).path), "--quiet", *flags(victim)]
    note = place.with_suffix(".said")
    child = fork(lambda: type_command(command, note))
    time.sleep(0.05 + trial["moment"] * seconds)
    with contextlib.suppress(ProcessLookupError):
        os.kill(child, asked)
        if trial["twice"]:
            time.sleep(0.002)
            os.kill(child, signal.SIGINT)
    code = wait(child)
    trouble = ended_well(trial, place, code, asked, note) or judge(victim, place, home)
    shutil.rmtree(place)
    return trouble


def ended_well(trial: Trial, place: Path, code: int, asked: signal.Signals, note: Path) -> str:
    """Say what is wrong with the end of a run that was asked to stop."""
    said = note.read_text() if note.exists() else ""
    early = code == -asked or not run_of(place).path.exists()  # before the program had put its own answer in place
    if code not in (0, 130, ASKED[asked]) and not early:
        return f"it ended with {code}: {said[-300:]}"
    if "Traceback" in said:
        return said[-300:]
    lines = events.read(run_of(place).path) if run_of(place).path.exists() else []
    done = max((line["step"] for line in lines), default=0)
    return survivors(place, done if code == ASKED[asked] and not trial["twice"] and done else 0)


def flags(victim: Victim) -> list[str]:
    """Return the settings of the victim as flags."""
    given = []
    for key, value in victim.changes().items():
        inner = value.items() if isinstance(value, dict) else [("", value)]
        for name, each in inner:
            given += [f"--{key}.{name}" if name else f"--{key}", str(each)]
    return given
