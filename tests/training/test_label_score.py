"""Accuracy, its interval, confusion and calibration, each by another way of counting."""

from __future__ import annotations

import math

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, confusion_matrix, log_loss

from clearhead.training.label_score import LabelScore, calibration, wilson


def score(count: int = 211, classes: int = 3) -> LabelScore:
    random = np.random.default_rng(5)
    logits = random.normal(size=(count, classes))
    targets = np.where(random.random(count) < 0.6, logits.argmax(1), random.integers(0, classes, count))
    nats = -(logits - np.log(np.exp(logits).sum(1, keepdims=True)))
    return LabelScore(nats, targets, tuple("abc"[:classes]), 17)


def test_figures_are_those_of_scikit_learn() -> None:
    found = score()
    assert found.accuracy == found.metrics["accuracy"] == accuracy_score(found.targets, found.chosen)
    assert found.nats_per_token == pytest.approx(log_loss(found.targets, np.exp(-found.nats)))
    assert np.array_equal(found.details["confusion"]["counts"], confusion_matrix(found.targets, found.chosen))
    assert found.standard_error == pytest.approx(found.costs.std() / math.sqrt(211))
    assert (found.tokens_scored, found.context_length, found.bits_per_byte) == (211, 17, None)


@pytest.mark.parametrize(("right", "count"), [(0, 7), (7, 7), (5, 11), (811, 872), (1, 1)])
def test_the_interval_holds_the_shares_that_could_have_given_it(right: int, count: int) -> None:
    """Its ends are the shares p with |p - right / n| = z sqrt(p (1 - p) / n)."""
    low, high = wilson(right, count)
    assert 0.0 <= low <= right / count <= high <= 1.0
    for end in (low, high):
        if 0.0 < end < 1.0:
            distance = 1.959964 * math.sqrt(end * (1 - end) / count)
            assert abs(end - right / count) == pytest.approx(distance, rel=1e-6)


def test_the_interval_covers_about_nineteen_of_twenty() -> None:
    hits = np.random.default_rng(3).binomial(60, 0.8, 4000)
    covered = [low <= 0.8 <= high for low, high in (wilson(int(hit), 60) for hit in hits)]
    assert 0.93 < np.mean(covered) < 0.97


def test_calibration_counts_bin_by_bin() -> None:
    sure = np.array([0.55, 0.58, 0.91, 0.99, 1.0, 0.3])
    right = np.array([True, False, True, True, False, False])
    bins, error = calibration(sure, right)
    assert [(each["low"], each["count"]) for each in bins] == [(0.3, 1), (0.5, 2), (0.9, 3)]
    expected = (1 * abs(0.3 - 0) + 2 * abs(0.565 - 0.5) + 3 * abs(np.mean([0.91, 0.99, 1.0]) - 2 / 3)) / 6
    assert error == pytest.approx(expected)


def test_a_model_that_is_as_sure_as_it_is_right_has_no_error() -> None:
    sure = np.repeat([0.25, 0.75], 400)
    right = np.concatenate([np.arange(400) % 4 == 0, np.arange(400) % 4 != 0])
    assert calibration(sure, right)[1] == pytest.approx(0.0, abs=1e-12)
    assert calibration(sure, ~right)[1] == pytest.approx(0.5)


def test_a_broken_model_is_not_sure_of_anything() -> None:
    bins, error = calibration(np.array([0.5, np.nan]), np.array([True, False]))
    assert bins == []
    assert np.isnan(error)
