"""Kill, cut off and damage runs by the hundreds, and write how many of them were not as promised.

    python benchmarks/soak.py                          everything, about 20 minutes on two cores
    python benchmarks/soak.py --only R2 --count 300    one test

Each test's figures are added to benchmarks/RELIABILITY.json as it ends, so the whole can be run in pieces.
"""

from __future__ import annotations

import argparse
import importlib
import json
import multiprocessing
import os
import platform
import signal
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
RECORD = HERE / "RELIABILITY.json"
sys.path[:0] = [str(HERE), str(HERE.parent / "src")]

Trial = dict[str, Any]
SKIPPED = "skipped"


@dataclass(frozen=True, slots=True)
class Check:
    """One test of the plan.

    Args:
        module: where its functions are, below `faults`.
        trials: the name of what returns its trials, given a home folder and how many.
        attempt: the name of what does one trial and returns what went wrong, or nothing.
        full: how many trials the soak runs; None for all there are.
        sample: how many a short look runs.
    """

    what: str
    module: str
    trials: str
    attempt: str
    full: int | None
    sample: int


CHECKS = {
    "R1": Check("killed at a call that changes a file", "crashes", "enumerate_calls", "killed_at_call", None, 3),
    "R2": Check("killed at random", "crashes", "random_kills", "killed_at_random", 300, 2),
    "R3": Check("power lost after a call", "power", "power_failures", "lost_power", None, 6),
    "R4": Check("disk full", "full", "full_disks", "filled", None, 2),
    "R5": Check("damaged files, the verifier", "damage", "damages", "damaged", 11_400, 50),
    "R5-typed": Check("damaged files, by commands", "damage", "damages_typed", "damaged_and_typed", 50, 1),
    "R6": Check("SIGTERM and SIGINT", "signals", "interruptions", "interrupted", 50, 1),
    "R9": Check("damaged data", "damage", "damaged_data", "resumed_with", None, 2),
    "C5": Check("mutated settings", "configs", "mutations", "mutated", 5000, 100),
    "C5-typed": Check("mutated settings, as flags", "configs", "mutations_typed", "mutated_and_typed", 50, 2),
}


def warm_up() -> None:
    """Prepare a worker: it loads torch once, and computes with one thread."""
    os.environ["OMP_NUM_THREADS"] = "1"
    importlib.import_module("faults.victims").warm_up()


def call(check: Check, function: str, *arguments: Any) -> Any:
    """Call a function of a check."""
    return getattr(importlib.import_module(f"faults.{check.module}"), function)(*arguments)


def attempt(check: Check, trial: Trial, home: Path) -> str:
    """Do one trial; an error that it did not expect is a trouble too."""
    try:
        return str(call(check, check.attempt, trial, home))
    except Exception as error:
        return f"{type(error).__name__}: {error}"


def run(name: str, count: int | None, pool: ProcessPoolExecutor, home: Path) -> dict[str, Any]:
    """Do all trials of a check and return its figures."""
    check, began = CHECKS[name], time.monotonic()
    trials = pool.submit(call, check, check.trials, home, count).result()
    # Ended by a signal, it leaves no worker behind.
    signal.signal(signal.SIGTERM, lambda *_: (pool.shutdown(wait=False, cancel_futures=True), sys.exit(143)))
    waiting = {pool.submit(attempt, check, trial, home): trial for trial in trials}
    bad: list[Trial] = []
    skipped: list[str] = []
    for done, future in enumerate(as_completed(waiting), 1):
        trouble = future.result()
        if trouble.startswith(SKIPPED):
            skipped.append(trouble)
        elif trouble:
            bad.append({"trial": waiting[future], "trouble": trouble})
            print(f"{name}: {waiting[future]}: {trouble}", flush=True)
        if done % max(1, len(trials) // 20) == 0:
            seconds = time.monotonic() - began
            print(f"{name}: {done} of {len(trials)}, {len(bad)} bad, {seconds:.0f} s", flush=True)
    cases = sum(trial.get("count", 1) for trial in trials)
    seconds = round(time.monotonic() - began, 1)
    return {"what": check.what, "cases": cases, "bad": len(bad), "seconds": seconds} | {
        name: found for name, found in (("troubles", bad[:20]), ("skipped", skipped)) if found
    }


def circumstances() -> dict[str, Any]:
    """Return what the figures depend on: machine, versions, commit."""
    from clearhead.core.run import machine, versions

    git = ["git", "-C", str(HERE), "describe", "--always", "--dirty"]
    commit = subprocess.run(git, capture_output=True, text=True, check=False).stdout.strip()
    return {"commit": commit or None, "machine": machine() | {"release": platform.release()}, "versions": versions()}


def write(name: str, figures: dict[str, Any], path: Path) -> None:
    """Add a check's figures to the record."""
    record = json.loads(path.read_text()) if path.exists() else {}
    record[name] = figures
    path.write_text(json.dumps(dict(sorted(record.items())), indent=1) + "\n")


def main() -> int:
    """Run what was asked for; the exit code is 1 where a trial went wrong."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", action="append", choices=CHECKS, help="this test; can be given several times")
    parser.add_argument("--count", type=int, help="so many trials of each (all that the plan asks for)")
    parser.add_argument("--sample", action="store_true", help="a few of each, in seconds; nothing is recorded")
    parser.add_argument("--workers", type=int, default=2, help="victims at a time (2)")
    parser.add_argument("--record", type=Path, default=RECORD, help="where the figures are written")
    parser.add_argument("--home", type=Path, help="where the victims live (a temporary folder)")
    args = parser.parse_args()
    bad, known = 0, circumstances()
    context = multiprocessing.get_context("spawn")
    with (
        ProcessPoolExecutor(args.workers, mp_context=context, initializer=warm_up) as pool,
        tempfile.TemporaryDirectory(prefix="clearhead-soak-", dir=args.home) as home,
    ):
        for name in args.only or CHECKS:
            check = CHECKS[name]
            count = args.count or (check.sample if args.sample else check.full)
            figures = run(name, count, pool, Path(home))
            command = f"python benchmarks/soak.py --only {name}" + (f" --count {args.count}" if args.count else "")
            print(f"{name}: {figures['cases']} cases, {figures['bad']} bad, {figures['seconds']} s", flush=True)
            bad += figures["bad"]
            if not args.sample:
                write(name, figures | {"command": command} | known, args.record)
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
