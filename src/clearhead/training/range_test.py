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
from clearhead.training.session import Session, probe
from clearhead.training.task import BatchSource

LOWEST, HIGHEST = 1e-2, 1e2
"""The test goes from a hundredth to a hundred times the configured rates."""

BLOWN_UP = 1.5
"""A smoothed loss this many times the best one ends the test."""

MOST_STEPS, FEWEST_STEPS = 100, 50
"""Where time is short the rates grow faster; beyond that, which would blur the result, batches are made smaller."""

SMOOTHED_DECADES = 0.2
"""The loss is averaged over about so many powers of ten of the rate."""


@dataclass(frozen=True, slots=True)
class RangeTest:
    """What the test saw.

    Args:
        factors: of all configured learning rates, one for each step.
        losses: smoothed, at each step.
        suggested: a third of the factor at which the smoothed loss was lowest: the rate before trouble, with room.
        sequences_per_step: of the batches that the test used, fewer than the run's where those took too long.
    """

    factors: Float64[np.ndarray, " N"]
    losses: Float64[np.ndarray, " N"]
    suggested: float
    sequences_per_step: int


def range_test(session: Session, *, max_seconds: float = 30.0) -> RangeTest:
    """Train a copy of a session's model while its learning rates grow by the same factor each step.

    Source: Smith 2017, section 3.3. Departs: the growth is exponential, and every group's rate keeps its proportion.

    Args:
        max_seconds: about how long it may take; what one step takes is measured first.
    """
    num_steps, batches = affordable(session.batches, max_seconds / probe(session, updates=2).step_seconds)
    factors = np.geomspace(LOWEST, HIGHEST, num_steps)
    losses = np.array(list(_smoothed_losses(session, batches, factors)))
    factors = factors[: len(losses)]
    return RangeTest(factors, losses, float(factors[losses.argmin()]) / 3, batches.sequences_per_step)


def affordable(batches: BatchSource, steps_in_time: float) -> tuple[int, BatchSource]:
    """Return how many steps the test takes and with which batches.

    Args:
        steps_in_time: how many steps with the whole batches there is time for.
    """
    if steps_in_time >= FEWEST_STEPS:
        return min(MOST_STEPS, int(steps_in_time)), batches
    sequences = max(1, int(batches.sequences_per_step * steps_in_time / FEWEST_STEPS))
    return FEWEST_STEPS, batches.resized(sequences)


def _smoothed_losses(session: Session, batches: BatchSource, factors: Float64[np.ndarray, " N"]) -> Iterator[float]:
    """Yield the running mean of the loss at each factor, until it has blown up."""
    model = copy.deepcopy(session.model)
    optimizer = build_optimizer(session.config.optimizer, model, session.runtime.precision)
    forget = 1 - math.exp(-math.log10(HIGHEST / LOWEST) / (SMOOTHED_DECADES * len(factors)))
    mean, lowest = 0.0, math.inf
    for step, factor in enumerate(factors):
        total, weight = 0.0, 0.0
        for batch in batches(step):
            loss = session.objective(model, to_tensors(batch, session.runtime.device))
            (loss.total / batches.tokens_per_step).backward()  # type: ignore[no-untyped-call]
            total, weight = total + float(loss.total.detach()), weight + loss.weight
        optimizer.set_factor(float(factor))
        optimizer.step()
        optimizer.zero_grad()
        mean += forget * (total / weight - mean)
        corrected = mean / (1 - (1 - forget) ** (step + 1))
        if not math.isfinite(corrected) or corrected > BLOWN_UP * lowest:
            return
        lowest = min(lowest, corrected)
        yield corrected
