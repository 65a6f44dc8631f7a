"""Token ids on disk: written once, memory-mapped, and cached by the text and the tokenizer that they come from.

A folder of shards holds `shards.json` and `tokens-00000.bin`, `tokens-00001.bin`, ...: raw little-endian ids of 16
bits, or 32 where the vocabulary has over 65,536 ids.
"""

from __future__ import annotations

import hashlib
import mmap
import os
import shutil
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any, Literal

import numpy as np
from jaxtyping import Int32, Int64, Integer, UInt16, UInt32

from clearhead.core.errors import DamagedFile, NewerFormat, UserError, newer_format
from clearhead.core.files import new_folder, read_json, sha256, to_json, write_atomically
from clearhead.core.words import counted
from clearhead.text.corpus import Piece
from clearhead.text.split import Split
from clearhead.text.tokenizer import Tokenizer

INDEX = "shards.json"
FORMAT = 1
SHARD_TOKENS = 64 << 20

# What is read of a mapped file counts as this process's memory until it is given back, and the system maps up to 2 MiB
# around every address that is touched.
RESIDENT_BYTES = 128 << 20
_MAPPED_AROUND_BYTES = 2 << 20

_STREAM_TOKENS = 1 << 20
_ROW_BY_ROW_TOKENS = 1024

# Where several arrays stand in one signature their lengths differ, which "_" allows.
_Stored = UInt16[np.ndarray, " _"] | UInt32[np.ndarray, " _"]
_Stream = Iterable[Int32[np.ndarray, " _"]]


class Tokens:
    """A read-only sequence of token ids over one or more arrays in memory or mapped from disk.

    Attributes:
        dtype: how the ids are stored, uint16 or uint32; what is read is int32.
        sha256s: the hash of each shard's bytes.
    """

    def __init__(
        self, shards: Sequence[_Stored], sha256s: Sequence[str], *, forget: Callable[[], None] = lambda: None
    ) -> None:
        """Join arrays to one sequence.

        Args:
            forget: gives back the memory of what was read; called so that about `RESIDENT_BYTES` are held at most.
        """
        self._shards = list(shards)
        self._fits = sum(shard.nbytes for shard in shards) <= RESIDENT_BYTES
        self._ends = np.cumsum([len(shard) for shard in shards])
        self._forget = forget
        self._resident_bytes = 0
        self.dtype = self._shards[0].dtype
        self.sha256s = tuple(sha256s)

    def __len__(self) -> int:
        return int(self._ends[-1])

    def read(self, start: int, stop: int) -> Int32[np.ndarray, " N"]:
        """Return the ids from `start` to before `stop`."""
        if not 0 <= start <= stop <= len(self):
            raise IndexError(f"tokens {start} to {stop} of {len(self)}")
        ids = np.empty(stop - start, dtype=np.int32)
        done = 0
        while done < len(ids):
            shard, offset = self._locate(start + done)
            part = self._shards[shard][offset : offset + min(len(ids) - done, _STREAM_TOKENS)]
            ids[done : done + len(part)] = part
            done += len(part)
            self._note_read(1, len(part))
        return ids

    def gather(self, starts: Int64[np.ndarray, " B"], length: int) -> Int32[np.ndarray, "B T"]:
        """Return, for each start, the `length` ids from there on."""
        if len(starts) == 0:
            return np.empty((0, length), dtype=np.int32)
        if starts.min() < 0 or starts.max() + length > len(self):
            raise IndexError(f"windows of {length} tokens from {starts.min()} to {starts.max()} of {len(self)}")
        if len(self._shards) > 1 or length > _ROW_BY_ROW_TOKENS:
            return np.stack([self.read(start, start + length) for start in starts.tolist()])
        rows = np.empty((len(starts), length), dtype=np.int32)
        at_once = len(starts) if self._fits else RESIDENT_BYTES // _MAPPED_AROUND_BYTES
        for first in range(0, len(starts), at_once):
            part = starts[first : first + at_once]
            rows[first : first + at_once] = self._shards[0][part[:, None] + np.arange(length)]
            self._note_read(len(part), len(part) * length)
        return rows

    def _locate(self, position: int) -> tuple[int, int]:
        shard = int(np.searchsorted(self._ends, position, side="right"))
        return shard, position - int(self._ends[shard]) + len(self._shards[shard])

    def _note_read(self, windows: int, tokens: int) -> None:
        if self._fits:
            return
        self._resident_bytes += windows * _MAPPED_AROUND_BYTES + tokens * self.dtype.itemsize
        if self._resident_bytes > RESIDENT_BYTES:
            self._forget()
            self._resident_bytes = 0


