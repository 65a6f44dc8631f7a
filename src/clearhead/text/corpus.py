"""Texts as they come, read as a stream of documents: files, folders, globs, gzip, JSON lines, standard input.

A corpus is read twice or more: once to learn what it is (sizes, hashes, encodings), then each time somebody asks for
its pieces. Nothing but a hash and two sizes a document stays in memory.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import re
import unicodedata
from array import array
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
from jaxtyping import Int64, UInt8

from clearhead.core.errors import UserError
from clearhead.core.words import counted
from clearhead.text.config import TextConfig
from clearhead.text.decoding import HEAD_BYTES, Encoding, check_encoding, decode, detect, mend
from clearhead.text.inputs import (
    BLOCK_BYTES,
    STANDARD_INPUT,
    Input,
    file_input,
    files_below,
    files_matching,
    is_glob,
    missing,
    standard_input,
)

PIECE_CHARACTERS = 1 << 20
DIGEST_BYTES = 16


@dataclass(frozen=True, slots=True)
class Piece:
    """A stretch of a document: at most `PIECE_CHARACTERS`, never empty; the last of a document ends it."""

    text: str
    ends_document: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class Source:
    """What one file, standard input or a list of documents turned out to be.

    Args:
        bytes: the size as stored, so of the compressed file where it is compressed; `sha256` is of these bytes.
        invalid_bytes: how many bytes were not text in `encoding` and became U+FFFD.
        notes: what a reader should know, such as "CRLF line ends".
    """

    name: str
    bytes: int
    sha256: str
    encoding: str
    invalid_bytes: int
    documents: int
    characters: int
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, eq=False)
class DocumentTable:
    """For each document, in order: the first 16 bytes of its text's SHA-256, and its size."""

    digests: UInt8[np.ndarray, "N 16"]
    utf8_bytes: Int64[np.ndarray, " N"]
    characters: Int64[np.ndarray, " N"]


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Corpus:
    """Documents that can be streamed from where they lie as often as one likes.

    Args:
        fingerprint: SHA-256 over the hashes of the documents' texts, as decoded and normalized, in order.
        notes: what was passed over or dropped.
        open_pieces: starts a new stream of the pieces.
    """

    sources: tuple[Source, ...]
    table: DocumentTable
    fingerprint: str
    notes: tuple[str, ...]
    open_pieces: Callable[[], Iterator[Piece]]

    @property
    def documents(self) -> int:
        """The number of documents; none of them is empty."""
        return len(self.table.characters)

    @property
    def characters(self) -> int:
        """The number of characters (Unicode code points)."""
        return int(self.table.characters.sum())

    @property
    def utf8_bytes(self) -> int:
        """The size of the text in UTF-8, whatever encoding it is stored in."""
        return int(self.table.utf8_bytes.sum())

    def pieces(self) -> Iterator[Piece]:
        """Stream the documents in order, each as one or more pieces."""
        return self.open_pieces()


def normalize(text: str, steps: Iterable[str]) -> str:
    """Mend a text or a prompt: "lf" makes every line end LF, "nfc" composes characters (Unicode NFC)."""
    if "lf" in steps:
        text = text.replace("\r\n", "\n").replace("\r", "\n")
    return unicodedata.normalize("NFC", text) if "nfc" in steps else text


def from_documents(documents: Sequence[str], name: str) -> Corpus:
    """Make a corpus of documents in memory (or of any sequence that computes them when asked).

    Raises:
        UserError: there is no text in them.
    """

    def open_pieces(findings: _Findings) -> Iterator[Piece]:
        return _document_pieces(([document] for document in documents), findings, ())

    findings, ledger = _Findings(), _Ledger()
    ledger.enter(open_pieces(findings))
    if not ledger.characters:
        raise UserError(f'"{name}" holds no text.')
    fingerprint = _fingerprint(ledger)
    source = Source(
        name=name,
        bytes=sum(ledger.utf8_bytes),
        sha256=fingerprint,
        encoding="utf-8",
        invalid_bytes=findings.invalid_bytes,
        documents=len(ledger.characters),
        characters=sum(ledger.characters),
        notes=findings.notes(Encoding(codec="utf-8"), ()),
    )
    return Corpus(
        sources=(source,),
        table=ledger.table(),
        fingerprint=fingerprint,
        notes=(),
        open_pieces=lambda: open_pieces(_Findings(looks=False)),
    )


