"""From a table of labelled texts to what a classifier's training reads."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Int64

from clearhead.core.errors import UserError
from clearhead.generation.classifier import encode_rows
from clearhead.text.records import Column, Row
from clearhead.text.rows import Rows
from clearhead.text.tales_sentiment import sentiments
from clearhead.text.tokenizer import Tokenizer
from clearhead.training.config import ClassifyTaskConfig
from clearhead.training.table import Parts, Table

BUILT_IN_ROWS = 20_000
BUILT_IN_SEED = 1
MOST_LABELS = 1000
TEXT_NAMES = frozenset({"text", "sentence", "review", "content", "comment", "body", "message", "title"})
LABEL_NAMES = frozenset({"label", "class", "category", "sentiment", "target", "topic", "tag"})


@dataclass(frozen=True, slots=True, eq=False)
class Labelled:
    """Texts as ids, the class of each, and the texts themselves."""

    rows: Rows
    targets: Int64[np.ndarray, " B"]
    texts: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.texts)

    @property
    def num_tokens(self) -> int:
        """How many ids all texts have."""
        return len(self.rows.ids)

    def take(self, chosen: Int64[np.ndarray, " _"]) -> Labelled:
        """Return some of them."""
        return Labelled(self.rows.take(chosen), self.targets[chosen], tuple(self.texts[row] for row in chosen))


@dataclass(frozen=True, slots=True, eq=False)
class LabelledData:
    """A table of labelled texts, split and tokenized.

    Args:
        labels: the classes, sorted by name; a target is a place among them.
    """

    tokenizer: Tokenizer
    labels: tuple[str, ...]
    training: Labelled
    validation: Labelled
    sources: dict[str, Any]


def table_of(task: ClassifyTaskConfig) -> Table:
    """Return how tables of labelled texts are read."""
    text = Column(role="text", aliases=TEXT_NAMES, wanted=task.text)
    return Table(
        noun="rows",
        split_by="content hash",
        columns=(text, Column(role="label", aliases=LABEL_NAMES, wanted=task.label)),
        validation=task.validation,
        built_in=built_in_rows,
        texts=lambda row: (row.first,),
        after="\n",
        end=False,
    )


def built_in_rows() -> list[Row]:
    """Return the tales' sentences with their sentiment."""
    return [
        Row(said.text, said.label, f"sentence {place}")
        for place, said in enumerate(sentiments(BUILT_IN_ROWS, BUILT_IN_SEED))
    ]


def labels_of(parts: Parts) -> tuple[str, ...]:
    """Return the labels of the training rows, sorted.

    Raises:
        UserError: there are fewer than two labels or very many.
    """
    counted = parts.training
    labels = tuple(sorted({row.second for row in counted}))
    if len(labels) < 2:
        raise UserError(f"All {len(counted)} training rows have the label {labels[0]}: there is no choice to learn.")
    if len(labels) > MOST_LABELS or 2 * len(labels) > len(counted):
        raise UserError(
            f"The {len(counted)} training rows have {len(labels)} different labels, such as {labels[0][:40]!r}: "
            "name the column that holds the labels by --task.label."
        )
    return labels


def require_known(rows: Sequence[Row], labels: Sequence[str]) -> None:
    """Refuse rows with a label that training does not know."""
    known_labels = frozenset(labels)
    unknown = next((row for row in rows if row.second not in known_labels), None)
    if unknown is not None:
        known = ", ".join(labels[:10]) + (", ..." if len(labels) > 10 else "")
        raise UserError(
            f"{unknown.place} has the label {unknown.second[:40]!r}, which the training rows do not have ({known}); "
            "mend it or leave it out."
        )


def labelled(rows: Sequence[Row], labels: Sequence[str], tokenizer: Tokenizer, context_length: int) -> Labelled:
    """Return rows as ids and classes.

    Raises:
        UserError: a row has a label that is not among them.
    """
    require_known(rows, labels)
    texts = tuple(row.first for row in rows)
    places = {label: place for place, label in enumerate(labels)}
    targets = np.array([places[row.second] for row in rows], dtype=np.int64)
    return Labelled(encode_rows(texts, tokenizer, context_length), targets, texts)
