"""nanoGPT as a peer: a copy of its folder, its documented commands, what they print, and its losses by our rule."""

from __future__ import annotations

import re
import shutil
import statistics
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from clearhead.core.errors import UserError
from clearhead.lab.bench.processes import Ended, run_program
from clearhead.lab.bench.worker import worker

WORKER = "clearhead.lab.bench.nanogpt_worker"
DATASET = "shakespeare_char"
CONFIG = "config/train_shakespeare_char.py"
OUT = "out-shakespeare-char"
NEEDED = ("train.py", "sample.py", "model.py", "configurator.py", CONFIG, f"data/{DATASET}/prepare.py")

CPU_COMMAND = (
    *("--device=cpu", "--compile=False", "--eval_iters=20", "--log_interval=1", "--block_size=64", "--batch_size=12"),
    *("--n_layer=4", "--n_head=4", "--n_embd=128", "--max_iters=2000", "--lr_decay_iters=2000", "--dropout=0.0"),
)
"""What its README gives for training on a CPU."""

EVALUATION_INTERVAL = 250

UNUSED = ("requests", "tiktoken")
"""Libraries that its scripts import and that are not called here: its text is there, in characters."""

STEP = re.compile(r"^iter (\d+): loss ([\d.]+|nan), time ([\d.]+)ms", re.MULTILINE)
EVALUATION = re.compile(r"^step (\d+): train loss ([\d.]+|nan), val loss ([\d.]+|nan)", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Log:
    """What its training printed.

    Args:
        step_seconds: of all steps together, without evaluations.
        curve: seconds spent in steps, and its own estimate of the validation loss there.
    """

    step_seconds: float
    curve: Sequence[tuple[float, float]]


@dataclass(frozen=True, slots=True)
class NanoGpt:
    """A copy of nanoGPT whose data are prepared."""

    folder: Path
    threads: int

    def train(self, *changes: str, word: str | None = None) -> Ended:
        """Run its documented command for a CPU, with other flags after it."""
        command = (sys.executable, "train.py", CONFIG, *CPU_COMMAND, *changes)
        return run_program(command, threads=self.threads, folder=self.folder, word=word)

    def sample(self, *flags: str, word: str | None = None) -> Ended:
        """Let its last checkpoint write."""
        command = (sys.executable, "sample.py", f"--out_dir={OUT}", "--device=cpu", *flags)
        return run_program(command, threads=self.threads, folder=self.folder, word=word)

    def score(self) -> float:
        """Return the loss of its last checkpoint on the whole validation text, by our evaluation rule."""
        settings = {"task": "score", "out_dir": OUT, "dataset": DATASET}
        with worker(WORKER, settings, threads=self.threads, folder=self.folder) as repeat:
            return repeat(0).figures["nats_per_character"]


def require_nanogpt(folder: Path) -> None:
    """Refuse a folder that is not nanoGPT.

    Raises:
        UserError: a file that is called here is missing.
    """
    missing = [name for name in NEEDED if not (folder / name).is_file()]
    if missing:
        raise UserError(
            f"{folder} is no checkout of nanoGPT: it has no {missing[0]}; --nanogpt takes the folder of one."
        )


@contextmanager
def prepared(source: Path, text: Path, *, threads: int) -> Iterator[NanoGpt]:
    """Copy nanoGPT to a temporary folder and let it prepare a text, for the length of a block."""
    require_nanogpt(source)
    with tempfile.TemporaryDirectory(prefix="clearhead-nanogpt-") as home:
        folder = Path(home)
        for script in source.glob("*.py"):
            shutil.copy(script, folder)
        for name in ("config", f"data/{DATASET}"):
            shutil.copytree(source / name, folder / name, ignore=shutil.ignore_patterns("*.bin", "*.pkl", "*.txt"))
        data = folder / "data" / DATASET
        shutil.copy(text, data / "input.txt")
        for place in (folder, data):
            for library in UNUSED:
                place.joinpath(f"{library}.py").touch()
        run_program((sys.executable, data / "prepare.py"), threads=threads, folder=folder)
        yield NanoGpt(folder, threads)


def read_log(said: str) -> Log:
    """Return what a training printed.

    The time of a step before which it evaluated holds the evaluation; such a step counts as an ordinary one.
    """
    evaluations = {int(step): float(loss) for step, _, loss in EVALUATION.findall(said)}
    times = {int(step): float(milliseconds) / 1000 for step, _, milliseconds in STEP.findall(said)}
    usual = statistics.median(times.values()) if times else 0.0
    spent, curve = 0.0, []
    for step in sorted(times.keys() | evaluations.keys()):
        if step in evaluations:
            curve.append((spent, evaluations[step]))
        spent += usual if step in evaluations else times[step]
    return Log(spent, curve)
