"""The task of a translator: write the target that belongs to a source."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Int64
from torch import Tensor, nn

from clearhead.core.config import build
from clearhead.core.errors import UserError
from clearhead.core.run import Run
from clearhead.generation.beam import Search
from clearhead.generation.translator import end_of, target_nats, target_text, translate_rows
from clearhead.model.encoder_decoder import EncoderDecoder
from clearhead.model.family_config import EncoderDecoderConfig
from clearhead.model.masks import Full, Padded
from clearhead.store.load import Loaded, tokenizer_of
from clearhead.text.batches import Batch
from clearhead.text.config import BpeConfig
from clearhead.text.records import Row, named_input
from clearhead.text.rows import RowOrder
from clearhead.training.config import RunConfig, TranslateTaskConfig
from clearhead.training.objective import Loss
from clearhead.training.pair_score import PairScore, has_sacrebleu, overlap_of
from clearhead.training.paired import Paired, PairedData, paired, prepared, table_of
from clearhead.training.table import stored_rows
from clearhead.training.table_task import RowBatches, TableTask, assessment, spread
from clearhead.training.task import BatchSource, Further, Reading

WRITTEN_PAIRS = 2000
"""For how many sources at most, evenly spaced, the evaluation at the end writes targets."""


@dataclass(frozen=True, kw_only=True, eq=False)
class PairBatches(RowBatches[Paired]):
    """Sources, and targets with what comes before each token."""

    end: int

    def batch(self, rows: Int64[np.ndarray, " B"]) -> Batch[Any]:
        source, source_lengths = self.part.sources.padded(rows)
        targets, lengths = self.part.targets.padded(rows)
        before = np.concatenate((np.full_like(targets[:, :1], self.end), targets[:, :-1]), axis=1)
        weights = (np.arange(targets.shape[1]) < lengths[:, None]).astype(np.float32)
        return Batch(before, targets, weights=weights, source=source, lengths=source_lengths)


@dataclass(frozen=True)
class TranslationTask(TableTask[Paired]):
    """Sources with their targets; each source is read whole, and its target is written token by token."""

    data: PairedData
    label_smoothing: float = 0.0
    kind = "translate"
    unit = "token"
    alternative = "id"
    built_in = "pairs"
    sampled_rows = 512
    shown_rows = 4

    @classmethod
    def read(cls, reading: Reading, config: RunConfig) -> tuple[TranslationTask, RunConfig]:
        task = config.task
        assert isinstance(task, TranslateTaskConfig)
        if not isinstance(config.model, EncoderDecoderConfig):
            raise UserError(
                f"--task translate trains an encoder-decoder, and model.kind is {config.model.kind}; "
                "give --preset translate, or --model.kind encoder_decoder."
            )
        table = table_of(task)
        parts = table.read([named_input(str(name), reading.keep_stdin_at) for name in reading.names], config.text)
        tokenizer_config = config.tokenizer or BpeConfig()
        tokenizer = table.train_tokenizer(parts, tokenizer_config)
        training, validation = prepared(parts, tokenizer, config.model.context_length, reading.notify)
        sources = table.describe(reading.names, config.text, parts, (training, validation))
        data = PairedData(tokenizer, training, validation, sources)
        return cls(data, task.label_smoothing), replace(config, tokenizer=tokenizer_config)

    @classmethod
    def reopen(cls, run: Run, config: RunConfig) -> TranslationTask:
        assert isinstance(config.task, TranslateTaskConfig)
        sources, tokenizer = run.data(), tokenizer_of(run)
        parts = table_of(config.task).read_again(run.path, sources)
        training, validation = prepared(parts, tokenizer, config.model.context_length, lambda _: None)
        return cls(PairedData(tokenizer, training, validation, sources), config.task.label_smoothing)

    @classmethod
    def assess(cls, loaded: Loaded, texts: Sequence[str], further: Further) -> dict[str, Any]:
        further.require_nothing()
        tokenizer, context = loaded.tokenizer, int(loaded.model.context_length)  # type: ignore[arg-type]
        part = paired(rows_of(loaded, texts), tokenizer, context)
        overlap = written_overlap(loaded.model, tokenizer, part, Search())
        return assessment(loaded, texts, replace(target_score(loaded.model, tokenizer, part), overlap=overlap))

    @property
    def choices(self) -> int:
        return self.data.tokenizer.vocabulary_size

    def objective(self, model: nn.Module, batch: Batch[Tensor]) -> Loss:
        return target_loss(cast(EncoderDecoder, model), batch, self.label_smoothing)

    def batches(self, config: RunConfig) -> BatchSource:
        part, train = self.data.training, config.train
        # Targets of one length together, and among them sources: both then need little padding.
        keys = part.targets.lengths * (config.model.context_length + 1) + part.sources.lengths
        order = RowOrder(lengths=keys, rows_per_step=min(train.sequences_per_step, len(part)), seed=train.seed)
        end = end_of(self.data.tokenizer)
        return PairBatches(part=part, end=end, order=order, micro_batches=train.micro_batches)

    def score(self, model: nn.Module, part: Paired, *, sampled: bool) -> PairScore:
        tokenizer = self.data.tokenizer
        if sampled:
            return target_score(model, tokenizer, spread(part, self.sampled_rows))
        overlap = written_overlap(model, tokenizer, spread(part, WRITTEN_PAIRS), Search())
        return replace(target_score(model, tokenizer, part), overlap=overlap)

    def compared_with(self, config: RunConfig) -> dict[str, Any]:
        data = self.data
        counts = np.bincount(data.training.targets.ids, minlength=self.choices) + 1.0
        nats = -np.log(counts / counts.sum())[data.validation.targets.ids]
        total = nats.sum() / (np.log(2) * num_bytes_of(data.validation))
        bits = float(total) if data.tokenizer.lossless else None
        frequency: dict[str, Any] = {"nats_per_token": float(nats.mean()), "bits_per_byte": bits, "metrics": {}}
        return {"baselines": {"how frequent tokens are": frequency}}

    def stored(self, part: Paired) -> list[Mapping[str, str]]:
        return [{"source": row.first, "target": row.second} for row in part.rows]

    def said(self, model: nn.Module, part: Paired) -> list[tuple[str, str]]:
        """Return sources with what a model writes for them, and what is right if that is not."""
        written = write_targets(model, self.data.tokenizer, part, Search())
        return [
            (row.first, target if target == row.second else f"{target} (and not {row.second})")
            for row, target in zip(part.rows, written, strict=True)
        ]


def rows_of(loaded: Loaded, texts: Sequence[str]) -> list[Row]:
    """Return the pairs that a run is validated on, or those of other files."""
    task = build(TranslateTaskConfig, loaded.description["config"]["task"], where="task")
    own = table_of(TranslateTaskConfig()).columns
    return table_of(task).read_others(loaded, texts) if texts else stored_rows(loaded, own)


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
def target_score(model: nn.Module, tokenizer: Any, part: Paired) -> PairScore:
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
