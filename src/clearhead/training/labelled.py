"""From a table of labelled texts to what a classifier's training reads."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int64

from clearhead.core.config import build, to_dict
from clearhead.core.errors import UserError
from clearhead.core.files import sha256
from clearhead.core.run import part
from clearhead.generation.classifier import encode_rows
from clearhead.text.config import TextConfig, TokenizerConfig
from clearhead.text.inputs import Input
from clearhead.text.records import Column, Columns, Row, fingerprint, hold_out, kept_input, named_input, read_rows
from clearhead.text.rows import Rows
from clearhead.text.tales_sentiment import sentiments
from clearhead.text.tokenizer import Tokenizer, train_tokenizer
from clearhead.training.config import ClassifyTaskConfig

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


def columns_of(task: ClassifyTaskConfig) -> Columns:
    """Return how the two columns are found."""
    text = Column(role="text", aliases=TEXT_NAMES, wanted=task.text)
    return text, Column(role="label", aliases=LABEL_NAMES, wanted=task.label)


@dataclass(frozen=True, slots=True)
class Parts:
    """The rows to train on and those to validate on."""

    training: list[Row]
    validation: list[Row]
    description: str


def read_parts(inputs: Sequence[Input], task: ClassifyTaskConfig, text: TextConfig) -> Parts:
    """Read rows, the built-in ones where no file is given, and split them."""
    columns = columns_of(task)
    rows = read_rows(inputs, columns, text) if inputs else built_in_rows()
    if task.validation:
        held_out = read_rows([named_input(name) for name in task.validation], columns, text)
        names = ", ".join(Path(name).name for name in task.validation)
        how = f"trained on {len(rows):,} rows, validated on the {len(held_out):,} of {names}"
        return Parts(rows, held_out, how)
    chosen = hold_out(rows)
    training = [row for row, out in zip(rows, chosen, strict=True) if not out]
    validation = [row for row, out in zip(rows, chosen, strict=True) if out]
    how = f"trained on {len(training):,} rows, validated on {len(validation):,} chosen by content hash"
    return Parts(training, validation, how)


def built_in_rows() -> list[Row]:
    """Return the tales' sentences with their sentiment."""
    return [
        Row(said.text, said.label, f"sentence {place}")
        for place, said in enumerate(sentiments(BUILT_IN_ROWS, BUILT_IN_SEED))
    ]


def reread_parts(run: Path, sources: dict[str, Any], task: ClassifyTaskConfig) -> Parts:
    """Read a run's rows again.

    Raises:
        UserError: they are gone or are not what the run was trained on.
    """
    names = part(sources, "names", kind=list)
    inputs = [kept_input(run / "stdin.txt") if name == "-" else named_input(name) for name in names]
    task = replace(task, validation=tuple(part(sources, "validation_names", kind=list)))
    parts = read_parts(inputs, task, build(TextConfig, part(sources, "text"), where="text"))
    if fingerprint(parts.training, parts.validation) != part(sources, "fingerprint", kind=str):
        raise UserError(
            f"The rows of {run} have changed since the run began ({', '.join(names) or 'the tales'}); "
            "bring the old ones back, or train a new run."
        )
    return parts


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


def train_on(parts: Parts, config: TokenizerConfig) -> Tokenizer:
    """Train a tokenizer on the training rows."""
    return train_tokenizer(
        config,
        lambda: (f" {row.first}\n" for row in parts.training),
        lambda: (f" {row.first}\n" for row in parts.validation),
        end=False,
        training_bytes=sum(len(row.first.encode()) + 2 for row in parts.training),
    )


def describe(
    names: Sequence[str | Path], text: TextConfig, task: ClassifyTaskConfig, data: tuple[Parts, Labelled, Labelled]
) -> dict[str, Any]:
    """Return what data.json says of labelled texts."""
    parts, training, validation = data
    rows = [*parts.training, *parts.validation]
    bytes_of = [sum(len(row.first.encode()) for row in part) for part in (parts.training, parts.validation)]
    return {
        "names": absolute(names),
        "text": to_dict(text),
        "validation_names": absolute(task.validation),
        "fingerprint": fingerprint(parts.training, parts.validation),
        "documents": len(rows),
        "characters": sum(len(row.first) for row in rows),
        "utf8_bytes": sum(bytes_of),
        "sources": [source_of(name) for name in map(str, [*names, *task.validation])],
        "split": {
            "description": parts.description,
            "training_rows": len(training),
            "training_bytes": bytes_of[0],
            "training_tokens": len(training.rows.ids),
            "validation_rows": len(validation),
            "validation_bytes": bytes_of[1],
            "validation_tokens": len(validation.rows.ids),
        },
        "licence": None if names else "MIT",
    }


def absolute(names: Sequence[str | Path]) -> list[str]:
    """Return names that mean the same files from anywhere."""
    return [name if name == "-" else str(Path(name).absolute()) for name in map(str, names)]


def source_of(name: str) -> dict[str, Any]:
    """Return what data.json says of a file."""
    if name == "-":
        return {"name": name}
    path = Path(name)
    return {"name": name, "bytes": path.stat().st_size, "sha256": sha256(path)}
