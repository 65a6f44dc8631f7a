"""The learning-rate range test: which rates learn, and where learning breaks down."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64

from clearhead.training.loop import to_tensors
from clearhead.training.optim import build_optimizer
from clearhead.training.session import Session

LOWEST, HIGHEST = 1e-2, 1e2
"""The test goes from a hundredth to a hundred times the configured rates."""

BLOWN_UP = 1.5
"""A smoothed loss this many times the best one ends the test."""


@dataclass(frozen=True, slots=True)
class RangeTest:
    """What the test saw.

    Args:
        factors: of all configured learning rates, one for each step.
        losses: smoothed, at each step.
        suggested: a third of the factor at which the smoothed loss was lowest: the rate before trouble, with room.
    """

    factors: Float64[np.ndarray, " N"]
    losses: Float64[np.ndarray, " N"]
    suggested: float


def range_test(session: Session, *, num_steps: int = 100) -> RangeTest:
    """Train a copy of a session's model while its learning rates grow by the same factor each step.

    Source: Smith 2017, section 3.3. Departs: the growth is exponential, and every group's rate keeps its proportion.
    """
    factors = np.geomspace(LOWEST, HIGHEST, num_steps)
    losses = np.array(list(_smoothed_losses(session, factors)))
    factors = factors[: len(losses)]
    return RangeTest(factors, losses, float(factors[losses.argmin()]) / 3)


def _smoothed_losses(session: Session, factors: Float64[np.ndarray, " N"]) -> Iterator[float]:
    """Yield the running mean of the loss at each factor, until it has blown up."""
    model = copy.deepcopy(session.model)
    optimizer = build_optimizer(session.config.optimizer, model)
    mean, lowest = 0.0, math.inf
    for step, factor in enumerate(factors):
        total, weight = 0.0, 0.0
        for batch in session.batches(step):
            loss = session.objective(model, to_tensors(batch, session.runtime.device))
            (loss.total / session.batches.tokens_per_step).backward()  # type: ignore[no-untyped-call]
            total, weight = total + float(loss.total.detach()), weight + loss.weight
        optimizer.set_factor(float(factor))
        optimizer.step()
        optimizer.zero_grad()
        mean = 0.8 * mean + 0.2 * total / weight
        corrected = mean / (1 - 0.8 ** (step + 1))
        if not math.isfinite(corrected) or corrected > BLOWN_UP * lowest:
            return
        lowest = min(lowest, corrected)
        yield corrected