def read(names: Sequence[str | Path], config: TextConfig, *, keep_stdin_at: Path | None = None) -> Corpus:
    """Read files, folders, globs and standard input ("-"), in the order named.

    A file is a document; of a `.jsonl` file every row is one. What is compressed by gzip is decompressed. Folders and
    globs are read with everything below them, sorted by path; hidden and binary files in them are passed over. A file
    that is named twice is read once. Bytes are kept as they are but for a byte order mark, which is not text.

    Args:
        keep_stdin_at: standard input is stored in this file, which must stay there as long as the corpus is in use.
            Without it up to 64 MiB are held in memory, more in a temporary file.

    Raises:
        UserError: something named is missing, empty, binary or not as `config` says.
    """
    if config.encoding is not None:
        check_encoding(config.encoding)
    if not names or not all(map(str, names)):
        raise UserError('A text has no name: name a file, a folder, a glob in quotes, or "-" for standard input.')
    reading = _Reading(config)
    for name in names:
        if str(name) == STANDARD_INPUT:
            reading.read_standard_input(keep_stdin_at)
        else:
            reading.read_named(Path(name))
    texts = tuple(reading.texts)
    return Corpus(
        sources=tuple(reading.sources),
        table=reading.ledger.table(),
        fingerprint=_fingerprint(reading.ledger),
        notes=tuple(reading.notes),
        open_pieces=lambda: itertools.chain.from_iterable(text.pieces(_Findings(looks=False)) for text in texts),
    )


def _fingerprint(ledger: _Ledger) -> str:
    return hashlib.sha256(b"clearhead text 1\n" + ledger.digests).hexdigest()


class _Unreadable(UserError):
    """A file that is an error where it was named and is passed over where it was met in a folder."""

    def __init__(self, reason: Literal["binary", "empty"], sentence: str) -> None:
        super().__init__(sentence)
        self.reason = reason


@dataclass(slots=True)
class _Findings:
    """What is learnt about a text while it is read; `looks` is False when it is read again."""

    looks: bool = True
    num_bytes: int = 0
    invalid_bytes: int = 0
    empty_documents: int = 0
    crlf: bool = False
    lone_cr: bool = False
    not_nfc: bool = False

    def count(self, blocks: Iterable[bytes]) -> Iterator[bytes]:
        for block in blocks:
            self.num_bytes += len(block)
            yield block

    def look(self, text: str) -> None:
        if not self.looks:
            return
        if "\r" in text and not (self.crlf and self.lone_cr):
            line_ends = text.count("\r\n")
            self.crlf = self.crlf or line_ends > 0
            self.lone_cr = self.lone_cr or text.count("\r") > line_ends
        if not (text.isascii() or self.not_nfc):
            self.not_nfc = not unicodedata.is_normalized("NFC", text)

    def notes(self, encoding: Encoding, steps: Sequence[str]) -> tuple[str, ...]:
        lf, nfc = (", mended" if step in steps else "" for step in ("lf", "nfc"))
        seen = {
            f"encoding {encoding.codec} was guessed": encoding.guessed,
            f"{counted(self.invalid_bytes, 'invalid byte')} became U+FFFD": self.invalid_bytes > 0,
            f"{counted(self.empty_documents, 'empty document')} left out": self.empty_documents > 0,
            "BOM": encoding.mark_bytes > 0,
            f"CRLF line ends{lf}": self.crlf,
            f"CR line ends{lf}": self.lone_cr,
            f"mixed Unicode forms{nfc}": self.not_nfc,
        }
        return tuple(note for note, found in seen.items() if found)


