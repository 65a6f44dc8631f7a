"""What the tasks of the built-in tales come to: sentiment where negation and scope decide, and the invented language.

    python benchmarks/tales_tasks.py --seeds 3 --json result.json

Each run is the documented command without a text, `clearhead train --task TASK`, and is scored after its last step on
sentences that its training part does not have.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path
from typing import Any

from clearhead.core.config import merge
from clearhead.core.events import read
from clearhead.training import fit
from clearhead.training.recipes import default_recipe, recipe

TASKS = {"classify": "accuracy", "translate": "exact"}
"""The figure of each task that counts."""


def train(task: str, seed: int, minutes: float) -> dict[str, Any]:
    """Train a task's default on the built-in rows and return its figures after the last step."""
    config = merge(recipe(default_recipe(task, named=False)), {"train.seed": seed, "train.minutes": minutes})
    began = time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="clearhead-benchmark-") as folder:
        session = fit.create([], config, Path(folder) / "run")
        for _ in fit.train(session):
            pass
        lines = list(read(session.run.path))
    seconds = time.perf_counter() - began
    whole = [line for line in lines if line["event"] == "evaluated" and not line["sampled"]][-1]
    [baselines] = [line["values"] for line in lines if line["event"] == "measured" and line["name"] == "baselines"]
    compared = {name: values["metrics"] for name, values in baselines.items() if values["metrics"]}
    return {"seed": seed, "seconds": seconds, "steps": whole["step"], **whole["metrics"], "baselines": compared}


def main() -> None:
    """Train, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--minutes", type=float, default=2.0)
    parser.add_argument("--tasks", default=",".join(TASKS))
    parser.add_argument("--json", metavar="FILE")
    args = parser.parse_args()
    result: dict[str, list[dict[str, Any]]] = {}
    for task in args.tasks.split(","):
        result[task] = []
        for seed in range(1, args.seeds + 1):
            found = train(task, seed, args.minutes)
            result[task].append(found)
            beside = "".join(f"; {name} {each.get(TASKS[task], 0):.4f}" for name, each in found["baselines"].items())
            print(f"{task}, seed {seed}: {TASKS[task]} {found[TASKS[task]]:.4f} in {found['seconds']:.0f} s{beside}")
    if args.json:
        Path(args.json).write_text(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
