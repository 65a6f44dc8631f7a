"""Norms, feed-forward layers and the block that joins them to attention."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F
from jaxtyping import Float, UInt8
from torch import Tensor, nn

from clearhead.model.attention import Mixer
from clearhead.model.cache import Slot
from clearhead.model.config import (
    AnyFeedForwardConfig,
    FeedForwardConfig,
    LayerNormConfig,
    NoFeedForwardConfig,
    NoNormConfig,
    NormConfig,
    SwiGLUConfig,
)
from clearhead.model.kernels import delayed_sum, rms_normalize, side_by_side
from clearhead.model.masks import Mask
from clearhead.model.positions import Positions
from clearhead.model.tap import Tap, scoped


class RMSNorm(nn.RMSNorm):
    """Torch's RMSNorm, its arithmetic done by `rms_normalize`."""

    def forward(self, x: Float[Tensor, "*rows C"]) -> Float[Tensor, "*rows C"]:
        assert self.eps is not None
        normalized = rms_normalize(x, self.eps)
        return normalized if self.weight is None else normalized * self.weight


def build_norm(config: NormConfig, width: int) -> nn.Module:
    """Return the norm that a config names.

    Source: Ba et al. 2016; Zhang and Sennrich 2019.
    """
    if isinstance(config, LayerNormConfig):
        return nn.LayerNorm(width, eps=config.epsilon, bias=config.bias)
    if isinstance(config, NoNormConfig):
        return nn.Identity()
    return RMSNorm(width, eps=config.epsilon, elementwise_affine=config.gain)


class Dropout(nn.Dropout):
    """Torch's dropout with other random numbers on a CPU, where drawing them one by one costs more than a product.

    There a byte decides about each channel, so that the share is rounded to a multiple of 1/256; what is kept is
    scaled by the rounded share. A compiled model draws inside its kernels, as torch's does.
    Source: Srivastava et al. 2014; what it saves is in docs/log.md.
    """

    def forward(self, input: Float[Tensor, "*rows C"]) -> Float[Tensor, "*rows C"]:
        if not self.training or not self.p:
            return input
        if input.device.type != "cpu" or torch.compiler.is_compiling():
            return super().forward(input)
        dropped = min(255, round(256 * self.p))
        kept = random_bytes(input.shape) >= dropped
        return input * kept.to(input.dtype).mul_(256 / (256 - dropped))


class TokenDropout(nn.Module):
    """In training, hide each token with a probability, so that no word decides alone: its vector becomes zero.

    What is kept is not scaled, since norms follow. Source: Iyyer et al. 2015, section 3.1 (word dropout).
    """

    def __init__(self, probability: float) -> None:
        super().__init__()
        self.probability = probability

    def forward(self, x: Float[Tensor, "B T C"]) -> Float[Tensor, "B T C"]:
        """Return the vectors, some of them hidden."""
        if not self.training or not self.probability:
            return x
        return x * (torch.rand(x.shape[:2], device=x.device) >= self.probability)[..., None]


