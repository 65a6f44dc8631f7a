"""A run on disk: where it lies, how it is named, what stands in it."""

from __future__ import annotations

import os
import platform
import re
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from clearhead.core.errors import DamagedFile, UserError, nearest, newer_format
from clearhead.core.files import lock, new_folder, read_json, remove_folder, to_json, verify_folder, write_atomically
from clearhead.core.migrations import FORMAT, migrate

RUN_FILE = "run.json"
DATA_FILE = "data.json"
TOKENIZER_FOLDER = "tokenizer"
VALIDATION_FILE = "validation.bin"
VALIDATION_ROWS_FILE = "validation.jsonl"
STEP_NAME = re.compile(r"step-(\d+)")

SHAPES: dict[str, dict[str, type]] = {
    RUN_FILE: {
        "name": str,
        "config": dict,
        "config.model": dict,
        "config.train": dict,
        "runtime": dict,
        "parameters": dict,
        "parameters.total": int,
        "tokenizer": dict,
        "versions": dict,
        "machine": dict,
    },
    DATA_FILE: {
        "names": list,
        "names.*": str,
        "text": dict,
        "fingerprint": str,
        "split": dict,
        "sources": list,
        "sources.*": dict,
        "labels": list,
        "labels.*": str,
        "validation_names": list,
        "validation_names.*": str,
        "sources.*.bytes": int,
        "sources.*.documents": int,
        "sources.*.characters": int,
    },
}
"""What kind of value stands where, as far as readers rely on it; `*` is every item of a list."""


@dataclass(frozen=True, slots=True)
class Run:
    """The folder of one run."""

    path: Path

    @property
    def name(self) -> str:
        """The folder's name."""
        return self.path.name

    @property
    def tokenizer(self) -> Path:
        """The folder of the tokenizer."""
        return self.path / TOKENIZER_FOLDER

    @property
    def checkpoints(self) -> Path:
        """The folder that holds the saved steps."""
        return self.path / "checkpoints"

    def step_folder(self, step: int) -> Path:
        """Return where a step is or would be saved."""
        return self.checkpoints / f"step-{step}"

    def steps(self) -> list[int]:
        """Return the numbers of the saved steps, in order, damaged ones included."""
        if not self.checkpoints.is_dir():
            return []
        matches = (STEP_NAME.fullmatch(entry.name) for entry in self.checkpoints.iterdir())
        return sorted(int(match[1]) for match in matches if match)

    def describe(self) -> dict[str, Any]:
        """Return run.json: config, provenance and sizes, frozen before step 1."""
        return read_versioned(self.path / RUN_FILE)

    def data(self) -> dict[str, Any]:
        """Return data.json: the texts, their hashes and the split."""
        return read_versioned(self.path / DATA_FILE)

    def verify(self) -> None:
        """Check the files that were written once, before step 1, against their hashes.

        Raises:
            DamagedFile: names the first one that is missing or differs.
        """
        try:
            verify_folder(self.path)
        except DamagedFile as error:
            raise error.with_advice(
                f"put it back from a copy (clearhead runs verify {self.path} names all that is damaged)"
            ) from None


@dataclass(frozen=True, slots=True)
class Selection:
    """A run and one of its steps: a number, "best" or "last"."""

    run: Run
    step: int | str


def read_versioned(path: Path) -> dict[str, Any]:
    """Return a stored JSON object in the present format.

    Raises:
        DamagedFile: it is not such an object.
        NewerFormat: a newer version wrote it.
    """
    content = read_json(path)
    if not isinstance(content, dict) or not isinstance(content.get("format"), int) or content["format"] < 1:
        raise DamagedFile(f"{path} is not a file of this program's: it has no format number.")
    if content["format"] > FORMAT:
        raise newer_format(path, content["format"], FORMAT)
    try:
        migrated = migrate(path.name, content)
    except (KeyError, TypeError):
        raise DamagedFile(f"{path} does not hold what its format {content['format']} asks for.") from None
    for key, kind in SHAPES.get(path.name, {}).items():
        if not all(isinstance(found, kind) for found in _inside(migrated, key.split("."))):
            raise DamagedFile(f"{path} is not as this program writes it: {key} is no {kind.__name__}.")
    return migrated


def _inside(content: Any, keys: list[str]) -> list[Any]:
    found = [content]
    for key in keys:
        if key == "*":
            found = [item for each in found if isinstance(each, list) for item in each]
        else:
            found = [each[key] for each in found if isinstance(each, dict) and each.get(key) is not None]
    return found