def token_stream(tokenizer: Tokenizer, pieces: Iterable[Piece]) -> Iterator[Int32[np.ndarray, " _"]]:
    """Encode a text: with documents `end, doc1, end, doc2, end, ...`, without just the text.

    The stream starts with `<|end|>` even where the first piece continues a document that was cut, so that its first
    character is scored too; where the last piece does not end its document, no `<|end|>` follows it.
    """
    end = None if tokenizer.end is None else np.array([tokenizer.end], dtype=np.int32)
    waiting = [] if end is None else [end]
    num_waiting = len(waiting)
    for piece in pieces:
        ids = tokenizer.encode(piece.text)
        waiting.append(ids)
        if piece.ends_document and end is not None:
            waiting.append(end)
        num_waiting += len(ids) + 1
        if num_waiting >= _STREAM_TOKENS:
            yield np.concatenate(waiting)
            waiting, num_waiting = [], 0
    if waiting:
        yield np.concatenate(waiting)


def in_memory(ids: Integer[np.ndarray, " N"], vocabulary_size: int) -> Tokens:
    """Return ids that are in memory in the form of those on disk."""
    stored = _checked(ids, vocabulary_size)
    return Tokens([stored], [hashlib.sha256(stored.tobytes()).hexdigest()])


def unseen_ids(tokens: Tokens, vocabulary_size: int) -> Int32[np.ndarray, " _"]:
    """Return the ids that do not occur, in one pass."""
    seen = np.zeros(vocabulary_size, dtype=np.bool_)
    for start in range(0, len(tokens), _STREAM_TOKENS):
        seen[tokens.read(start, min(start + _STREAM_TOKENS, len(tokens)))] = True
    return np.flatnonzero(~seen).astype(np.int32)


def ranges_of(ids: Int32[np.ndarray, " N"]) -> list[list[int]]:
    """Return the first and the last of each unbroken range of ascending ids: a short form for JSON."""
    parts = np.split(ids, np.flatnonzero(np.diff(ids) > 1) + 1)
    return [[int(part[0]), int(part[-1])] for part in parts if len(part)]


def ids_of(ranges: Any, vocabulary_size: int) -> Int32[np.ndarray, " N"]:
    """Return the ids of ranges that `ranges_of` gave.

    Raises:
        DamagedFile: it gave no such thing.
    """
    if not isinstance(ranges, list) or not all(_is_range(each, vocabulary_size) for each in ranges):
        raise DamagedFile("A stored list of ids does not hold ranges of them.")
    return np.concatenate([np.empty(0, np.int32), *(np.arange(a, b + 1, dtype=np.int32) for a, b in ranges)])


def _is_range(found: Any, vocabulary_size: int) -> bool:
    numbers = isinstance(found, list) and len(found) == 2 and all(type(number) is int for number in found)
    return numbers and 0 <= found[0] <= found[1] < vocabulary_size


def build(folder: Path, stream: _Stream, vocabulary_size: int, provenance: Mapping[str, Any]) -> Tokens:
    """Write a stream of ids into a new folder, which appears only when it is complete.

    Args:
        provenance: what the ids were made from; stored beside them.

    Raises:
        UserError: the folder exists, the disk takes no more, or an id is not in the vocabulary.
    """
    with new_folder(folder) as unfinished:
        writer = _Writer(unfinished)
        try:
            for ids in stream:
                writer.write(_checked(ids, vocabulary_size))
        finally:
            writer.close()
        assert writer.counts, "a text without tokens"
        index = {
            "format": FORMAT,
            "dtype": _dtype(vocabulary_size).name,
            "counts": writer.counts,
            "sha256": writer.sha256s,
            "vocabulary_size": vocabulary_size,
            "provenance": dict(provenance),
        }
        write_atomically(unfinished / INDEX, to_json(index))
    return open_tokens(folder)


def open_tokens(folder: Path) -> Tokens:
    """Map the ids of a folder, having checked the format and the size of each file.

    Raises:
        DamagedFile: names the file that is missing, or is not what was written.
        NewerFormat: a newer version of the program wrote the folder.
    """
    index = _read_index(folder)
    dtype = np.dtype(index["dtype"]).newbyteorder("<")
    maps = [_map(path, count * dtype.itemsize) for path, count in _files(folder, index)]

    def forget() -> None:
        if hasattr(mmap, "MADV_DONTNEED"):
            for mapped in maps:
                mapped.madvise(mmap.MADV_DONTNEED)

    return Tokens([np.frombuffer(mapped, dtype) for mapped in maps], index["sha256"], forget=forget)


def verify(folder: Path) -> None:
    """Check that each shard has the hash that was stored when it was written, and holds ids of the vocabulary alone.

    Raises:
        DamagedFile: names the file that differs.
    """
    index = _read_index(folder)
    for (path, _), stored in zip(_files(folder, index), index["sha256"], strict=True):
        if not path.is_file():
            raise DamagedFile(f"{path} is missing.")
        if sha256(path) != stored:
            raise DamagedFile(f"{path} is not what was written: its SHA-256 differs from that in {INDEX}.")
    tokens = open_tokens(folder)
    for start in range(0, len(tokens), _STREAM_TOKENS):
        largest = tokens.read(start, min(start + _STREAM_TOKENS, len(tokens))).max()
        if largest >= index["vocabulary_size"]:
            raise DamagedFile(f"{folder} holds the id {largest}, and its vocabulary has {index['vocabulary_size']}.")


