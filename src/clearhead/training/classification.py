"""The task of a classifier: choose a label for a text."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch.nn.functional as F
from torch import Tensor, nn

from clearhead.core.config import build
from clearhead.core.errors import UserError
from clearhead.core.events import read
from clearhead.core.files import write_atomically
from clearhead.core.run import VALIDATION_ROWS_FILE, Run
from clearhead.generation.classifier import class_nats, stored_labels
from clearhead.model.family_config import EncoderConfig
from clearhead.model.masks import Padded
from clearhead.store.load import Loaded, tokenizer_of
from clearhead.text.batches import Batch
from clearhead.text.config import TextConfig, WordConfig
from clearhead.text.records import Row, named_input, read_rows
from clearhead.text.rows import RowOrder
from clearhead.training.bag_of_words import train_bag
from clearhead.training.config import ClassifyTaskConfig, RunConfig
from clearhead.training.label_score import LabelScore
from clearhead.training.labelled import (
    Labelled,
    LabelledData,
    columns_of,
    describe,
    labelled,
    labels_of,
    read_parts,
    reread_parts,
    train_on,
)
from clearhead.training.objective import Loss
from clearhead.training.task import BatchSource, Evaluate, Further, Reading, Sample, Task

SAMPLED_ROWS = 2048
"""How many texts of a part the evaluations during a run score."""

SHOWN_TEXTS = 6


@dataclass(frozen=True, kw_only=True, eq=False)
class LabelledBatches:
    """Texts padded to the longest of their micro-batch, with their classes."""

    part: Labelled
    order: RowOrder
    micro_batches: int

    def __call__(self, step: int) -> list[Batch[Any]]:
        return [self._batch(rows) for rows in np.array_split(self.order(step), self.micro_batches) if len(rows)]

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
        """How many tokens a step reads on average, padding aside."""
        return max(1, len(self.part.rows.ids) // self.order.steps_per_epoch)

    @property
    def sequences_per_epoch(self) -> int:
        """How many texts there are."""
        return len(self.part)

    def _batch(self, rows: np.ndarray) -> Batch[Any]:
        tokens, lengths = self.part.rows.padded(rows)
        return Batch(tokens, self.part.targets[rows], lengths=lengths)


@dataclass(frozen=True)
class ClassificationTask(Task):
    """Labelled texts; each is read whole and gets one of the labels."""

    data: LabelledData
    kind = "classify"
    unit = "label"
    alternative = "label"
    built_in = "sentiment"

    @classmethod
    def read(cls, reading: Reading, config: RunConfig) -> tuple[ClassificationTask, RunConfig]:
        task = config.task
        assert isinstance(task, ClassifyTaskConfig)
        if not isinstance(config.model, EncoderConfig):
            raise UserError(
                f"--task classify trains an encoder, and model.kind is {config.model.kind}; "
                "give --preset classify, or --model.kind encoder."
            )
        inputs = [named_input(str(name), reading.keep_stdin_at) for name in reading.names]
        parts = read_parts(inputs, task, config.text)
        labels = labels_of(parts)
        model = with_classes(config.model, labels)
        tokenizer_config = config.tokenizer or WordConfig()
        tokenizer = train_on(parts, tokenizer_config)
        training, validation = (
            labelled(rows, labels, tokenizer, model.context_length) for rows in (parts.training, parts.validation)
        )
        num_cut = int((training.rows.lengths == model.context_length).sum())
        if num_cut:
            reading.notify(f"{num_cut} of {len(training)} texts fill the context of {model.context_length} tokens.")
        sources = {**describe(reading.names, config.text, task, (parts, training, validation)), "labels": list(labels)}
        data = LabelledData(tokenizer, labels, training, validation, sources)
        return cls(data), replace(config, model=model, tokenizer=tokenizer_config)

    @classmethod
    def reopen(cls, run: Run, config: RunConfig) -> ClassificationTask:
        assert isinstance(config.task, ClassifyTaskConfig)
        sources, tokenizer = run.data(), tokenizer_of(run)
        parts = reread_parts(run.path, sources, config.task)
        labels, context = stored_labels(run), config.model.context_length
        training, validation = (
            labelled(rows, labels, tokenizer, context) for rows in (parts.training, parts.validation)
        )
        return cls(LabelledData(tokenizer, labels, training, validation, sources))

    @classmethod
    def assess(cls, loaded: Loaded, texts: Sequence[str], further: Further) -> dict[str, Any]:
        further.require_nothing()
        part = other_part(loaded, texts) if texts else stored_part(loaded)
        context: int = loaded.description["config"]["model"]["context_length"]
        found = score(loaded.model, part, stored_labels(loaded.run), context, sampled=False)
        measured = {line["name"]: line["values"] for line in read(loaded.run.path) if line["event"] == "measured"}
        return {
            "run": loaded.run.name,
            "step": loaded.step,
            "split": " ".join(texts) or "validation",
            "context_length": context,
            "tokens_scored": found.tokens_scored,
            "nats_per_token": found.nats_per_token,
            "standard_error": found.standard_error,
            "bits_per_byte": None,
            "metrics": dict(found.metrics),
            **found.details,
            "baselines": None if texts else measured.get("baselines"),
        }

    @property
    def choices(self) -> int:
        return len(self.data.labels)

    @property
    def evaluated_tokens(self) -> int:
        parts = (self.data.training, self.data.validation)
        return sum(round(part.rows.lengths.mean() * min(SAMPLED_ROWS, len(part))) for part in parts)

    def objective(self, model: nn.Module, batch: Batch[Tensor]) -> Loss:
        return label_loss(model, batch)

    def batches(self, config: RunConfig) -> BatchSource:
        part, train = self.data.training, config.train
        rows_per_step = min(train.sequences_per_step, len(part))
        order = RowOrder(lengths=part.rows.lengths, rows_per_step=rows_per_step, seed=train.seed)
        return LabelledBatches(part=part, order=order, micro_batches=train.micro_batches)

    def evaluation(self, config: RunConfig) -> Evaluate:
        data, context = self.data, config.model.context_length

        def evaluate(model: nn.Module, sampled: bool) -> dict[str, LabelScore]:
            scores = {"validation": score(model, data.validation, data.labels, context, sampled=sampled)}
            if sampled:
                scores["train"] = score(model, data.training, data.labels, context, sampled=True)
            return scores

        return evaluate

    def sampling(self, config: RunConfig) -> Sample:
        texts = spread_rows(self.data.validation, SHOWN_TEXTS)

        def sample(model: nn.Module) -> list[tuple[str, str, int]]:
            return [(text, f" → {said}", 0) for text, said in self._said(model, texts)]

        return sample

    def compared_with(self, config: RunConfig) -> dict[str, Any]:
        data, context = self.data, config.model.context_length
        counts = np.bincount(data.training.targets, minlength=self.choices) + 1.0
        even = np.tile(-np.log(counts / counts.sum()), (len(data.validation), 1))
        bag = train_bag(data.training.texts, data.training.targets, self.choices)
        found = {"most frequent label": even, "bag of words": bag.nats(data.validation.texts)}
        scores = {name: LabelScore(nats, data.validation.targets, data.labels, context) for name, nats in found.items()}
        return {
            "baselines": {
                name: {"nats_per_token": score.nats_per_token, "bits_per_byte": None, "metrics": dict(score.metrics)}
                for name, score in scores.items()
            }
        }

    def demonstrate(self, model: nn.Module) -> list[str]:
        return [f"{text} → {said}" for text, said in self._said(model, spread_rows(self.data.validation, SHOWN_TEXTS))]

    def store(self, folder: Path) -> None:
        part, labels = self.data.validation, self.data.labels
        rows = ({"text": text, "label": labels[place]} for text, place in zip(part.texts, part.targets, strict=True))
        content = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        write_atomically(folder / VALIDATION_ROWS_FILE, content)

    def _said(self, model: nn.Module, part: Labelled) -> list[tuple[str, str]]:
        """Return texts with the label that a model chooses, how sure it is, and what is right if it is wrong."""
        found = score(model, part, self.data.labels, 0, sampled=False)
        said = []
        for text, chosen, right, nats in zip(part.texts, found.chosen, part.targets, found.nats, strict=True):
            correction = "" if chosen == right else f", but it is {self.data.labels[right]}"
            said.append((text, f"{self.data.labels[chosen]} ({math.exp(-nats[chosen]):.0%}{correction})"))
        return said


def stored_part(loaded: Loaded) -> Labelled:
    """Return the rows that a run kept to be validated on."""
    file = named_input(str(loaded.run.path / VALIDATION_ROWS_FILE))
    rows = read_rows([file], columns_of(ClassifyTaskConfig()), TextConfig())
    return of_run(loaded, rows)


def other_part(loaded: Loaded, texts: Sequence[str]) -> Labelled:
    """Return the rows of other files, read as the run's own were.

    Raises:
        UserError: a row has a label that the run does not know.
    """
    settings = loaded.description["config"]
    task = build(ClassifyTaskConfig, settings["task"], where="task")
    inputs = [named_input(text) for text in texts]
    rows = read_rows(inputs, columns_of(task), build(TextConfig, settings["text"], where="text"))
    return of_run(loaded, rows)


def of_run(loaded: Loaded, rows: Sequence[Row]) -> Labelled:
    """Return rows as a run's model reads them."""
    context: int = loaded.description["config"]["model"]["context_length"]
    return labelled(rows, stored_labels(loaded.run), loaded.tokenizer, context)