def part(content: Any, *keys: str, kind: type = dict) -> Any:
    """Return what stands inside a stored object under keys, one in the other.

    Raises:
        DamagedFile: it is not there, or not of its kind, though the file's hash may fit.
    """
    for number, key in enumerate(keys, 1):
        content = content.get(key) if isinstance(content, dict) else None
        if not isinstance(content, kind if number == len(keys) else dict):
            raise DamagedFile(f"A stored file has no {'.'.join(keys[:number])} as this program writes it.")
    return content


def runs_folder() -> Path:
    """Return where runs are kept: $CLEARHEAD_RUNS, else ./runs."""
    return Path(os.environ.get("CLEARHEAD_RUNS") or "runs")


def all_runs(folder: Path | None = None) -> list[Run]:
    """Return the runs below a folder, the one that began last at the end."""
    root = folder or runs_folder()
    found = [Run(file.parent) for file in root.glob(f"*/{RUN_FILE}") if ".tmp-" not in file.parent.name]
    return sorted(found, key=lambda run: ((run.path / RUN_FILE).stat().st_mtime_ns, run.name))


def select(text: str, default_step: str) -> Selection:
    """Find the run that a user names: a path, a name under the runs folder, or `last`; then maybe @STEP.

    Raises:
        UserError: there is no such run, or the step is not a number, `best` or `last`.
    """
    name, at, step = text.rpartition("@")
    if not at or Path(text).is_dir():
        name, step = text, default_step
    if step not in ("best", "last") and not step.isdecimal():
        raise UserError(f"@{step} is no step of a run; write @best, @last or a number such as @500.")
    return Selection(find(name), int(step) if step.isdecimal() else step)


def find(name: str) -> Run:
    """Return the run of a name or path."""
    if name == "last":
        runs = all_runs()
        if not runs:
            raise UserError(f"There is no run in {runs_folder()} yet; clearhead train my.txt makes one.")
        return runs[-1]
    for candidate in (Path(name), runs_folder() / name):
        if (candidate / RUN_FILE).is_file():
            return Run(candidate)
    hint = nearest(name, [run.name for run in all_runs()])
    raise UserError(f"There is no run {name}, neither as a folder nor in {runs_folder()}.{hint}")


def new_path(stem: str, folder: Path | None = None) -> Path:
    """Return a path in a folder (the runs folder) for a new run: the stem with the first number that is free."""
    folder = folder or runs_folder()
    clean = re.sub(r"[^\w.-]+", "-", stem).strip("-.") or "run"
    used = {entry.name for entry in folder.iterdir()} if folder.is_dir() else set()
    number = next(number for number in range(1, len(used) + 2) if f"{clean}-{number}" not in used)
    return folder / f"{clean}-{number}"


def require_free(path: Path) -> None:
    """Refuse to make a run where something lies already."""
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise UserError(f"{path} exists already; name another folder, or continue that run with --resume {path}.")


@contextmanager
def creating(path: Path, description: Mapping[str, Any], data: Mapping[str, Any]) -> Iterator[Path]:
    """Give a folder to put a new run's other files in; the run appears at `path`, hashed, when the block ends."""
    require_free(path)
    if path.is_dir():
        path.rmdir()
    with new_folder(path) as folder:
        write_atomically(folder / RUN_FILE, to_json({"format": FORMAT, **description}))
        write_atomically(folder / DATA_FILE, to_json({"format": FORMAT, **data}))
        yield folder


def leftovers(run: Run) -> list[Path]:
    """Return what a crash left unfinished in a run: only the holder of its lock can tell it from work in progress."""
    folders = [run.path, run.checkpoints, *map(run.step_folder, run.steps())]
    return sorted(entry for folder in folders for entry in folder.glob("*.tmp-*"))


def remove_leftovers(run: Run) -> None:
    """Remove what a crash left unfinished; only while nobody else trains the run."""
    for entry in leftovers(run):
        if entry.is_dir():
            shutil.rmtree(entry, ignore_errors=True)
        else:
            entry.unlink(missing_ok=True)


def remove(run: Run) -> None:
    """Remove a run with all that is in it.

    Raises:
        UserError: another process trains it.
    """
    with lock(run.path):
        remove_folder(run.path)


def versions() -> dict[str, str]:
    """Return the versions of what computes a run."""
    named = {name: metadata.version(name) for name in ("clearhead", "torch", "numpy", "tokenizers")}
    return {"python": platform.python_version()} | named


def machine() -> dict[str, Any]:
    """Return what kind of machine this is."""
    return {"system": platform.system(), "processor": platform.machine(), "cores": os.cpu_count()}
