"""The evaluation rule: every token but the first is scored exactly once, in windows that do not overlap."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float64, Int32, Int64
from torch import nn

from clearhead.generation.score import logits_of, token_nats, windows_at_once
from clearhead.text.batches import TokenSource, document_numbers, evaluation_windows, sampled_windows

SAMPLED_TARGETS = 8192
"""How many targets the evaluations during a run score."""


@runtime_checkable
class Evaluation(Protocol):
    """What the loop asks of a score, whatever the task; a "token" is one target.

    Args:
        metrics: other figures of the task, by name.
        details: what does not fit in a figure, by the name under which it is told.
    """

    @property
    def nats_per_token(self) -> float: ...

    @property
    def standard_error(self) -> float: ...

    @property
    def bits_per_byte(self) -> float | None: ...

    @property
    def tokens_scored(self) -> int: ...

    @property
    def context_length(self) -> int: ...

    @property
    def metrics(self) -> Mapping[str, float]: ...

    @property
    def details(self) -> Mapping[str, Mapping[str, Any]]: ...


@dataclass(frozen=True, slots=True)
class Score:
    """What a model's predictions of a text cost.

    Args:
        standard_error: of nats_per_token, from the spread of the windows' sums.
        bits_per_byte: nats / (ln 2 x bytes of the targets); None where the tokenizer loses text.
        by_position: mean nats at each position of the full windows.
    """

    nats_per_token: float
    standard_error: float
    bits_per_byte: float | None
    tokens_scored: int
    by_position: Float64[np.ndarray, " T"]

    @property
    def context_length(self) -> int:
        """How many positions the full windows have."""
        return len(self.by_position)

    @property
    def metrics(self) -> Mapping[str, float]:
        """Nothing: the cost says it all."""
        return {}

    @property
    def details(self) -> Mapping[str, Mapping[str, Any]]:
        """The cost by position, as it is told in an event."""
        return {"loss_by_position": {"positions": len(self.by_position), "nats": self.by_position.tolist()}}


@dataclass(frozen=True, slots=True)
class Evaluator:
    """Scores models on one stretch of tokens.

    Args:
        byte_lengths: bytes of text that each id stands for, or None where the tokenizer loses text.
        end: the id that begins each document, where the model's mask keeps documents apart.
    """

    tokens: TokenSource
    context_length: int
    byte_lengths: Int32[np.ndarray, " V"] | None
    end: int | None = None

    def score(self, model: nn.Module, *, sampled: bool = False) -> Score:
        """Score a model, dropout off, by the whole rule or on evenly spaced windows only."""
        choose = sampled_windows if sampled else evaluation_windows
        extra = (SAMPLED_TARGETS,) if sampled else ()
        starts, lengths = choose(len(self.tokens), self.context_length, *extra)
        was_training = model.training
        model.eval()
        try:
            with torch.no_grad():
                parts = [self._window_nats(model, *group) for group in self._groups(model, starts, lengths)]
        finally:
            model.train(was_training)
        return self._summarize(parts)

    def _groups(
        self, model: nn.Module, starts: Int64[np.ndarray, " N"], lengths: Int64[np.ndarray, " N"]
    ) -> Iterator[tuple[Int64[np.ndarray, " N"], int]]:
        """Yield windows of one length, as many as one forward pass takes."""
        rows = windows_at_once(model, self.context_length)
        for length in np.unique(lengths):
            same = starts[lengths == length]
            for first in range(0, len(same), rows):
                yield same[first : first + rows], int(length)

    def _window_nats(
        self, model: nn.Module, starts: Int64[np.ndarray, " N"], length: int
    ) -> tuple[Float64[np.ndarray, "N T"], int]:
        """Return the nats of every target of some windows, and how many bytes the targets stand for."""
        ids = self.tokens.gather(starts, length + 1)
        window = torch.from_numpy(ids).to(device_of(model))
        documents = None
        if self.end is not None:
            documents = torch.from_numpy(document_numbers(ids[:, :-1], self.end)).to(window.device)
        nats = token_nats(logits_of(model, window[:, :-1], documents), window[:, 1:])
        num_bytes = 0 if self.byte_lengths is None else int(self.byte_lengths[ids[:, 1:]].sum())
        return nats.double().cpu().numpy(), num_bytes

    def _summarize(self, parts: list[tuple[Float64[np.ndarray, "_ _"], int]]) -> Score:
        sums = np.concatenate([nats.sum(axis=1) for nats, _ in parts])
        targets = sum(nats.size for nats, _ in parts)
        num_bytes = sum(count for _, count in parts)
        longest = max(nats.shape[1] for nats, _ in parts)
        full = np.concatenate([nats for nats, _ in parts if nats.shape[1] == longest])
        total = float(sums.sum())
        return Score(
            nats_per_token=total / targets,
            standard_error=float(sums.std()) * math.sqrt(len(sums)) / targets,
            bits_per_byte=total / (math.log(2) * num_bytes) if num_bytes else None,
            tokens_scored=targets,
            by_position=full.mean(axis=0),
        )


def device_of(model: nn.Module) -> torch.device:
    """Return where a model's parameters are."""
    return next(model.parameters()).device
