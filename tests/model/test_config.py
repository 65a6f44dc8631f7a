"""Model configs: what cannot be built is refused by name, with what would do."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clearhead.core.config import build, to_dict
from clearhead.core.errors import UserError
from clearhead.model import shapes
from clearhead.model.config import (
    BigramConfig,
    ConcatenatedConfig,
    FeedForwardConfig,
    FourierConfig,
    GptConfig,
    LayerNormConfig,
    LearnedConfig,
    PrefixConfig,
    RMSNormConfig,
    RotaryConfig,
    SinusoidalConfig,
    SwiGLUConfig,
    WindowConfig,
    nearest_divisors,
)

MISTAKES: dict[str, Callable[[], object]] = {
    "num_heads = 5 does not divide width = 192; the nearest numbers of heads that do are 4 and 6.": (
        lambda: GptConfig(num_heads=5)
    ),
    "num_kv_heads = 4 does not divide num_heads = 6; the nearest numbers that do are 3 and 6.": (
        lambda: GptConfig(num_heads=6, num_kv_heads=4)
    ),
    "num_kv_heads = 12 does not divide num_heads = 6; the nearest numbers that do are 3 and 6.": (
        lambda: GptConfig(num_heads=6, num_kv_heads=12)
    ),
    "rotary positions need an even head width, and width / num_heads is 11; "
    "with num_heads = 3, the nearest widths that do are 30 and 36.": lambda: GptConfig(num_heads=3, width=33),
    "rotary positions need an even head width, and width / num_heads is 1; "
    "with num_heads = 7, the nearest widths that do are 14.": lambda: GptConfig(num_heads=7, width=7),
    "num_kv_heads must be at least 1, not 0.": lambda: GptConfig(num_heads=6, num_kv_heads=0),
    "num_kv_heads must be at least 1, not -2.": lambda: GptConfig(num_heads=6, num_kv_heads=-2),
    "num_layers must be at least 1, not 0.": lambda: GptConfig(num_layers=0),
    "num_heads must be at least 1, not -3.": lambda: GptConfig(num_heads=-3),
    "width must be at least 1, not 0.": lambda: GptConfig(width=0),
    "context_length must be at least 1, not 0.": lambda: GptConfig(context_length=0),
    "convolution must be at least 1, not 0.": lambda: GptConfig(convolution=0),
    "dropout must be at least 0 and below 1, not 1.0.": lambda: GptConfig(dropout=1.0),
    "dropout must be at least 0 and below 1, not -0.1.": lambda: GptConfig(dropout=-0.1),
    "logit_softcap must be above 0, not 0.0.": lambda: GptConfig(logit_softcap=0.0),
    "base must be above 0, not -1.0.": lambda: RotaryConfig(base=-1.0),
    "amplitude must be above 0, not 0.0.": lambda: SinusoidalConfig(amplitude=0.0),
    "share must be above 0 and below 1, not 1.0.": lambda: ConcatenatedConfig(share=1.0),
    "num_frequencies must be at least 1, not 0.": lambda: FourierConfig(num_frequencies=0),
    "length must be at least 1, not 0.": lambda: WindowConfig(length=0),
    "longest must be at least 1, not 0.": lambda: PrefixConfig(longest=0),
    "concatenated positions leave the embedding narrower than the head, so they need tied_head = false.": (
        lambda: GptConfig(positions=ConcatenatedConfig(), tied_head=True)
    ),
    "concatenated positions with share = 0.001 of width = 192 leave no channel to the position or none to the token; "
    "a share of 0.5 leaves both some.": lambda: GptConfig(positions=ConcatenatedConfig(share=0.001)),
    "epsilon must be above 0, not 0.0.": lambda: LayerNormConfig(epsilon=0.0),
    "epsilon must be above 0, not -1e-06.": lambda: RMSNormConfig(epsilon=-1e-6),
    "factor must be above 0, not 0.0.": lambda: FeedForwardConfig(factor=0.0),
    "factor must be above 0, not -2.0.": lambda: SwiGLUConfig(factor=-2.0),
}


@pytest.mark.parametrize("message", list(MISTAKES))
def test_what_cannot_be_built_is_refused(message: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        MISTAKES[message]()


def test_a_bigram_needs_a_context() -> None:
    with pytest.raises(ValueError, match="context_length must be at least 1, not 0"):
        BigramConfig(context_length=0)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"num_heads": 5}, "model: num_heads = 5 does not divide"),
        ({"feed_forward": {"kind": "swiglu", "factor": 0.0}}, "model.feed_forward: factor must be above 0"),
        ({"n_head": 3}, "model.n_head is called model.num_heads here"),
    ],
)
def test_a_user_is_told_in_which_section_the_mistake_is(values: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        build(GptConfig, values, where="model")


def test_an_odd_head_width_is_fine_where_nothing_is_turned() -> None:
    assert GptConfig(num_heads=3, width=33, positions=LearnedConfig()).head_width == 11


def test_every_query_head_has_its_own_keys_unless_said() -> None:
    assert GptConfig(num_heads=6).kv_heads == 6
    assert GptConfig(num_heads=6, num_kv_heads=2).kv_heads == 2


@settings(max_examples=60, deadline=None)
@given(number=st.integers(1, 300), wanted=st.integers(1, 300))
def test_the_nearest_divisors_divide_and_no_other_is_nearer(number: int, wanted: int) -> None:
    named = [int(text) for text in nearest_divisors(number, wanted).split(" and ")]
    assert named == sorted(named)
    assert all(number % divisor == 0 for divisor in named)
    others = {divisor for divisor in range(1, number + 1) if number % divisor == 0} - set(named)
    furthest = max(abs(divisor - wanted) for divisor in named)
    assert all(abs(divisor - wanted) >= furthest for divisor in others)
    assert len(named) == min(2, len(others) + len(named))


SHAPES = [shapes.tiny, shapes.modern, shapes.gpt2, shapes.gpt2_124m, shapes.lecture, shapes.lecture_large]


@pytest.mark.parametrize("shape", SHAPES)
def test_named_shapes_can_be_written_down_and_read(shape: Callable[[], GptConfig]) -> None:
    assert build(GptConfig, to_dict(shape())) == shape()
