"""Tables of two columns: how their rows are found, split, told of and read again."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol, Self, runtime_checkable

import numpy as np
from jaxtyping import Int64

from clearhead.core.config import build, to_dict
from clearhead.core.errors import UserError
from clearhead.core.files import sha256
from clearhead.core.run import VALIDATION_ROWS_FILE, part
from clearhead.store.load import Loaded
from clearhead.text.config import TextConfig, TokenizerConfig
from clearhead.text.inputs import Input
from clearhead.text.records import Columns, Row, fingerprint, hold_out, kept_input, named_input, read_rows
from clearhead.text.tokenizer import Tokenizer, train_tokenizer


@dataclass(frozen=True, slots=True)
class Parts:
    """The rows to train on and those to validate on, and how they were chosen."""

    training: list[Row]
    validation: list[Row]
    description: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Table:
    """A kind of table.

    Args:
        noun: what its rows are called.
        split_by: by what a row's place in training or validation is decided.
        validation: files of rows to validate on; without any, some of the others are held out.
        built_in: gives the rows where the user names no file.
        texts: gives what of a row is read or written by a model.
        after: what follows each text where a tokenizer is trained.
        end: whether the tokenizer needs a token that ends a text.
    """

    noun: str
    split_by: str
    columns: Columns
    validation: tuple[str, ...]
    built_in: Callable[[], list[Row]]
    texts: Callable[[Row], tuple[str, ...]]
    after: str
    end: bool

    def read(self, inputs: Sequence[Input], text: TextConfig) -> Parts:
        """Read rows, the built-in ones where no file is given, and split them."""
        rows = read_rows(inputs, self.columns, text) if inputs else self.built_in()
        if self.validation:
            held_out = read_rows([named_input(name) for name in self.validation], self.columns, text)
            names = ", ".join(Path(name).name for name in self.validation)
            how = f"trained on {len(rows):,} {self.noun}, validated on the {len(held_out):,} of {names}"
            return Parts(rows, held_out, how)
        chosen = hold_out(rows)
        training = [row for row, out in zip(rows, chosen, strict=True) if not out]
        validation = [row for row, out in zip(rows, chosen, strict=True) if out]
        how = f"trained on {len(training):,} {self.noun}, validated on {len(validation):,} chosen by {self.split_by}"
        return Parts(training, validation, how)

    def read_again(self, run: Path, sources: dict[str, Any]) -> Parts:
        """Read a run's rows again.

        Raises:
            UserError: they are gone or are not what the run was trained on.
        """
        names = part(sources, "names", kind=list)
        inputs = [kept_input(run / "stdin.txt") if name == "-" else named_input(name) for name in names]
        table = replace(self, validation=tuple(part(sources, "validation_names", kind=list)))
        parts = table.read(inputs, build(TextConfig, part(sources, "text"), where="text"))
        if fingerprint(parts.training, parts.validation) != part(sources, "fingerprint", kind=str):
            raise UserError(
                f"The {self.noun} of {run} have changed since the run began ({', '.join(names) or 'the tales'}); "
                "bring the old ones back, or train a new run."
            )
        return parts

    def read_others(self, loaded: Loaded, names: Sequence[str]) -> list[Row]:
        """Read the rows of other files, as the run's own were."""
        text = build(TextConfig, loaded.description["config"]["text"], where="text")
        return read_rows([named_input(name) for name in names], self.columns, text)

    def train_tokenizer(self, parts: Parts, config: TokenizerConfig) -> Tokenizer:
        """Train a tokenizer on all texts of the training rows."""
        return train_tokenizer(
            config,
            lambda: (f" {text}{self.after}" for row in parts.training for text in self.texts(row)),
            lambda: (f" {text}{self.after}" for row in parts.validation for text in self.texts(row)),
            end=self.end,
            training_bytes=self._num_bytes(parts.training, len(" " + self.after)),
        )

    def describe(
        self, names: Sequence[str | Path], text: TextConfig, parts: Parts, found: tuple[Readable, Readable]
    ) -> dict[str, Any]:
        """Return what data.json says of the rows; `found` is what of them can be read."""
        of_split: dict[str, Any] = {"description": parts.description}
        for name, rows, kept in zip(("training", "validation"), (parts.training, parts.validation), found, strict=True):
            of_split |= {
                f"{name}_rows": len(kept),
                f"{name}_bytes": self._num_bytes(rows),
                f"{name}_tokens": kept.num_tokens,
            }
        rows = [*parts.training, *parts.validation]
        return {
            "names": absolute(names),
            "text": to_dict(text),
            "validation_names": absolute(self.validation),
            "fingerprint": fingerprint(parts.training, parts.validation),
            "documents": len(rows),
            "characters": sum(len(text) for row in rows for text in self.texts(row)),
            "utf8_bytes": self._num_bytes(rows),
            "sources": [source_of(name) for name in map(str, [*names, *self.validation])],
            "split": of_split,
            "licence": None if names else "MIT",
        }

    def _num_bytes(self, rows: Sequence[Row], around: int = 0) -> int:
        return sum(len(text.encode()) + around for row in rows for text in self.texts(row))


def stored_rows(loaded: Loaded, columns: Columns) -> list[Row]:
    """Return the rows that a run kept to be validated on."""
    return read_rows([named_input(str(loaded.run.path / VALIDATION_ROWS_FILE))], columns, TextConfig())


def absolute(names: Sequence[str | Path]) -> list[str]:
    """Return names that mean the same files from anywhere."""
    return [name if name == "-" else str(Path(name).absolute()) for name in map(str, names)]


def source_of(name: str) -> dict[str, Any]:
    """Return what data.json says of a file."""
    if name == "-":
        return {"name": name}
    path = Path(name)
    return {"name": name, "bytes": path.stat().st_size, "sha256": sha256(path)}


@runtime_checkable
class Readable(Protocol):
    """Rows as ids, and what belongs to each."""

    def __len__(self) -> int: ...

    @property
    def num_tokens(self) -> int:
        """How many tokens count: those read by a classifier, those written by a translator."""
        ...

    def take(self, chosen: Int64[np.ndarray, " _"]) -> Self:
        """Return some of the rows."""
        ...
