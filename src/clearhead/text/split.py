"""Which part of a text is trained on and which part measures: fixed by the text alone, never overlapping.

A single text is cut near its end. Of many documents those with the smallest content hash are held out, so that the
choice depends neither on their order nor on chance, and copies of a document never stand on both sides.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool

from clearhead.core.errors import UserError
from clearhead.core.words import counted
from clearhead.text.corpus import Corpus, DocumentTable, Piece

LARGEST_VALIDATION_BYTES = 256 << 10
CUT_BY_SHARE_BYTES = 10 * LARGEST_VALIDATION_BYTES
FEWEST_DOCUMENTS = 20
FEWEST_CHARACTERS = 64

_RULE = "split 1"


@dataclass(frozen=True, slots=True)
class _Cut:
    """Training is what comes before a character, validation the rest."""

    character: int

    def training(self, pieces: Iterable[Piece]) -> Iterator[Piece]:
        left = self.character
        for piece in pieces:
            if len(piece.text) > left:
                if left:
                    yield Piece(piece.text[:left], ends_document=False)
                return
            yield piece
            left -= len(piece.text)

    def validation(self, pieces: Iterable[Piece]) -> Iterator[Piece]:
        left = self.character
        for piece in pieces:
            if len(piece.text) > left:
                yield Piece(piece.text[left:], piece.ends_document) if left else piece
            left = max(0, left - len(piece.text))


@dataclass(frozen=True, slots=True, eq=False)
class _Choice:
    """Validation is the documents that are held out, training the others."""

    held_out: Bool[np.ndarray, " N"]

    def training(self, pieces: Iterable[Piece]) -> Iterator[Piece]:
        return self._part(pieces, wanted=False)

    def validation(self, pieces: Iterable[Piece]) -> Iterator[Piece]:
        return self._part(pieces, wanted=True)

    def _part(self, pieces: Iterable[Piece], *, wanted: bool) -> Iterator[Piece]:
        document = 0
        for piece in pieces:
            if self.held_out[document] == wanted:
                yield piece
            document += piece.ends_document


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Split:
    """The two parts of a corpus, as streams. They do not overlap, together they are the whole, and neither is empty.

    Where the cut falls inside a document, the training part's last piece does not end a document, and the validation
    part begins with the document's rest.

    Args:
        description: one line on how the text was split.
        fingerprint: SHA-256 that stands for the text and for how it was split.
        has_documents: there is more than one document in the corpus.
    """

    corpus: Corpus
    division: _Cut | _Choice
    description: str
    fingerprint: str
    has_documents: bool
    training_characters: int
    training_bytes: int
    validation_characters: int
    validation_bytes: int

    def training(self) -> Iterator[Piece]:
        """Stream the training part."""
        return self.division.training(self.corpus.pieces())

    def validation(self) -> Iterator[Piece]:
        """Stream the validation part."""
        return self.division.validation(self.corpus.pieces())

    def training_text(self, limit_bytes: int | None = None) -> Iterator[str]:
        """Stream the training part's text, or as much of its beginning as fits in `limit_bytes` of UTF-8."""
        left = self.training_bytes if limit_bytes is None else limit_bytes
        for piece in self.training():
            encoded = piece.text.encode()
            if len(encoded) > left:
                text = encoded[:left].decode(errors="ignore")
                if text:
                    yield text
                return
            yield piece.text
            left -= len(encoded)

    def validation_text(self) -> Iterator[str]:
        """Stream the validation part's text."""
        return (piece.text for piece in self.validation())


def split(corpus: Corpus) -> Split:
    """Hold out min(10 %, 256 KiB) of a corpus.

    With 20 documents or more, documents are taken by their content hash, smallest first, until that is reached; exact
    copies of a chosen document go with it, and one larger than the remainder is passed over. With fewer, or where no
    document is small enough, they count as one text, of which the end is held out: the last 256 KiB, or from
    floor(0.9 x characters) on where the text has at most 2.5 MiB.

    Raises:
        UserError: there are fewer than 64 characters.
    """
    if corpus.characters < FEWEST_CHARACTERS:
        raise UserError(
            f"The text has {counted(corpus.characters, 'character')} and at least {FEWEST_CHARACTERS} are needed; "
            "2,000 or more are worth training on."
        )
    if corpus.documents >= FEWEST_DOCUMENTS:
        held_out = smallest_hashes(corpus.table)
        if held_out.any():
            return _by_documents(corpus, held_out)
    return _by_cut(corpus)


