"""Baselines: how well mere counting predicts a text, to stand beside the loss of every trained model."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64, Int32, Int64, UInt64

Rows = Int64[np.ndarray, " N"]


@dataclass(frozen=True, slots=True)
class Baseline:
    """How well one n-gram model predicts the validation text, by the same rule as a trained model's loss.

    Args:
        bits_per_byte: None where the tokenizer is lossy.
    """

    name: str
    nats_per_token: float
    bits_per_byte: float | None


def baselines(
    training: Int32[np.ndarray, " N"],
    validation: Int32[np.ndarray, " M"],
    vocabulary_size: int,
    byte_lengths: Int32[np.ndarray, " V"] | None,
    orders: Sequence[int] = (1, 2, 5),
) -> list[Baseline]:
    """Score the validation tokens with n-gram models counted on the training tokens.

    Every validation token but the first is scored once, given those before it in the validation text.

    Args:
        training: at least one token; each needs about 30 bytes of memory, more where most n-grams are different.
        validation: at least two tokens.
        byte_lengths: how many bytes each id stands for; None for a lossy tokenizer.
        orders: the n of each model: 1 sees no context, 2 sees one token, and so on.
    """
    counts = count_ngrams(training, vocabulary_size, max(orders))
    targets = validation[1:]
    num_bytes = 0 if byte_lengths is None else int(byte_lengths[targets].sum(dtype=np.int64))
    scored = []
    for order in orders:
        model = NgramModel(counts[:order], vocabulary_size)
        nats = 0.0 - float(np.log(model.probabilities(validation)[1:]).sum())  # a minus alone would make -0.0
        name = {1: "unigram", 2: "bigram"}.get(order, f"{order}-gram")
        bits_per_byte = nats / math.log(2) / num_bytes if num_bytes else None
        scored.append(Baseline(name, nats / len(targets), bits_per_byte))
    return scored


@dataclass(frozen=True, slots=True)
class Counts:
    """The different n-grams of one length in a text, sorted by context and then by last token.

    The context of an n-gram is its first n-1 tokens, its suffix the last n-1; both are named by their row among the
    (n-1)-grams, of which there is one for n = 1, the empty one.

    Args:
        keys: (row of the context) * V + (last token), rising.
        suffixes: row of the suffix.
        occurrences: how often each n-gram occurs.
    """

    keys: Rows
    suffixes: Int32[np.ndarray, " N"]
    occurrences: Rows


def count_ngrams(tokens: Int32[np.ndarray, " N"], vocabulary_size: int, longest: int) -> list[Counts]:
    """Count the n-grams of a text for n = 1 to `longest` (no further than the text is long).

    Each length takes one sort of 64-bit words, which hold an n-gram's key and, below it, the place where it ends.
    """
    counts = []
    rows = np.zeros(len(tokens) + 1, np.int32)  # for each place: of the n-gram that ends there, the empty one at first
    for n in range(1, min(longest, len(tokens)) + 1):
        words, place_bits = _sorted_words(rows[:-1], tokens[n - 1 :], vocabulary_size)
        places = words.astype(np.uint32) & (2**place_bits - 1)
        words >>= place_bits
        is_new = np.ones(len(words), bool)
        np.not_equal(words[1:], words[:-1], out=is_new[1:])
        firsts = np.flatnonzero(is_new)
        keys = words[firsts].astype(np.int64)
        del words
        suffixes = rows[1:][places[firsts]]
        counts.append(Counts(keys, suffixes, np.diff(firsts, append=len(places))))
        rows = np.empty(len(places), np.int32)
        rows[places] = np.cumsum(is_new, dtype=np.int32) - 1
    return counts


def _sorted_words(
    contexts: Int32[np.ndarray, " N"], last_tokens: Int32[np.ndarray, " N"], vocabulary_size: int
) -> tuple[UInt64[np.ndarray, " N"], int]:
    """Return the sorted words of `count_ngrams` and how many of their low bits hold the place."""
    place_bits = len(contexts).bit_length()
    assert (len(contexts) * vocabulary_size) << place_bits < 2**64, "too many tokens to be counted at once"
    words = contexts.astype(np.uint64)
    words *= vocabulary_size
    words += last_tokens.astype(np.uint64)
    words <<= place_bits
    words |= np.arange(len(words), dtype=np.uint64)
    words.sort()
    return words, place_bits


class NgramModel:
    """Predict the next token from the last n-1 by interpolated, modified Kneser-Ney smoothing.

    P_n(w | h) = (a(hw) - D(a(hw)) + held(h) P_(n-1)(w | h')) / a(h), where h' is h without its oldest token, a(h) and
    held(h) are the sums of a(hw) and of D(a(hw)) over all w, and P_0 = 1/V. For the longest n-grams a counts how often
    hw occurs, for shorter ones how many different tokens stand before it. A context that never occurs leaves P_(n-1).
    Source: Chen and Goodman 1999, "An empirical study of smoothing techniques for language modeling", section 3.
    Departs: each discount is kept between D(1) and its count, and one is added to the numbers that they are estimated
    from, so that every token has a chance in every text, however short or repetitive.

    Args:
        counts: those of lengths 1 to n, in this order.
    """

    def __init__(self, counts: Sequence[Counts], vocabulary_size: int) -> None:
        self.vocabulary_size = vocabulary_size
        self._levels: list[_Level] = []
        num_contexts = 1
        for place, level in enumerate(counts):
            if place == len(counts) - 1:
                amounts = level.occurrences
            else:
                amounts = np.bincount(counts[place + 1].suffixes, minlength=len(level.keys))
            contexts = level.keys // vocabulary_size
            self._levels.append(_Level.estimate(level.keys, amounts, contexts, num_contexts))
            num_contexts = len(level.keys)

    def probabilities(self, tokens: Int32[np.ndarray, " N"]) -> Float64[np.ndarray, " N"]:
        """Return the probability of each token, given those before it."""
        likely = np.full(len(tokens), 1 / self.vocabulary_size)
        contexts = np.zeros(len(tokens), np.int64)
        for level in self._levels:
            rows = _find(level.keys, contexts * self.vocabulary_size + tokens)
            totals = level.totals[contexts]
            mixed = level.kept(rows) + level.held[contexts] * likely
            np.divide(mixed, totals, out=likely, where=totals > 0)
            contexts = np.concatenate([[-1], rows[:-1]])
        return likely

    def distribution(self, context: Sequence[int]) -> Float64[np.ndarray, " V"]:
        """Return the probability of every next token after `context`, of which the last n-1 tokens count."""
        likely = np.full(self.vocabulary_size, 1 / self.vocabulary_size)
        for length, level in enumerate(self._levels[: len(context) + 1]):
            row = self._row(context[len(context) - length :])
            if level.totals[row] > 0:
                first_key = row * self.vocabulary_size
                start, stop = np.searchsorted(level.keys, [first_key, first_key + self.vocabulary_size])
                likely *= level.held[row]
                likely[level.keys[start:stop] - first_key] += level.kept(np.arange(start, stop))
                likely /= level.totals[row]
        return likely

    def _row(self, ngram: Sequence[int]) -> int:
        """Return the row of an n-gram among those of its length, -1 where it never occurs."""
        row = 0
        for level, token in zip(self._levels, ngram, strict=False):
            row = int(_find(level.keys, np.array([row * self.vocabulary_size + token]))[0])
        return row


@dataclass(frozen=True, slots=True)
class _Level:
    """What a model knows of n-grams of one length: a, D, a(h) and held(h) of its equation.

    Totals and held have one more entry than there are contexts, a zero, which the row -1 of an unknown context finds.
    """

    keys: Rows
    amounts: Rows
    discounts: Float64[np.ndarray, " 4"]
    totals: Float64[np.ndarray, " S"]
    held: Float64[np.ndarray, " S"]

    @classmethod
    def estimate(cls, keys: Rows, amounts: Rows, contexts: Rows, num_contexts: int) -> _Level:
        discounts = _discounts(amounts)
        held = np.bincount(contexts, discounts[np.minimum(amounts, 3)], num_contexts + 1)
        return cls(keys, amounts, discounts, np.bincount(contexts, amounts, num_contexts + 1), held)

    def kept(self, rows: Int64[np.ndarray, " Q"]) -> Float64[np.ndarray, " Q"]:
        """Return a - D(a) of the n-grams in these rows, 0 for row -1."""
        amounts = np.where(rows >= 0, self.amounts[rows], 0)
        kept: Float64[np.ndarray, " Q"] = amounts - self.discounts[np.minimum(amounts, 3)]
        return kept


def _discounts(amounts: Rows) -> Float64[np.ndarray, " 4"]:
    """Estimate what to take off an amount of 0, 1, 2, and 3 or more."""
    ones, twos, threes, fours = ((amounts == value).sum() + 1 for value in (1, 2, 3, 4))
    first = ones / (ones + 2 * twos)
    second = np.clip(2 - 3 * first * threes / twos, first, 2)
    third = np.clip(3 - 4 * first * fours / threes, first, 3)
    return np.array([0, first, second, third])


def _find(keys: Rows, wanted: Int64[np.ndarray, " Q"]) -> Int64[np.ndarray, " Q"]:
    """Return the row of each wanted key, -1 where there is none."""
    rows = np.searchsorted(keys, wanted)
    rows[rows == len(keys)] = 0
    return np.where(keys[rows] == wanted, rows, -1)
