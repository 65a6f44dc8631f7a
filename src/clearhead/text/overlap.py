"""Where a text repeats the training text: leaks in the validation part, copies in a sample.

Texts are compared with case and white space folded: a character becomes its folded form (where that is one character,
so "ß" stays) and a run of white space becomes one space. A stretch is any `length` folded characters in a row.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache

import numpy as np
from jaxtyping import Bool, Int64, UInt32, UInt64

Places = Int64[np.ndarray, " N"]


@dataclass(frozen=True, slots=True)
class Overlap:
    """How much of the validation text also stands in the training text.

    Args:
        share: of the folded validation characters, those inside a stretch that also occurs in training.
        longest: the three longest different runs of such stretches, fewer where there are no three, as the validation
            text spells them. Each stretch in a run occurs in training, and in natural text the run as a whole.
        characters: how many folded validation characters there are.
    """

    share: float
    longest: tuple[str, ...]
    characters: int


@dataclass(frozen=True, slots=True)
class Copy:
    """A part of a text that also stands in the training text and cannot be made longer on either side.

    Args:
        start: where it begins, in characters of the text as it was given.
        length: how many of these it has.
        source_offset: where it begins in the training text, in characters as they were given.
    """

    start: int
    length: int
    source_offset: int


def overlap(training: Iterable[str], validation: Iterable[str], length: int = 50) -> Overlap:
    """Find what of the validation text also stands in the training text, in one pass over the latter.

    Memory holds the validation text and one block of the training text. Hashes only nominate: every stretch that counts
    was compared character by character.
    """
    text = "".join(validation)
    index = _Index(text, length)
    found = np.zeros(index.num_kinds, bool)
    for block in _blocks(training, length):
        places, kinds = index.nominated(block.codes)
        news = np.flatnonzero(~found[kinds])
        places, kinds = places[news], kinds[news]
        found[kinds[index.confirmed(block.codes, places, kinds)]] = True
    repeated = index.is_kind(found)
    # +1 where a stretch begins and -1 behind its end: the sum is above 0 inside one.
    steps = np.zeros(len(index.folded.codes) + 1, np.int64)
    steps[:-length][: len(repeated)] += repeated
    steps[length:][: len(repeated)] -= repeated
    covered = int((np.cumsum(steps) > 0).sum())
    characters = len(index.folded.codes)
    return Overlap(covered / max(1, characters), _longest_runs(text, index.folded, repeated, length), characters)


def copies(training: Iterable[str], text: str, length: int = 50) -> list[Copy]:
    """Find where a text, such as a sample, repeats the training text, in one pass over the latter.

    Returns:
        every copy that lies within no other, in the order of the text; they may share characters. Of equal places in
        the training text the first is named.
    """
    index = _Index(text, length)
    size = len(index.kinds)
    # For each stretch of the text: how many in a row, up to this one, agree with those up to the current place of the
    # training text, and where there the streak began. Shifted by one, so that the first has a neighbour before it.
    streaks, origins = np.zeros(size + 1, np.int64), np.zeros(size + 1, np.int64)
    best_streaks, best_origins = np.zeros(size, np.int64), np.zeros(size, np.int64)
    previous = -1
    for place, offset, kind in _matches(index, training, length):
        here = index.members(kind)
        if place != previous + 1:
            streaks[:] = 0
        grown = streaks[here] + 1
        began = np.where(grown > 1, origins[here], offset)
        streaks[:] = 0
        streaks[here + 1], origins[here + 1] = grown, began
        better = here[grown > best_streaks[here]]
        best_streaks[better], best_origins[better] = streaks[better + 1], origins[better + 1]
        previous = place
    # A copy ends where the best streak up to the next stretch is not this one made longer.
    lasts = np.flatnonzero((best_streaks > 0) & (np.append(best_streaks[1:], 0) <= best_streaks))
    starts = index.folded.offsets[lasts - best_streaks[lasts] + 1]
    ends = index.folded.offsets[lasts + length - 1] + 1
    triples = zip(starts.tolist(), (ends - starts).tolist(), best_origins[lasts].tolist(), strict=True)
    return [Copy(*triple) for triple in triples]


def _matches(index: _Index, training: Iterable[str], length: int) -> Iterator[tuple[int, int, int]]:
    """Yield each stretch of the training text that the index holds: its folded place, its offset, its kind."""
    for block in _blocks(training, length):
        places, kinds = index.nominated(block.codes)
        agree = index.confirmed(block.codes, places, kinds)
        places, kinds = places[agree], kinds[agree]
        folded_places, offsets = places + block.num_before, block.offsets[places]
        yield from zip(folded_places.tolist(), offsets.tolist(), kinds.tolist(), strict=True)


def _longest_runs(
    text: str, folded: _Folded, repeated: Bool[np.ndarray, " N"], length: int, num_shown: int = 3
) -> tuple[str, ...]:
    borders = np.flatnonzero(np.diff(repeated, prepend=False, append=False))
    starts, stops = borders[::2], borders[1::2]
    shown: dict[str, None] = {}
    for run in np.argsort(starts - stops, kind="stable"):
        first, last = folded.offsets[starts[run]], folded.offsets[stops[run] + length - 2]
        shown[text[first : last + 1]] = None
        if len(shown) == num_shown:
            break
    return tuple(shown)


@dataclass(frozen=True, slots=True)
class _Folded:
    """The folded characters of a part of a text, where each stood in the text, and how many came before the part."""

    codes: UInt32[np.ndarray, " N"]
    offsets: Places
    num_before: int


class _Index:
    """The stretches of a text, to be looked up by content.

    Equal stretches are of one kind; kinds are numbered by their hash. A stretch that shares its hash with an earlier,
    different one is of kind -1 and never found.
    """

    def __init__(self, text: str, length: int) -> None:
        self.length = length
        codes, offsets = _fold(text, after_space=False)
        self.folded = _Folded(codes, offsets, 0)
        hashes = _hashes(codes, length)
        self._hashes, self._firsts, self.kinds = np.unique(hashes, return_index=True, return_inverse=True)
        self.num_kinds = len(self._hashes)
        same = self.confirmed(codes, np.arange(len(hashes)), self.kinds)
        self.kinds = np.where(same, self.kinds, -1)
        self._by_kind = np.argsort(self.kinds, kind="stable")
        self._bounds = np.searchsorted(self.kinds[self._by_kind], np.arange(self.num_kinds + 1))
        self._is_likely = np.zeros(2**_FILTER_BITS, bool)
        self._is_likely[hashes >> (64 - _FILTER_BITS)] = True

    def nominated(self, codes: UInt32[np.ndarray, " N"]) -> tuple[Int64[np.ndarray, " M"], Int64[np.ndarray, " M"]]:
        """Return where stretches of `codes` begin whose hash is in the index, and their presumed kinds."""
        hashes = _hashes(codes, self.length)
        places = np.flatnonzero(self._is_likely[hashes >> (64 - _FILTER_BITS)])
        kinds = np.searchsorted(self._hashes, hashes[places])
        kinds[kinds == self.num_kinds] = 0
        same = self._hashes[kinds] == hashes[places]
        return places[same], kinds[same]

    def confirmed(
        self, codes: UInt32[np.ndarray, " N"], places: Int64[np.ndarray, " M"], kinds: Int64[np.ndarray, " M"]
    ) -> Bool[np.ndarray, " M"]:
        """Say which stretches of `codes` truly have the characters of their presumed kind."""
        agree = np.ones(len(places), bool)
        representatives = self._firsts[kinds]
        for step in range(self.length):
            agree &= codes[places + step] == self.folded.codes[representatives + step]
        return agree

    def is_kind(self, chosen: Bool[np.ndarray, " K"]) -> Bool[np.ndarray, " N"]:
        """Say which stretches of the text are of a chosen kind."""
        return np.append(chosen, False)[self.kinds]

    def members(self, kind: int) -> Places:
        """Return where in the text the stretches of a kind begin."""
        return self._by_kind[self._bounds[kind] : self._bounds[kind + 1]]


_FILTER_BITS = 22  # a table of 4 MiB; the stretches of 256 KiB of text mark 6 % of it
_BLOCK_CHARACTERS = 2**18  # what is worked on at once stays near the processor
_SPACE = ord(" ")


def _blocks(pieces: Iterable[str], length: int) -> Iterator[_Folded]:
    """Fold a stream of text; each block begins with the last `length - 1` characters of the one before."""
    codes, offsets = np.empty(0, np.uint32), np.empty(0, np.int64)
    num_folded = num_read = 0
    after_space = False
    for text in _recut(pieces):
        new_codes, new_offsets = _fold(text, after_space)
        codes, offsets = np.concatenate([codes, new_codes]), np.concatenate([offsets, new_offsets + num_read])
        num_folded += len(new_codes)
        num_read += len(text)
        yield _Folded(codes, offsets, num_folded - len(codes))
        after_space = after_space if not len(new_codes) else bool(new_codes[-1] == _SPACE)
        num_kept = min(length - 1, len(codes))
        codes, offsets = codes[len(codes) - num_kept :], offsets[len(offsets) - num_kept :]


def _recut(pieces: Iterable[str]) -> Iterator[str]:
    """Join small pieces and cut large ones, so that neither many nor huge ones cost much."""
    waiting: list[str] = []
    num_waiting = 0
    for piece in pieces:
        waiting.append(piece)
        num_waiting += len(piece)
        if num_waiting >= _BLOCK_CHARACTERS:
            text = "".join(waiting)
            yield from (text[start : start + _BLOCK_CHARACTERS] for start in range(0, len(text), _BLOCK_CHARACTERS))
            waiting, num_waiting = [], 0
    yield "".join(waiting)


def _fold(text: str, after_space: bool) -> tuple[UInt32[np.ndarray, " N"], Places]:
    """Return the folded characters of a text and where each of them stands in it."""
    codes = _fold_table()[np.frombuffer(text.encode("utf-32-le", "surrogatepass"), np.uint32)]
    is_space = codes == _SPACE
    follows_space = np.concatenate([[after_space], is_space[:-1]])[: len(codes)]
    offsets = np.flatnonzero(~(is_space & follows_space))
    return codes[offsets], offsets


@cache
def _fold_table() -> UInt32[np.ndarray, " 1114112"]:
    """Return the folded form of every code point."""
    table = np.arange(0x110000, dtype=np.uint32)
    for code in range(0x1F000):  # Unicode has neither case nor white space above
        character = chr(code)
        folded = " " if character.isspace() else character.casefold()
        if len(folded) == 1:
            table[code] = ord(folded)
    return table


def _hashes(codes: UInt32[np.ndarray, " N"], length: int) -> UInt64[np.ndarray, " M"]:
    """Return the hash of every stretch of `length` codes.

    A polynomial in a fixed odd base modulo 2^64, put together by doubling: hash(uv) = hash(u) base^|v| + hash(v).
    """
    base = 0x9E3779B97F4A7C15
    num_stretches = max(0, len(codes) - length + 1)
    total = np.zeros(num_stretches, np.uint64)  # of the first `length - remaining` codes of each stretch
    doubled, size, power = codes.astype(np.uint64), 1, base  # of every `size` codes; power = base^size
    done = 0
    while True:
        if length & size:
            total = total * power + doubled[done : done + num_stretches]
            done += size
        if done == length:
            return total
        doubled = doubled[:-size] * power + doubled[size:]
        size, power = 2 * size, power * power % 2**64