def cached(split: Split, tokenizer: Tokenizer, *, part: Literal["training", "validation"] = "training") -> Tokens:
    """Return the ids of one part of a text from the cache, where they are written first if they are not there whole.

    Processes that do this at once may do the same work, but all end with whole shards.

    Raises:
        UserError: the disk takes no more, or the tokenizer refuses the text.
    """
    provenance = {"format": FORMAT, "text": split.fingerprint, "tokenizer": tokenizer.fingerprint, "part": part}
    key = hashlib.sha256(to_json(provenance).encode()).hexdigest()[:32]
    folder = cache_folder() / "shards" / key
    tokens = _open_if_whole(folder)
    if tokens is not None:
        return tokens
    shutil.rmtree(folder, ignore_errors=True)
    pieces = split.training() if part == "training" else split.validation()
    try:
        return build(folder, token_stream(tokenizer, pieces), tokenizer.vocabulary_size, provenance)
    except UserError:
        tokens = _open_if_whole(folder)  # another process may have been faster
        if tokens is None:
            raise
        return tokens


def _open_if_whole(folder: Path) -> Tokens | None:
    try:
        verify(folder)
        return open_tokens(folder)
    except (DamagedFile, NewerFormat, OSError):
        return None


def cache_folder() -> Path:
    """Return where things lie that can be made or fetched again: $CLEARHEAD_CACHE, or the system's place for them."""
    chosen = os.environ.get("CLEARHEAD_CACHE")
    if chosen:
        return Path(chosen)
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "clearhead"
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local") / "clearhead" / "cache"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "clearhead"


class _Writer:
    """Appends ids to files of at most `SHARD_TOKENS`, hashing what it writes."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._file: IO[bytes] | None = None
        self._digest = hashlib.sha256()
        self.counts: list[int] = []
        self.sha256s: list[str] = []

    def write(self, ids: _Stored) -> None:
        while len(ids):
            if self._file is None:
                self._file = _shard_path(self._folder, len(self.counts)).open("wb")
                self.counts.append(0)
            part = ids[: SHARD_TOKENS - self.counts[-1]]
            self._file.write(part.data)
            self._digest.update(part.data)
            self.counts[-1] += len(part)
            ids = ids[len(part) :]
            if self.counts[-1] == SHARD_TOKENS:
                self.close()

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None
            self.sha256s.append(self._digest.hexdigest())
            self._digest = hashlib.sha256()


def _dtype(vocabulary_size: int) -> np.dtype[Any]:
    return np.dtype("<u2" if vocabulary_size <= 1 << 16 else "<u4")


def _checked(ids: Integer[np.ndarray, " N"], vocabulary_size: int) -> _Stored:
    """Return ids as they are stored.

    Raises:
        UserError: names an id that is not in the vocabulary.
    """
    if len(ids):
        wrong = next((int(id) for id in (ids.max(), ids.min()) if not 0 <= id < vocabulary_size), None)
        if wrong is not None:
            raise UserError(
                f"Token id {wrong} is not in the vocabulary of {counted(vocabulary_size, 'id')}; use its own tokenizer."
            )
    return np.ascontiguousarray(ids, dtype=_dtype(vocabulary_size))


def _shard_path(folder: Path, number: int) -> Path:
    return folder / f"tokens-{number:05d}.bin"


def _files(folder: Path, index: Mapping[str, Any]) -> Iterator[tuple[Path, int]]:
    return ((_shard_path(folder, number), count) for number, count in enumerate(index["counts"]))


def _read_index(folder: Path) -> dict[str, Any]:
    index = read_json(folder / INDEX)
    damaged = DamagedFile(f"{folder / INDEX} does not describe shards: it was changed.")
    if not isinstance(index, dict) or not isinstance(index.get("format"), int):
        raise damaged
    if index["format"] > FORMAT:
        raise newer_format(folder / INDEX, index["format"], FORMAT)
    counts, hashes = index.get("counts"), index.get("sha256")
    if not isinstance(index.get("vocabulary_size"), int):
        raise damaged
    if index.get("dtype") not in {"uint16", "uint32"} or not isinstance(counts, list) or not isinstance(hashes, list):
        raise damaged
    if not counts or len(counts) != len(hashes) or not all(isinstance(count, int) and count > 0 for count in counts):
        raise damaged
    return index


def _map(path: Path, size: int) -> mmap.mmap:
    try:
        with path.open("rb") as stream:
            actual = os.fstat(stream.fileno()).st_size
            if actual != size:
                raise DamagedFile(f"{path} has {counted(actual, 'byte')} where {size:,} were written.")
            return mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ)
    except FileNotFoundError:
        raise DamagedFile(f"{path} is missing.") from None
