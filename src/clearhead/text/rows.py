"""Texts of different lengths as ids: kept end to end, padded row by row, and ordered so that padding is little."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Int32, Int64

from clearhead.text.batches import permuted, random_words

PADDING = 0
"""What fills a row up. Any id would do: whoever reads rows is told their lengths and looks no further."""

BATCHES_SORTED_TOGETHER = 32
"""Rows of so many batches are sorted by length before they are cut: more leave less padding and less chance."""


@dataclass(frozen=True, slots=True, eq=False)
class Rows:
    """Sequences of ids, end to end.

    Args:
        starts: where each begins, and where the last one ends.
    """

    ids: Int32[np.ndarray, " _"]
    starts: Int64[np.ndarray, " _"]

    @classmethod
    def of(cls, sequences: Iterable[Int32[np.ndarray, " _"]]) -> Rows:
        """Join sequences."""
        kept = list(sequences)
        starts = np.cumsum([0, *(len(ids) for ids in kept)], dtype=np.int64)
        return cls(np.concatenate([np.empty(0, np.int32), *kept]), starts)

    def __len__(self) -> int:
        return len(self.starts) - 1

    @property
    def lengths(self) -> Int64[np.ndarray, " N"]:
        """How many ids each row has."""
        return np.diff(self.starts)

    def take(self, chosen: Int64[np.ndarray, " _"]) -> Rows:
        """Return some of the rows."""
        return Rows.of(self.ids[self.starts[row] : self.starts[row + 1]] for row in chosen)

    def padded(self, chosen: Int64[np.ndarray, " B"]) -> tuple[Int32[np.ndarray, "B T"], Int64[np.ndarray, " B"]]:
        """Return the chosen rows, filled up at their ends to the longest of them, and their lengths."""
        lengths = self.lengths[chosen]
        places = np.arange(int(lengths.max()))
        inside = places < lengths[:, None]
        positions = np.where(inside, self.starts[chosen][:, None] + places, 0)
        return np.where(inside, self.ids[positions], np.int32(PADDING)), lengths


@dataclass(frozen=True, kw_only=True, eq=False)
class RowOrder:
    """Which rows each step takes: every row once an epoch, rows of similar length together, by the seed alone.

    The rows of an epoch are shuffled; those of each 32 batches are sorted by length and cut into batches; the batches
    are shuffled. Batches differ by at most one row, so that an epoch leaves no rest.
    """

    lengths: Int64[np.ndarray, " N"]
    rows_per_step: int
    seed: int
    _cut: dict[int, list[Int64[np.ndarray, " _"]]] = field(default_factory=dict, init=False, repr=False)

    @property
    def steps_per_epoch(self) -> int:
        """How many steps see each row once."""
        return -(-len(self.lengths) // self.rows_per_step)

    def __call__(self, step: int) -> Int64[np.ndarray, " B"]:
        """Return the step's rows."""
        epoch, index = divmod(step, self.steps_per_epoch)
        if epoch not in self._cut:
            self._cut.clear()  # one epoch is enough to remember
            self._cut[epoch] = self._batches(epoch)
        return self._cut[epoch][index]

    def _batches(self, epoch: int) -> list[Int64[np.ndarray, " _"]]:
        shuffled = self._shuffled("row", epoch, len(self.lengths))
        batches = np.array_split(shuffled, self.steps_per_epoch)
        sorted_batches = []
        for first in range(0, len(batches), BATCHES_SORTED_TOGETHER):
            group = batches[first : first + BATCHES_SORTED_TOGETHER]
            rows = np.concatenate(group)
            rows = rows[np.argsort(self.lengths[rows], kind="stable")]
            sorted_batches += np.split(rows, np.cumsum([len(batch) for batch in group])[:-1])
        return [sorted_batches[place] for place in self._shuffled("batch", epoch, len(batches))]

    def _shuffled(self, purpose: str, epoch: int, size: int) -> Int64[np.ndarray, " _"]:
        key = random_words(self.seed, purpose, np.array([epoch], dtype=np.uint64))
        return permuted(np.arange(size, dtype=np.uint64), np.repeat(key, size), size).astype(np.int64)
