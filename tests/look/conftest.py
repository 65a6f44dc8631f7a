"""Small models with random weights, and a tokenizer whose alphabet they read."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch

from clearhead.look.specimen import Specimen
from clearhead.model.build import build_model
from clearhead.model.config import (
    AlibiConfig,
    ConcatenatedConfig,
    GptConfig,
    LayerNormConfig,
    LearnedConfig,
    RotaryConfig,
)
from clearhead.model.family_config import AnyModelConfig
from clearhead.text.tokenizer import CharTokenizer

ALPHABET = "abcdefghijklmnop\n .,5T"
SMALL = GptConfig(
    num_layers=3, num_heads=6, num_kv_heads=3, width=48, context_length=19, initialization="normal", logit_softcap=None
)
PLAIN = replace(SMALL, embedding_norm=False, convolution=1, qk_norm=False)
FAMILY: dict[str, GptConfig] = {
    "default": SMALL,
    "learned": replace(PLAIN, positions=LearnedConfig(), norm=LayerNormConfig(), bias=True, tied_head=True),
    "rotary": replace(PLAIN, positions=RotaryConfig(), num_kv_heads=None),
    "alibi": replace(PLAIN, positions=AlibiConfig(), num_kv_heads=1),
    "concatenated": replace(SMALL, positions=ConcatenatedConfig()),
    "post_norm": replace(PLAIN, positions=LearnedConfig(), norm=LayerNormConfig(), residual="post_norm", bias=True),
    "softcap": replace(SMALL, logit_softcap=7.0),
}
"""Decoders that differ in what looking inside has to know about."""


def specimen_of(config: AnyModelConfig) -> Specimen:
    """Return a model of random weights, large enough that what it says depends on what it reads."""
    tokenizer = CharTokenizer.train([ALPHABET], unknown="refuse", end=True)
    model = build_model(config, tokenizer.vocabulary_size, seed=7).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(5.0)
    return Specimen(model, tokenizer)


@pytest.fixture(params=FAMILY)
def specimen(request: pytest.FixtureRequest) -> Specimen:
    return specimen_of(FAMILY[request.param])


@pytest.fixture
def family() -> dict[str, GptConfig]:
    return FAMILY


@pytest.fixture
def make() -> Callable[..., Specimen]:
    def make(config: AnyModelConfig = SMALL, **changes: Any) -> Specimen:
        return specimen_of(replace(config, **changes))

    return make
