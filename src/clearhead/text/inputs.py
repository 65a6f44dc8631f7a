"""What a user names as text, as bytes that can be read again and again: files, folders, globs, standard input."""

from __future__ import annotations

import glob
import gzip
import hashlib
import io
import os
import shutil
import sys
import tempfile
import weakref
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO

from clearhead.core.errors import UserError, closest
from clearhead.core.files import cannot_write
from clearhead.core.run import RUN_FILE

STANDARD_INPUT = "-"
BLOCK_BYTES = 1 << 20
STDIN_BYTES_IN_MEMORY = 64 << 20

_GZIP_MAGIC = b"\x1f\x8b"


@dataclass(frozen=True, kw_only=True, slots=True)
class Input:
    """A file, or what standard input gave."""

    name: str
    open: Callable[[], IO[bytes]]

    @property
    def label(self) -> str:
        """What sentences call it."""
        return "Standard input" if self.name == STANDARD_INPUT else f'"{self.name}"'

    @property
    def is_misnamed(self) -> bool:
        """Whether it is called `.gz` and is not compressed by gzip."""
        if not self.name.lower().endswith(".gz"):
            return False
        with self.open() as stored:
            return stored.read(len(_GZIP_MAGIC)) != _GZIP_MAGIC

    def blocks(self) -> Iterator[bytes]:
        """Stream the content, decompressed where it is compressed by gzip.

        Raises:
            UserError: it cannot be read, was changed since it was named, or its compressed form is not whole.
        """
        try:
            with self.open() as stored:
                compressed = stored.read(len(_GZIP_MAGIC)) == _GZIP_MAGIC
                stored.seek(0)
                stream = gzip.GzipFile(fileobj=stored) if compressed else stored
                while block := stream.read(BLOCK_BYTES):
                    yield block
        except (EOFError, gzip.BadGzipFile, zlib.error) as error:
            raise UserError(f"{self.label} is not a whole gzip file ({error}); fetch or pack it again.") from None
        except OSError as error:
            raise UserError(f"Cannot read {self.label}: {error.strerror or error}.") from error

    def size_and_sha256(self) -> tuple[int, str]:
        """Return the size and the hash of the bytes as they are stored."""
        digest, size = hashlib.sha256(), 0
        with self.open() as stored:
            while block := stored.read(BLOCK_BYTES):
                digest.update(block)
                size += len(block)
        return size, digest.hexdigest()


def file_input(path: Path) -> Input:
    """Return a file as it is now: reading it is refused once it has changed."""
    return Input(name=str(path), open=_opener(path))


def standard_input(keep_at: Path | None) -> Input:
    """Read standard input to its end.

    Args:
        keep_at: where it is stored; without it up to 64 MiB are held in memory, more in a temporary file.

    Raises:
        UserError: the disk takes no more.
    """
    start = b"" if keep_at else sys.stdin.buffer.read(STDIN_BYTES_IN_MEMORY + 1)
    if keep_at is None and len(start) <= STDIN_BYTES_IN_MEMORY:
        return Input(name=STANDARD_INPUT, open=lambda: io.BytesIO(start))
    path = _store_standard_input(start, keep_at)
    opener = _opener(path)
    if keep_at is None:
        weakref.finalize(opener, path.unlink, missing_ok=True)
    return Input(name=STANDARD_INPUT, open=opener)


def files_below(folder: Path) -> tuple[list[Path], Counter[str]]:
    """List the files in a folder and below, sorted by path, and count what was passed over.

    Links are followed; a folder that is reached twice is listed once, so loops end. What a trained run wrote is no text
    of the user's.
    """

    def refuse(error: OSError) -> None:
        raise UserError(f'Cannot read the folder "{error.filename}": {error.strerror}.')

    files: list[Path] = []
    passed: Counter[str] = Counter()
    seen: set[tuple[int, int]] = set()
    for place, inner, names in os.walk(folder, onerror=refuse, followlinks=True):
        status = os.stat(place)
        if (status.st_dev, status.st_ino) in seen:
            inner.clear()
            continue
        seen.add((status.st_dev, status.st_ino))
        if RUN_FILE in names:
            passed["holding a run"] += 1
            inner.clear()
            continue
        passed["hidden"] += sum(name.startswith(".") for name in (*inner, *names))
        inner[:] = sorted(name for name in inner if not name.startswith("."))
        visible = [Path(place, name) for name in names if not name.startswith(".")]
        found = [path for path in visible if path.is_file()]
        passed["neither file nor folder"] += len(visible) - len(found)
        files += found
    return sorted(files), +passed


def files_matching(pattern: Path) -> tuple[list[Path], Counter[str]]:
    """List the files that a glob matches and those below the folders that it matches, as `files_below` does.

    Raises:
        UserError: nothing matches.
    """
    files: list[Path] = []
    passed: Counter[str] = Counter()
    matches = sorted(Path(match) for match in glob.glob(str(pattern), recursive=True))
    if not matches:
        raise UserError(f'No file or folder matches "{pattern}"; name one that exists.')
    for match in matches:
        if match.is_dir():
            inner, skipped = files_below(match)
            files += inner
            passed += skipped
        else:
            files.append(match)
    return files, passed


def is_glob(path: Path) -> bool:
    """Tell whether a name has *, ? or [ in it."""
    return glob.has_magic(str(path))


def missing(path: Path) -> UserError:
    """Return the sentence for a name that does not exist, with the nearest one beside it that does."""
    return UserError(f'There is no file or folder "{path}".{nearest_file(path)}')


def nearest_file(path: Path) -> str:
    """Return ' Did you mean "x"?' for a file or folder beside a path whose name is most like its, or an empty string.

    Endings count only among names that are otherwise as like: that both are `.txt` says nothing.
    """
    stems: dict[str, list[str]] = {}
    for name in sorted(os.listdir(path.parent)) if path.parent.is_dir() else []:
        stems.setdefault(Path(name).stem, []).append(name)
    match = closest(path.stem, stems)
    if match is None:
        return ""
    return f' Did you mean "{path.parent / (closest(path.name, stems[match]) or stems[match][0])}"?'


def _opener(path: Path) -> Callable[[], IO[bytes]]:
    status = path.stat()
    return partial(_open_unchanged, path, (status.st_size, status.st_mtime_ns))


def _open_unchanged(path: Path, stamp: tuple[int, int]) -> IO[bytes]:
    stream = path.open("rb")
    status = os.fstat(stream.fileno())
    if (status.st_size, status.st_mtime_ns) != stamp:
        stream.close()
        raise UserError(f'"{path}" was changed while it was being read; start again.')
    return stream


def _store_standard_input(start: bytes, keep_at: Path | None) -> Path:
    try:
        descriptor, name = tempfile.mkstemp(dir=keep_at.parent if keep_at else None, prefix="standard-input.tmp-")
    except OSError as error:
        raise cannot_write(keep_at or Path(tempfile.gettempdir()), error) from error
    path = Path(name)
    try:
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(start)
            shutil.copyfileobj(sys.stdin.buffer, stream, BLOCK_BYTES)
        return path.replace(keep_at) if keep_at else path
    except OSError as error:
        path.unlink()
        raise cannot_write(keep_at or path, error) from error
    except BaseException:
        path.unlink()
        raise
