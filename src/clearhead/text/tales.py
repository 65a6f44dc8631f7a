"""Short children's stories from a small probabilistic program, so that their entropy is known exactly.

The program is `tales_world.WORLD`: names, and what may stand for each of them, written as templates.

    {thing}         writes the thing; if none is known yet, one is chosen from the table "thing" and remembered
    {thing.use}     writes the thing's use, another text that was stored with it; where there are several, one
                    is chosen and remembered as well
    [big|2*small|]  chooses a wording and forgets it: here small with probability 1/2, big and nothing with 1/4

A table is a template with alternatives, or a mapping from templates to what is stored with each. Facts that share a
table ("hero friend") never take the same entry: the friend is not the hero. A table whose one option is a bracket is
a wording with a name. So facts return sentences later and depend on each other, which no context-free grammar can
express.

The program is run in two ways by one machine, a `Telling`. To draw, one option of each choice is taken at random
and -log2 of its probability is added up. To read, every option is taken that agrees with the text. When exactly
one derivation of each tale is left, the bits added up while drawing are -log2 of the probability of the text.
"""

from __future__ import annotations

import re
from bisect import bisect
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from itertools import accumulate, count
from math import log2
from random import Random
from typing import TypeAlias

from clearhead.text.tales_world import WORLD, Table


@dataclass(frozen=True, slots=True)
class Tale:
    """A story and its information content: bits = -log2 of the probability that the program writes it."""

    text: str
    bits: float


@dataclass(frozen=True, slots=True)
class Slot:
    """A place in a template where a fact is written: `name` is all of "hero.friend", `field` only "friend"."""

    name: str
    owner: Slot | None
    field: str

    @classmethod
    def parse(cls, name: str) -> Slot:
        owner, _, field = name.rpartition(".")
        return cls(name, cls.parse(owner) if name else None, field)


@dataclass(frozen=True, slots=True, eq=False)
class Option:
    """What a choice may bring: a template, last part first, and the tables of what is stored with it."""

    parts: tuple[Part, ...]
    weight: int
    fields: Mapping[str, Choice]


@dataclass(frozen=True, slots=True, eq=False)
class Choice:
    """Options with their probabilities, and the names of the sibling facts that choose from the same table."""

    options: tuple[Option, ...]
    shared_by: tuple[str, ...]
    cumulative: tuple[float, ...]
    bits: tuple[float, ...]

    @classmethod
    def of(cls, options: Iterable[Option], shared_by: tuple[str, ...] = ()) -> Choice:
        options = tuple(options)
        sums = tuple(accumulate(option.weight for option in options))
        return cls(
            options,
            shared_by,
            cumulative=tuple(weight / sums[-1] for weight in sums),
            bits=tuple(log2(sums[-1] / option.weight) for option in options),
        )


Part: TypeAlias = str | Slot | Choice


@cache
def _without(choice: Choice, taken: tuple[Option, ...]) -> Choice:
    return Choice.of((option for option in choice.options if option not in taken), choice.shared_by)


@dataclass(slots=True)
class Telling:
    """A tale half told: the facts known, the parts still to be told (a stack), and what has been told."""

    facts: dict[str, Option]
    to_tell: list[Part]
    told: list[str] = field(default_factory=list)
    bits: float = 0.0
    asked: Slot | None = None

    def advance(self) -> Choice | None:
        """Tell on until something has to be chosen; None when the tale is over."""
        facts, to_tell, told = self.facts, self.to_tell, self.told
        while to_tell:
            part = to_tell.pop()
            if isinstance(part, str):
                told.append(part)
            elif isinstance(part, Choice):
                self.asked = None
                return part
            elif part.name in facts:
                to_tell += facts[part.name].parts
            else:
                to_tell.append(part)
                choice = self._ask(part)
                if len(choice.options) > 1:
                    return choice
                self.take(choice, 0)
        return None

    def _ask(self, slot: Slot) -> Choice:
        """Return the choice on which an unknown fact depends first: its own, or that of its owner."""
        facts = self.facts
        while slot.owner and slot.owner.name not in facts:
            slot = slot.owner
        assert slot.owner
        self.asked = slot
        choice = facts[slot.owner.name].fields[slot.field]
        siblings = (slot.name.removesuffix(slot.field) + other for other in choice.shared_by)
        taken = tuple(facts[name] for name in siblings if name in facts)
        return _without(choice, taken) if taken else choice

    def take(self, choice: Choice, index: int) -> None:
        """Go on with an option of the choice at which the telling stopped."""
        option = choice.options[index]
        self.bits += choice.bits[index]
        if self.asked is None:
            self.to_tell += option.parts
        else:
            self.facts[self.asked.name] = option

    def forks(self, choice: Choice, text: str) -> Iterator[Telling]:
        """Yield this telling gone on with each option, but for those that cannot be the next words of `text`."""
        heard = sum(map(len, self.told))
        told_at_once = self.asked is None or self.asked is self.to_tell[-1]
        for index, option in enumerate(choice.options):
            begin = option.parts[-1] if told_at_once and option.parts else ""
            if not isinstance(begin, str) or text.startswith(begin, heard):
                fork = Telling(self.facts.copy(), self.to_tell.copy(), self.told.copy(), self.bits, self.asked)
                fork.take(choice, index)
                yield fork


