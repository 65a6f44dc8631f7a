"""R5: bits flipped, files cut, swapped, missing and foreign, over every file of a run. R9: the same for its data."""

from __future__ import annotations

import contextlib
import io
import json
import os
import random
import shutil
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from clearhead.core.errors import UserError
from clearhead.core.files import sha256, to_json
from clearhead.core.run import Run
from clearhead.store.integrity import DERIVED, inspect
from faults.crashes import judge, undisturbed
from faults.victims import SHORT, fork, live, run_of, settle, wait

Trial = dict[str, Any]
AT_ONCE = 50
SHARES = {"flip": 0.88, "cut": 0.09, "swap": 0.01, "miss": 0.01, "add": 0.01}
LONGEST_LOOK_SECONDS = 1.0
"""Of the processor, not of the clock: other work beside it counts for nothing."""


def damages(home: Path, cases: int) -> list[Trial]:
    """Return damages in bundles: mostly single flipped bits and cuts, a few swapped, missing and foreign files."""
    undisturbed(SHORT, home)
    trials = []
    for kind, share in SHARES.items():
        left, seed = max(1, round(cases * share)), 0
        while left:
            trials.append({"kind": kind, "seed": seed, "count": min(left, AT_ONCE)})
            left, seed = left - trials[-1]["count"], seed + 1
    return trials


def damaged(trial: Trial, home: Path) -> str:
    """Damage copies of a run, one at a time, and look whether the verifier names the file."""
    place = home / f"R5-{trial['kind']}-{trial['seed']}"
    shutil.copytree(run_of(home / f"undisturbed-{SHORT.steps}").path, place)
    rng = random.Random(f"{trial['kind']} {trial['seed']}")
    for _ in range(trial["count"]):
        trouble = look_at(Run(place), trial["kind"], rng)
        if trouble:
            return trouble
    shutil.rmtree(place)
    return ""


def look_at(run: Run, kind: str, rng: random.Random) -> str:
    """Do one damage, look, and undo it; return what went wrong."""
    with harmed(run, kind, rng) as harmed_files:
        began = time.process_time()
        found = inspect(run)
        seconds = time.process_time() - began
    names = [str(path.relative_to(run.path)) for path in harmed_files]
    if found.whole:
        return f"{kind} of {names} was not seen"
    if not any(names_it(trouble, harmed_files) for trouble in found.troubles):
        return f"{kind} of {names} was told as {found.troubles}"
    if seconds > LONGEST_LOOK_SECONDS:
        return f"{kind} of {names} was seen after {seconds:.1f} s"
    return "" if inspect(run).whole else "the damage could not be undone"


def names_it(trouble: str, harmed_files: list[Path]) -> bool:
    """Say whether a sentence names a harmed file; where a manifest was harmed, it may name a file that it lists."""
    return any(
        str(path) in trouble or (path.name == "manifest.json" and str(path.parent) in trouble) for path in harmed_files
    )


