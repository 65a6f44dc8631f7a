"""What counting words and pairs of words can do: the baseline of a classifier."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float64, Int64
from torch import Tensor

from clearhead.text.rows import Rows

WORD = re.compile(r"\w+|[^\w\s]")
STRENGTHS = (0.3, 1.0, 3.0, 10.0)
"""The penalties that are tried; the one that is best on a fifth of the training rows is taken."""

MOST_FEATURES = 200_000
ITERATIONS, TRIAL_ITERATIONS = 100, 25
"""Steps of the minimisation, and of each trial of a penalty: where it stops early changes little but time."""


@dataclass(frozen=True, slots=True)
class BagOfWords:
    """Logistic regression on which words and pairs of neighbouring words a text has.

    minimise  sum of -ln p(label | features) + strength / 2 |weights|^2,  which has one minimum.

    Args:
        features: the place of each word or pair.
        weights: one row for each feature, and the last one for what every text has.
    """

    features: dict[str, int]
    weights: Float64[np.ndarray, "F N"]

    def nats(self, texts: Iterable[str]) -> Float64[np.ndarray, "B N"]:
        """Return what each label of each text would cost."""
        rows = feature_rows(texts, self.features)
        with torch.no_grad():
            logits = scores(torch.from_numpy(self.weights), rows)
        return -logits.log_softmax(dim=-1).numpy()


def train_bag(texts: Sequence[str], targets: Int64[np.ndarray, " B"], num_labels: int) -> BagOfWords:
    """Train on texts, with the penalty that is best where a fifth of them is held out."""
    features = frequent_features(texts)
    rows = feature_rows(texts, features)
    is_held_out = np.arange(len(texts)) % 5 == 4
    parts = np.flatnonzero(~is_held_out), np.flatnonzero(is_held_out)
    fitted = [rows.take(part) for part in parts]
    shape = (len(features) + 1, num_labels)

    def cost(strength: float) -> float:
        weights = fit(fitted[0], targets[parts[0]], shape, strength, TRIAL_ITERATIONS)
        return float(F.cross_entropy(scores(weights, fitted[1]), torch.from_numpy(targets[parts[1]])))

    strength = min(STRENGTHS, key=cost)
    return BagOfWords(features, fit(rows, targets, shape, strength, ITERATIONS).numpy())


def features_of(text: str) -> set[str]:
    """Return the words of a text in lower case, and the pairs of neighbours."""
    words = WORD.findall(text.lower())
    return {*words, *(f"{one} {other}" for one, other in pairwise(words))}


def frequent_features(texts: Iterable[str]) -> dict[str, int]:
    """Give each feature of the texts a place, the most frequent first."""
    counts = Counter(feature for text in texts for feature in sorted(features_of(text)))
    return {feature: place for place, (feature, _) in enumerate(counts.most_common(MOST_FEATURES))}


def feature_rows(texts: Iterable[str], features: dict[str, int]) -> Rows:
    """Return each text's known features as their places; the place after the last one is in every text."""
    bias = len(features)
    found = ([features[name] for name in features_of(text) if name in features] for text in texts)
    return Rows.of(np.array([*sorted(places), bias], dtype=np.int32) for places in found)


def scores(weights: Tensor, rows: Rows) -> Tensor:
    """Return the sum of the weights of each row's features."""
    ids, starts = torch.from_numpy(rows.ids), torch.from_numpy(rows.starts[:-1])
    return F.embedding_bag(ids.long(), weights, starts, mode="sum")


def fit(
    rows: Rows, targets: Int64[np.ndarray, " B"], shape: tuple[int, int], strength: float, iterations: int
) -> Tensor:
    """Return the weights at the minimum, found by L-BFGS on all rows at once."""
    weights = torch.zeros(shape, dtype=torch.float64, requires_grad=True)
    right = torch.from_numpy(targets)
    optimizer = torch.optim.LBFGS([weights], max_iter=iterations, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        optimizer.zero_grad()
        cost = F.cross_entropy(scores(weights, rows), right, reduction="sum")
        total = cost + strength / 2 * weights[:-1].square().sum()
        total.backward()  # type: ignore[no-untyped-call]
        return total

    optimizer.step(loss)  # type: ignore[no-untyped-call]
    return weights.detach()