def random_bytes(shape: torch.Size) -> UInt8[Tensor, "*rows C"]:
    """Draw bytes on the CPU, eight at a time."""
    words = torch.empty(-(-shape.numel() // 8), dtype=torch.int64).random_(-(2**63), None)
    return words.view(torch.uint8)[: shape.numel()].view(shape)


def squared_relu(x: Tensor) -> Tensor:
    """Return max(x, 0)^2. Source: So et al. 2021, section 4."""
    return F.relu(x).square()


def gelu_tanh(x: Tensor) -> Tensor:
    """Return x Phi(x) by the tanh approximation. Source: Hendrycks and Gimpel 2016, section 2."""
    return F.gelu(x, approximate="tanh")


def gelu_exact(x: Tensor) -> Tensor:
    """Return x Phi(x). Source: Hendrycks and Gimpel 2016, section 2."""
    return F.gelu(x)


ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": F.relu,
    "gelu": gelu_tanh,
    "gelu_exact": gelu_exact,
    "squared_relu": squared_relu,
}


def hidden_width(config: FeedForwardConfig | SwiGLUConfig, width: int) -> int:
    """Return F, the hidden width of a feed-forward layer; that of a SwiGLU layer is a multiple of 8."""
    step = 8 if isinstance(config, SwiGLUConfig) else 1
    return step * max(1, round(config.factor * width / step))


class FeedForward(nn.Module):
    """Let each position think on its own: output(activation(up(x)))."""

    def __init__(self, width: int, config: FeedForwardConfig, *, bias: bool) -> None:
        super().__init__()
        hidden = hidden_width(config, width)
        self.up = nn.Linear(width, hidden, bias=bias)
        self.activation = ACTIVATIONS[config.kind]
        self.output = nn.Linear(hidden, width, bias=bias)

    def forward(self, x: Float[Tensor, "B T C"], tap: Tap | None = None) -> Float[Tensor, "B T C"]:
        hidden = self.up(x)
        if tap is not None:
            hidden = tap("pre", hidden)
        hidden = self.activation(hidden)
        if tap is not None:
            hidden = tap("post", hidden)
        out: Tensor = self.output(hidden)
        return out


class SwiGLU(nn.Module):
    """Let each position think on its own: output(silu(gate(x)) * up(x)).

    Source: Shazeer 2020, eq. 6.
    """

    def __init__(self, width: int, config: SwiGLUConfig, *, bias: bool) -> None:
        super().__init__()
        hidden = hidden_width(config, width)
        self.gate = nn.Linear(width, hidden, bias=bias)
        self.up = nn.Linear(width, hidden, bias=bias)
        self.output = nn.Linear(hidden, width, bias=bias)

    def forward(self, x: Float[Tensor, "B T C"], tap: Tap | None = None) -> Float[Tensor, "B T C"]:
        gate, up = side_by_side(x, (self.gate, self.up)).chunk(2, dim=-1)
        if tap is not None:
            gate = tap("pre", gate)
        hidden = F.silu(gate) * up
        if tap is not None:
            hidden = tap("post", hidden)
        out: Tensor = self.output(hidden)
        return out


def build_feed_forward(config: AnyFeedForwardConfig, width: int, *, bias: bool) -> nn.Module | None:
    """Return the feed-forward layer that a config names, or None where blocks have none."""
    if isinstance(config, NoFeedForwardConfig):
        return None
    if isinstance(config, SwiGLUConfig):
        return SwiGLU(width, config, bias=bias)
    return FeedForward(width, config, bias=bias)


class ShortConvolution(nn.Module):
    """Mix each position with the few before it, channel by channel: y_t = sum_i taps_i * x_(t-i).

    It begins as the identity. Source: So et al. 2021 (Primer), section 4, a convolution of width 3 after each
    projection of attention. Departs: it stands before the feed-forward layer, where it gained more (docs/log.md).
    """

    def __init__(self, width: int, reach: int) -> None:
        super().__init__()
        self.taps = nn.Parameter(torch.zeros(reach, width))
        nn.init.ones_(self.taps[0])

    def forward(self, x: Float[Tensor, "B T C"], slot: Slot | None = None) -> Float[Tensor, "B T C"]:
        if slot is None:
            return delayed_sum(x, self.taps)
        before = self.taps.size(0) - 1
        joined = slot.with_recent(x, before)
        y = x * self.taps[0]
        for distance in range(1, before + 1):
            start = before - distance
            y = y + joined[:, start : start + x.size(1)] * self.taps[distance]
        return y


Branch = Callable[[Tensor], Tensor]


Residual = Callable[[Tensor, nn.Module, Branch], Tensor]
"""Joins a branch, and the norm that goes with it, to the stream of states x: residual(x, norm, branch)."""


def pre_norm(x: Float[Tensor, "B T C"], norm: nn.Module, branch: Branch) -> Float[Tensor, "B T C"]:
    """Return x + branch(norm(x)). Source: Xiong et al. 2020."""
    # Cast first: torch adds numbers of two types several times more slowly on a CPU.
    return x + branch(norm(x)).to(x.dtype)


class Block(nn.Module):
    """Communicate, then compute: x + attention(norm(x)), then x + feed_forward(norm(x)).

    Source: Vaswani et al. 2017 with the norm before each branch, unless another `residual` joins them.
    """

    def __init__(
        self,
        attention_norm: nn.Module,
        attention: Mixer,
        feed_forward_norm: nn.Module,
        convolution: ShortConvolution | None,
        feed_forward: nn.Module | None,
        dropout: float,
        residual: Residual = pre_norm,
    ) -> None:
        super().__init__()
        self.attention_norm = attention_norm
        self.attention = attention
        self.feed_forward_norm = feed_forward_norm
        self.convolution = convolution
        self.feed_forward = feed_forward
        self.dropout = Dropout(dropout)
        self.residual = residual

    def forward(
        self,
        x: Float[Tensor, "B T C"],
        *,
        mask: Mask,
        positions: Positions,
        slot: Slot | None = None,
        tap: Tap | None = None,
    ) -> Float[Tensor, "B T C"]:
        x = self.communicate(x, mask=mask, positions=positions, slot=slot, tap=tap)
        return self.compute(x, slot=slot, tap=tap)

    def communicate(
        self,
        x: Float[Tensor, "B T C"],
        *,
        mask: Mask,
        positions: Positions,
        slot: Slot | None = None,
        tap: Tap | None = None,
    ) -> Float[Tensor, "B T C"]:
        """Return x with what each position gathered from the others added."""
        if tap is not None:
            x = tap("resid_pre", x)
        attend = partial(self.attention, mask=mask, positions=positions, slot=slot, tap=scoped(tap, "attn"))
        x = self.residual(x, self.attention_norm, partial(self._gather, attend=attend, tap=tap))
        return x if tap is None else tap("resid_mid", x)

    def compute(
        self, x: Float[Tensor, "B T C"], *, slot: Slot | None = None, tap: Tap | None = None
    ) -> Float[Tensor, "B T C"]:
        """Return x with what each position made of it added."""
        if self.feed_forward is not None:
            x = self.residual(x, self.feed_forward_norm, partial(self._think, slot=slot, tap=tap))
        return x if tap is None else tap("resid_post", x)

    def _gather(self, x: Float[Tensor, "B T C"], attend: Branch, tap: Tap | None) -> Float[Tensor, "B T C"]:
        if tap is not None:
            x = tap("attn.in", x)
        heard = attend(x)
        if tap is not None:
            heard = tap("attn.out", heard)
        out: Tensor = self.dropout(heard)
        return out

    def _think(self, heard: Float[Tensor, "B T C"], slot: Slot | None, tap: Tap | None) -> Float[Tensor, "B T C"]:
        assert self.feed_forward is not None
        if self.convolution is not None:
            heard = self.convolution(heard, slot)
        if tap is not None:
            heard = tap("mlp.in", heard)
        thought = self.feed_forward(heard, scoped(tap, "mlp"))
        if tap is not None:
            thought = tap("mlp.out", thought)
        out: Tensor = self.dropout(thought)
        return out
