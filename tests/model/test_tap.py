"""Taps: names grow on the way out."""

from __future__ import annotations

import torch

from clearhead.model.tap import scoped


def test_each_scope_puts_its_name_before() -> None:
    names = []

    def tap(name: str, tensor: torch.Tensor) -> torch.Tensor:
        names.append(name)
        return tensor + 1

    inner = scoped(scoped(tap, "blocks.3"), "attn")
    assert inner is not None
    assert float(inner("pattern", torch.zeros(()))) == 1.0
    assert names == ["blocks.3.attn.pattern"]


def test_no_tap_stays_none() -> None:
    assert scoped(None, "blocks.3") is None
