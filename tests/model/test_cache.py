"""The cache: what a slot gives back, and what it keeps."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from clearhead.model.cache import Cache, Slot, new_slot

B, K, D, C, CAPACITY = 2, 3, 5, 7, 11


def random(*shape: int, seed: int = 1) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def empty() -> Slot:
    return new_slot(B, K, CAPACITY, D, torch.zeros(()))


@pytest.mark.parametrize("pieces", [[11], [1] * 11, [2, 3, 5, 1]])
def test_a_slot_gives_all_that_it_was_given(pieces: list[int]) -> None:
    keys, values, slot = random(B, K, CAPACITY, D, seed=1), random(B, K, CAPACITY, D, seed=2), empty()
    end = 0
    for key, value in zip(keys.split(pieces, dim=2), values.split(pieces, dim=2), strict=True):
        end += key.size(2)
        all_keys, all_values = slot.append(key, value)
        assert slot.length == end
        assert torch.equal(all_keys, keys[:, :, :end])
        assert torch.equal(all_values, values[:, :, :end])


def test_a_full_slot_takes_no_more() -> None:
    slot = empty()
    slot.append(random(B, K, CAPACITY, D), random(B, K, CAPACITY, D))
    with pytest.raises(AssertionError, match="full"):
        slot.append(random(B, K, 1, D), random(B, K, 1, D))


@pytest.mark.parametrize("count", [1, 2, 4])
@pytest.mark.parametrize("pieces", [[8], [1] * 8, [3, 1, 4], [1, 7]])
def test_a_slot_puts_the_latest_inputs_before_the_new_ones(count: int, pieces: list[int]) -> None:
    x, slot = random(B, 8, C), empty()
    padded = torch.cat((torch.zeros(B, count, C), x), dim=1)
    start = 0
    for piece in x.split(pieces, dim=1):
        found = slot.with_recent(piece, count)
        assert torch.equal(found, padded[:, start : start + count + piece.size(1)])
        start += piece.size(1)


def test_a_cleared_cache_is_as_new() -> None:
    cache = Cache([empty(), empty()])
    for slot in cache:
        slot.append(random(B, K, 3, D), random(B, K, 3, D))
        slot.with_recent(random(B, 3, C), 2)
    cache.advance(3)
    cache.clear()
    assert cache.offset == 0
    for slot in cache:
        assert slot.length == 0
        assert not slot.with_recent(random(B, 1, C), 2)[:, :2].any()
        keys = random(B, K, 1, D, seed=4)
        assert torch.equal(slot.append(keys, keys)[0], keys)


def test_a_cache_counts_positions() -> None:
    cache = Cache([])
    assert cache.offset == 0
    cache.advance(3)
    cache.advance(1)
    assert cache.offset == 4


def test_a_slot_is_of_the_dtype_of_the_model() -> None:
    slot = new_slot(B, K, CAPACITY, D, torch.zeros((), dtype=torch.float64))
    assert slot.keys.dtype == slot.values.dtype == torch.float64
    assert slot.keys.shape == (B, K, CAPACITY, D)
    assert slot.keys.data_ptr() != slot.values.data_ptr()
