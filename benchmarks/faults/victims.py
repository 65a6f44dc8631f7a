"""The runs that are killed, cut off and damaged, in processes of their own.

A process that has loaded torch forks a child for each run, which spares the second that loading takes. The parent never
computes, so the child begins as a fresh process would.
"""

from __future__ import annotations

import hashlib
import os
import signal
import sys
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from clearhead.core import events
from clearhead.core.config import merge
from clearhead.core.run import Run, Selection
from clearhead.show import report
from clearhead.training import fit
from clearhead.training.recipes import recipe

FAILED = 9


@dataclass(frozen=True, slots=True)
class Victim:
    """A small run: two layers, dropout, AdamW, averaged weights, saved every few steps."""

    steps: int
    width: int
    context_length: int
    sequences_per_step: int
    save_every: int

    def changes(self) -> dict[str, Any]:
        """Return its settings as changes of the tiny preset."""
        return {
            "tokenizer": {"kind": "byte"},
            "model": {"num_layers": 2, "num_heads": 2, "width": self.width, "context_length": self.context_length},
            "model.dropout": 0.1,
            "optimizer": {"kind": "adamw"},
            "train.steps": self.steps,
            "train.sequences_per_step": self.sequences_per_step,
            "train.averaging": 0.9,
            "train.save_every": self.save_every,
            "train.evaluate_every": 3 * self.save_every,
            "train.threads": 1,
            "train.device": "cpu",
            "train.sample_tokens": 2,
        }


MIDDLE = Victim(steps=100, width=32, context_length=32, sequences_per_step=8, save_every=10)
SHORT = Victim(steps=8, width=12, context_length=13, sequences_per_step=3, save_every=2)


def warm_up() -> None:
    """Load what every child would load for itself: asked for the same bits every time, torch loads its compiler."""
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)


def settle(place: Path) -> Path:
    """Make a folder the place of a victim: its text, its runs and its cache lie there. Return the text."""
    place.mkdir(parents=True, exist_ok=True)
    os.environ["CLEARHEAD_CACHE"] = str(place / "cache")
    os.environ["CLEARHEAD_RUNS"] = str(place / "runs")
    text = place / "text.txt"
    if not text.exists() and not (place / "runs").exists():
        text.write_text("".join(f"line {i} of {i * i % 97} and {i % 7}\n" for i in range(300)))
    return text


def run_of(place: Path) -> Run:
    """Return the one run of a place."""
    return Run(place / "runs" / "victim")


def live(victim: Victim, place: Path, tell: Callable[[events.Event], None] = lambda _: None) -> None:
    """Begin the run of a place, or go on with it, and train it to its end, as `clearhead train` does."""
    text, run = settle(place), run_of(place)
    if run.path.exists():
        session = fit.resume(Selection(run, "last"))
    else:
        session = fit.create([text], merge(recipe("tiny"), victim.changes()), run.path)
    for event in fit.train(session):
        tell(event)
    report.write(run.path)


def fork(act: Callable[[], object]) -> int:
    """Do something in a child process, which ends with it; return the child's number."""
    sys.stdout.flush()
    child = os.fork()
    if child:
        return child
    code = FAILED
    try:
        torch.set_num_threads(1)
        result = act()
        code = result if isinstance(result, int) else 0
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def wait(child: int) -> int:
    """Wait for a child and return its exit code, or the signal that ended it as a negative number."""
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def finish(victim: Victim, place: Path) -> str:
    """Train the run of a place to its end, undisturbed; return what went wrong, if anything did."""
    code = wait(fork(lambda: live(victim, place)))
    return "" if code == 0 else f"going on ended with {code}"


def kill(child: int) -> int:
    """Kill a child where it stands; return how it ended."""
    os.kill(child, signal.SIGKILL)
    return wait(child)


def result(place: Path) -> dict[str, Any]:
    """Return what must be equal to the bit: the tensors of the last step, and the loss of every step."""
    run = run_of(place)
    files = sorted(run.step_folder(max(run.steps())).glob("*.safetensors"))
    losses = {line["step"]: line["loss"] for line in events.read(run.path) if line["event"] == "stepped"}
    return {
        "hashes": {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in files},
        "losses": [losses.get(step) for step in range(1, max(losses) + 1)],
        "step": max(run.steps()),
    }
