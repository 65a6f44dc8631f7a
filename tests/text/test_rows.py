"""Rows of ids: padding and order, against lists."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from clearhead.text.rows import BATCHES_SORTED_TOGETHER, RowOrder, Rows

LISTS = [[5, 3], [7], [1, 2, 3, 4, 5], [9, 9, 9], []]


def rows() -> Rows:
    return Rows.of(np.array(ids, dtype=np.int32) for ids in LISTS)


def test_rows_are_padded_at_their_ends() -> None:
    tokens, lengths = rows().padded(np.array([3, 1, 2, 1]))
    assert lengths.tolist() == [3, 1, 5, 1]
    assert tokens.tolist() == [[9, 9, 9, 0, 0], [7, 0, 0, 0, 0], [1, 2, 3, 4, 5], [7, 0, 0, 0, 0]]
    assert tokens.dtype == np.int32


def test_taken_rows_are_rows() -> None:
    taken = rows().take(np.array([2, 0]))
    assert [taken.padded(np.array([place]))[0][0].tolist() for place in range(2)] == [LISTS[2], LISTS[0]]
    assert len(rows()) == 5
    assert rows().lengths.tolist() == [2, 1, 5, 3, 0]


def order(seed: int = 3, num: int = 1009, per_step: int = 13) -> RowOrder:
    lengths = np.random.default_rng(7).integers(1, 97, num)
    return RowOrder(lengths=lengths, rows_per_step=per_step, seed=seed)


def test_an_epoch_takes_every_row_once() -> None:
    rows = order()
    for epoch in range(3):
        steps = range(epoch * rows.steps_per_epoch, (epoch + 1) * rows.steps_per_epoch)
        batches = [rows(step) for step in steps]
        assert Counter(np.concatenate(batches).tolist()) == Counter(range(1009))
        assert {len(batch) for batch in batches} == {12, 13}


def test_a_step_is_a_function_of_seed_and_number() -> None:
    first, again = order(), order()
    forwards = [first(step).tolist() for step in range(200)]
    assert [again(step).tolist() for step in reversed(range(200))] == forwards[::-1]
    assert order(seed=4)(0).tolist() != forwards[0]
    assert forwards[0] != forwards[first.steps_per_epoch]


def test_rows_of_similar_length_stand_together() -> None:
    rows = order()
    padding = sum(rows.lengths[rows(step)].max() * len(rows(step)) for step in range(rows.steps_per_epoch))
    shuffled = rows.lengths[np.random.default_rng(1).permutation(1009)]
    unsorted = sum(shuffled[first : first + 13].max() * 13 for first in range(0, 1009, 13))
    assert padding < 1.1 * rows.lengths.sum() < 0.8 * unsorted


def test_short_batches_do_not_all_come_first() -> None:
    rows = order(num=BATCHES_SORTED_TOGETHER * 13)
    means = [rows.lengths[rows(step)].mean() for step in range(rows.steps_per_epoch)]
    assert abs(np.corrcoef(np.arange(len(means)), means)[0, 1]) < 0.5


@pytest.mark.parametrize(("num", "per_step"), [(1, 1), (5, 5), (7, 3), (3, 2)])
def test_few_rows_fill_their_epochs(num: int, per_step: int) -> None:
    rows = order(num=num, per_step=per_step)
    taken = [row for step in range(rows.steps_per_epoch) for row in rows(step).tolist()]
    assert sorted(taken) == list(range(num))