@dataclass(slots=True)
class _Ledger:
    """Hash and sizes of each document, 32 bytes a document."""

    digests: bytearray = field(default_factory=bytearray)
    utf8_bytes: array[int] = field(default_factory=lambda: array("q"))
    characters: array[int] = field(default_factory=lambda: array("q"))

    def enter(self, pieces: Iterable[Piece]) -> None:
        digest, size, characters = hashlib.sha256(), 0, 0
        for piece in pieces:
            encoded = piece.text.encode()
            digest.update(encoded)
            size += len(encoded)
            characters += len(piece.text)
            if piece.ends_document:
                self.digests += digest.digest()[:DIGEST_BYTES]
                self.utf8_bytes.append(size)
                self.characters.append(characters)
                digest, size, characters = hashlib.sha256(), 0, 0

    def extend(self, other: _Ledger) -> None:
        self.digests += other.digests
        self.utf8_bytes += other.utf8_bytes
        self.characters += other.characters

    def table(self) -> DocumentTable:
        return DocumentTable(
            np.frombuffer(bytes(self.digests), dtype=np.uint8).reshape(-1, DIGEST_BYTES),
            np.array(self.utf8_bytes, dtype=np.int64),
            np.array(self.characters, dtype=np.int64),
        )


@dataclass(slots=True)
class _Reading:
    """Everything that was read so far."""

    config: TextConfig
    texts: list[_Text] = field(default_factory=list)
    sources: list[Source] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    ledger: _Ledger = field(default_factory=_Ledger)
    seen: set[str] = field(default_factory=set)

    def read_standard_input(self, keep_at: Path | None) -> None:
        if STANDARD_INPUT not in self.seen:
            self.seen.add(STANDARD_INPUT)
            self._add(standard_input(keep_at))

    def read_named(self, path: Path) -> None:
        try:
            self._read_existing(path)
        except OSError as error:
            raise UserError(f'Cannot read "{str(path)[:200]}": {error.strerror}.') from error

    def _read_existing(self, path: Path) -> None:
        if path.is_file():
            self._read_file(path)
        elif path.is_dir():
            self._read_all(path, *files_below(path))
        elif path.exists():
            raise UserError(f'"{path}" is neither a file nor a folder; pipe it in and name "-" for standard input.')
        elif is_glob(path):
            self._read_all(path, *files_matching(path))
        else:
            raise missing(path)

    def _read_all(self, origin: Path, files: list[Path], passed: Counter[str]) -> None:
        readable = 0
        for file in files:
            try:
                self._read_file(file)
                readable += 1
            except _Unreadable as error:
                passed[error.reason] += 1
        skipped = ", ".join(f"{count} {kind}" for kind, count in sorted(passed.items()))
        if not readable:
            found = f"passed over: {skipped}" if skipped else "it is empty"
            raise UserError(f'There is no readable text in "{origin}" ({found}); name a text file.')
        if skipped:
            self.notes.append(f'passed over in "{origin}": {skipped}')

    def _read_file(self, path: Path) -> None:
        identity = os.path.realpath(path)
        if identity not in self.seen:
            self._add(file_input(path))
            self.seen.add(identity)

    def _add(self, input: Input) -> None:
        text, findings, entries = _Text.of(input, self.config), _Findings(), _Ledger()
        entries.enter(text.pieces(findings))
        if not entries.characters:
            raise _Unreadable("empty", f"{input.label} holds no text; name a file that does.")
        if findings.invalid_bytes * 100 > findings.num_bytes:
            share = f"{findings.invalid_bytes:,} of its {counted(findings.num_bytes, 'byte')}"
            raise _binary(input, f"{share} are not {text.encoding.codec}")
        size, sha256 = input.size_and_sha256()
        misnamed = ("not compressed, despite its name",) if input.is_misnamed else ()
        self.texts.append(text)
        self.ledger.extend(entries)
        self.sources.append(
            Source(
                name=input.name,
                bytes=size,
                sha256=sha256,
                encoding=text.encoding.codec,
                invalid_bytes=findings.invalid_bytes,
                documents=len(entries.characters),
                characters=sum(entries.characters),
                notes=misnamed + findings.notes(text.encoding, self.config.normalize),
            )
        )


def _binary(input: Input, why: str) -> _Unreadable:
    advice = "name a text file, or its encoding with --text.encoding"
    return _Unreadable("binary", f"{input.label} does not look like text ({why}); {advice}.")


