"""How sentences say numbers."""

from __future__ import annotations

import pytest

from clearhead.core.words import counted


@pytest.mark.parametrize(("number", "said"), [(0, "0 tokens"), (1, "1 token"), (2, "2 tokens"), (2003, "2,003 tokens")])
def test_one_thing_is_singular(number: int, said: str) -> None:
    assert counted(number, "token") == said