class Program:
    """A world made ready to be told from: `world` maps each name to its table, and `{tale}` is the whole tale."""

    def __init__(self, world: Mapping[str, Table]) -> None:
        self._world = Option((), 1, _fields(world))

    def _start(self) -> Telling:
        return Telling(facts={"": self._world}, to_tell=[Slot.parse("tale")])

    def draw(self, random: Random) -> Tale:
        """Tell one tale, each choice by its probability."""
        telling = self._start()
        while choice := telling.advance():
            telling.take(choice, bisect(choice.cumulative, random.random()))
        return Tale("".join(telling.told), telling.bits)

    def derivations(self, text: str) -> list[float]:
        """Return the bits of every way in which the program can write `text`, by following all choices that fit."""
        found, unfinished = [], [self._start()]
        while unfinished:
            telling = unfinished.pop()
            choice = telling.advance()
            told = "".join(telling.told)
            if choice and text.startswith(told):
                unfinished += telling.forks(choice, text)
            elif text == told and not choice:
                found.append(telling.bits)
        return found


def _fields(tables: Mapping[str, Table]) -> dict[str, Choice]:
    """Compile the tables, each under the name or the names that share it."""
    fields: dict[str, Choice] = {}
    for names, table in tables.items():
        shared_by = tuple(names.split())
        fields |= dict.fromkeys(shared_by, _choice(table, shared_by))
    return fields


def _choice(table: Table, shared_by: tuple[str, ...]) -> Choice:
    if isinstance(table, str):
        return Choice.of(_alternatives(table, {}), shared_by)
    return Choice.of(
        (option for template, stored in table.items() for option in _alternatives(template, _fields(stored))),
        shared_by,
    )


_TOKEN = re.compile(r"\{(?P<slot>[\w.]+)\}|(?P<weight>\d+)\*|(?P<mark>[\[\]|{}])|(?P<text>[^\[\]|{}]+)")


def _alternatives(template: str, fields: Mapping[str, Choice]) -> list[Option]:
    """Compile a template; its lines are joined by spaces, and an empty line stays a paragraph's end."""
    assert template.count("[") == template.count("]"), f"unequal brackets in {template!r}"
    unwrapped = re.sub(r"(?<!\n)\n(?!\n)", " ", template.strip("\n"))
    return [Option(option.parts, option.weight, fields) for option in _parse(_TOKEN.finditer(unwrapped))]


def _parse(tokens: Iterator[re.Match[str]]) -> list[Option]:
    """Read alternatives up to the bracket that closes them, or to the end."""
    weights = [1]
    alternatives: list[list[Part]] = [[]]
    for token in tokens:
        kind, value = token.lastgroup, token[token.lastgroup or 0]
        if kind == "slot":
            alternatives[-1].append(Slot.parse(value))
        elif kind == "text":
            alternatives[-1].append(value)
        elif kind == "weight":
            weights[-1] = int(value)
        elif value == "[":
            alternatives[-1].append(Choice.of(_parse(tokens)))
        elif value == "|":
            weights.append(1)
            alternatives.append([])
        else:
            assert value == "]", f"a lone {value} in a template"
            break
    return [Option(tuple(reversed(parts)), weight, {}) for parts, weight in zip(alternatives, weights, strict=True)]


@cache
def _program() -> Program:
    return Program(WORLD)


def tale(seed: int, index: int) -> Tale:
    """Return tale number `index` of the endless collection that belongs to `seed`."""
    return _program().draw(Random(f"{seed} {index}"))


def tales(num_bytes: int, seed: int) -> Iterator[Tale]:
    """Yield tale 0, 1, 2, ... of a seed until their UTF-8 bytes reach `num_bytes`."""
    total_bytes = 0
    for index in count():
        if total_bytes >= num_bytes:
            return
        told = tale(seed, index)
        total_bytes += len(told.text.encode())
        yield told


def derivations(text: str) -> list[float]:
    """Return the bits of every way in which the program can write `text`; for a tale exactly one."""
    return _program().derivations(text)


def floor(told: Iterable[Tale]) -> float:
    """Return the entropy of these tales in bits per byte, for a reader who has seen the whole story so far.

    floor = -log2 p(tales) / bytes: what the program itself would score on them. No model can expect to score less.
    """
    told = list(told)
    return sum(one.bits for one in told) / sum(len(one.text.encode()) for one in told)
