"""How far a difference can be trusted: means and intervals over seeds, and the bootstrap over a text's stretches."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64

# The 97.5 % points of Student's t by degrees of freedom, 1 to 30; beyond, the normal's 1.96 plus 2.4 / n is close.
STUDENT_T = tuple(
    map(
        float,
        [
            "12.706",
            "4.303",
            "3.182",
            "2.776",
            "2.571",
            "2.447",
            "2.365",
            "2.306",
            "2.262",
            "2.228",
            "2.201",
            "2.179",
            "2.160",
            "2.145",
            "2.131",
            "2.120",
            "2.110",
            "2.101",
            "2.093",
            "2.086",
            "2.080",
            "2.074",
            "2.069",
            "2.064",
            "2.060",
            "2.056",
            "2.052",
            "2.048",
            "2.045",
            "2.042",
        ],
    )
)
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
    """Return the 97.5 % point of Student's t."""
    return STUDENT_T[degrees - 1] if degrees <= len(STUDENT_T) else 1.96 + 2.4 / degrees


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
