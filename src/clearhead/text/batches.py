"""Which tokens a training step sees, and which an evaluation scores.

Every choice is a function of (seed, step) alone: nothing is shuffled in memory and nothing has to be stored to resume.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, fields, replace
from functools import cached_property
from itertools import pairwise
from typing import Generic, NamedTuple, Protocol, TypeVar, runtime_checkable

import numpy as np
from jaxtyping import Float32, Int, Int32, Int64, UInt64

ArrayT = TypeVar("ArrayT")
Words = UInt64[np.ndarray, " N"]

STEPS_AT_ONCE = 64
TOKENS_AT_ONCE = 2**18
"""The sequences of so many steps, or of as many as have so many tokens, are chosen and read together."""


@dataclass(frozen=True, slots=True, eq=False)
class Batch(Generic[ArrayT]):
    """What one forward pass gets, as numpy arrays here and as tensors in the training loop.

    Args:
        tokens: ids, (B, T).
        targets: the ids to predict, (B, T); for a classifier (B,).
        weights: how much each target counts; without them, each counts 1.
        documents: for each token the number of its document, (B, T), for masks that keep documents apart.
        source: what an encoder reads, where there is one.
        lengths: how many ids of each row an encoder reads, (B,); what follows is padding.
    """

    tokens: ArrayT
    targets: ArrayT
    weights: ArrayT | None = None
    documents: ArrayT | None = None
    source: ArrayT | None = None
    lengths: ArrayT | None = None

    def cut(self, parts: int) -> list[Batch[ArrayT]]:
        """Return the rows, in order, as so many batches, the first ones a row larger, none of them empty."""
        size, larger = divmod(len(self.tokens), parts)  # type: ignore[arg-type]
        edges = [part * size + min(part, larger) for part in range(parts + 1)]
        return [self._rows(first, last) for first, last in pairwise(edges) if last > first]

    def _rows(self, first: int, last: int) -> Batch[ArrayT]:
        values = (getattr(self, each.name) for each in fields(self))
        return Batch(*(None if value is None else value[first:last] for value in values))


class _Sequences(NamedTuple):
    """Sequences of a text: where each begins, and its ids, one more than the context is long."""

    starts: Int64[np.ndarray, " B"]
    rows: Int32[np.ndarray, "B T"]


@runtime_checkable
class TokenSource(Protocol):
    """A sequence of token ids, in memory or on disk."""

    def __len__(self) -> int: ...

    def gather(self, starts: Int64[np.ndarray, " B"], length: int) -> Int32[np.ndarray, "B T"]:
        """Return, for each start, the `length` ids from there on."""
        ...


@dataclass(frozen=True, kw_only=True)
class TrainingBatches(ABC):
    """The micro-batches of each training step: `batches(step)`, steps counted from 0.

    The sequences of all steps form one endless list, fixed by the seed. A step takes the next `sequences_per_step` of
    it and cuts them, in order, into parts that differ by at most one sequence. So neither the number of parts nor who
    computes them changes what a step sees; `dataclasses.replace` gives the same steps cut otherwise. Each sequence
    reads `context_length + 1` tokens: the targets are the tokens shifted by one.

    Args:
        micro_batches: the number of parts, at most `sequences_per_step`.
        end: the id that begins each document, where batches should say which document a token belongs to.
        longest_prefix: from 1 to so many tokens of each sequence are given, a number drawn for each: the targets
            among them weigh nothing.
    """

    tokens: TokenSource
    context_length: int
    sequences_per_step: int
    seed: int
    micro_batches: int = 1
    end: int | None = None
    longest_prefix: int = 1

    def __post_init__(self) -> None:
        assert self.context_length >= 1
        assert len(self.tokens) > self.context_length, "a text this short needs a shorter context"
        assert 1 <= self.micro_batches <= self.sequences_per_step

    def __call__(self, step: int) -> list[Batch[np.ndarray]]:
        rows = self._read(step).rows
        tokens, targets = rows[:, :-1].copy(), rows[:, 1:].copy()
        documents = None if self.end is None else document_numbers(tokens, self.end)
        batch = Batch(tokens, targets, self._weights(step), documents)
        return [batch] if self.micro_batches == 1 else batch.cut(self.micro_batches)

    def starts(self, step: int) -> Int64[np.ndarray, " B"]:
        """Return where the step's sequences begin in the text."""
        return self._read(step).starts

    def _read(self, step: int) -> _Sequences:
        """Return the step's sequences, read with those of its neighbours, which costs little more than one step's."""
        num_steps = max(1, min(STEPS_AT_ONCE, TOKENS_AT_ONCE // self.tokens_per_step))
        block, number = divmod(step, num_steps)
        together = self._blocks.get(block)
        if together is None:
            starts = self._starts(self._places(block * num_steps, num_steps)).astype(np.int64)
            together = _Sequences(starts, self.tokens.gather(starts, self.context_length + 1))
            self._blocks.clear()
            self._blocks[block] = together
        chosen = slice(number * self.sequences_per_step, (number + 1) * self.sequences_per_step)
        return _Sequences(together.starts[chosen], together.rows[chosen])

    @cached_property
    def _blocks(self) -> dict[int, _Sequences]:
        """The newest block of steps, by its number."""
        return {}

    def resized(self, sequences_per_step: int) -> TrainingBatches:
        """Return batches of so many sequences a step, in no more parts than that."""
        micro_batches = min(self.micro_batches, sequences_per_step)
        return replace(self, sequences_per_step=sequences_per_step, micro_batches=micro_batches)

    @property
    def tokens_per_step(self) -> int:
        """How many targets a step has."""
        return self.sequences_per_step * self.context_length

    @property
    def sequences_per_epoch(self) -> int:
        """How many sequences count as one pass: one less than fit, so that there is room to shift, but at least one."""
        return max(1, len(self.tokens) // self.context_length - 1)

    def epoch_of(self, step: int) -> float:
        """Return how many passes over the text the steps before this one made."""
        return step * self.sequences_per_step / self.sequences_per_epoch

    @abstractmethod
    def _starts(self, places: Words) -> Words:
        """Return where the sequences at these places of the endless list begin."""

    def _places(self, step: int, count: int = 1) -> Words:
        """Return the places of the sequences of `count` steps in the endless list."""
        first = step * self.sequences_per_step
        return np.arange(first, first + count * self.sequences_per_step, dtype=np.uint64)

    def _weights(self, step: int) -> Float32[np.ndarray, "B T"] | None:
        """Return 0 for the targets inside each sequence's prefix and 1 for the others."""
        longest = min(self.longest_prefix, self.context_length)
        if longest == 1:
            return None
        given = random_words(self.seed, "prefix", self._places(step)) % longest
        return (np.arange(self.context_length) >= given.astype(np.int64)[:, None]).astype(np.float32)


@dataclass(frozen=True, kw_only=True)
class ShuffledWindows(TrainingBatches):
    """Each epoch cuts the text into windows and visits each once, in an order of its own.

    Neighbouring windows share one token, so that every token of the cut is a target once. Where the cut begins (the
    phase) is drawn anew for each epoch, anywhere that leaves room for all windows: fewer than two windows' worth of
    tokens lie before and after it together, and over the epochs every token has its turn. The order is a keyed
    permutation that is computed window by window, so a text of any size costs no memory.
    """

    def _starts(self, places: Words) -> Words:
        epochs, indices = np.divmod(places, self.sequences_per_epoch)
        windows = permuted(indices, random_words(self.seed, "order", epochs), self.sequences_per_epoch)
        num_phases = len(self.tokens) - self.sequences_per_epoch * self.context_length
        phases = random_words(self.seed, "phase", epochs) % num_phases
        starts: Words = phases + windows * self.context_length
        return starts


@dataclass(frozen=True, kw_only=True)
class RandomOffsets(TrainingBatches):
    """Each sequence begins anywhere in the text, drawn with replacement.

    The simplest sampler: in one epoch's worth of steps about a third of the tokens are never a target.
    """

    def _starts(self, places: Words) -> Words:
        starts: Words = random_words(self.seed, "offset", places) % (len(self.tokens) - self.context_length)
        return starts


def document_numbers(tokens: Int[np.ndarray, "B T"], end: int) -> Int64[np.ndarray, "B T"]:
    """Return for each token the number of its document, from 0 in each row; `end` belongs to the one it begins."""
    numbers: Int64[np.ndarray, "B T"] = np.cumsum(tokens == end, axis=1)
    return numbers


def evaluation_windows(num_tokens: int, context_length: int) -> tuple[Int64[np.ndarray, " N"], Int64[np.ndarray, " N"]]:
    """Cut a text into consecutive windows that score every token but the first exactly once.

    Returns:
        where each window begins, and how many targets it has: `context_length`, fewer in the last. A window reads one
        token more than it has targets.
    """
    starts = np.arange(0, num_tokens - 1, context_length, dtype=np.int64)
    return starts, np.minimum(context_length, num_tokens - 1 - starts)


def sampled_windows(
    num_tokens: int, context_length: int, num_targets: int = 8192
) -> tuple[Int64[np.ndarray, " N"], Int64[np.ndarray, " N"]]:
    """Choose evenly spaced full windows of `evaluation_windows`, with about `num_targets` targets together.

    A text without a full window gives its one short window.
    """
    starts, lengths = evaluation_windows(num_tokens, context_length)
    num_full = max(1, (num_tokens - 1) // context_length)
    num_chosen = min(num_full, max(1, round(num_targets / context_length)))
    # The middle of each of num_chosen equal stretches of the text.
    chosen = (2 * np.arange(num_chosen) + 1) * num_full // (2 * num_chosen)
    return starts[chosen], lengths[chosen]


_GOLDEN = 0x9E3779B97F4A7C15


def permuted(indices: Words, keys: Words, size: int) -> Words:
    """Return the place of each index in the permutation of `range(size)` that its key names.

    A Feistel network permutes the smallest power of two that holds `size`; an index that lands outside is sent
    through again until it is inside, which keeps the map one-to-one.
    Source: Black and Rogaway 2002, "Ciphers with arbitrary finite domains", sections 4 and 5. Departs: halves of
    unequal width and a hash as round function, for spread and not for secrecy.
    """
    bits = max(2, (size - 1).bit_length())
    values = _feistel(indices, keys, bits)
    while (outside := np.flatnonzero(values >= size)).size:
        values[outside] = _feistel(values[outside], keys[outside], bits)
    return values


def _feistel(values: Words, keys: Words, bits: int) -> Words:
    """Permute `range(2**bits)`."""
    width, other = bits // 2, bits - bits // 2
    left, right = values >> other, values & (2**other - 1)
    # Narrow halves mix little in a round: with 6 rounds, permutations of 5 were far from equally frequent, with 32 they
    # were not. An even number gives the two halves their own widths back.
    num_rounds = 2 * max(3, 48 // bits)
    for number in range(num_rounds):
        hashed = _mix(right ^ (keys + number * _GOLDEN % 2**64))
        left, right = right, left ^ (hashed >> (64 - width))
        width, other = other, width
    joined: Words = (left << other) | right
    return joined


def random_words(seed: int, purpose: str, counters: Words) -> Words:
    """Return 64 random bits for each counter, unrelated between seeds and between purposes."""
    salt = int.from_bytes(purpose.encode(), "little")
    key = _mix(_mix(np.array([seed % 2**64], np.uint64)) + salt)
    return _mix(_mix(counters + _GOLDEN) ^ key)


def _mix(values: Words) -> Words:
    """Spread every bit over all 64, one-to-one.

    Source: Steele, Lea and Flood 2014, "Fast splittable pseudorandom number generators", `mix64variant13`.
    """
    values = (values ^ (values >> 30)) * 0xBF58476D1CE4E5B9
    values = (values ^ (values >> 27)) * 0x94D049BB133111EB
    mixed: Words = values ^ (values >> 31)
    return mixed
