"""How well pairs are translated: the cost of the right targets, and BLEU, chrF and exact matches of those written."""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from jaxtyping import Float64, Int64

from clearhead.core.errors import UserError


@dataclass(frozen=True, slots=True)
class Overlap:
    """How much written targets have in common with the right ones.

    Args:
        exact: the share that is right in every character.
        bleu: on lines as they are, from 0 to 100; None without sacrebleu, as chrf is.
        signature: what sacrebleu says of how BLEU was computed.
    """

    exact: float
    bleu: float | None = None
    chrf: float | None = None
    signature: str = ""

    @property
    def metrics(self) -> dict[str, float]:
        """The figures by name."""
        named = {"bleu": self.bleu, "chrf": self.chrf, "exact": self.exact}
        return {name: value for name, value in named.items() if value is not None}


def overlap_of(written: Sequence[str], right: Sequence[str], *, bleu: bool = True) -> Overlap:
    """Compare written targets with the right ones.

    BLEU and chrF as sacrebleu computes them, without tokenizing: words are what stands between spaces.
    Source: Papineni et al. 2002; Popović 2015; Post 2018.

    Args:
        bleu: also compute BLEU and chrF.

    Raises:
        UserError: sacrebleu is wanted and not installed.
    """
    exact = float(np.mean([one == other for one, other in zip(written, right, strict=True)]))
    if not bleu:
        return Overlap(exact)
    if not has_sacrebleu():
        raise UserError('BLEU and chrF need sacrebleu; install it with: pip install "clearhead[translate]"')
    from sacrebleu.metrics.bleu import BLEU
    from sacrebleu.metrics.chrf import CHRF

    # "force" says that tokenized text is meant.
    metric = BLEU(tokenize="none", force=True)
    score = metric.corpus_score(list(written), [list(right)]).score
    chrf = CHRF().corpus_score(list(written), [list(right)]).score
    return Overlap(exact, score, chrf, str(metric.get_signature()))


def has_sacrebleu() -> bool:
    """Say whether the library that computes BLEU is installed."""
    return importlib.util.find_spec("sacrebleu") is not None


@dataclass(frozen=True, slots=True)
class PairScore:
    """What a model's translations are worth; a "token" is one of a target, its end included.

    Args:
        costs: the nats of each right target.
        lengths: how many tokens each has.
        num_bytes: of all right targets, or None where the tokenizer loses text.
        overlap: of what the model writes itself, where it was asked to.
    """

    costs: Float64[np.ndarray, " B"]
    lengths: Int64[np.ndarray, " B"]
    num_bytes: int | None
    context_length: int
    overlap: Overlap | None = field(default=None)

    @property
    def nats_per_token(self) -> float:
        """The mean cost of a right target's token."""
        return float(self.costs.sum() / self.lengths.sum())

    @property
    def standard_error(self) -> float:
        """Of that mean, from the spread of the pairs."""
        return float(self.costs.std()) * math.sqrt(len(self.costs)) / float(self.lengths.sum())

    @property
    def bits_per_byte(self) -> float | None:
        """The bits of all right targets for each of their bytes."""
        return float(self.costs.sum()) / (math.log(2) * self.num_bytes) if self.num_bytes else None

    @property
    def tokens_scored(self) -> int:
        """How many tokens were scored."""
        return int(self.lengths.sum())

    @property
    def metrics(self) -> Mapping[str, float]:
        """BLEU, chrF and exact matches."""
        return {} if self.overlap is None else self.overlap.metrics

    @property
    def details(self) -> Mapping[str, Mapping[str, Any]]:
        """The figures with how they were computed."""
        if self.overlap is None:
            return {}
        return {"translation": {**self.overlap.metrics, "signature": self.overlap.signature}}
