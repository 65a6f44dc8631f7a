"""What happens in a run, as typed events and as the lines of `events.jsonl`.

Whatever shows a run (the progress bar, the report, the page) reads these lines and nothing else, so a live, a finished
and a crashed run look alike to it.
"""

from __future__ import annotations

import errno
import json
import math
import os
import zlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, ClassVar, Literal

from clearhead.core.errors import DamagedFile
from clearhead.core.files import cannot_write, encodable, require_file, sync, to_json, write_atomically

FILE = "events.jsonl"
SEAL = "events.seal.json"
"""Length and last checksum of the events of a run that ended by itself: lines that are lost at the end are missed."""

StopReason = Literal["budget", "patience", "signal", "non_finite", "error"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Event:
    """Something that happened after `step` updates, `tokens` targets and `seconds` of the run."""

    name: ClassVar[str]
    step: int
    tokens: int
    seconds: float

    def to_dict(self) -> dict[str, Any]:
        """Return the event as it stands in a line, without time and checksum."""
        return {"event": self.name} | {each.name: getattr(self, each.name) for each in fields(self)}


@dataclass(frozen=True, kw_only=True, slots=True)
class Started(Event):
    """A process began to train the run, from scratch or from a saved step."""

    name: ClassVar[str] = "started"
    resumed_from: int | None
    config_sha256: str
    versions: Mapping[str, str]
    exactness: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Planned(Event):
    """How long the run will be was decided or changed."""

    name: ClassVar[str] = "planned"
    steps: int
    evaluate_every: int
    micro_batches: int
    cooldown_start: int | None
    cooldown_factor: float
    reason: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Stepped(Event):
    """The weights were updated once; the loss is that of the step's targets before the update."""

    name: ClassVar[str] = "stepped"
    loss: float
    learning_rate: float
    grad_norm: float
    tokens_per_second: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Evaluated(Event):
    """A split was scored; `sampled` says that only evenly spaced parts of it were.

    `metrics` are other figures of the task, such as the accuracy of a classifier.
    """

    name: ClassVar[str] = "evaluated"
    split: str
    nats_per_token: float
    bits_per_byte: float | None
    standard_error: float
    tokens_scored: int
    train_seconds: float
    weights: Literal["raw", "average"]
    context_length: int
    sampled: bool
    metrics: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True, slots=True)
class Sampled(Event):
    """The model wrote a text."""

    name: ClassVar[str] = "sampled"
    prompt: str
    text: str
    seed: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Measured(Event):
    """Something was counted once: the preflight, baselines, overlap, loss by position."""

    name: ClassVar[str] = "measured"
    subject: str
    values: Mapping[str, Any]

    def to_dict(self) -> dict[str, Any]:
        line = Event.to_dict(self)
        line["name"] = line.pop("subject")
        return line


@dataclass(frozen=True, kw_only=True, slots=True)
class Saved(Event):
    """A step is whole on the disk."""

    name: ClassVar[str] = "saved"
    path: str
    best: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class Warned(Event):
    """Something deserves a look; `try_` is the command that looks."""

    name: ClassVar[str] = "warned"
    code: str
    message: str
    try_: str

    def to_dict(self) -> dict[str, Any]:
        line = Event.to_dict(self)
        line["try"] = line.pop("try_")
        return line


@dataclass(frozen=True, kw_only=True, slots=True)
class Stopped(Event):
    """The run ended, for now or for good."""

    name: ClassVar[str] = "stopped"
    reason: StopReason
    message: str


def finite_or_null(value: Any) -> Any:
    """Return the value with every number that strict JSON cannot hold replaced by None."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: finite_or_null(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [finite_or_null(inner) for inner in value]
    return value


def seal(line: Mapping[str, Any], previous: int) -> tuple[str, int]:
    """Return a line with its checksum, which covers the line and the checksum before it, and that checksum."""
    body = encodable(json.dumps(finite_or_null(line), allow_nan=False, ensure_ascii=False))
    checksum = zlib.crc32(body.encode(), previous)
    return f'{body[:-1]}, "crc": {checksum}}}\n', checksum


def unseal(raw: bytes, previous: int) -> dict[str, Any] | None:
    """Return a stored line's content where its checksum fits, else None."""
    try:
        line = json.loads(raw)
    except (ValueError, RecursionError):
        return None
    if not isinstance(line, dict) or not isinstance(line.pop("crc", None), int):
        return None
    sealed, _ = seal(line, previous)
    return line if sealed.encode() == raw else None


