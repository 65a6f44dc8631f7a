"""R3: the power fails after any call, and what was not synced is lost, in whole or in part.

A recorded life is replayed on a model of a disk. It forgets what POSIX lets it forget: the bytes of a file until that
file is synced, and the names in a folder until that folder is synced. Names that were not synced survive one by one,
bytes as any beginning of them, the rest cut off or zeros.
"""

from __future__ import annotations

import base64
import json
import random
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from clearhead.core import events
from faults.crashes import judge, survivors, undisturbed
from faults.operations import Operation, Watcher, watching
from faults.victims import SHORT, fork, live, run_of, settle, wait

Trial = dict[str, Any]
TOLD = "told"
"""The kind of a mark in the record: what stands before it was told as saved."""


@dataclass(slots=True)
class File:
    """A file: its bytes as a program sees them, and as they are sure to be on the disk."""

    content: bytes = b""
    synced: bytes = b""


@dataclass(slots=True)
class Folder:
    """A folder: its names as a program sees them, as they are on the disk, and the changes in between.

    Args:
        pending: names taken out and names put in, as one change each.
    """

    names: dict[str, File | Folder] = field(default_factory=dict)
    synced: dict[str, File | Folder] = field(default_factory=dict)
    pending: list[tuple[list[str], dict[str, File | Folder]]] = field(default_factory=list)

    def change(self, out: list[str], into: dict[str, File | Folder]) -> None:
        """Take names out and put names in."""
        for name in out:
            self.names.pop(name, None)
        self.names.update(into)
        self.pending.append((out, into))

    def sync(self) -> None:
        """Make the names sure."""
        self.synced, self.pending = dict(self.names), []


class Disk:
    """A disk on which a recorded life is lived again."""

    def __init__(self, root: str) -> None:
        self.root, self.top = root, Folder()

    def find(self, path: str) -> Any:
        """Return the file or folder at a path, or None."""
        place: Any = self.top
        for part in Path(path).relative_to(self.root).parts:
            place = place.names.get(part) if isinstance(place, Folder) else None
        return place

    def do(self, operation: Operation) -> None:
        """Do an operation as the program saw it done."""
        path = Path(operation.path)
        folder, thing = self.find(str(path.parent)) if operation.path != self.root else None, self.find(str(path))
        match operation.kind:
            case "mkdir":
                folder.change([], {path.name: Folder()})
            case "open" if thing is None:
                folder.change([], {path.name: File()})
            case "open" | "truncate":
                thing.content = thing.content[: operation.length] if operation.length is not None else thing.content
            case "write":
                thing.content += operation.content
            case "fsync" if isinstance(thing, File):
                thing.synced = thing.content
            case "fsync":
                thing.sync()
            case "remove":
                folder.change([path.name], {})
            case "rename":
                assert Path(operation.target).parent == path.parent, "names move within a folder"
                folder.change([path.name], {Path(operation.target).name: thing})

    def survive(self, place: Path, luck: random.Random | None, folder: Folder | None = None) -> None:
        """Lay down what is left when the power fails: only what is sure, or with luck some of the rest."""
        folder = folder or self.top
        names = dict(folder.synced)
        for out, into in folder.pending if luck else ():
            if luck and luck.random() < 0.5:
                names = {name: thing for name, thing in names.items() if name not in out} | into
        place.mkdir(parents=True, exist_ok=True)
        for name, thing in names.items():
            if isinstance(thing, Folder):
                self.survive(place / name, luck, thing)
            else:
                (place / name).write_bytes(remains(thing, luck))


def remains(file: File, luck: random.Random | None) -> bytes:
    """Return what is left of a file's bytes."""
    if luck is None or not file.content.startswith(file.synced):
        return file.synced if luck is None or luck.random() < 0.5 else file.content
    tail = file.content[len(file.synced) :]
    kept = luck.randint(0, len(tail))
    return file.synced + tail[:kept] + luck.choice([b"", bytes(len(tail) - kept)])


class Recorder(Watcher):
    """Takes down every operation when it is done."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[dict[str, Any]] = []

    def after(self, operation: Operation) -> None:
        content = base64.b64encode(operation.content).decode()
        self.lines.append(
            {
                "kind": operation.kind,
                "path": operation.path,
                "target": operation.target,
                "content": content,
                "length": operation.length,
            }
        )


def record(home: Path) -> list[dict[str, Any]]:
    """Return the operations of a short life, with a mark where a step was told as saved; they are kept in `home`."""
    kept = home / "recorded.json"
    if not kept.exists():
        undisturbed(SHORT, home)
        settle(home / "recorded")
        if wait(fork(lambda: live_recorded(home))):
            raise RuntimeError("the recorded run failed")
    return list(json.loads(kept.read_text()))


def live_recorded(home: Path) -> None:
    """Live, and keep a record of it."""
    recorder = Recorder()

    def tell(event: events.Event) -> None:
        if event.name == "saved":
            recorder.lines.append({"kind": TOLD, "path": str(event.step)})

    # What the victim finds is there before the record begins, so the disk begins empty but for the text.
    with watching(recorder, home / "recorded"):
        live(SHORT, home / "recorded", tell)
    (home / "recorded.json").write_text(json.dumps(recorder.lines))


def power_failures(home: Path, limit: int | None = None) -> list[Trial]:
    """Return a trial for each call of a short life, or for `limit` of them; each tries several fates of the rest."""
    calls = len(record(home))
    chosen = range(1, calls + 1) if limit is None else range(1, calls + 1, max(1, calls // limit))
    return [{"prefix": prefix, "count": 6, "resume": prefix % 5 == 0} for prefix in chosen]


def replay(lines: Sequence[dict[str, Any]], root: str) -> tuple[Disk, int]:
    """Live a recorded beginning again; return the disk and the last step that was told as saved."""
    disk, committed = Disk(root), 0
    for line in lines:
        if line["kind"] == TOLD:
            committed = int(line["path"])
        else:
            content = base64.b64decode(line["content"])
            disk.do(Operation(line["kind"], line["path"], line["target"], content, line["length"]))
    return disk, committed


def lost_power(trial: Trial, home: Path) -> str:
    """Check what is left of a life when the power fails after some calls, in the worst case and in random ones."""
    root = str((home / "recorded").resolve())
    disk, committed = replay(record(home)[: trial["prefix"]], root)
    for fate in range(trial["count"]):
        place = home / f"R3-{trial['prefix']}-{fate}"
        disk.survive(place, random.Random(1000 * trial["prefix"] + fate) if fate else None)
        shutil.copy(home / "recorded" / "text.txt", place / "text.txt")
        trouble = sound(place, committed)
        if not trouble and trial["resume"] and fate < 2:
            settle(place)
            trouble = judge(SHORT, place, home)
        shutil.rmtree(place)
        if trouble:
            return f"fate {fate}: {trouble}"
    return ""


def sound(place: Path, committed: int) -> str:
    """Say what is wrong with what is left: a run is there whole or not at all, and each told step is whole."""
    trouble = survivors(place, committed)
    if not trouble and run_of(place).path.exists():
        events.read(run_of(place).path)
    return trouble
