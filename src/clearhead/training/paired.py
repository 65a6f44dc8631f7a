"""From sources with their targets to what a translator's training reads."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Int64

from clearhead.core.errors import UserError
from clearhead.generation.translator import end_of, source_ids, word_ids
from clearhead.text.records import Column, Row
from clearhead.text.rows import Rows
from clearhead.text.tales_language import pairs
from clearhead.text.tokenizer import Tokenizer
from clearhead.training.config import TranslateTaskConfig
from clearhead.training.table import Parts, Table

BUILT_IN_PAIRS = 20_000
BUILT_IN_SEED = 1
SOURCE_NAMES = frozenset({"source", "src", "input", "en", "english"})
TARGET_NAMES = frozenset({"target", "tgt", "output", "translation", "de", "german", "fr", "french"})


@dataclass(frozen=True, slots=True, eq=False)
class Paired:
    """Sources and targets as ids, each with an end after it, and the texts themselves."""

    sources: Rows
    targets: Rows
    rows: tuple[Row, ...]

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def num_tokens(self) -> int:
        """How many ids all targets have."""
        return len(self.targets.ids)

    def take(self, chosen: Int64[np.ndarray, " _"]) -> Paired:
        """Return some of the pairs."""
        return Paired(self.sources.take(chosen), self.targets.take(chosen), tuple(self.rows[row] for row in chosen))


@dataclass(frozen=True, slots=True, eq=False)
class PairedData:
    """Sources with their targets, split and tokenized by one tokenizer."""

    tokenizer: Tokenizer
    training: Paired
    validation: Paired
    sources: dict[str, Any]


def table_of(task: TranslateTaskConfig) -> Table:
    """Return how tables of pairs are read."""
    source = Column(role="source", aliases=SOURCE_NAMES, wanted=task.source)
    return Table(
        noun="pairs",
        split_by="their sources' hash",
        columns=(source, Column(role="target", aliases=TARGET_NAMES, wanted=task.target)),
        validation=task.validation,
        built_in=built_in_pairs,
        texts=lambda row: (row.first, row.second),
        after="",
        end=True,
    )


def built_in_pairs() -> list[Row]:
    """Return sentences of the tales' world in English and in the invented language."""
    made = pairs(BUILT_IN_PAIRS, BUILT_IN_SEED)
    return [Row(pair.source, pair.target, f"sentence {place}") for place, pair in enumerate(made)]


def paired(rows: Sequence[Row], tokenizer: Tokenizer, context_length: int) -> Paired:
    """Return pairs as ids; one of which a text is longer than the context is left out."""
    end = np.int32(end_of(tokenizer))
    ids = [(row, source_ids(tokenizer, row.first), np.append(word_ids(tokenizer, row.second), end)) for row in rows]
    kept = [each for each in ids if max(len(each[1]), len(each[2])) <= context_length]
    return Paired(Rows.of(each[1] for each in kept), Rows.of(each[2] for each in kept), tuple(each[0] for each in kept))


def prepared(
    parts: Parts, tokenizer: Tokenizer, context_length: int, notify: Callable[[str], None]
) -> tuple[Paired, Paired]:
    """Return both parts as ids, and say how many pairs are too long.

    Raises:
        UserError: all pairs of a part are too long.
    """
    found = []
    for name, rows in (("training", parts.training), ("validation", parts.validation)):
        part = paired(rows, tokenizer, context_length)
        if not len(part):
            raise UserError(
                f"No {name} pair fits the context of {context_length} tokens; give a larger --model.context-length."
            )
        if len(part) < len(rows):
            notify(f"{len(rows) - len(part)} {name} pairs are longer than {context_length} tokens and were left out.")
        found.append(part)
    return found[0], found[1]
