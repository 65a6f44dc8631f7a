"""What can be set about a model: each alternative is a small class of its own, told apart by `kind`."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal


@dataclass(frozen=True, kw_only=True, slots=True)
class LearnedConfig:
    """A trained vector for each position, added to the token's embedding."""

    kind: Literal["learned"] = "learned"


@dataclass(frozen=True, kw_only=True, slots=True)
class RotaryConfig:
    """Queries and keys are turned by an angle that grows with their position.

    Args:
        base: the wavelengths of the rotations grow from 2 pi to about 2 pi times this number of positions.
    """

    kind: Literal["rotary"] = "rotary"
    base: float = 10_000.0

    def __post_init__(self) -> None:
        require_above_zero("base", self.base)


@dataclass(frozen=True, kw_only=True, slots=True)
class NoPositionsConfig:
    """No sign of position at all: only the causal mask tells one place from another."""

    kind: Literal["none"] = "none"


PositionsConfig = LearnedConfig | RotaryConfig | NoPositionsConfig


@dataclass(frozen=True, kw_only=True, slots=True)
class LayerNormConfig:
    """Subtract the mean, divide by the standard deviation, scale and shift.

    Args:
        bias: also learn a shift.
    """

    kind: Literal["layer"] = "layer"
    epsilon: float = 1e-5
    bias: bool = True

    def __post_init__(self) -> None:
        require_above_zero("epsilon", self.epsilon)


@dataclass(frozen=True, kw_only=True, slots=True)
class RMSNormConfig:
    """Divide by the root mean square.

    Args:
        gain: learn a scale for each channel.
    """

    kind: Literal["rms"] = "rms"
    epsilon: float = 1e-6
    gain: bool = False

    def __post_init__(self) -> None:
        require_above_zero("epsilon", self.epsilon)


NormConfig = LayerNormConfig | RMSNormConfig


@dataclass(frozen=True, kw_only=True, slots=True)
class FeedForwardConfig:
    """Two linear maps with an activation between them.

    Args:
        kind: the activation; "squared_relu" is max(x, 0)^2; "gelu" is the tanh form that GPT-2 uses.
        factor: the hidden width as a multiple of the model's.
    """

    kind: Literal["relu", "gelu", "squared_relu"] = "squared_relu"
    factor: float = 4.0

    def __post_init__(self) -> None:
        require_above_zero("factor", self.factor)


@dataclass(frozen=True, kw_only=True, slots=True)
class SwiGLUConfig:
    """Two linear maps multiplied, one of them through SiLU, and a third back.

    Args:
        factor: the hidden width as a multiple of the model's; 8/3 gives the size of a plain layer of factor 4.
    """

    kind: Literal["swiglu"] = "swiglu"
    factor: float = 8 / 3

    def __post_init__(self) -> None:
        require_above_zero("factor", self.factor)


@dataclass(frozen=True, kw_only=True, slots=True)
class GptConfig:
    """A decoder-only transformer.

    Args:
        num_kv_heads: heads of keys and values, each shared by num_heads / num_kv_heads query heads; without it,
            as many as num_heads.
        embedding_norm: the embedding passes the norm before the first block.
        convolution: each feed-forward layer reads, channel by channel, a weighted sum of this many latest positions;
            1 reads the position alone.
        kernel: how attention is computed; both give the same numbers, "explicit" spells them out.
        bias: the linear maps have a bias.
        qk_norm: queries and keys are divided by their root mean square before they meet.
        dropout: the share of each residual branch and of the embedding that is dropped in training.
        tied_head: the head shares the embedding's weights.
        logit_softcap: logits are bent to c tanh(logit / c), so they stay inside +-c.
        initialization: "normal" is GPT-2's (normal 0.02, residual outputs divided by sqrt(2 num_layers));
            "zero_residual" starts every residual branch and the head at zero, so the model begins as an
            embedding whose first loss is exactly ln V (not with a tied head, which is never zero).
    """

    kind: Literal["gpt"] = "gpt"
    num_layers: int = 6
    num_heads: int = 6
    num_kv_heads: int | None = None
    width: int = 192
    context_length: int = 256
    positions: PositionsConfig = field(default_factory=RotaryConfig)
    norm: NormConfig = field(default_factory=RMSNormConfig)
    feed_forward: FeedForwardConfig | SwiGLUConfig = field(default_factory=FeedForwardConfig)
    embedding_norm: bool = True
    convolution: int = 3
    kernel: Literal["fused", "explicit"] = "fused"
    bias: bool = False
    qk_norm: bool = True
    dropout: float = 0.0
    tied_head: bool = False
    logit_softcap: float | None = 15.0
    initialization: Literal["normal", "zero_residual"] = "zero_residual"

    def __post_init__(self) -> None:
        for name in ("num_layers", "num_heads", "width", "context_length", "convolution"):
            require_positive(name, getattr(self, name))
        require_positive("num_kv_heads", self.kv_heads)
        if self.width % self.num_heads:
            raise ValueError(
                f"num_heads = {self.num_heads} does not divide width = {self.width}; "
                f"the nearest numbers of heads that do are {nearest_divisors(self.width, self.num_heads)}."
            )
        if self.num_heads % self.kv_heads:
            raise ValueError(
                f"num_kv_heads = {self.num_kv_heads} does not divide num_heads = {self.num_heads}; "
                f"the nearest numbers that do are {nearest_divisors(self.num_heads, self.kv_heads)}."
            )
        if self.positions.kind == "rotary" and self.head_width % 2:
            raise ValueError(
                f"rotary positions need an even head width, and width / num_heads is {self.head_width}; "
                f"with num_heads = {self.num_heads}, the nearest widths that do are {self._nearest_even_widths()}."
            )
        if not 0.0 <= self.dropout < 1.0:
            raise ValueError(f"dropout must be at least 0 and below 1, not {self.dropout}.")
        if self.logit_softcap is not None:
            require_above_zero("logit_softcap", self.logit_softcap)

    @property
    def kv_heads(self) -> int:
        """The number of key/value heads, K."""
        return self.num_heads if self.num_kv_heads is None else self.num_kv_heads

    @property
    def head_width(self) -> int:
        """The width of one head, D."""
        return self.width // self.num_heads

    def _nearest_even_widths(self) -> str:
        widths = (self.width - self.num_heads, self.width + self.num_heads)
        return " and ".join(str(width) for width in widths if width > 0)


