"""What can be set about a model: each alternative is a small class of its own, told apart by `kind`."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from clearhead.core.ranges import nearest_divisors, require_above_zero, require_positive, require_share


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


@dataclass(frozen=True, kw_only=True, slots=True)
class SinusoidalConfig:
    """Fixed waves of the position, of wavelengths from 2 pi up, added to the token's embedding.

    Args:
        base: the wavelengths grow from 2 pi to about 2 pi times this number of positions.
        amplitude: how high the waves are; "normal" initialization draws embeddings of deviation 0.02.
    """

    kind: Literal["sinusoidal"] = "sinusoidal"
    base: float = 10_000.0
    amplitude: float = 1.0

    def __post_init__(self) -> None:
        require_above_zero("base", self.base)
        require_above_zero("amplitude", self.amplitude)


@dataclass(frozen=True, kw_only=True, slots=True)
class AlibiConfig:
    """A key's score falls by its distance from the query, more steeply in some heads than in others."""

    kind: Literal["alibi"] = "alibi"


@dataclass(frozen=True, kw_only=True, slots=True)
class ConcatenatedConfig:
    """A trained vector for each position stands beside the token's embedding, which is that much narrower.

    Args:
        share: the part of the width that the position takes.
    """

    kind: Literal["concatenated"] = "concatenated"
    share: float = 0.25

    def __post_init__(self) -> None:
        if not 0.0 < self.share < 1.0:
            raise ValueError(f"share must be above 0 and below 1, not {self.share}.")


@dataclass(frozen=True, kw_only=True, slots=True)
class FourierConfig:
    """Cosines and sines of the position, through a trained linear map, added to the token's embedding.

    Args:
        num_frequencies: how many frequencies there are; each gives a cosine and a sine.
        spread: the deviation of the frequencies, in radians a position.
        learned: the frequencies are trained too.
    """

    kind: Literal["fourier"] = "fourier"
    num_frequencies: int = 32
    spread: float = 0.5
    learned: bool = True

    def __post_init__(self) -> None:
        require_positive("num_frequencies", self.num_frequencies)
        require_above_zero("spread", self.spread)


PositionsConfig = (
    LearnedConfig
    | RotaryConfig
    | NoPositionsConfig
    | SinusoidalConfig
    | AlibiConfig
    | ConcatenatedConfig
    | FourierConfig
)


@dataclass(frozen=True, kw_only=True, slots=True)
class CausalConfig:
    """A position reads itself and everything before it."""

    kind: Literal["causal"] = "causal"


@dataclass(frozen=True, kw_only=True, slots=True)
class WindowConfig:
    """A position reads itself and a few positions before it.

    Args:
        length: how many positions it reads, itself among them.
    """

    kind: Literal["window"] = "window"
    length: int = 64

    def __post_init__(self) -> None:
        require_positive("length", self.length)


@dataclass(frozen=True, kw_only=True, slots=True)
class PerDocumentConfig:
    """A position reads itself and what came before it in the same document."""

    kind: Literal["per_document"] = "per_document"


@dataclass(frozen=True, kw_only=True, slots=True)
class PrefixConfig:
    """The first positions of a training sequence read each other in both directions; their targets do not count.

    Scoring is causal, as without a prefix.

    Args:
        longest: how many positions may be given; for each sequence a number from 1 to this is drawn, at most the
            context length.
    """

    kind: Literal["prefix"] = "prefix"
    longest: int = 32

    def __post_init__(self) -> None:
        require_positive("longest", self.longest)


MaskConfig = CausalConfig | WindowConfig | PerDocumentConfig | PrefixConfig
"""The masks that a language model may train with: none of them shows it a target that counts."""


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


@dataclass(frozen=True, kw_only=True, slots=True)
class NoNormConfig:
    """States are left as large as they are."""

    kind: Literal["none"] = "none"


NormConfig = LayerNormConfig | RMSNormConfig | NoNormConfig


Activation = Literal["relu", "gelu", "gelu_exact", "squared_relu"]


@dataclass(frozen=True, kw_only=True, slots=True)
class FeedForwardConfig:
    """Two linear maps with an activation between them.

    Args:
        kind: the activation; "squared_relu" is max(x, 0)^2; "gelu" is the tanh form that GPT-2 uses,
            "gelu_exact" the one by the error function, which nanoGPT uses.
        factor: the hidden width as a multiple of the model's.
    """

    kind: Activation = "squared_relu"
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
class NoFeedForwardConfig:
    """Blocks communicate and do not compute."""

    kind: Literal["none"] = "none"


AnyFeedForwardConfig = FeedForwardConfig | SwiGLUConfig | NoFeedForwardConfig


@dataclass(frozen=True, kw_only=True, slots=True)
class AttentionConfig:
    """Queries, keys and values of their own."""

    kind: Literal["attention"] = "attention"


