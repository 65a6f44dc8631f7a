"""Masks: their dense forms, one number at a time."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

from clearhead.model.laws import Nothing, OnlyEarlier
from clearhead.model.masks import Causal, Full, Mask

CPU = torch.device("cpu")


def allowed(mask: Mask, num_queries: int, num_keys: int) -> list[list[bool]]:
    """Return a mask's dense form as rows of queries; None stands for all."""
    dense = mask.dense(num_queries, num_keys, CPU)
    if dense is None:
        return [[True] * num_keys for _ in range(num_queries)]
    return dense[0, 0].tolist()


@pytest.mark.parametrize(("num_queries", "num_keys"), [(7, 7), (3, 7), (1, 7), (1, 1), (7, 11)])
def test_causal_reads_itself_and_what_came_before(num_queries: int, num_keys: int) -> None:
    before = num_keys - num_queries
    wanted = [[s <= t + before for s in range(num_keys)] for t in range(num_queries)]
    assert allowed(Causal(), num_queries, num_keys) == wanted


def test_a_later_query_asks_for_the_bottom_rows_of_the_square() -> None:
    square = allowed(Causal(), 7, 7)
    for num_queries in (1, 2, 5):
        assert allowed(Causal(), num_queries, 7) == square[-num_queries:]


def test_the_diagonal_is_allowed() -> None:
    dense = Causal().dense(7, 7, CPU)
    assert dense is not None
    assert bool(dense[0, 0].diagonal().all())
    without = OnlyEarlier().dense(7, 7, CPU)
    assert not bool(without[0, 0].diagonal().any())


def test_one_query_needs_no_mask() -> None:
    assert Causal().dense(1, 7, CPU) is None


@pytest.mark.parametrize(
    ("num_queries", "num_keys", "square"), [(5, 5, True), (1, 1, True), (1, 5, False), (4, 5, False)]
)
def test_only_a_square_causal_mask_is_built_into_kernels(num_queries: int, num_keys: int, square: bool) -> None:
    assert Causal().is_causal_square(num_queries, num_keys) is square


@pytest.mark.parametrize("mask", [Full(), Nothing(), OnlyEarlier()])
def test_no_other_mask_is_taken_for_causal(mask: Mask) -> None:
    assert not mask.is_causal_square(5, 5)


def test_full_reads_everything() -> None:
    assert all(all(row) for row in allowed(Full(), 3, 5))
    assert not any(any(row) for row in allowed(Nothing(), 3, 5))


def test_masks_are_values() -> None:
    assert Causal() == Causal()
    assert Causal() != Full()
    assert len({Causal(), Causal(), Full()}) == 2


def test_binding_changes_only_what_depends_on_documents() -> None:
    documents = torch.tensor([[0, 0, 1], [0, 1, 1]])
    assert Causal().bind(documents) == Causal()

    @dataclass(frozen=True, slots=True, eq=False)
    class SameDocument(Mask):
        documents: Tensor

        def dense(self, num_queries: int, num_keys: int, device: torch.device) -> Tensor:
            return (self.documents[:, None, :] == self.documents[:, :, None])[:, None]

        def bind(self, documents: Tensor | None) -> Mask:
            return self if documents is None else SameDocument(documents)

    bound = SameDocument(documents[:1, :1]).bind(documents)
    dense = bound.dense(3, 3, CPU)
    assert dense is not None
    assert dense[1, 0].tolist() == [[True, False, False], [False, True, True], [False, True, True]]
