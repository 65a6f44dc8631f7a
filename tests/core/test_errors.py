"""How mistakes are told."""

from __future__ import annotations

import pytest

from clearhead.core.errors import closest

NAMES = ["train", "tokens", "eval", "num_heads", "--temperature"]


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("trian", "train"),
        ("token", "tokens"),
        ("evaluate", "eval"),
        ("num_head", "num_heads"),
        ("--temp", "--temperature"),
        ("x", None),
        ("tr", None),
        ("retain", "train"),
        ("rain gauge", None),
        ("", None),
    ],
)
def test_a_name_is_proposed_only_where_it_is_close(typed: str, meant: str | None) -> None:
    assert closest(typed, NAMES) == meant
