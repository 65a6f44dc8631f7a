"""The task of a classifier: choose a label for a text."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Int64
from torch import Tensor, nn

from clearhead.core.config import build
from clearhead.core.errors import UserError
from clearhead.core.run import Run
from clearhead.generation.classifier import class_nats, stored_labels
from clearhead.model.ensemble import Ensemble
from clearhead.model.family_config import EncoderConfig
from clearhead.model.masks import Padded
from clearhead.store.load import Loaded, tokenizer_of
from clearhead.text.batches import Batch
from clearhead.text.config import WordConfig
from clearhead.text.records import named_input
from clearhead.text.rows import RowOrder
from clearhead.text.tokenizer import Tokenizer
from clearhead.training.bag_of_words import train_bag
from clearhead.training.config import ClassifyTaskConfig, RunConfig
from clearhead.training.label_score import LabelScore
from clearhead.training.labelled import Labelled, LabelledData, labelled, labels_of, table_of
from clearhead.training.objective import Loss
from clearhead.training.table import Parts, stored_rows
from clearhead.training.table_task import RowBatches, TableTask, assessment, spread
from clearhead.training.task import BatchSource, Further, Reading


class LabelledBatches(RowBatches[Labelled]):
    """Texts with their classes."""

    def batch(self, rows: Int64[np.ndarray, " B"]) -> Batch[Any]:
        tokens, lengths = self.part.rows.padded(rows)
        return Batch(tokens, self.part.targets[rows], lengths=lengths)


@dataclass(frozen=True)
class ClassificationTask(TableTask[Labelled]):
    """Labelled texts; each is read whole and gets one of the labels."""

    data: LabelledData
    kind = "classify"
    unit = "label"
    alternative = "label"
    built_in = "sentiment"
    sampled_rows = 2048
    shown_rows = 6

    @classmethod
    def read(cls, reading: Reading, config: RunConfig) -> tuple[ClassificationTask, RunConfig]:
        task = config.task
        assert isinstance(task, ClassifyTaskConfig)
        if not isinstance(config.model, EncoderConfig):
            raise UserError(
                f"--task classify trains an encoder, and model.kind is {config.model.kind}; "
                "give --preset classify, or --model.kind encoder."
            )
        table = table_of(task)
        parts = table.read([named_input(str(name), reading.keep_stdin_at) for name in reading.names], config.text)
        labels = labels_of(parts)
        model = with_classes(config.model, labels)
        tokenizer_config = config.tokenizer or WordConfig()
        tokenizer = table.train_tokenizer(parts, tokenizer_config)
        training, validation = both(parts, labels, tokenizer, model.context_length)
        num_cut = int((training.rows.lengths == model.context_length).sum())
        if num_cut:
            reading.notify(f"{num_cut} of {len(training)} texts fill the context of {model.context_length} tokens.")
        sources = table.describe(reading.names, config.text, parts, (training, validation)) | {"labels": list(labels)}
        data = LabelledData(tokenizer, labels, training, validation, sources)
        return cls(data), replace(config, model=model, tokenizer=tokenizer_config)

    @classmethod
    def reopen(cls, run: Run, config: RunConfig) -> ClassificationTask:
        assert isinstance(config.task, ClassifyTaskConfig)
        sources, tokenizer, labels = run.data(), tokenizer_of(run), stored_labels(run)
        parts = table_of(config.task).read_again(run.path, sources)
        training, validation = both(parts, labels, tokenizer, config.model.context_length)
        return cls(LabelledData(tokenizer, labels, training, validation, sources))

    @classmethod
    def assess(cls, loaded: Loaded, texts: Sequence[str], further: Further) -> dict[str, Any]:
        further.require_nothing()
        part, labels = part_of(loaded, texts), stored_labels(loaded.run)
        context: int = loaded.description["config"]["model"]["context_length"]
        return assessment(loaded, texts, LabelScore(class_nats(loaded.model, part.rows), part.targets, labels, context))

    @property
    def choices(self) -> int:
        return len(self.data.labels)

    def objective(self, model: nn.Module, batch: Batch[Tensor]) -> Loss:
        return label_loss(model, batch)

    def batches(self, config: RunConfig) -> BatchSource:
        part, train = self.data.training, config.train
        rows_per_step = min(train.sequences_per_step, len(part))
        order = RowOrder(lengths=part.rows.lengths, rows_per_step=rows_per_step, seed=train.seed)
        return LabelledBatches(part=part, order=order, micro_batches=train.micro_batches)

    def score(self, model: nn.Module, part: Labelled, *, sampled: bool) -> LabelScore:
        part = spread(part, self.sampled_rows) if sampled else part
        context = int(model.context_length)  # type: ignore[arg-type]
        return LabelScore(class_nats(model, part.rows), part.targets, self.data.labels, context)

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

    def stored(self, part: Labelled) -> list[Mapping[str, str]]:
        labels = self.data.labels
        return [{"text": text, "label": labels[place]} for text, place in zip(part.texts, part.targets, strict=True)]

    def said(self, model: nn.Module, part: Labelled) -> list[tuple[str, str]]:
        """Return texts with the label that a model chooses, how sure it is, and what is right if it is wrong."""
        found = self.score(model, part, sampled=False)
        said = []
        for text, chosen, right, nats in zip(part.texts, found.chosen, part.targets, found.nats, strict=True):
            correction = "" if chosen == right else f", but it is {self.data.labels[right]}"
            said.append((text, f"{self.data.labels[chosen]} ({math.exp(-nats[chosen]):.0%}{correction})"))
        return said


def both(parts: Parts, labels: Sequence[str], tokenizer: Tokenizer, context_length: int) -> tuple[Labelled, Labelled]:
    """Return both parts as ids and classes.

    Raises:
        UserError: a row to validate on has a label that the training rows do not have.
    """
    training, validation = (
        labelled(rows, labels, tokenizer, context_length) for rows in (parts.training, parts.validation)
    )
    return training, validation


def part_of(loaded: Loaded, texts: Sequence[str]) -> Labelled:
    """Return the rows that a run is validated on, or those of other files.

    Raises:
        UserError: a row has a label that the run does not know.
    """
    settings = loaded.description["config"]
    task = build(ClassifyTaskConfig, settings["task"], where="task")
    own = table_of(ClassifyTaskConfig()).columns
    rows = table_of(task).read_others(loaded, texts) if texts else stored_rows(loaded, own)
    return labelled(rows, stored_labels(loaded.run), loaded.tokenizer, settings["model"]["context_length"])


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
    """Sum the cross-entropy of each text's label; padding is hidden from the model by its mask.

    Of an ensemble it is the mean of what its members pay, each for itself.
    """
    assert batch.lengths is not None
    mask = Padded(model.mask, batch.lengths)  # type: ignore[arg-type]
    members: Sequence[nn.Module] = model.encoders if isinstance(model, Ensemble) else [model]
    logits = torch.cat([member(batch.tokens, mask=mask) for member in members])
    total = F.cross_entropy(logits.float(), batch.targets.repeat(len(members)), reduction="sum") / len(members)
    return Loss(total, float(len(batch.targets)))