def with_classes(model: EncoderConfig, labels: Sequence[str]) -> EncoderConfig:
    """Return the model's settings with a class for each label.

    Raises:
        UserError: the user asked for another number.
    """
    if model.num_classes not in (None, len(labels)):
        raise UserError(
            f"model.num_classes = {model.num_classes}, but the rows have {len(labels)} labels; leave it out."
        )
    return replace(model, num_classes=len(labels))


def label_loss(model: nn.Module, batch: Batch[Tensor]) -> Loss:
    """Sum the cross-entropy of each text's label; padding is hidden from the model by its mask."""
    assert batch.lengths is not None
    logits = model(batch.tokens, mask=Padded(model.mask, batch.lengths))  # type: ignore[arg-type]
    return Loss(F.cross_entropy(logits.float(), batch.targets, reduction="sum"), float(len(batch.targets)))


def score(
    model: nn.Module, part: Labelled, labels: tuple[str, ...], context_length: int, *, sampled: bool
) -> LabelScore:
    """Score a model on all texts of a part, or on evenly spaced ones only."""
    part = spread_rows(part, SAMPLED_ROWS) if sampled else part
    return LabelScore(class_nats(model, part.rows), part.targets, labels, context_length)


def spread_rows(part: Labelled, count: int) -> Labelled:
    """Return evenly spaced texts of a part, at most `count`."""
    if len(part) <= count:
        return part
    return part.take((2 * np.arange(count) + 1) * len(part) // (2 * count))
