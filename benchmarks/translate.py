"""Train a translator with the documented command, choose its search on held-out pairs, score it once on a test set.

    python benchmarks/translate.py --source train.en --target train.de --test-source val.en --test-target val.de

Prints JSON: the command, what each search scores on the held-out pairs, and the chosen one's figures on the test set.
Vocabulary, stopping and search are settled without the test set, which is read last.
"""

from __future__ import annotations

import argparse
import json
import random
import shlex
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

SEARCHES = ((1, 0.6), (4, 0.6), (4, 1.0), (6, 1.0))
"""Beams and length penalties to choose from."""

FAST_PRODUCTS = ("--train.precision", "bf16")
"""For processors that multiply bfloat16, as those with AMX or AVX512_BF16 do."""


def main() -> None:
    """Hold out, train, choose, score, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--source", type=Path, required=True)
    parser.add_argument("--target", type=Path, required=True)
    parser.add_argument("--test-source", type=Path)
    parser.add_argument("--test-target", type=Path)
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--held-out", type=int, default=1000)
    parser.add_argument("--fp32", action="store_true", help="for a processor that does not multiply bfloat16")
    parser.add_argument("--folder", type=Path, default=Path("runs/translate-benchmark"))
    args, settings = parser.parse_known_args()
    files = hold_out(args.source, args.target, args.folder, args.held_out)
    run = args.folder / "run"
    command = ["clearhead", "train", *map(str, files["training"]), "--task", "translate"]
    command += ["--task.validation", ",".join(map(str, files["held_out"])), "--minutes", str(args.minutes)]
    command += ["--threads", str(args.threads), "--run", str(run), *(() if args.fp32 else FAST_PRODUCTS), *settings]
    began = time.perf_counter()
    subprocess.run([sys.executable, "-m", *command, "-q"], check=True, stdout=sys.stderr)
    result: dict[str, Any] = {"command": shlex.join(command), "seconds": round(time.perf_counter() - began, 1)}
    result["held_out"] = [scored(run, *files["held_out"], beam, penalty) for beam, penalty in SEARCHES]
    best = max(result["held_out"], key=lambda each: float(each["bleu"]))
    if args.test_source is not None:
        result["test"] = scored(run, args.test_source, args.test_target, best["beam"], best["length_penalty"])
    print(json.dumps(result, indent=2))


def hold_out(source: Path, target: Path, folder: Path, number: int) -> dict[str, list[Path]]:
    """Write aligned files without some pairs and with these alone, chosen by chance, always the same."""
    pairs = list(zip(*(path.read_text().splitlines() for path in (source, target)), strict=True))
    chosen = set(random.Random(1).sample(range(len(pairs)), number))
    parts = {
        "training": [pair for place, pair in enumerate(pairs) if place not in chosen],
        "held_out": [pair for place, pair in enumerate(pairs) if place in chosen],
    }
    folder.mkdir(parents=True, exist_ok=True)
    written: dict[str, list[Path]] = {}
    for name, kept in parts.items():
        written[name] = [folder / f"{name}.source", folder / f"{name}.target"]
        for side, path in enumerate(written[name]):
            path.write_text("".join(f"{pair[side]}\n" for pair in kept))
    return written


def scored(run: Path, source: Path, target: Path, beam: int, length_penalty: float) -> dict[str, Any]:
    """Return what a run's translations of a file score."""
    command = [sys.executable, "-m", "clearhead", "translate", str(run), "--file", str(source)]
    command += ["--against", str(target), "--beam", str(beam), "--length-penalty", str(length_penalty), "--json"]
    began = time.perf_counter()
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    seconds = round(time.perf_counter() - began, 1)
    return {"beam": beam, "length_penalty": length_penalty, **json.loads(output)["scores"], "seconds": seconds}


if __name__ == "__main__":
    main()
