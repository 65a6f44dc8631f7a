"""Which earlier positions a position may read: masks as values."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Int
from torch import Tensor


class Mask(ABC):
    """Says for each query position which key positions it may attend to.

    The queries are the last `num_queries` of the `num_keys` positions, so that a step with a cache asks for the
    bottom rows of the whole square.
    """

    @abstractmethod
    def dense(self, num_queries: int, num_keys: int, device: torch.device) -> Bool[Tensor, "#B #H T S"] | None:
        """Return True where a query may attend to a key, or None where every one may."""

    def is_causal_square(self, num_queries: int, num_keys: int) -> bool:
        """Say whether this mask is just the lower triangle of a square, which fused kernels have built in."""
        return False

    def bind(self, documents: Int[Tensor, "B T"] | None) -> Mask:
        """Return the mask for one batch, whose documents are numbered by position."""
        return self


@dataclass(frozen=True, slots=True)
class Causal(Mask):
    """A position attends to itself and to everything before it (s <= t)."""

    def dense(self, num_queries: int, num_keys: int, device: torch.device) -> Bool[Tensor, "1 1 T S"] | None:
        if num_queries == 1:
            return None
        square = torch.ones(num_queries, num_keys, dtype=torch.bool, device=device)
        return square.tril(diagonal=num_keys - num_queries)[None, None]

    def is_causal_square(self, num_queries: int, num_keys: int) -> bool:
        return num_queries == num_keys


@dataclass(frozen=True, slots=True)
class Full(Mask):
    """Every position attends to every other: an encoder's mask."""

    def dense(self, num_queries: int, num_keys: int, device: torch.device) -> None:
        return None


@dataclass(frozen=True, slots=True, eq=False)
class Padded(Mask):
    """Every position attends to the real ones: the mask of rows of unequal length that were filled up.

    Args:
        real: True where a row has a token of its own.
    """

    real: Bool[Tensor, "B S"]

    def dense(self, num_queries: int, num_keys: int, device: torch.device) -> Bool[Tensor, "B 1 1 S"]:
        return self.real[:, None, None, :num_keys].to(device)

    def keep(self, rows: Int[Tensor, " N"]) -> Padded:
        """Return the mask of these rows, in this order."""
        return Padded(self.real[rows])
