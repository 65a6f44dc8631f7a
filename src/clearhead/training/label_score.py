"""How well labels are chosen: accuracy with its interval, confusion, calibration."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float64, Int64

NORMAL = 1.959964
"""The 97.5 % point of the normal distribution."""

BINS = 10


@dataclass(frozen=True, slots=True)
class LabelScore:
    """What a classifier's choices are worth.

    Args:
        nats: what each class of each text would cost.
        targets: the right class of each text.
        labels: the classes' names.
        context_length: how many tokens of a text are read at most.
    """

    nats: Float64[np.ndarray, "B N"]
    targets: Int64[np.ndarray, " B"]
    labels: tuple[str, ...]
    context_length: int
    bits_per_byte: None = None

    @property
    def costs(self) -> Float64[np.ndarray, " B"]:
        """What each text's right label cost."""
        right: Float64[np.ndarray, " B"] = self.nats[np.arange(len(self.targets)), self.targets]
        return right

    @property
    def nats_per_token(self) -> float:
        """The mean cost of the right labels."""
        return float(self.costs.mean())

    @property
    def standard_error(self) -> float:
        """Of that mean, from the spread of the texts."""
        return float(self.costs.std()) / math.sqrt(len(self.costs))

    @property
    def tokens_scored(self) -> int:
        """How many labels were scored."""
        return len(self.targets)

    @property
    def chosen(self) -> Int64[np.ndarray, " B"]:
        """The likeliest class of each text."""
        best: Int64[np.ndarray, " B"] = self.nats.argmin(axis=1)
        return best

    @property
    def accuracy(self) -> float:
        """The share of right choices."""
        return float((self.chosen == self.targets).mean())

    @property
    def metrics(self) -> Mapping[str, float]:
        """Accuracy with its interval, and how far probabilities lie from the shares that turn out right."""
        right = int((self.chosen == self.targets).sum())
        low, high = wilson(right, len(self.targets))
        _, error = self._calibration()
        return {
            "accuracy": self.accuracy,
            "accuracy_low": low,
            "accuracy_high": high,
            "calibration_error": error,
        }

    @property
    def details(self) -> Mapping[str, Mapping[str, Any]]:
        """Which label was taken for which, and how often the model is right when it is so sure."""
        bins, error = self._calibration()
        counts = confusion(self.targets, self.chosen, len(self.labels))
        return {
            "confusion": {"labels": list(self.labels), "counts": counts.tolist()},
            "calibration": {"bins": bins, "error": error},
        }

    def _calibration(self) -> tuple[list[dict[str, float]], float]:
        return calibration(np.exp(-self.nats.min(axis=1)), self.chosen == self.targets)


def wilson(successes: int, trials: int, z: float = NORMAL) -> tuple[float, float]:
    """Return the interval in which a share lies, by default at 95 %.

    Unlike share +- z sqrt(p q / n) it stays inside 0 to 1 and has a width where all trials went well.
    Source: Wilson 1927.
    """
    share, spread = successes / trials, z * z / trials
    middle = share + spread / 2
    half = math.sqrt(spread * (share * (1 - share) + spread / 4))
    return max(0.0, (middle - half) / (1 + spread)), min(1.0, (middle + half) / (1 + spread))


def confusion(targets: Int64[np.ndarray, " B"], chosen: Int64[np.ndarray, " B"], size: int) -> Int64[np.ndarray, "N N"]:
    """Count how often each class (row) was taken for each class (column)."""
    return np.bincount(targets * size + chosen, minlength=size * size).reshape(size, size)


def calibration(sure: Float64[np.ndarray, " B"], right: np.ndarray) -> tuple[list[dict[str, float]], float]:
    """Compare how sure a model is with how often it is right.

    The choices are sorted into ten bins by their probability. The expected calibration error is the mean distance
    between a bin's mean probability and its share of right choices, weighted by its size.
    Source: Guo et al. 2017, section 2.

    Returns:
        for each bin that is not empty its edges, count, mean probability and share of right ones; and the error. Of a
        model whose numbers are not finite, no bins.
    """
    if not np.isfinite(sure).all():
        return [], math.nan
    which = np.minimum((sure * BINS).astype(np.int64), BINS - 1)
    bins, error = [], 0.0
    for index in np.unique(which):
        inside = which == index
        sureness, accuracy = float(sure[inside].mean()), float(right[inside].mean())
        count = int(inside.sum())
        error += count / len(sure) * abs(sureness - accuracy)
        edges = {"low": index / BINS, "high": (index + 1) / BINS}
        bins.append({**edges, "count": count, "probability": sureness, "accuracy": accuracy})
    return bins, error
