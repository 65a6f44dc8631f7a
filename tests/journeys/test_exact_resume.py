"""A run that was stopped, interrupted or killed ends with the bits of one that was not."""

from __future__ import annotations

import contextlib
import hashlib
import io
import itertools
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from clearhead.cli.main import main
from clearhead.core.events import read
from clearhead.core.run import Run
from clearhead.store import checkpoint

STEPS = 10
SMALL = [
    "--preset=tiny",
    f"--steps={STEPS}",
    "--threads=1",
    "--model.num_layers=2",
    "--model.num_heads=2",
    "--model.width=12",
    "--model.context_length=13",
    "--train.sequences_per_step=6",
    "--train.sample_tokens=5",
]
EVERY_THIRD = "--train.evaluate_every=3"


class Bench:
    """A place with a text, where the real program runs."""

    def __init__(self, folder: Path, *settings: str) -> None:
        self.folder = folder
        self.settings = settings
        (folder / "text.txt").write_text("".join(f"line {i} of {i * i % 97} and {i % 7}\n" for i in range(300)))
        self.environment = {
            **os.environ,
            "CLEARHEAD_CACHE": str(folder / "cache"),
            "CLEARHEAD_RUNS": str(folder / "runs"),
            "OMP_NUM_THREADS": "1",
        }

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "clearhead", "train", *arguments],
            cwd=self.folder,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def train(self, *arguments: str, code: int = 0) -> str:
        """Train in this process, which spares the start of another, and return what is printed."""
        out, err = io.StringIO(), io.StringIO()
        with (
            pytest.MonkeyPatch.context() as patch,
            contextlib.redirect_stdout(out),
            contextlib.redirect_stderr(err),
        ):
            patch.chdir(self.folder)
            for name in ("CLEARHEAD_CACHE", "CLEARHEAD_RUNS"):
                patch.setenv(name, self.environment[name])
            returned = main(["train", *arguments])
        assert returned == code, err.getvalue()
        return out.getvalue() + err.getvalue()

    def begin(self, name: str, *arguments: str, code: int = 0) -> str:
        return self.train("text.txt", f"--run=runs/{name}", *SMALL, *self.settings, *arguments, code=code)

    def run(self, name: str) -> Run:
        return Run(self.folder / "runs" / name)

    def interrupt(self, name: str, number: int, at_step: int, *arguments: str) -> int:
        """Send a signal to a training once it has done some steps, and return its exit code."""
        process = self.start("text.txt", f"--run=runs/{name}", *SMALL, *self.settings, *arguments)
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline and process.poll() is None:
            if self.run(name).path.exists() and self.steps_done(name) >= at_step:
                process.send_signal(number)
                break
            time.sleep(0.002)
        process.communicate(timeout=120)
        return process.returncode

    def steps_done(self, name: str) -> int:
        return max((line["step"] for line in read(self.run(name).path)), default=0)

    def hashes(self, name: str, step: int = STEPS) -> dict[str, str]:
        """Return the SHA-256 of the weights, the averages and the optimizers' memory of a step."""
        files = sorted(self.run(name).step_folder(step).glob("*.safetensors"))
        assert {"model.safetensors", "optimizer.safetensors"} <= {file.name for file in files}
        return {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in files}


class Apart(Bench):
    """A place where every training has a process of its own."""

    def train(self, *arguments: str, code: int = 0) -> str:
        process = self.start(*arguments)
        out, err = process.communicate(timeout=240)
        assert process.returncode == code, err
        return out + err


INTERRUPTED, KILLED = ("interrupted", signal.SIGINT, 2), ("killed", signal.SIGKILL, 4)
"""What a run is called, the signal that it gets, and after which step."""


def check_exactness(bench: Bench, *ends: tuple[str, int, int]) -> None:
    """Compare one run of ten steps with runs stopped at 5 and ended by signals, each resumed."""
    bench.begin("whole")
    expected = bench.hashes("whole")
    bench.begin("stopped", "--stop-after=5")
    assert bench.steps_done("stopped") == 5
    assert "exact." in bench.train("--resume=stopped")
    assert bench.hashes("stopped") == expected
    for name, number, at_step in ends:
        assert bench.interrupt(name, number, at_step) in (0, 128 + number, -number)
        bench.train(f"--resume={name}")
        assert bench.hashes(name) == expected


