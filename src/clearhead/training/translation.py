"""The task of a translator: write the target that belongs to a source."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Int64
from torch import Tensor, nn

from clearhead.core.config import build
from clearhead.core.errors import UserError
from clearhead.core.events import read
from clearhead.core.files import write_atomically
from clearhead.core.run import VALIDATION_ROWS_FILE, Run
from clearhead.generation.beam import Search
from clearhead.generation.translator import end_of, target_nats, target_text, translate_rows
from clearhead.model.encoder_decoder import EncoderDecoder
from clearhead.model.family_config import EncoderDecoderConfig
from clearhead.model.masks import Full, Padded
from clearhead.store.load import Loaded, tokenizer_of
from clearhead.text.batches import Batch
from clearhead.text.config import BpeConfig, TextConfig
from clearhead.text.records import Row, named_input, read_rows
from clearhead.text.rows import RowOrder
from clearhead.training.config import RunConfig, TranslateTaskConfig
from clearhead.training.objective import Loss
from clearhead.training.pair_score import PairScore, has_sacrebleu, overlap_of
from clearhead.training.paired import (
    Paired,
    PairedData,
    columns_of,
    describe,
    paired,
    prepared,
    read_pairs,
    reread_pairs,
    train_on,
)
from clearhead.training.task import BatchSource, Evaluate, Further, Reading, Sample, Task

SAMPLED_PAIRS = 512
"""How many pairs of a part the evaluations during a run score."""

WRITTEN_PAIRS = 2000
"""For how many sources at most, evenly spaced, the evaluation at the end writes targets."""

SHOWN_PAIRS = 4


@dataclass(frozen=True, kw_only=True, eq=False)
class PairBatches:
    """Pairs padded to the longest of their micro-batch: sources, and targets with what comes before each token."""

    part: Paired
    end: int
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
        """How many target tokens a step has on average, padding aside."""
        return max(1, len(self.part.targets.ids) // self.order.steps_per_epoch)

    @property
    def sequences_per_epoch(self) -> int:
        """How many pairs there are."""
        return len(self.part)

    def _batch(self, rows: Int64[np.ndarray, " B"]) -> Batch[Any]:
        source, source_lengths = self.part.sources.padded(rows)
        targets, lengths = self.part.targets.padded(rows)
        before = np.concatenate((np.full_like(targets[:, :1], self.end), targets[:, :-1]), axis=1)
        weights = (np.arange(targets.shape[1]) < lengths[:, None]).astype(np.float32)
        return Batch(before, targets, weights=weights, source=source, lengths=source_lengths)


@dataclass(frozen=True)
class TranslationTask(Task):
    """Sources with their targets; each source is read whole, and its target is written token by token."""

    data: PairedData
    label_smoothing: float = 0.0
    kind = "translate"
    unit = "token"
    alternative = "id"
    built_in = "pairs"

    @classmethod
    def read(cls, reading: Reading, config: RunConfig) -> tuple[TranslationTask, RunConfig]:
        task = config.task
        assert isinstance(task, TranslateTaskConfig)
        if not isinstance(config.model, EncoderDecoderConfig):
            raise UserError(
                f"--task translate trains an encoder-decoder, and model.kind is {config.model.kind}; "
                "give --preset translate, or --model.kind encoder_decoder."
            )
        inputs = [named_input(str(name), reading.keep_stdin_at) for name in reading.names]
        parts = read_pairs(inputs, task, config.text)
        tokenizer_config = config.tokenizer or BpeConfig()
        tokenizer = train_on(parts, tokenizer_config)
        training, validation = prepared(parts, tokenizer, config.model.context_length, reading.notify)
        sources = describe(reading.names, config.text, task, (parts, training, validation))
        data = PairedData(tokenizer, training, validation, sources)
        return cls(data, task.label_smoothing), replace(config, tokenizer=tokenizer_config)

    @classmethod
    def reopen(cls, run: Run, config: RunConfig) -> TranslationTask:
        assert isinstance(config.task, TranslateTaskConfig)
        sources, tokenizer = run.data(), tokenizer_of(run)
        parts = reread_pairs(run.path, sources, config.task)
        training, validation = prepared(parts, tokenizer, config.model.context_length, lambda _: None)
        return cls(PairedData(tokenizer, training, validation, sources), config.task.label_smoothing)

    @classmethod
    def assess(cls, loaded: Loaded, texts: Sequence[str], further: Further) -> dict[str, Any]:
        further.require_nothing()
        tokenizer, context = loaded.tokenizer, int(loaded.model.context_length)  # type: ignore[arg-type]
        part = paired(stored_or_other(loaded, texts), tokenizer, context)
        found = replace(
            score(loaded.model, tokenizer, part), overlap=written_overlap(loaded.model, tokenizer, part, Search())
        )
        measured = {line["name"]: line["values"] for line in read(loaded.run.path) if line["event"] == "measured"}
        return {
            "run": loaded.run.name,
            "step": loaded.step,
            "split": " ".join(texts) or "validation",
            "context_length": context,
            "tokens_scored": found.tokens_scored,
            "nats_per_token": found.nats_per_token,
            "standard_error": found.standard_error,
            "bits_per_byte": found.bits_per_byte,
            "metrics": dict(found.metrics),
            **found.details,
            "baselines": None if texts else measured.get("baselines"),
        }

    @property
    def choices(self) -> int:
        return self.data.tokenizer.vocabulary_size

    @property
    def evaluated_tokens(self) -> int:
        parts = (self.data.training, self.data.validation)
        return sum(round(part.targets.lengths.mean() * min(SAMPLED_PAIRS, len(part))) for part in parts)

    def objective(self, model: nn.Module, batch: Batch[Tensor]) -> Loss:
        return target_loss(cast(EncoderDecoder, model), batch, self.label_smoothing)

    def batches(self, config: RunConfig) -> BatchSource:
        part, train = self.data.training, config.train
        # Targets of one length together, and among them sources: both then need little padding.
        keys = part.targets.lengths * (config.model.context_length + 1) + part.sources.lengths
        order = RowOrder(lengths=keys, rows_per_step=min(train.sequences_per_step, len(part)), seed=train.seed)
        end = end_of(self.data.tokenizer)
        return PairBatches(part=part, end=end, order=order, micro_batches=train.micro_batches)

    def evaluation(self, config: RunConfig) -> Evaluate:
        data = self.data

        def evaluate(model: nn.Module, sampled: bool) -> dict[str, PairScore]:
            scores = {"validation": self._score(model, data.validation, sampled=sampled)}
            if sampled:
                scores["train"] = self._score(model, data.training, sampled=True)
            return scores

        return evaluate

    def _score(self, model: nn.Module, part: Paired, *, sampled: bool) -> PairScore:
        tokenizer = self.data.tokenizer
        if sampled:
            return score(model, tokenizer, spread_pairs(part, SAMPLED_PAIRS))
        return replace(
            score(model, tokenizer, part),
            overlap=written_overlap(model, tokenizer, spread_pairs(part, WRITTEN_PAIRS), Search()),
        )

    def sampling(self, config: RunConfig) -> Sample:
        shown = spread_pairs(self.data.validation, SHOWN_PAIRS)

        def sample(model: nn.Module) -> list[tuple[str, str, int]]:
            return [(source, f" → {said}", 0) for source, said in self._said(model, shown)]

        return sample

    def compared_with(self, config: RunConfig) -> dict[str, Any]:
        data = self.data
        counts = np.bincount(data.training.targets.ids, minlength=self.choices) + 1.0
        nats = -np.log(counts / counts.sum())[data.validation.targets.ids]
        total = nats.sum() / (np.log(2) * num_bytes_of(data.validation))
        bits = float(total) if data.tokenizer.lossless else None
        frequency: dict[str, Any] = {"nats_per_token": float(nats.mean()), "bits_per_byte": bits, "metrics": {}}
        return {"baselines": {"how frequent tokens are": frequency}}

    def demonstrate(self, model: nn.Module) -> list[str]:
        said = self._said(model, spread_pairs(self.data.validation, SHOWN_PAIRS))
        return [f"{source} → {target}" for source, target in said]

    def store(self, folder: Path) -> None:
        rows = ({"source": row.first, "target": row.second} for row in self.data.validation.rows)
        content = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        write_atomically(folder / VALIDATION_ROWS_FILE, content)

    def _said(self, model: nn.Module, part: Paired) -> list[tuple[str, str]]:
        """Return sources with what a model writes for them, and what is right if that is not."""
        written = write_targets(model, self.data.tokenizer, part, Search())
        return [
            (row.first, target if target == row.second else f"{target} (and not {row.second})")
            for row, target in zip(part.rows, written, strict=True)
        ]


def stored_or_other(loaded: Loaded, texts: Sequence[str]) -> list[Row]:
    """Return the pairs that a run is validated on, or those of other files."""
    task = build(TranslateTaskConfig, loaded.description["config"]["task"], where="task")
    config = build(TextConfig, loaded.description["config"]["text"], where="text")
    if texts:
        return read_rows([named_input(text) for text in texts], columns_of(task), config)
    stored = named_input(str(loaded.run.path / VALIDATION_ROWS_FILE))
    return read_rows([stored], columns_of(TranslateTaskConfig()), TextConfig())


def target_loss(model: EncoderDecoder, batch: Batch[Tensor], label_smoothing: float = 0.0) -> Loss:
    """Sum the cross-entropy of the targets' tokens, each predicted from the right ones before it (teacher forcing).

    Only positions that count reach the head, whose product is the largest. With label smoothing the right id is to
    get the probability 1 - s + s / V and every other s / V. Source: Szegedy et al. 2016, section 7.
    """
    assert batch.source is not None
    assert batch.lengths is not None
    assert batch.weights is not None
    source = model.encode(batch.source, Padded(Full(), batch.lengths))
    counted = batch.weights > 0
    states = model.features(batch.tokens, source=source)[counted]
    logits = model.head(states[None])[0].float()
    total = F.cross_entropy(logits, batch.targets[counted], reduction="sum", label_smoothing=label_smoothing)
    return Loss(total, float(batch.weights.sum()))


@torch.no_grad()
def score(model: nn.Module, tokenizer: Any, part: Paired) -> PairScore:
    """Return what the right targets of some pairs cost, dropout off."""
    was_training = model.training
    model.eval()
    end = end_of(tokenizer)
    costs = dict(target_nats(cast(EncoderDecoder, model), part.sources, part.targets, end))
    model.train(was_training)
    return PairScore(
        np.array([costs[row] for row in range(len(part))]),
        part.targets.lengths,
        num_bytes_of(part) if tokenizer.lossless else None,
        int(model.context_length),  # type: ignore[arg-type]
    )


def num_bytes_of(part: Paired) -> int:
    """Return how many bytes the targets of a part have."""
    return sum(len(row.second.encode()) for row in part.rows)


def write_targets(model: nn.Module, tokenizer: Any, part: Paired, search: Search) -> list[str]:
    """Return what a model writes for the sources of a part."""
    found = translate_rows(cast(EncoderDecoder, model), tokenizer, part.sources, search)
    return [target_text(tokenizer, hypothesis) for hypothesis in found]


def written_overlap(model: nn.Module, tokenizer: Any, part: Paired, search: Search) -> Any:
    """Compare what a model writes for the sources of a part with their targets."""
    written = write_targets(model, tokenizer, part, search)
    return overlap_of(written, [row.second for row in part.rows], bleu=has_sacrebleu())


def spread_pairs(part: Paired, count: int) -> Paired:
    """Return evenly spaced pairs of a part, at most `count`."""
    if len(part) <= count:
        return part
    return part.take((2 * np.arange(count) + 1) * len(part) // (2 * count))
