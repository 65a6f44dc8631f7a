"""What tasks on tables of two columns share: batches of padded rows, and what is scored, shown and kept of them."""

from __future__ import annotations

import json
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, Generic, Protocol, TypeVar

import numpy as np
from jaxtyping import Int64
from torch import nn

from clearhead.core.events import read
from clearhead.core.files import write_atomically
from clearhead.core.run import VALIDATION_ROWS_FILE
from clearhead.store.load import Loaded
from clearhead.text.batches import Batch
from clearhead.text.rows import RowOrder
from clearhead.training.config import RunConfig
from clearhead.training.evaluate import Evaluation
from clearhead.training.table import Readable
from clearhead.training.task import BatchSource, Data, Evaluate, Sample, Task

PartT = TypeVar("PartT", bound=Readable)


def spread(part: PartT, count: int) -> PartT:
    """Return evenly spaced rows of a part, at most `count`."""
    if len(part) <= count:
        return part
    return part.take((2 * np.arange(count) + 1) * len(part) // (2 * count))


@dataclass(frozen=True, kw_only=True, eq=False)
class RowBatches(Generic[PartT]):
    """Rows of similar length together, each micro-batch padded to its longest."""

    part: PartT
    order: RowOrder
    micro_batches: int

    def __call__(self, step: int) -> list[Batch[Any]]:
        return [self.batch(rows) for rows in np.array_split(self.order(step), self.micro_batches) if len(rows)]

    @abstractmethod
    def batch(self, rows: Int64[np.ndarray, " B"]) -> Batch[Any]:
        """Return some rows, padded."""

    def resized(self, sequences_per_step: int) -> BatchSource:
        """Return batches of so many rows a step, in no more parts than that."""
        order = replace(self.order, rows_per_step=sequences_per_step)
        return replace(self, order=order, micro_batches=min(self.micro_batches, sequences_per_step))

    @property
    def sequences_per_step(self) -> int:
        """How many rows a step has, at most."""
        return self.order.rows_per_step

    @property
    def tokens_per_step(self) -> int:
        """How many tokens that count a step has on average."""
        return max(1, self.part.num_tokens // self.order.steps_per_epoch)

    @property
    def sequences_per_epoch(self) -> int:
        """How many rows there are."""
        return len(self.part)


class TableData(Data, Protocol[PartT]):
    """Rows to train on and rows to validate on."""

    @property
    def training(self) -> PartT: ...

    @property
    def validation(self) -> PartT: ...


class TableTask(Task, Generic[PartT]):
    """A task whose data are rows.

    Attributes:
        sampled_rows: how many rows of a part the evaluations during a run score.
        shown_rows: how many rows are shown with what a model makes of them.
    """

    sampled_rows: ClassVar[int]
    shown_rows: ClassVar[int]
    data: TableData[PartT]

    @abstractmethod
    def score(self, model: nn.Module, part: PartT, *, sampled: bool) -> Evaluation:
        """Score a model on all rows of a part, or quickly on evenly spaced ones."""

    @abstractmethod
    def said(self, model: nn.Module, part: PartT) -> list[tuple[str, str]]:
        """Return rows with what a model says of them, and what is right if it is wrong."""

    @abstractmethod
    def stored(self, part: PartT) -> list[Mapping[str, str]]:
        """Return rows as they are kept, by the names of their columns."""

    @property
    def evaluated_tokens(self) -> int:
        parts = (self.data.training, self.data.validation)
        return sum(round(part.num_tokens / len(part) * min(self.sampled_rows, len(part))) for part in parts)

    def evaluation(self, config: RunConfig) -> Evaluate:
        def evaluate(model: nn.Module, sampled: bool) -> dict[str, Evaluation]:
            scores = {"validation": self.score(model, self.data.validation, sampled=sampled)}
            if sampled:
                scores["train"] = self.score(model, self.data.training, sampled=True)
            return scores

        return evaluate

    def sampling(self, config: RunConfig) -> Sample:
        shown = spread(self.data.validation, self.shown_rows)

        def sample(model: nn.Module) -> list[tuple[str, str, int]]:
            return [(text, f" → {said}", 0) for text, said in self.said(model, shown)]

        return sample

    def demonstrate(self, model: nn.Module) -> list[str]:
        said = self.said(model, spread(self.data.validation, self.shown_rows))
        return [f"{text} → {answer}" for text, answer in said]

    def store(self, folder: Path) -> None:
        rows = self.stored(self.data.validation)
        content = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        write_atomically(folder / VALIDATION_ROWS_FILE, content)


def assessment(loaded: Loaded, texts: Sequence[str], found: Evaluation) -> dict[str, Any]:
    """Return what `clearhead eval` tells of a score: on the run's own rows beside the baselines that it began with."""
    measured = {line["name"]: line["values"] for line in read(loaded.run.path) if line["event"] == "measured"}
    return {
        "run": loaded.run.name,
        "step": loaded.step,
        "split": " ".join(texts) or "validation",
        "context_length": int(loaded.model.context_length),  # type: ignore[arg-type]
        "tokens_scored": found.tokens_scored,
        "nats_per_token": found.nats_per_token,
        "standard_error": found.standard_error,
        "bits_per_byte": found.bits_per_byte,
        "metrics": dict(found.metrics),
        **found.details,
        "baselines": None if texts else measured.get("baselines"),
    }
