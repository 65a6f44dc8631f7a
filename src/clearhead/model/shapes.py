"""Named model configs."""

from __future__ import annotations

from dataclasses import replace

from clearhead.model.config import (
    FeedForwardConfig,
    GptConfig,
    LayerNormConfig,
    LearnedConfig,
    RMSNormConfig,
    RotaryConfig,
    SwiGLUConfig,
)


def tiny() -> GptConfig:
    """4 layers, 4 heads, width 128, context 64 of the modern parts."""
    return GptConfig(
        num_layers=4,
        num_heads=4,
        width=128,
        context_length=64,
        positions=RotaryConfig(base=100.0),
        feed_forward=SwiGLUConfig(),
    )


def modern() -> GptConfig:
    """6 layers, 3 heads, width 192, context 256 of the modern parts."""
    return GptConfig(num_layers=6, num_heads=3, width=192, context_length=256, feed_forward=SwiGLUConfig())


def gpt2(num_layers: int = 4, num_heads: int = 4, width: int = 128, context_length: int = 256) -> GptConfig:
    """GPT-2's parts in a small shape.

    Source: Radford et al. 2019. Departs: dropout is 0, and never on attention weights.
    """
    return GptConfig(
        num_layers=num_layers,
        num_heads=num_heads,
        width=width,
        context_length=context_length,
        positions=LearnedConfig(),
        norm=LayerNormConfig(),
        feed_forward=FeedForwardConfig(kind="gelu"),
        embedding_norm=False,
        convolution=1,
        bias=True,
        qk_norm=False,
        tied_head=True,
        logit_softcap=None,
        initialization="normal",
    )


def gpt2_124m() -> GptConfig:
    """GPT-2's smallest published shape."""
    return gpt2(num_layers=12, num_heads=12, width=768, context_length=1024)


def llama(num_layers: int = 4, num_heads: int = 4, width: int = 128, context_length: int = 256) -> GptConfig:
    """Llama's parts in a small shape.

    Source: Touvron et al. 2023, section 2.2.
    """
    return GptConfig(
        num_layers=num_layers,
        num_heads=num_heads,
        width=width,
        context_length=context_length,
        positions=RotaryConfig(),
        norm=RMSNormConfig(gain=True),
        feed_forward=SwiGLUConfig(),
        embedding_norm=False,
        convolution=1,
        bias=False,
        qk_norm=False,
        tied_head=False,
        logit_softcap=None,
        initialization="normal",
    )


def lecture(
    num_layers: int = 3, num_heads: int = 4, width: int = 32, context_length: int = 8, dropout: float = 0.0
) -> GptConfig:
    """The lecture's parts: learned positions, LayerNorm, ReLU, an untied head."""
    return GptConfig(
        num_layers=num_layers,
        num_heads=num_heads,
        width=width,
        context_length=context_length,
        positions=LearnedConfig(),
        norm=LayerNormConfig(),
        feed_forward=FeedForwardConfig(kind="relu"),
        embedding_norm=False,
        convolution=1,
        bias=True,
        qk_norm=False,
        dropout=dropout,
        tied_head=False,
        logit_softcap=None,
        initialization="normal",
    )


def lecture_large() -> GptConfig:
    """The lecture's final model."""
    return lecture(num_layers=6, num_heads=6, width=384, context_length=256, dropout=0.2)


SIZES: dict[str, GptConfig] = {
    "tiny": tiny(),
    "modern": modern(),
    "25M": replace(modern(), num_layers=8, num_heads=8, width=512),
    "gpt2-124m": gpt2_124m(),
}
"""Models of growing size, by which machines are compared."""
