"""Whether a run's files are what was written, and how much room they take."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from clearhead.core import events
from clearhead.core.errors import DamagedFile, NewerFormat, UserError
from clearhead.core.files import MANIFEST, manifest, verify_file
from clearhead.core.run import STEP_NAME, Run, leftovers, part
from clearhead.store.checkpoint import is_resumable, read_state, verify_step
from clearhead.text.tokenizer import load_tokenizer

DERIVED = ("report.html", "lock")
"""Files of a run that are made anew at any time, so that nothing depends on them."""


@dataclass(frozen=True, slots=True)
class Findings:
    """What a look at every file of a run found.

    Args:
        files: how many were compared with what was written.
        troubles: a sentence for each file that is missing, differs or does not belong there.
        leftovers: unfinished files of a killed process, or of one that is at work; the next resume removes them.
        last_good_step: the newest whole step from which training can go on.
    """

    run: str
    files: int
    troubles: tuple[str, ...]
    leftovers: tuple[str, ...]
    last_good_step: int | None

    @property
    def whole(self) -> bool:
        """Whether nothing is wrong."""
        return not self.troubles


def inspect(run: Run) -> Findings:
    """Compare every file of a run with its hash or checksums; what damage is found is told, not raised."""
    troubles = [*_troubles_of_folder(run.path, _grows(run))] or [*_troubles_of_contents(run)]
    troubles += _troubles_of_events(run)
    files = _count(run.path) + 1
    good = []
    for entry in sorted(run.checkpoints.iterdir()) if run.checkpoints.is_dir() else ():
        if ".tmp-" in entry.name:
            continue
        if not (entry.is_dir() and STEP_NAME.fullmatch(entry.name)):
            troubles.append(f"{entry} does not belong there: it is not a saved step.")
            continue
        found = [*_troubles_of_folder(entry, frozenset())] or [*_troubles_of_step(entry)]
        files += _count(entry)
        troubles += found
        if not found and is_resumable(entry):
            good.append(read_state(entry)["step"])
    troubles += _troubles_of_order(run, max(good, default=0)) if not troubles else []
    unfinished = tuple(str(path) for path in leftovers(run))
    return Findings(run.name, files, tuple(troubles), unfinished, max(good, default=None))


def _grows(run: Run) -> frozenset[Path]:
    """Return what stands in a run's folder beside the files of its manifest."""
    names = (events.FILE, events.SEAL, run.checkpoints.name, *DERIVED)
    return frozenset(run.path / name for name in names)


def _troubles_of_folder(folder: Path, spared: frozenset[Path]) -> Iterator[str]:
    """Yield what is wrong with the files of a folder: those that its manifest lists, and those that it does not."""
    try:
        listed = manifest(folder)
    except UserError as error:
        yield str(error)
        return
    for name, entry in listed.items():
        try:
            verify_file(folder / name, entry)
        except DamagedFile as error:
            yield str(error)
    known = {folder / MANIFEST, *(folder / name for name in listed)}
    for file in _files_below(folder, spared):
        if file not in known:
            yield f"{file} does not belong there: the manifest does not list it."


def _troubles_of_contents(run: Run) -> Iterator[str]:
    """Yield a sentence for each description that does not say what this version reads, though its hash fits."""
    for read in (run.describe, run.data, lambda: load_tokenizer(run.tokenizer)):
        try:
            read()
        except (DamagedFile, NewerFormat) as error:  # A library that is not installed here is no damage.
            yield str(error)


def _files_below(folder: Path, spared: frozenset[Path]) -> Iterator[Path]:
    for entry in sorted(folder.iterdir()):
        if entry in spared or ".tmp-" in entry.name:
            continue
        if entry.is_dir() and not entry.is_symlink():
            yield from _files_below(entry, spared)
        else:
            yield entry


def _troubles_of_step(folder: Path) -> Iterator[str]:
    try:
        verify_step(folder)
    except UserError as error:
        yield str(error)


def _troubles_of_events(run: Run) -> Iterator[str]:
    try:
        events.verify(run.path)
    except DamagedFile as error:
        yield str(error)


def _troubles_of_order(run: Run, step: int) -> Iterator[str]:
    """Yield a sentence where the events do not reach a saved step: a step is told before it is saved."""
    try:
        if "imported" in run.describe():  # without a training there are no events
            return
        told_every = part(run.describe(), "config", "train").get("log_every")
        reached = max((line["step"] for line in events.read(run.path)), default=0)
    except UserError as error:
        yield str(error)
        return
    told_every = told_every if isinstance(told_every, int) else 10
    if reached <= step - told_every:
        yield f"{run.path / events.FILE} ends at step {reached}, and step {step} is saved: lines are missing."


def _count(folder: Path) -> int:
    try:
        return len(manifest(folder)) + 1
    except UserError:
        return 0


@dataclass(frozen=True, slots=True)
class Room:
    """How many bytes the parts of a run take on the disk.

    Args:
        steps: the saved steps, weights and optimizers' memory alike.
        events: the log of what happened.
        leftovers: what a killed process left unfinished.
        rest: tokenizer, validation text, kept standard input, settings and report.
    """

    run: str
    path: str
    steps: int
    events: int
    leftovers: int
    rest: int

    @property
    def total(self) -> int:
        """All of it."""
        return self.steps + self.events + self.leftovers + self.rest


def measure_room(run: Run) -> Room:
    """Add up the sizes of a run's files."""
    room = Counter[str]()
    for file in run.path.rglob("*"):
        if file.is_file():
            room[_part(file.relative_to(run.path))] += file.stat().st_size
    return Room(run.name, str(run.path), *(room[part] for part in ("steps", "events", "leftovers", "rest")))


def _part(name: Path) -> str:
    if any(".tmp-" in part for part in name.parts):
        return "leftovers"
    if name.parts[0] == "checkpoints":
        return "steps"
    return "events" if name.as_posix() in (events.FILE, events.SEAL) else "rest"
