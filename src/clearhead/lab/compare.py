"""How far a difference can be trusted: means and intervals over seeds, and the bootstrap over a text's stretches."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64

STUDENT_T = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228)
"""The 97.5 % points of Student's t for 1 to 10 degrees of freedom."""

NORMAL = 1.959964
BLOCK = 64
RESAMPLES = 2000


@dataclass(frozen=True, slots=True)
class Estimate:
    """A mean of several runs, and the 95 % interval in which it lies.

    Args:
        spread: the standard deviation of the single values; NaN for one value.
        low: NaN, as `high`, where the interval is not known.
    """

    mean: float
    spread: float
    low: float
    high: float
    count: int

    @property
    def half_width(self) -> float:
        """Half of the interval's length."""
        return (self.high - self.low) / 2


def over_seeds(values: Sequence[float]) -> Estimate:
    """Return the mean of a figure over seeds, with Student's t interval: mean +- t(n-1) s / sqrt(n).

    One value has no interval.
    """
    mean, count = float(np.mean(values)), len(values)
    if count == 1:
        return Estimate(mean, math.nan, math.nan, math.nan, 1)
    spread = float(np.std(values, ddof=1))
    half = student_t(count - 1) * spread / math.sqrt(count)
    return Estimate(mean, spread, mean - half, mean + half, count)


def student_t(degrees: int) -> float:
    """Return the 97.5 % point of Student's t; above 10 degrees of freedom by its expansion around the normal's."""
    if degrees <= len(STUDENT_T):
        return STUDENT_T[degrees - 1]
    z = NORMAL
    terms = (
        (z**3 + z) / 4,
        (5 * z**5 + 16 * z**3 + 3 * z) / 96,
        (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384,
    )
    return z + math.fsum(term / degrees**power for power, term in enumerate(terms, 1))


def over_text(
    values: Float64[np.ndarray, " N"], *, block: int = BLOCK, resamples: int = RESAMPLES, seed: int = 0
) -> Estimate:
    """Return the mean over a text's tokens, with the 95 % interval of a bootstrap over its stretches.

    Whole blocks of neighbouring tokens are drawn, since what one token costs goes with what its neighbours cost. Given
    the differences of two models' costs on the same tokens, it tells how sure the better one is better on such texts;
    it says nothing on how another seed would have turned out.
    Source: Kunsch 1989, moving blocks. Departs: the blocks do not overlap; the last, shorter one counts by its length.
    """
    edges = np.arange(0, len(values), block)
    sums = np.add.reduceat(values, edges)
    lengths = np.diff(np.append(edges, len(values)))
    drawn = np.random.default_rng(seed).integers(len(edges), size=(resamples, len(edges)))
    means = sums[drawn].sum(axis=1) / lengths[drawn].sum(axis=1)
    low, high = np.quantile(means, (0.025, 0.975))
    return Estimate(float(values.mean()), math.nan, float(low), float(high), 1)