def test_resumed_runs_end_with_the_same_bits(tmp_path: Path) -> None:
    """Interruptions are among what the soak does in little, and in the whole matrix below."""
    check_exactness(Bench(tmp_path, EVERY_THIRD, "--model.dropout=0.2", "--train.averaging=0.9"), KILLED)


def test_another_seed_or_a_forgotten_memory_would_be_seen(tmp_path: Path) -> None:
    """The hashes do tell runs apart: another seed, and a resume whose optimizer forgot, end elsewhere."""
    from safetensors.torch import load_file, save_file

    from clearhead.core.files import write_manifest

    bench = Bench(tmp_path, EVERY_THIRD)
    bench.begin("whole")
    bench.begin("other", "--seed=2")
    assert bench.hashes("other") != bench.hashes("whole")
    bench.begin("forgetful", "--stop-after=5")
    folder = bench.run("forgetful").step_folder(5)
    memory = load_file(folder / "optimizer.safetensors")
    save_file({name: tensor * 0 for name, tensor in memory.items()}, folder / "optimizer.safetensors")
    (folder / "manifest.json").unlink()
    write_manifest(folder)
    bench.train("--resume=forgetful")
    assert bench.hashes("forgetful") != bench.hashes("whole")


class Died(BaseException):
    """Nothing handles it, so nothing is tidied up for it."""


def die(*_: object) -> None:
    raise Died


def test_ended_before_the_first_save_it_begins_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Bench(tmp_path, "--train.keep=newest", "--train.evaluate_every=10")
    bench.begin("whole")
    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "save", die)
        with pytest.raises(Died):
            bench.begin("ended")
    assert bench.steps_done("ended") == STEPS
    assert "exact." in bench.train("--resume=ended")
    assert bench.hashes("ended") == bench.hashes("whole")


@pytest.mark.slow
def test_killed_before_the_first_save_it_begins_again(tmp_path: Path) -> None:
    bench = Bench(tmp_path, "--train.keep=newest", "--train.evaluate_every=10")
    bench.begin("whole")
    bench.interrupt("killed", signal.SIGKILL, 1)
    assert "exact." in bench.train("--resume=killed")
    assert bench.hashes("killed") == bench.hashes("whole")


def test_other_threads_are_called_approximate(tmp_path: Path) -> None:
    bench = Bench(tmp_path, EVERY_THIRD)
    bench.begin("a", "--stop-after=5")
    assert "approximate: 1 thread before, 2 now" in bench.train("--resume=a", "--threads=2")


def test_a_finished_run_can_be_made_longer(tmp_path: Path) -> None:
    bench = Bench(tmp_path, EVERY_THIRD)
    bench.begin("a")
    assert "complete already" in bench.train("--resume=a")
    assert "approximate: the length was changed" in bench.train("--resume=a", "--steps=14")
    assert bench.steps_done("a") == 14
    assert "must be more" in bench.train("--resume=a", "--steps=9", code=2)


MATRIX = list(itertools.product(["fp32", "bf16"], [1, 3], [False, True]))


# Compiled steps are not run beside the shape checks of this process, so every part of a matrix cell has its own.
@pytest.mark.slow
@pytest.mark.parametrize(("precision", "micro_batches", "compiled"), MATRIX)
def test_the_whole_matrix_is_exact(tmp_path: Path, precision: str, micro_batches: int, compiled: bool) -> None:
    settings = [EVERY_THIRD, f"--train.precision={precision}", f"--train.micro_batches={micro_batches}"]
    settings += [f"--train.compile={str(compiled).lower()}", "--model.dropout=0.2", "--train.averaging=0.9"]
    check_exactness(Apart(tmp_path, *settings), INTERRUPTED, KILLED)