@dataclass(frozen=True, kw_only=True, slots=True)
class _Text:
    """How a file's bytes become documents, the same way each time."""

    input: Input
    encoding: Encoding
    config: TextConfig

    @classmethod
    def of(cls, input: Input, config: TextConfig) -> _Text:
        head = b"".join(itertools.islice(input.blocks(), -(-HEAD_BYTES // BLOCK_BYTES)))[:HEAD_BYTES]
        encoding = detect(head, named=config.encoding)
        if encoding is None:
            raise _binary(input, "it has NUL bytes" if b"\0" in head else "it fits no known encoding")
        return cls(input=input, encoding=encoding, config=config)

    def pieces(self, findings: _Findings) -> Iterator[Piece]:
        stretches = self._stretches(findings)
        is_rows = self.input.name.lower().removesuffix(".gz").endswith(".jsonl")
        documents = ([row] for row in self._rows(stretches)) if is_rows else [stretches]
        return _document_pieces(documents, findings, self.config.normalize)

    def _stretches(self, findings: _Findings) -> Iterator[str]:
        for text, invalid_bytes in decode(findings.count(self.input.blocks()), self.encoding):
            findings.invalid_bytes += invalid_bytes
            # Whoever names the encoding knows that it is text.
            if "\0" in text and not self.config.encoding:
                raise _binary(self.input, "it has NUL characters")
            yield text

    def _rows(self, stretches: Iterable[str]) -> Iterator[str]:
        for number, line in enumerate(_lines(stretches), start=1):
            if line and not line.isspace():
                yield self._text_of_row(line, f"{self.input.label}, line {number}")

    def _text_of_row(self, line: str, place: str) -> str:
        key = self.config.field
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise UserError(f"{place} is not JSON ({error}); each line of a .jsonl file is one object.") from None
        if not isinstance(row, dict):
            raise UserError(f'{place} is not an object with the field "{key}".')
        if key not in row:
            fields = ", ".join(f'"{name}"' for name in row) or "none"
            raise UserError(f'{place} has no field "{key}" (its fields: {fields}); name one with --text.field.')
        text = row[key]
        if not isinstance(text, str):
            raise UserError(f'{place}: the field "{key}" is not a string; name one that is with --text.field.')
        return text


def _lines(stretches: Iterable[str]) -> Iterator[str]:
    """Split at line feeds only: JSON strings may hold the other characters that end lines elsewhere."""
    begun: list[str] = []
    for stretch in stretches:
        first, *others = stretch.split("\n")
        begun.append(first)
        if others:
            yield "".join(begun)
            yield from others[:-1]
            begun = [others[-1]]
    yield "".join(begun)


def _document_pieces(documents: Iterable[Iterable[str]], findings: _Findings, steps: Sequence[str]) -> Iterator[Piece]:
    """Cut each document, given as stretches of text, into pieces and normalize them."""
    for stretches in documents:
        is_empty = True
        for text, ends_document in _cut_up(stretches, findings):
            is_empty = False
            findings.look(text)
            yield Piece(normalize(text, steps), ends_document)
        findings.empty_documents += is_empty


def _cut_up(stretches: Iterable[str], findings: _Findings) -> Iterator[tuple[str, bool]]:
    rest = ""
    for stretch in stretches:
        text, lone_surrogates = mend(stretch)
        findings.invalid_bytes += lone_surrogates
        rest += text
        while len(rest) > PIECE_CHARACTERS:
            cut = _kindest_cut(rest)
            yield rest[:cut], False
            rest = rest[cut:]
    if rest:
        yield rest, True


# Tokens end here in any case: at a line end between two lines of text, and before white space that follows a word.
_TOKEN_BORDERS = (re.compile(r"(?<=\S)\n(?=\S)"), re.compile(r"(?<=\S)(?=\s)"))


def _kindest_cut(text: str) -> int:
    """Return where to cut a text longer than a piece, so that tokens and normal forms are those of the whole.

    Only the last 1/16 of the piece is searched for a border of tokens. Without one the cut is before a character that
    cannot combine with the one before it.
    """
    limit = PIECE_CHARACTERS
    for border in _TOKEN_BORDERS:
        cuts = [match.end() for match in border.finditer(text, limit - limit // 16, limit + 1)]
        if cuts:
            return cuts[-1]
    return next((cut for cut in range(limit, limit // 2, -1) if not _combine(text[cut - 1], text[cut])), limit)


def _combine(before: str, after: str) -> bool:
    """Tell whether two characters may belong together: CR LF, a base and its marks, Hangul vowels and finals."""
    is_mark = unicodedata.category(after).startswith("M")
    return is_mark or "\u1160" <= after <= "\u11ff" or (before, after) == ("\r", "\n")