@dataclass(frozen=True, kw_only=True, slots=True)
class SubstitutedAttentionConfig:
    """Attention with one part taken out or replaced; `model.variants.attention` says what each is.

    Args:
        kind: "unmasked" reads ahead, so its losses are not those of a language model.
    """

    kind: Literal[
        "key_is_query",
        "value_is_input",
        "value_is_key",
        "constant_query",
        "constant_key",
        "no_output",
        "unscaled",
        "unmasked",
    ] = "key_is_query"


@dataclass(frozen=True, kw_only=True, slots=True)
class AveragingConfig:
    """The plain mean of all positions that may be read."""

    kind: Literal["averaging"] = "averaging"


@dataclass(frozen=True, kw_only=True, slots=True)
class CausalConvolutionConfig:
    """A weighted sum of the latest positions, channel by channel, by their distance alone.

    Args:
        reach: how many positions.
    """

    kind: Literal["convolution"] = "convolution"
    reach: int = 16

    def __post_init__(self) -> None:
        require_positive("reach", self.reach)


@dataclass(frozen=True, kw_only=True, slots=True)
class FourierMixerConfig:
    """FNet's Fourier transform; it reads ahead, so its losses are not those of a language model."""

    kind: Literal["fnet"] = "fnet"


MixerConfig = (
    AttentionConfig | SubstitutedAttentionConfig | AveragingConfig | CausalConvolutionConfig | FourierMixerConfig
)


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainedEmbeddingConfig:
    """Each token's vector is trained."""

    kind: Literal["trained"] = "trained"


@dataclass(frozen=True, kw_only=True, slots=True)
class FixedEmbeddingConfig:
    """Each token's vector stays as it was made.

    Args:
        kind: "frozen" vectors are random; "one_hot" has a channel for each token, so it needs a width of at least V.
    """

    kind: Literal["frozen", "one_hot"] = "frozen"


EmbeddingConfig = TrainedEmbeddingConfig | FixedEmbeddingConfig


@dataclass(frozen=True, kw_only=True, slots=True)
class GptConfig:
    """A decoder-only transformer.

    Args:
        num_kv_heads: heads of keys and values, each shared by num_heads / num_kv_heads query heads; without it,
            as many as num_heads.
        mixer: what positions gather from each other by.
        residual: how a branch joins the stream: "pre_norm" x + branch(norm(x)), "post_norm" norm(x + branch(x)),
            "none" branch(norm(x)).
        embedding_norm: the embedding passes the norm before the first block.
        convolution: each feed-forward layer reads, channel by channel, a weighted sum of this many latest positions;
            1 reads the position alone.
        kernel: how attention is computed; all give the same numbers, "explicit" spells them out, "flex" is torch's
            FlexAttention, which cannot train on a CPU.
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
    num_heads: int = 3
    num_kv_heads: int | None = None
    width: int = 192
    context_length: int = 256
    positions: PositionsConfig = field(default_factory=RotaryConfig)
    mask: MaskConfig = field(default_factory=CausalConfig)
    norm: NormConfig = field(default_factory=RMSNormConfig)
    feed_forward: AnyFeedForwardConfig = field(default_factory=FeedForwardConfig)
    mixer: MixerConfig = field(default_factory=AttentionConfig)
    residual: Literal["pre_norm", "post_norm", "none"] = "pre_norm"
    embedding: EmbeddingConfig = field(default_factory=TrainedEmbeddingConfig)
    embedding_norm: bool = True
    convolution: int = 3
    kernel: Literal["fused", "explicit", "flex"] = "fused"
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
        self._require_room_for_positions()
        self._require_parts_that_fit()
        require_share("dropout", self.dropout)
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

    def _require_room_for_positions(self) -> None:
        if not isinstance(self.positions, ConcatenatedConfig):
            return
        if self.tied_head:
            raise ValueError(
                "concatenated positions leave the embedding narrower than the head, so they need tied_head = false."
            )
        if not 0 < round(self.positions.share * self.width) < self.width:
            raise ValueError(
                f"concatenated positions with share = {self.positions.share} of width = {self.width} leave no channel "
                "to the position or none to the token; a share of 0.5 leaves both some."
            )

    def _require_parts_that_fit(self) -> None:
        if self.tied_head and isinstance(self.embedding, FixedEmbeddingConfig):
            raise ValueError(
                "tied_head trains the embedding's weights, so embedding.kind = "
                f"{self.embedding.kind} needs tied_head = false."
            )
        if self.mixer.kind == "value_is_input" and self.kv_heads != self.num_heads:
            raise ValueError(
                "mixer.kind = value_is_input cuts the state into num_heads values, so num_kv_heads must be num_heads."
            )

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
class LstmConfig:
    """A recurrent network: one state of fixed size holds all that was read.

    Args:
        width: of the state, and of the embedding.
    """

    kind: Literal["lstm"] = "lstm"
    num_layers: int = 2
    width: int = 128
    context_length: int = 64

    def __post_init__(self) -> None:
        for name in ("num_layers", "width", "context_length"):
            require_positive(name, getattr(self, name))


ModelConfig = GptConfig | BigramConfig | LstmConfig
"""The models that predict a text from itself; `model.family_config` has the others."""
