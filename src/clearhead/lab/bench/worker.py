"""A variant in a process of its own: it prepares, then waits to be told to measure once more.

So all variants can be ready at the same time and be measured in turn, each with its own settings of torch, and a peer's
code never runs in this process. A waiting worker takes no processor time.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, redirect_stdout, suppress
from pathlib import Path
from typing import Any

from clearhead.core.errors import UserError
from clearhead.lab.bench.workload import Repeat, Sample

Task = Callable[..., Repeat]

READY = "ready"

SOURCE = Path(__file__).parents[3]
"""Where the package lies, so that a worker in another folder finds it."""


def environment(threads: int) -> dict[str, str]:
    """Return the environment in which we and peers are measured."""
    path = os.pathsep.join(filter(None, (str(SOURCE), os.environ.get("PYTHONPATH"))))
    return os.environ | {"PYTHONPATH": path, "OMP_NUM_THREADS": str(threads), "MKL_NUM_THREADS": str(threads)}


@contextmanager
def worker(module: str, settings: Mapping[str, Any], *, threads: int, folder: Path | None = None) -> Iterator[Repeat]:
    """Start a worker, and give what makes it measure once.

    Args:
        module: calls `serve`.
        settings: of what is measured: a task's name as "task", and its arguments.
        folder: where the process runs.

    Raises:
        UserError: it came to an end instead of measuring; its last words are told.
    """
    command = [sys.executable, "-m", module, json.dumps(settings)]
    with tempfile.TemporaryFile("w+") as said:
        process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=said,
            text=True,
            cwd=folder,
            env=environment(threads),
        )
        assert process.stdin is not None
        assert process.stdout is not None
        asks, answers = process.stdin, process.stdout

        def answer() -> Any:
            try:
                return json.loads(answers.readline())
            except json.JSONDecodeError:
                process.wait()
                said.seek(0)
                last = (said.read().strip().splitlines() or ["it said nothing"])[-1]
                raise UserError(f"A worker of the benchmark ({module}, {settings}) ended early: {last}") from None

        def repeat(number: int) -> Sample:
            with suppress(BrokenPipeError):
                asks.write(f"{number}\n")
                asks.flush()
            sample = answer()
            return Sample(figures=sample["figures"], curve=[(seconds, loss) for seconds, loss in sample["curve"]])

        try:
            # Workers that prepare beside each other would choose their threads on a busy machine.
            assert answer() == READY
            yield repeat
        finally:
            process.kill()
            process.communicate()


def serve(tasks: Mapping[str, Task]) -> None:
    """Be a worker: prepare what the command line asks for, say so, then answer each line with a sample as JSON.

    What is printed meanwhile goes where errors go.
    """
    settings = json.loads(sys.argv[1])
    answers = sys.stdout
    with redirect_stdout(sys.stderr):
        repeat = tasks[settings.pop("task")](**settings)
        answers.write(f"{json.dumps(READY)}\n")
        answers.flush()
        for line in sys.stdin:
            sample = repeat(int(line))
            answers.write(json.dumps({"figures": dict(sample.figures), "curve": list(sample.curve)}) + "\n")
            answers.flush()
