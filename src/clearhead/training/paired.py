"""From sources with their targets to what a translator's training reads."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int64

from clearhead.core.config import build, to_dict
from clearhead.core.errors import UserError
from clearhead.core.run import part
from clearhead.generation.translator import end_of, source_ids, word_ids
from clearhead.text.config import TextConfig, TokenizerConfig
from clearhead.text.inputs import Input
from clearhead.text.records import Column, Columns, Row, fingerprint, hold_out, kept_input, named_input, read_rows
from clearhead.text.rows import Rows
from clearhead.text.tales_language import pairs
from clearhead.text.tokenizer import Tokenizer, train_tokenizer
from clearhead.training.config import TranslateTaskConfig
from clearhead.training.labelled import absolute, source_of

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


@dataclass(frozen=True, slots=True)
class PairParts:
    """The pairs to train on and those to validate on."""

    training: list[Row]
    validation: list[Row]
    description: str


def columns_of(task: TranslateTaskConfig) -> Columns:
    """Return how the two columns are found."""
    source = Column(role="source", aliases=SOURCE_NAMES, wanted=task.source)
    return source, Column(role="target", aliases=TARGET_NAMES, wanted=task.target)


def read_pairs(inputs: Sequence[Input], task: TranslateTaskConfig, text: TextConfig) -> PairParts:
    """Read pairs, the built-in ones where no file is given, and split them."""
    columns = columns_of(task)
    rows = read_rows(inputs, columns, text) if inputs else built_in_pairs()
    if task.validation:
        held_out = read_rows([named_input(name) for name in task.validation], columns, text)
        names = ", ".join(Path(name).name for name in task.validation)
        how = f"trained on {len(rows):,} pairs, validated on the {len(held_out):,} of {names}"
        return PairParts(rows, held_out, how)
    chosen = hold_out(rows)
    training = [row for row, out in zip(rows, chosen, strict=True) if not out]
    validation = [row for row, out in zip(rows, chosen, strict=True) if out]
    how = f"trained on {len(training):,} pairs, validated on {len(validation):,} chosen by their sources' hash"
    return PairParts(training, validation, how)


def built_in_pairs() -> list[Row]:
    """Return sentences of the tales' world in English and in the invented language."""
    made = pairs(BUILT_IN_PAIRS, BUILT_IN_SEED)
    return [Row(pair.source, pair.target, f"sentence {place}") for place, pair in enumerate(made)]


def reread_pairs(run: Path, sources: dict[str, Any], task: TranslateTaskConfig) -> PairParts:
    """Read a run's pairs again.

    Raises:
        UserError: they are gone or are not what the run was trained on.
    """
    names = part(sources, "names", kind=list)
    inputs = [kept_input(run / "stdin.txt") if name == "-" else named_input(name) for name in names]
    task = replace(task, validation=tuple(part(sources, "validation_names", kind=list)))
    parts = read_pairs(inputs, task, build(TextConfig, part(sources, "text"), where="text"))
    if fingerprint(parts.training, parts.validation) != part(sources, "fingerprint", kind=str):
        raise UserError(
            f"The pairs of {run} have changed since the run began ({', '.join(names) or 'the tales'}); "
            "bring the old ones back, or train a new run."
        )
    return parts


def paired(rows: Sequence[Row], tokenizer: Tokenizer, context_length: int) -> Paired:
    """Return pairs as ids; one of which a text is longer than the context is left out."""
    end = np.int32(end_of(tokenizer))
    ids = [(row, source_ids(tokenizer, row.first), np.append(word_ids(tokenizer, row.second), end)) for row in rows]
    kept = [each for each in ids if max(len(each[1]), len(each[2])) <= context_length]
    return Paired(Rows.of(each[1] for each in kept), Rows.of(each[2] for each in kept), tuple(each[0] for each in kept))


def prepared(
    parts: PairParts, tokenizer: Tokenizer, context_length: int, notify: Callable[[str], None]
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


def train_on(parts: PairParts, config: TokenizerConfig) -> Tokenizer:
    """Train one tokenizer on the sources and targets of the training pairs."""
    return train_tokenizer(
        config,
        lambda: (f" {text}" for row in parts.training for text in (row.first, row.second)),
        lambda: (f" {text}" for row in parts.validation for text in (row.first, row.second)),
        end=True,
        training_bytes=sum(bytes_of(row) for row in parts.training),
    )


def bytes_of(row: Row) -> int:
    """Return how many bytes a pair's texts have."""
    return len(row.first.encode()) + len(row.second.encode())


def describe(
    names: Sequence[str | Path], text: TextConfig, task: TranslateTaskConfig, data: tuple[PairParts, Paired, Paired]
) -> dict[str, Any]:
    """Return what data.json says of pairs."""
    parts, training, validation = data
    rows = [*parts.training, *parts.validation]
    return {
        "names": absolute(names),
        "text": to_dict(text),
        "validation_names": absolute(task.validation),
        "fingerprint": fingerprint(parts.training, parts.validation),
        "documents": len(rows),
        "characters": sum(len(row.first) + len(row.second) for row in rows),
        "utf8_bytes": sum(bytes_of(row) for row in rows),
        "sources": [source_of(name) for name in map(str, [*names, *task.validation])],
        "split": {
            "description": parts.description,
            "training_rows": len(training),
            "training_bytes": sum(bytes_of(row) for row in parts.training),
            "training_tokens": len(training.targets.ids),
            "validation_rows": len(validation),
            "validation_bytes": sum(bytes_of(row) for row in parts.validation),
            "validation_tokens": len(validation.targets.ids),
        },
        "licence": None if names else "MIT",
    }
