"""From logits to the next token: pure functions, each of which does one thing to a distribution."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float, Float64, Int
from torch import Tensor

from clearhead.core.errors import BrokenModel, UserError

Logits = Float[Tensor, "B V"]

NEVER = -math.inf

JUST_BELOW_ONE = 1.0 - 2.0**-52
"""No rounding makes a number below 1 times this times a total as large as the total, which no token would answer."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Sampling:
    """How the next token is chosen. The filters work in the order in which they stand here.

    Args:
        repetition_penalty: above 1, tokens that stand in the context become less likely.
        temperature: below 1 sharper, above 1 flatter; 0 always takes the likeliest token.
        top_k: only so many of the likeliest tokens stay.
        top_p: only the likeliest tokens stay that together have this much probability.
        min_p: only tokens stay that are at least this share as likely as the likeliest.
    """

    repetition_penalty: float = 1.0
    temperature: float = 1.0
    top_k: int | None = None
    top_p: float = 1.0
    min_p: float = 0.0

    def __post_init__(self) -> None:
        checks = {
            "repetition_penalty must be from 0.01 to 100": 0.01 <= self.repetition_penalty <= 100,
            "temperature must be 0 or more and finite": 0 <= self.temperature < math.inf,
            "top_k must be at least 1": self.top_k is None or self.top_k >= 1,
            "top_p must be above 0 and at most 1": 0 < self.top_p <= 1,
            "min_p must be from 0 to 1": 0 <= self.min_p <= 1,
        }
        for rule, holds in checks.items():
            if not holds:
                raise UserError(f"{rule}, not {getattr(self, rule.split()[0])}.")


def distribution(
    logits: Logits, context: Int[Tensor, "B N"], sampling: Sampling, *, never: Int[Tensor, " _"] | None = None
) -> Float64[Tensor, "B V"]:
    """Return the probabilities from which the next token is drawn, in double precision.

    Args:
        never: tokens that are out of the question.

    Raises:
        BrokenModel: a logit is not a finite number, so the model is broken.
    """
    logits = logits.double()
    # A sum of doubles that were floats is finite exactly where all of them are.
    if not math.isfinite(logits.sum()):
        raise BrokenModel("The model's logits are not finite, so nothing can be drawn: its training went wrong.")
    if never is not None and len(never):
        logits = logits.index_fill(-1, never, NEVER)
    logits = penalize_repetition(logits, context, sampling.repetition_penalty)
    if sampling.temperature == 0:
        return torch.nn.functional.one_hot(logits.argmax(-1), logits.size(-1)).double()
    if sampling.temperature != 1.0:
        # The largest becomes 0 first, so that no temperature, however small, makes an infinity of it.
        logits = (logits - logits.amax(-1, keepdim=True)) / sampling.temperature
    logits = keep_top_k(logits, sampling.top_k)
    logits = keep_top_p(logits, sampling.top_p)
    return keep_min_p(logits, sampling.min_p).softmax(-1)


def penalize_repetition(logits: Logits, context: Int[Tensor, "B N"], penalty: float) -> Logits:
    """Divide the positive logits of tokens in the context by the penalty, and multiply the negative ones.

    Source: Keskar et al. 2019 (CTRL), section 4.1.
    """
    if penalty == 1.0 or context.size(1) == 0:
        return logits
    seen = logits.gather(1, context.long())
    return logits.scatter(1, context.long(), torch.where(seen > 0, seen / penalty, seen * penalty))


def keep_top_k(logits: Logits, k: int | None) -> Logits:
    """Leave the k largest logits of each row; ties with the k-th stay. Source: Fan et al. 2018."""
    if k is None or k >= logits.size(-1):
        return logits
    smallest = logits.topk(k, dim=-1).values[:, -1:]
    return logits.masked_fill(logits < smallest, NEVER)


def keep_top_p(logits: Logits, p: float) -> Logits:
    """Leave the fewest of the likeliest tokens whose probability together reaches p. Source: Holtzman et al. 2020."""
    if p >= 1.0:
        return logits
    ordered, order = logits.softmax(-1).sort(dim=-1, descending=True, stable=True)
    # A token goes when those before it reach p already; the first one always stays.
    before = ordered.cumsum(-1) - ordered
    return logits.masked_fill(torch.zeros_like(before).scatter(1, order, before) >= p, NEVER)


def keep_min_p(logits: Logits, p: float) -> Logits:
    """Leave the tokens at least p times as likely as the likeliest one. Source: Nguyen et al. 2024."""
    if p == 0.0:
        return logits
    probabilities = logits.softmax(-1)
    return logits.masked_fill(probabilities < p * probabilities.amax(-1, keepdim=True), NEVER)


def draw(probabilities: Float[Tensor, "B V"], uniforms: Float[Tensor, " B"]) -> Int[Tensor, " B"]:
    """Return for each row the token at which the cumulated probability passes its uniform number in [0, 1).

    Unlike torch.multinomial this says which luck led to which token, so a draw can be repeated and altered.
    """
    cumulated = probabilities.double().cumsum(-1)
    targets = uniforms.double().unsqueeze(-1) * (cumulated[:, -1:] * JUST_BELOW_ONE)
    return torch.searchsorted(cumulated, targets, right=True).squeeze(-1)
