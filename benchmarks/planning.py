"""Compare what `clearhead train TEXT --minutes N` chooses with a grid of settings that somebody might have chosen.

    python benchmarks/planning.py my.txt --minutes 1        the plan and six settings, one after another: 8 minutes
    python benchmarks/planning.py my.txt --minutes 10       the plan and four settings: 55 minutes

Nothing else should run on the machine, or on the cores that `taskset -c` gives to a part of the grid. A figure is what
`clearhead eval` says of a run: the bits per byte of its best step on the whole validation part. Figures are added to
the record, the machine and the commit with them.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from clearhead.core.runtime import available_cores

HERE = Path(__file__).resolve().parent
RECORD = HERE / "PLANNING.json"
LONG_MINUTES = 10

PIECES = ("--tokenizer", "bpe", "--tokenizer.vocabulary_size", "1024")
GRID: dict[str, tuple[str, ...]] = {
    "tiny, characters": ("--preset", "tiny"),
    "tiny, pieces": ("--preset", "tales"),
    "modern, characters": ("--preset", "modern", "--tokenizer", "char"),
    "modern, pieces": ("--preset", "modern", *PIECES),
    "modern, characters, dropout": ("--preset", "modern", "--tokenizer", "char", "--model.dropout", "0.2"),
    "modern, pieces, dropout": ("--preset", "modern", *PIECES, "--model.dropout", "0.2"),
}
SHORT_ONLY = ("tiny, characters", "modern, pieces")
"""What cannot be best in a long run."""


def clearhead(*arguments: str) -> Any:
    """Run a command of the program and return the JSON that it prints."""
    command = [sys.executable, "-m", "clearhead", *arguments, "--json"]
    environment = {**os.environ, "PYTHONPATH": str(HERE.parent / "src")}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)}\n{done.stderr}")
    return json.loads(done.stdout)


def trained(texts: list[str], minutes: str, settings: tuple[str, ...], folder: Path) -> dict[str, Any]:
    """Train for some minutes and return what came of it."""
    ended = clearhead("train", *texts, "--minutes", minutes, *settings, "--run", str(folder))
    scored = clearhead("eval", str(folder))
    return {
        "bits_per_byte": scored["bits_per_byte"],
        "steps": ended["step"],
        "seconds": ended["seconds"],
        "reason": ended["reason"],
        "expected": ended["expected"],
        "settings": clearhead("runs", "show", str(folder))["config"] if not settings else None,
    }


def main() -> None:
    """Train by plan and by grid, print a line for each, and add all to the record."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("texts", nargs="*", help="files or folders; without one, the built-in tales")
    parser.add_argument("--minutes", default="1")
    parser.add_argument("--only", nargs="*", help="names of the grid's settings, or plan")
    parser.add_argument("--record", type=Path, default=RECORD, help="where figures are added (%(default)s)")
    args = parser.parse_args()
    chosen: dict[str, tuple[str, ...]] = {"plan": (), **GRID}
    if float(args.minutes) >= LONG_MINUTES:
        chosen = {name: settings for name, settings in chosen.items() if name not in SHORT_ONLY}
    if args.only:
        chosen = {name: chosen[name] for name in args.only}
    found = {}
    for name, settings in chosen.items():
        with tempfile.TemporaryDirectory() as folder:
            found[name] = trained(args.texts, args.minutes, settings, Path(folder) / "run")
        print(f"{name:<30} {found[name]['bits_per_byte']:.4f}", flush=True)
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], cwd=HERE, capture_output=True, text=True, check=True
    )
    entry = {
        "texts": [Path(text).name for text in args.texts] or ["tales"],
        "minutes": float(args.minutes),
        "commit": commit.stdout.strip(),
        "machine": f"{platform.machine()}, {available_cores()} of {os.cpu_count()} cores",
        "load": os.getloadavg()[2],
        "runs": found,
    }
    before = json.loads(args.record.read_text()) if args.record.exists() else []
    args.record.write_text(json.dumps([*before, entry], indent=1) + "\n")


if __name__ == "__main__":
    main()