@dataclass(frozen=True, kw_only=True, slots=True)
class BigramConfig:
    """A table of the next token's logits for each token: the simplest language model.

    Args:
        context_length: how long the training windows are; a prediction looks at one token only.
    """

    kind: Literal["bigram"] = "bigram"
    context_length: int = 64

    def __post_init__(self) -> None:
        require_positive("context_length", self.context_length)


@dataclass(frozen=True, kw_only=True, slots=True)
class EncoderDecoderConfig:
    """An encoder that reads a source text both ways, and a decoder that writes a target while it reads the source.

    Args:
        num_encoder_layers: blocks of the encoder.
        num_decoder_layers: blocks of the decoder, each with attention to itself and to the source.
        context_length: the most tokens of a source and of a target.
        embedding_norm: the embedding passes the norm before the first block.
        convolution: each feed-forward layer reads, channel by channel, a weighted sum of this many latest positions;
            1 reads the position alone.
        dropout: the share of each residual branch and of the embedding that is dropped in training.
        tied_head: the head shares the embedding's weights; sources and targets always share one embedding.
        initialization: as a GPT's.
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
    embedding_norm: bool = True
    convolution: int = 1
    kernel: Literal["fused", "explicit"] = "fused"
    bias: bool = False
    qk_norm: bool = True
    dropout: float = 0.1
    tied_head: bool = True
    initialization: Literal["normal", "zero_residual"] = "zero_residual"

    def __post_init__(self) -> None:
        for name in ("num_encoder_layers", "num_decoder_layers"):
            require_positive(name, getattr(self, name))
        self.stack(1)

    def stack(self, num_layers: int) -> GptConfig:
        """Return the settings of a stack of blocks, which are those of a GPT of this width.

        Raises:
            ValueError: the sizes do not fit together.
        """
        return GptConfig(
            num_layers=num_layers,
            num_heads=self.num_heads,
            width=self.width,
            context_length=self.context_length,
            positions=self.positions,
            norm=self.norm,
            feed_forward=self.feed_forward,
            embedding_norm=self.embedding_norm,
            convolution=self.convolution,
            kernel=self.kernel,
            bias=self.bias,
            qk_norm=self.qk_norm,
            dropout=self.dropout,
            tied_head=self.tied_head,
            initialization=self.initialization,
        )


ModelConfig = GptConfig | BigramConfig | EncoderDecoderConfig


def require_positive(name: str, value: int) -> None:
    """Raise a ValueError that names a size which must be at least 1."""
    if value < 1:
        raise ValueError(f"{name} must be at least 1, not {value}.")


def require_above_zero(name: str, value: float) -> None:
    """Raise a ValueError that names a number which must lie above 0."""
    if not value > 0.0:
        raise ValueError(f"{name} must be above 0, not {value}.")


def nearest_divisors(number: int, wanted: int) -> str:
    """Name the two divisors of `number` that lie closest to `wanted`."""
    divisors = sorted((d for d in range(1, number + 1) if number % d == 0), key=lambda d: abs(d - wanted))
    return " and ".join(str(divisor) for divisor in sorted(divisors[:2]))