def smallest_hashes(table: DocumentTable) -> Bool[np.ndarray, " N"]:
    """Tell which documents are held out; none are where each is larger than the bound."""
    keys = table.digests.view(">u8")
    order = np.lexsort((keys[:, 1], keys[:, 0]))
    is_first_copy = np.append(True, (keys[order[1:]] != keys[order[:-1]]).any(axis=1))
    starts = np.flatnonzero(is_first_copy)
    group_bytes = np.add.reduceat(table.utf8_bytes[order], starts)
    is_chosen = np.zeros(len(starts), dtype=bool)
    left = min(int(table.utf8_bytes.sum()) // 10, LARGEST_VALIDATION_BYTES)
    smallest = int(group_bytes.min())
    for group, size in enumerate(group_bytes.tolist()):
        if size <= left:
            is_chosen[group] = True
            left -= size
        if left < smallest:
            break
    held_out = np.empty(len(order), dtype=bool)
    held_out[order] = is_chosen[np.cumsum(is_first_copy) - 1]
    return held_out


def _by_documents(corpus: Corpus, held_out: Bool[np.ndarray, " N"]) -> Split:
    characters = int(corpus.table.characters[held_out].sum())
    num_bytes = int(corpus.table.utf8_bytes[held_out].sum())
    count = int(held_out.sum())
    description = (
        f"trained on {counted(corpus.documents - count, 'document')} "
        f"({counted(corpus.characters - characters, 'character')}), "
        f"validated on {count:,} chosen by content hash ({counted(characters, 'character')})"
    )
    return _make(corpus, _Choice(held_out), characters, num_bytes, description)


def _by_cut(corpus: Corpus) -> Split:
    is_small = corpus.utf8_bytes <= CUT_BY_SHARE_BYTES
    character, training_bytes = _cut_at_nine_tenths(corpus) if is_small else _cut_before_last_bytes(corpus)
    characters = corpus.characters - character
    description = f"trained on the first {counted(character, 'character')}, validated on the last {characters:,}"
    return _make(corpus, _Cut(character), characters, corpus.utf8_bytes - training_bytes, description)


def _cut_at_nine_tenths(corpus: Corpus) -> tuple[int, int]:
    """Return the cut as a character and as a byte of UTF-8."""
    character = corpus.characters * 9 // 10
    return character, sum(len(piece.text.encode()) for piece in _Cut(character).training(corpus.pieces()))


def _cut_before_last_bytes(corpus: Corpus) -> tuple[int, int]:
    """Return the first cut that leaves at most the largest validation part, as a character and as a byte of UTF-8."""
    target = corpus.utf8_bytes - LARGEST_VALIDATION_BYTES
    character, num_bytes = 0, 0
    for piece in corpus.pieces():
        encoded = piece.text.encode()
        if num_bytes + len(encoded) >= target:
            offset = target - num_bytes
            while offset < len(encoded) and encoded[offset] & 0xC0 == 0x80:  # inside a character
                offset += 1
            return character + len(encoded[:offset].decode()), num_bytes + offset
        character += len(piece.text)
        num_bytes += len(encoded)
    raise AssertionError("the corpus is shorter than its table says")


def _make(corpus: Corpus, division: _Cut | _Choice, characters: int, num_bytes: int, description: str) -> Split:
    """Return the split whose validation part has the given sizes."""
    return Split(
        corpus=corpus,
        division=division,
        description=description,
        fingerprint=hashlib.sha256(f"{_RULE} {corpus.fingerprint}".encode()).hexdigest(),
        has_documents=corpus.documents > 1,
        training_characters=corpus.characters - characters,
        training_bytes=corpus.utf8_bytes - num_bytes,
        validation_characters=characters,
        validation_bytes=num_bytes,
    )
