"""The shape checks that run under every test: they are on, and they see what is wrong."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import jaxtyping
import numpy as np
import pytest
import torch
from beartype import beartype
from beartype.roar import BeartypeException
from jaxtyping import Float, Int
from torch import Tensor

from clearhead.generation.sampling import Sampling, draw
from clearhead.model.attention import explicit
from clearhead.model.masks import Full
from clearhead.text.batches import evaluation_windows

checked = jaxtyping.jaxtyped(typechecker=beartype)


@checked
def outer(x: Float[Tensor, "B T"], y: Float[Tensor, " B"] | None = None) -> Float[Tensor, "T T"]:
    return x.mT @ x if y is None else y[:, None] * x


@checked
def outer_of_parts(x: Float[Tensor, "B T"]) -> list[Float[Tensor, "_ _"]]:
    """Its own B has nothing to do with that of the function which it calls."""
    return [outer(x), outer(x[:1])]


@checked
def pieces(x: Float[Tensor, "B T"]) -> Iterator[Float[Tensor, " T"]]:
    yield from x


@checked
@dataclass(frozen=True, slots=True)
class Pair:
    ids: Int[np.ndarray, " N"]
    counts: Int[np.ndarray, " N"]


def test_what_fits_passes() -> None:
    assert outer(torch.zeros(3, 5)).shape == (5, 5)
    assert outer(torch.ones(5, 5), torch.ones(5)).shape == (5, 5)
    assert [part.shape for part in outer_of_parts(torch.zeros(3, 5))] == [(5, 5)] * 2
    assert [len(piece) for piece in pieces(torch.zeros(3, 5))] == [5] * 3
    assert len(Pair(np.arange(7), np.arange(7)).ids) == 7


@pytest.mark.parametrize(
    "call",
    [
        lambda: outer(torch.zeros(3)),
        lambda: outer(torch.zeros(3, 5).int()),
        lambda: outer(torch.zeros(3, 5), torch.zeros(2)),
        lambda: outer(torch.ones(3, 5), torch.ones(3)),
        lambda: Pair(np.arange(7), np.arange(5)),
        lambda: Pair(np.arange(7), [1, 2, 3, 4, 5, 6, 7]),
    ],
    ids=["rank", "type", "letter", "result", "field", "no array"],
)
def test_what_does_not_fit_is_seen(call: Callable[[], object]) -> None:
    with pytest.raises((BeartypeException, jaxtyping.TypeCheckError)):
        call()


@pytest.mark.parametrize(
    "call",
    [
        lambda: draw(torch.zeros(2, 3), torch.zeros(3)),
        lambda: explicit(torch.zeros(2, 3, 5), torch.zeros(2, 3, 5), torch.zeros(2, 3, 5), Full()),
        lambda: evaluation_windows("7", 5),
        lambda: Sampling(temperature="hot"),
    ],
    ids=["letter", "rank", "number", "field"],
)
def test_the_package_is_checked(call: Callable[[], object]) -> None:
    with pytest.raises((BeartypeException, jaxtyping.TypeCheckError)):
        call()
