"""What a model keeps of the positions it has already read, so that each new token costs one position's work."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from jaxtyping import Float, Int
from torch import Tensor


class Slot:
    """One layer's keys and values, in memory that is taken once, and the latest inputs of its convolution."""

    def __init__(self, keys: Float[Tensor, "B K S D"], values: Float[Tensor, "B K S D"]) -> None:
        self.keys = keys
        self.values = values
        self.length = 0
        self.recent: Tensor | None = None

    def append(
        self, keys: Float[Tensor, "B K T D"], values: Float[Tensor, "B K T D"]
    ) -> tuple[Float[Tensor, "B K S D"], Float[Tensor, "B K S D"]]:
        """Store the keys and values of T new positions and return those of all positions so far."""
        end = self.length + keys.size(2)
        assert end <= self.keys.size(2), "the cache is full"
        self.keys[:, :, self.length : end] = keys
        self.values[:, :, self.length : end] = values
        self.length = end
        return self.stored()

    def stored(self) -> tuple[Float[Tensor, "B K S D"], Float[Tensor, "B K S D"]]:
        """Return the keys and values of all positions so far."""
        return self.keys[:, :, : self.length], self.values[:, :, : self.length]

    def keep(self, rows: Int[Tensor, " N"]) -> None:
        """Go on with these rows, in this order; a row may come twice."""
        self.keys, self.values = self.keys[rows], self.values[rows]
        if self.recent is not None:
            self.recent = self.recent[rows]

    def with_recent(self, x: Float[Tensor, "B T C"], count: int) -> Float[Tensor, "B T+{count} C"]:
        """Return x after the `count` states that came before it (zeros at the start), and keep its own last ones."""
        before = x.new_zeros(x.size(0), count, x.size(2)) if self.recent is None else self.recent
        joined = torch.cat((before, x), dim=1)
        self.recent = joined[:, joined.size(1) - count :]
        return joined

    def clear(self) -> None:
        """Forget everything; the memory of keys and values stays."""
        self.length = 0
        self.recent = None


class Cache:
    """One slot a layer. A new cache is empty; `offset` positions have been read."""

    def __init__(self, slots: list[Slot]) -> None:
        self.slots = slots
        self._offset = 0

    @property
    def offset(self) -> int:
        """How many positions have been read: the position of the next token."""
        return self._offset

    def advance(self, num_positions: int) -> None:
        """Count the positions of a forward pass that has run through every layer."""
        self._offset += num_positions

    def clear(self) -> None:
        """Forget everything; the memory stays."""
        self._offset = 0
        for slot in self.slots:
            slot.clear()

    def keep(self, rows: Int[Tensor, " N"]) -> None:
        """Go on with these rows of the batch, in this order; a row may come twice."""
        for slot in self.slots:
            slot.keep(rows)

    def __iter__(self) -> Iterator[Slot]:
        return iter(self.slots)


def new_slot(batch: int, num_kv_heads: int, capacity: int, head_width: int, like: Tensor) -> Slot:
    """Return an empty slot for `capacity` positions, of the dtype and on the device of `like`."""
    shape = (batch, num_kv_heads, capacity, head_width)
    return Slot(
        torch.zeros(shape, dtype=like.dtype, device=like.device),
        torch.zeros(shape, dtype=like.dtype, device=like.device),
    )
