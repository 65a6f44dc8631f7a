"""Named places in the forward pass where a caller may read or replace a tensor."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

Tap = Callable[[str, Tensor], Tensor]
"""Receives a name such as `blocks.0.attn.pattern` and the tensor there; what it returns is used in its place."""


def scoped(tap: Tap | None, prefix: str) -> Tap | None:
    """Return a tap that puts `prefix.` before each name, or None where there is no tap."""
    if tap is None:
        return None
    outer = tap
    return lambda name, tensor: outer(f"{prefix}.{name}", tensor)