class Journal:
    """The events of one run, opened for adding; a torn last line is cut off first.

    Raises:
        DamagedFile: a line before the last does not fit its checksum.
        UserError: the disk takes no more.
    """

    def __init__(self, folder: Path) -> None:
        self._folder, self._path = folder, folder / FILE
        whole, self._checksum = 0, 0
        self._ended = False
        is_new = not self._path.exists()
        if not is_new:
            for raw, _line, checksum in _sealed_lines(self._path):
                whole, self._checksum = whole + len(raw), checksum
            os.truncate(self._path, whole)
        (folder / SEAL).unlink(missing_ok=True)
        # Without a buffer, or a line that found no room would be tried again when the file is closed.
        self._stream = self._path.open("ab", buffering=0)
        if is_new:
            sync(folder)

    def write(self, event: Event) -> dict[str, Any]:
        """Add an event with the present time, and return its line."""
        line = {"time": datetime.now(UTC).isoformat(timespec="milliseconds")} | event.to_dict()
        text, checksum = seal(line, self._checksum)
        self._append(text.encode())
        self._checksum = checksum
        self._ended = isinstance(event, Stopped)
        if isinstance(event, Saved | Stopped):
            os.fsync(self._stream.fileno())
        return line

    def _append(self, content: bytes) -> None:
        """Write a line whole, or leave the file as it was."""
        before = self._stream.tell()
        try:
            if self._stream.write(content) < len(content):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        except OSError as error:
            self._stream.truncate(before)
            raise cannot_write(self._path, error) from error

    def close(self) -> None:
        """Close the file; where the run has ended, seal it."""
        length = self._stream.tell()
        self._stream.close()
        if self._ended:
            write_atomically(self._folder / SEAL, to_json({"format": 1, "bytes": length, "crc": self._checksum}))


def record(folder: Path, events: Iterable[Event]) -> Iterator[Event]:
    """Write each event of a run to its journal, then pass it on."""
    journal = Journal(folder)
    try:
        for event in events:
            journal.write(event)
            yield event
    finally:
        journal.close()


def read(folder: Path) -> list[dict[str, Any]]:
    """Return a run's events; those that a resume took back (their step is above `resumed_from`) are left out.

    Raises:
        DamagedFile: a line before the last does not fit its checksum.
    """
    follower = Follower(folder)
    follower.look()
    return follower.events


class Follower:
    """A run's events as they come: each look reads only what was added since the one before.

    Events that a resume takes back are taken back here too.
    """

    def __init__(self, folder: Path) -> None:
        self.events: list[dict[str, Any]] = []
        self._path = folder / FILE
        self._offset = self._checksum = self._lines = 0

    def look(self) -> bool:
        """Read what is new, and return whether there was anything; a torn last line waits until it is whole.

        Raises:
            DamagedFile: a line before the last does not fit its checksum.
        """
        before = self._offset
        if not self._path.exists() or self._path.stat().st_size == before:
            return False
        for raw, line, checksum in _sealed_lines(self._path, self._offset, self._checksum, self._lines):
            self._offset, self._checksum, self._lines = self._offset + len(raw), checksum, self._lines + 1
            if line["event"] == Started.name and line["resumed_from"] is not None:
                self.events = [earlier for earlier in self.events if earlier["step"] <= line["resumed_from"]]
            self.events.append(line)
        return self._offset > before


def verify(folder: Path) -> None:
    """Check every line of a run's events, and against the seal of a run that has ended that none is lost.

    Raises:
        DamagedFile: names the file and, where it is one, the line.
    """
    path, seal_path = folder / FILE, folder / SEAL
    length, checksum, last = 0, 0, ""
    if path.exists():
        for raw, line, sealed_by in _sealed_lines(path):
            length, checksum, last = length + len(raw), sealed_by, line["event"]
        if length < path.stat().st_size:
            raise DamagedFile(f"{path} ends in the middle of a line; resuming the run cuts that line off.")
    require_file(seal_path)
    sealed = {"format": 1, "bytes": length, "crc": checksum}
    if seal_path.exists() and seal_path.read_bytes() != to_json(sealed).encode():
        raise DamagedFile(f"{path} is not what was written: it does not fit {seal_path}, or that was changed.")
    if last == Stopped.name and not seal_path.exists():
        raise DamagedFile(f"{seal_path} is missing, so lines may be missing too; resuming the run seals it anew.")


def _sealed_lines(
    path: Path, offset: int = 0, checksum: int = 0, lines: int = 0
) -> Iterator[tuple[bytes, dict[str, Any], int]]:
    """Yield each whole line, its content and its checksum; a torn last line ends the walk.

    Args:
        offset: where to begin, after so many `lines`, the last of which has this checksum.
    """
    require_file(path)
    with path.open("rb") as stream:
        stream.seek(offset)
        for number, raw in enumerate(stream, lines + 1):
            if not raw.endswith(b"\n"):
                return
            line = unseal(raw, checksum)
            if line is None:
                raise DamagedFile(
                    f"{path} is damaged at line {number}: its checksum does not fit; "
                    "moved away, the run goes on without its history."
                )
            _, checksum = seal(line, checksum)
            yield raw, line, checksum
