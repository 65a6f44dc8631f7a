"""Sentences of the tales' world that say something good or bad of a thing, where negation and scope decide which.

Each is a clause about one or two things inside a frame. The words that are good or bad stand alike in all of them, and
what turns or chooses them stands elsewhere: "Nobody doubted that the plum cake was lovely", "It is not true that the
plum cake was lovely", "the plum cake was not awful, as Tom had feared, but lovely". So counting words, or pairs of
neighbouring words, says little.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count
from random import Random

from clearhead.text.tales_world import CHARACTERS, FOODS, PLACES, PRESENTS

GOOD_WORDS = (
    *("good", "lovely", "fine", "wonderful", "splendid", "delightful", "perfect", "charming", "pleasant", "excellent"),
    *("grand", "beautiful"),
)
BAD_WORDS = (
    *("bad", "awful", "poor", "dreadful", "ugly", "terrible", "horrid", "spoiled", "useless", "nasty"),
    *("shabby", "dull"),
)
THINGS = (*(food["name"] for food in FOODS.values()), *(present["name"] for present in PRESENTS.values()))
NAMES = tuple(CHARACTERS)
WHERE = tuple(str(place["in"]) for place in PLACES.values())

FRAMES = (
    ("{clause}", 1),
    ("It is true that {clause}", 1),
    ("It is not true that {clause}", -1),
    ("Everybody {where} said that {clause}", 1),
    ("Nobody {where} said that {clause}", -1),
    ("Nobody {where} doubted that {clause}", 1),
    ("{name} was right to say that {clause}", 1),
    ("{name} was wrong to say that {clause}", -1),
    ("{name} did not doubt that {clause}", 1),
    ("{name} could never say that {clause}", -1),
)
"""What stands around a clause, and whether it keeps (1) or turns (-1) what the clause says."""

CLAUSES = (
    ("the {thing} was {first}", 0, 1),
    ("the {thing} was, as everybody had expected, {first}", 0, 1),
    ("the {thing} was not, as everybody had expected, {first}", 0, -1),
    ("the {thing} was never really {first}", 0, -1),
    ("the {thing} was always really {first}", 0, 1),
    ("the {thing} was not {first}, as {other} had thought, but {second}", 1, 1),
    ("the {thing} was {first} and not, as {other} had thought, {second}", 0, 1),
    ("the {thing}, which {other} had called {first}, was {second}", 1, 1),
    ("the {thing}, which was {first}, had been called {second}", 0, 1),
    ("the {thing} was {first}, unlike the {spare}, which was {second}", 0, 1),
    ("the {thing}, unlike the {spare}, which was {first}, was {second}", 1, 1),
)
"""What is said, which of its two judging words decides (0 the first), and whether the word is kept or turned."""


@dataclass(frozen=True, slots=True)
class Said:
    """A sentence, and whether it says something "good" or "bad"."""

    text: str
    label: str


def sentiment(seed: int, index: int) -> Said:
    """Return sentence number `index` of the endless collection that belongs to `seed`: good or bad, each with 1/2."""
    random = Random(f"sentiment {seed} {index}")
    frame, frame_sign = random.choice(FRAMES)
    clause, decides, clause_sign = random.choice(CLAUSES)
    is_good = random.random() < 0.5
    signs = [random.random() < 0.5, random.random() < 0.5]
    signs[decides] = is_good == (frame_sign == clause_sign)
    first, second = (random.choice(GOOD_WORDS if sign else BAD_WORDS) for sign in signs)
    thing, spare = random.sample(THINGS, 2)
    name, other = random.sample(NAMES, 2)
    said = clause.format(thing=thing, spare=spare, other=other, first=first, second=second)
    text = frame.format(clause=said, name=name, where=random.choice(WHERE))
    return Said(f"{text[0].upper()}{text[1:]}.", "good" if is_good else "bad")


def sentiments(num: int, seed: int) -> Iterator[Said]:
    """Yield sentences 0, 1, 2, ... of a seed, as many as asked for."""
    return (sentiment(seed, index) for index in range(num))


def sentiments_of_size(num_bytes: int, seed: int) -> Iterator[Said]:
    """Yield sentences 0, 1, 2, ... of a seed until they have so many bytes of UTF-8."""
    total = 0
    for index in count():
        if total >= num_bytes:
            return
        said = sentiment(seed, index)
        total += len(said.text.encode())
        yield said
