"""Intervals: Student's t over seeds, the bootstrap over stretches of a text."""

from __future__ import annotations

import math

import numpy as np
import pytest

from clearhead.lab.compare import over_seeds, over_text, student_t


@pytest.mark.parametrize(("degrees", "point"), [(1, 12.706), (2, 4.303), (10, 2.228), (11, 2.201), (29, 2.045)])
def test_students_t_has_its_published_points(degrees: int, point: float) -> None:
    assert student_t(degrees) == pytest.approx(point, abs=1e-3)


def test_three_seeds_by_hand() -> None:
    found = over_seeds([1.0, 2.0, 4.0])
    assert found.mean == pytest.approx(7 / 3)
    assert found.spread == pytest.approx(math.sqrt(7 / 3))
    assert found.half_width == pytest.approx(4.303 * math.sqrt(7 / 3) / math.sqrt(3))
    assert (found.low + found.high) / 2 == pytest.approx(found.mean)


def test_one_seed_has_no_interval() -> None:
    assert over_seeds([1.5]).mean == 1.5
    assert math.isnan(over_seeds([1.5]).half_width)


def autoregressive(luck: np.random.Generator, length: int, carried: float) -> np.ndarray:
    """Return numbers with mean 0 of which each keeps a part of the one before."""
    noise, values = luck.normal(size=length + 50), np.zeros(length + 50)
    for at in range(1, length + 50):
        values[at] = carried * values[at - 1] + noise[at]
    return values[50:]


def test_blocks_cover_what_single_tokens_do_not() -> None:
    luck = np.random.default_rng(7)
    texts = [autoregressive(luck, 1500, 0.8) for _ in range(60)]

    def share_covered(block: int) -> float:
        found = [over_text(text, block=block, resamples=200) for text in texts]
        return float(np.mean([estimate.low <= 0.0 <= estimate.high for estimate in found]))

    assert share_covered(60) > 0.8
    assert share_covered(1) < 0.7


def test_the_mean_is_the_mean_and_the_last_block_counts_by_its_length() -> None:
    values = np.arange(131.0)
    found = over_text(values, block=13)
    assert found.mean == values.mean()
    assert found.low < found.mean < found.high
    assert over_text(np.full(131, 2.0), block=13).half_width == 0.0
