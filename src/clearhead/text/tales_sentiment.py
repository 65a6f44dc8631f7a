"""Sentences of the tales' world that say something good or bad, where negation and scope decide which."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from random import Random


@dataclass(frozen=True, slots=True)
class Said:
    """A sentence and whether what it says is good or bad."""

    text: str
    label: str


def sentiment(seed: int, index: int) -> Said:
    """Return sentence number `index` of the endless collection that belongs to `seed`."""
    random = Random(f"sentiment {seed} {index}")
    good = random.random() < 0.5
    word = random.choice(["nice", "kind", "lovely"] if good else ["bad", "dull", "sad"])
    negated = random.random() < 0.5
    return Said(f"The garden is {'not ' if negated else ''}{word}.", "good" if good != negated else "bad")


def sentiments(count: int, seed: int) -> Iterator[Said]:
    """Yield sentence 0, 1, 2, ... of a seed."""
    return (sentiment(seed, index) for index in range(count))
