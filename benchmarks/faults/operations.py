"""Every call with which the program changes files, watched from inside the process.

While `watching`, `os`'s functions, `io.open` for writing (which `pathlib` calls) and the writer of tensors tell a
watcher before and after they act. A watcher that kills the process, refuses the call or takes notes makes a crash, a
full disk or a power loss.
"""

from __future__ import annotations

import contextlib
import io
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import clearhead.store.checkpoint as checkpoint_module

Kind = Literal["open", "write", "fsync", "rename", "remove", "mkdir", "truncate"]
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT

FUNCTIONS: dict[str, Kind] = {
    "open": "open",
    "write": "write",
    "fsync": "fsync",
    "rename": "rename",
    "replace": "rename",
    "unlink": "remove",
    "remove": "remove",
    "rmdir": "remove",
    "mkdir": "mkdir",
    "truncate": "truncate",
    "ftruncate": "truncate",
}


@dataclass(frozen=True, slots=True)
class Operation:
    """One call: what it does to which path.

    Args:
        target: the new name, of a rename.
        content: what is added, of a write.
        length: what is left, of a truncation; 0 of an `open` that empties the file.
    """

    kind: Kind
    path: str
    target: str = ""
    content: bytes = b""
    length: int | None = None


class Watcher:
    """Is told of each operation; the default only counts them."""

    def __init__(self) -> None:
        self.count = 0

    def before(self, operation: Operation) -> None:
        """Called before the operation; an error raised here takes its place."""
        self.count += 1

    def after(self, operation: Operation) -> None:
        """Called when it is done."""

    def failed(self, operation: Operation) -> None:
        """Called when the system refused it."""


@contextlib.contextmanager
def watching(watcher: Watcher, root: Path) -> Iterator[None]:
    """Tell a watcher of every operation below `root` while the block lasts."""
    eye = _Eye(watcher, str(root.resolve()))
    saved = {name: getattr(os, name) for name in FUNCTIONS}
    saved_open, saved_writer = io.open, checkpoint_module.save_file
    try:
        for name, kind in FUNCTIONS.items():
            setattr(os, name, eye.watched(saved[name], kind))
        io.open = eye.watched_open(saved_open)  # type: ignore[assignment]
        checkpoint_module.save_file = eye.watched_writer(saved_writer)
        yield
    finally:
        for name, function in saved.items():
            setattr(os, name, function)
        io.open = saved_open
        checkpoint_module.save_file = saved_writer


class _Eye:
    def __init__(self, watcher: Watcher, root: str) -> None:
        self.watcher, self.root = watcher, root + os.sep

    def see(self, operation: Operation, act: Callable[[], Any]) -> Any:
        """Do something under the watcher's eyes, if it concerns the watched folder."""
        if not self.covers(operation.path):
            return act()
        self.watcher.before(operation)
        try:
            result = act()
        except OSError:
            self.watcher.failed(operation)
            raise
        self.watcher.after(operation)
        return result

    def covers(self, path: str) -> bool:
        """Say whether a path is the watched folder or lies below it."""
        return f"{path}{os.sep}".startswith(self.root)

    def watched(self, function: Callable[..., Any], kind: Kind) -> Callable[..., Any]:
        def call(first: Any, *rest: Any, **named: Any) -> Any:
            def act() -> Any:
                return function(first, *rest, **named)

            if kind == "open" and not (rest and rest[0] & WRITING):
                return act()
            path = _path(first, named.get("dir_fd") or named.get("src_dir_fd"))
            if kind == "rename":
                return self.see(Operation(kind, path, target=_path(rest[0], None)), act)
            if kind == "write":
                return self.see(Operation(kind, path, content=bytes(rest[0])), act)
            return self.see(Operation(kind, path, length=rest[0] if kind == "truncate" else None), act)

        return call

    def watched_open(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(file: Any, mode: str = "r", *rest: Any, **named: Any) -> Any:
            def act() -> Any:
                return function(file, mode, *rest, **named)

            if isinstance(file, int) or not set(mode) & set("wax+"):
                return act()
            path = _path(file, None)
            stream = self.see(Operation("open", path, length=0 if "w" in mode else None), act)
            return _Stream(self, stream, path) if self.covers(path) else stream

        return call

    def watched_writer(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(tensors: Any, file: Any, *metadata: Any) -> None:
            path = _path(file, None)
            self.see(Operation("open", path, length=0), lambda: None)
            function(tensors, file, *metadata)
            self.see(Operation("write", path, content=Path(file).read_bytes()), lambda: None)

        return call


class _Stream:
    """A file opened for writing whose writes are told; everything else it does itself."""

    def __init__(self, eye: _Eye, stream: Any, path: str) -> None:
        self._eye, self._stream, self._path = eye, stream, path

    def write(self, content: Any) -> Any:
        data = content.encode() if isinstance(content, str) else bytes(content)
        return self._eye.see(Operation("write", self._path, content=data), lambda: self._stream.write(content))

    def truncate(self, length: int) -> Any:
        return self._eye.see(Operation("truncate", self._path, length=length), lambda: self._stream.truncate(length))

    def __enter__(self) -> _Stream:
        return self

    def __exit__(self, *_: object) -> None:
        self._stream.close()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def _path(file: Any, folder: int | None) -> str:
    """Return the absolute path of what a call names: a descriptor, or a name, maybe inside an open folder."""
    if isinstance(file, int):
        return os.readlink(f"/proc/self/fd/{file}")
    base = os.getcwd() if folder is None else os.readlink(f"/proc/self/fd/{folder}")
    return os.path.normpath(os.path.join(base, os.fsdecode(file)))
