"""The models that `model.kind` can name: language models, and two that are made of a GPT's parts for other tasks."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from clearhead.core.ranges import require_positive, require_share
from clearhead.model.config import (
    CausalConfig,
    FeedForwardConfig,
    GptConfig,
    ModelConfig,
    NormConfig,
    PositionsConfig,
    RMSNormConfig,
    RotaryConfig,
    SwiGLUConfig,
)


@dataclass(frozen=True, kw_only=True, slots=True)
class FullConfig:
    """Every position reads every other, before it and after it."""

    kind: Literal["full"] = "full"


EncoderMaskConfig = FullConfig | CausalConfig
"""The masks that an encoder may read a text with."""


@dataclass(frozen=True, kw_only=True, slots=True)
class EncoderConfig:
    """A transformer that reads a whole text and chooses a class for it.

    Args:
        num_classes: how many classes there are to choose from; without a number, as many as the data has.
        mask: "full" reads in both directions; "causal" is there to be compared with.
        convolution: each feed-forward layer reads, channel by channel, a weighted sum of this many latest positions;
            1 reads the position alone.
        dropout: the share of each residual branch, of the embedding and of the mean that is dropped in training.
        token_dropout: the share of a text's tokens that are hidden in training.
        num_members: so many encoders are trained beside each other, and their probabilities averaged.
    """

    kind: Literal["encoder"] = "encoder"
    num_classes: int | None = None
    num_layers: int = 2
    num_heads: int = 4
    width: int = 128
    context_length: int = 128
    positions: PositionsConfig = field(default_factory=RotaryConfig)
    mask: EncoderMaskConfig = field(default_factory=FullConfig)
    norm: NormConfig = field(default_factory=RMSNormConfig)
    feed_forward: FeedForwardConfig | SwiGLUConfig = field(default_factory=FeedForwardConfig)
    convolution: int = 1
    kernel: Literal["fused", "explicit", "flex"] = "fused"
    dropout: float = 0.1
    token_dropout: float = 0.0
    num_members: int = 1

    def __post_init__(self) -> None:
        require_share("token_dropout", self.token_dropout)
        require_positive("num_members", self.num_members)
        if self.num_classes is not None and self.num_classes < 2:
            raise ValueError(f"num_classes must be at least 2, not {self.num_classes}.")
        _ = self.body

    @property
    def classes(self) -> int:
        """The number of classes; 2 where the data have not said yet."""
        return 2 if self.num_classes is None else self.num_classes

    @property
    def body(self) -> GptConfig:
        """The settings of the stack of blocks, which is a GPT's; its head is tied, so that it adds no parameters."""
        return GptConfig(
            num_layers=self.num_layers,
            num_heads=self.num_heads,
            width=self.width,
            context_length=self.context_length,
            positions=self.positions,
            norm=self.norm,
            feed_forward=self.feed_forward,
            convolution=self.convolution,
            kernel=self.kernel,
            dropout=self.dropout,
            tied_head=True,
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class EncoderDecoderConfig:
    """An encoder that reads a source in both directions, and a decoder that reads it while it writes the target.

    Args:
        num_encoder_layers: blocks of the encoder.
        num_decoder_layers: blocks of the decoder, each with attention to the target so far and to the source.
        context_length: the most tokens of a source, and of a target.
        convolution: each feed-forward layer reads, channel by channel, a weighted sum of this many latest positions;
            1 reads the position alone.
        dropout: the share of each residual branch and of the embedding that is dropped in training.
        tied_head: the head shares the embedding's weights; source and target share one embedding in any case.
    """

    kind: Literal["encoder_decoder"] = "encoder_decoder"
    num_encoder_layers: int = 3
    num_decoder_layers: int = 3
    num_heads: int = 4
    width: int = 256
    context_length: int = 128
    positions: PositionsConfig = field(default_factory=RotaryConfig)
    norm: NormConfig = field(default_factory=RMSNormConfig)
    feed_forward: FeedForwardConfig | SwiGLUConfig = field(default_factory=FeedForwardConfig)
    convolution: int = 1
    kernel: Literal["fused", "explicit", "flex"] = "fused"
    dropout: float = 0.1
    tied_head: bool = True

    def __post_init__(self) -> None:
        require_positive("num_encoder_layers", self.num_encoder_layers)
        require_positive("num_decoder_layers", self.num_decoder_layers)
        _ = self.encoder

    @property
    def encoder(self) -> GptConfig:
        """The settings of the encoder's stack of blocks, which is a GPT's; its head is tied and adds no parameters."""
        return self._stack(self.num_encoder_layers)

    @property
    def decoder(self) -> GptConfig:
        """The settings of the decoder's blocks."""
        return self._stack(self.num_decoder_layers)

    def _stack(self, num_layers: int) -> GptConfig:
        return GptConfig(
            num_layers=num_layers,
            num_heads=self.num_heads,
            width=self.width,
            context_length=self.context_length,
            positions=self.positions,
            norm=self.norm,
            feed_forward=self.feed_forward,
            convolution=self.convolution,
            kernel=self.kernel,
            dropout=self.dropout,
            tied_head=True,
        )


AnyModelConfig = ModelConfig | EncoderConfig | EncoderDecoderConfig


def as_language_model(config: AnyModelConfig) -> ModelConfig:
    """Return a language model of the same parts: what is computed wrong for one of them is wrong for the other."""
    if isinstance(config, EncoderConfig):
        return config.body
    return config.decoder if isinstance(config, EncoderDecoderConfig) else config