@contextlib.contextmanager
def harmed(run: Run, kind: str, rng: random.Random) -> Iterator[list[Path]]:
    """Damage a run for the length of a block; give the files that were touched."""
    files = sorted(path for path in run.path.rglob("*") if path.is_file() and path.name not in DERIVED)
    file = rng.choice(files)
    content = file.read_bytes()
    match kind:
        case "flip":
            bit = rng.randrange(8 * len(content))
            flipped = bytearray(content)
            flipped[bit // 8] ^= 1 << bit % 8
            file.write_bytes(flipped)
        case "cut":
            file.write_bytes(content[: rng.randrange(len(content))])
        case "swap":
            other = rng.choice([path for path in files if path.read_bytes() != content])
            aside = other.read_bytes()
            other.write_bytes(content)
            file.write_bytes(aside)
        case "miss":
            file.unlink()
        case "add":
            file = file.with_name(f"{rng.randrange(10**6)}{file.suffix}")
            file.write_bytes(content)
    try:
        yield [file, other] if kind == "swap" else [file]
    finally:
        if kind == "add":
            file.unlink()
        else:
            file.write_bytes(content)
        if kind == "swap":
            other.write_bytes(aside)


# Through the command line.


def damages_typed(home: Path, cases: int) -> list[Trial]:
    """Return damages that are looked at through the command line."""
    undisturbed(SHORT, home)
    kinds = ["flip", "cut", "miss", "swap", "add"]
    return [{"kind": kinds[number % 5], "seed": 10_000 + number} for number in range(cases)]


def damaged_and_typed(trial: Trial, home: Path) -> str:
    """Damage a run, then type commands: each ends with 0 or with one sentence and 2, and `runs verify` with 2."""
    place = home / f"R5-typed-{trial['seed']}"
    text = settle(home / f"undisturbed-{SHORT.steps}")
    assert text.exists()
    shutil.copytree(run_of(home / f"undisturbed-{SHORT.steps}").path, place)
    with harmed(Run(place), trial["kind"], random.Random(trial["seed"])):
        for command in ("runs verify", "runs show", "sample", "eval", "train --steps 9 --resume"):
            note = place.with_suffix(".said")
            code = wait(fork(partial(type_command, [*command.split(), str(place)], note)))
            said = note.read_text()
            if code not in (0, 2) or "Traceback" in said or (command == "runs verify" and code != 2):
                return f"{command} ended with {code}: {said[-500:]}"
            if code == 2 and command != "runs verify" and said.count("clearhead: ") != 1:
                return f"{command} said {said[-500:]}"
    shutil.rmtree(place)
    return ""


def type_command(arguments: list[str], note: Path) -> int:
    """Type a command in this process, and keep what it says."""
    from clearhead.cli.main import main

    said = io.StringIO()
    try:
        with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
            return main(arguments)
    finally:
        note.write_text(said.getvalue())


# R9


def shards(place: Path) -> Path:
    """Return the one folder of cached shards of a place."""
    return next((place / "cache" / "shards").iterdir())


def cut_shard(place: Path) -> None:
    file = shards(place) / "tokens-00000.bin"
    file.write_bytes(file.read_bytes()[:-7])


def odd_byte(place: Path) -> None:
    file = shards(place) / "tokens-00000.bin"
    file.write_bytes(file.read_bytes() + b"\0")


def empty_shard(place: Path) -> None:
    (shards(place) / "tokens-00000.bin").write_bytes(b"")


def lose_shard(place: Path) -> None:
    (shards(place) / "tokens-00000.bin").unlink()


def lose_index(place: Path) -> None:
    (shards(place) / "shards.json").unlink()


def ids_out_of_range(place: Path) -> None:
    """Put ids into a shard that no vocabulary has, and make every hash fit."""
    file, index_file = shards(place) / "tokens-00000.bin", shards(place) / "shards.json"
    ids = np.fromfile(file, dtype="<u2")
    ids[::5] = 60_000
    file.write_bytes(ids.tobytes())
    index = json.loads(index_file.read_text())
    index["sha256"] = [sha256(file)]
    index_file.write_text(to_json(index))


def swap_text(place: Path) -> None:
    (place / "text.txt").write_text("another text\n" * 300)


def change_text(place: Path) -> None:
    text = (place / "text.txt").read_text()
    (place / "text.txt").write_text(text.replace("7", "8", 1))


def lose_text(place: Path) -> None:
    (place / "text.txt").unlink()


def cut_validation(place: Path) -> None:
    file = run_of(place).path / "validation.bin"
    file.write_bytes(file.read_bytes()[:-3])


MADE_ANEW: list[Callable[[Path], None]] = [cut_shard, odd_byte, empty_shard, lose_shard, lose_index, ids_out_of_range]
"""What lies in the cache can be made again from the text, so the run ends as if nothing had been."""

REFUSED: dict[Callable[[Path], None], str] = {
    swap_text: "has changed",
    change_text: "has changed",
    lose_text: "text.txt",
    cut_validation: "validation.bin",
}


def damaged_data(home: Path, limit: int | None = None) -> list[Trial]:
    """Return each kind of damaged data, at several moments of a run's life."""
    undisturbed(SHORT, home)
    harms = [harm.__name__ for harm in (*MADE_ANEW, *REFUSED)]
    trials = [{"harm": harm, "after": after} for harm in harms for after in (0, 2, 5)]
    return trials if limit is None else trials[:: max(1, len(trials) // limit)][:limit]


def resumed_with(trial: Trial, home: Path) -> str:
    """Stop a run, damage its data, and go on: it is made anew and ends the same, or is refused by name."""
    place = home / f"R9-{trial['harm']}-{trial['after']}"
    settle(place)
    wait(fork(lambda: live_until(place, trial["after"])))
    harm = next(harm for harm in (*MADE_ANEW, *REFUSED) if harm.__name__ == trial["harm"])
    harm(place)
    if harm in MADE_ANEW:
        trouble = judge(SHORT, place, home)
    else:
        note = place.with_suffix(".said")
        wait(fork(lambda: live_refused(place, note)))
        said = note.read_text() if note.exists() else "nothing"
        trouble = "" if REFUSED[harm] in said else f"it said {said}"
    shutil.rmtree(place)
    return trouble


def live_until(place: Path, step: int) -> None:
    """Live until a step is done."""
    live(SHORT, place, lambda event: os._exit(0) if event.step >= step else None)


def live_refused(place: Path, note: Path) -> None:
    """Try to live, and keep what is said against it."""
    try:
        live(SHORT, place)
    except UserError as error:
        note.write_text(str(error))
