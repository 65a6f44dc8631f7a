"""How a model learns where a token stands: one class a scheme, each the identity where it does nothing."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from clearhead.model.config import LearnedConfig, PositionsConfig, RotaryConfig


class Positions(nn.Module):
    """A position scheme acts at up to three places; this one acts at none, which is the scheme `none`."""

    def embed(self, x: Float[Tensor, "B T C"], start: int) -> Float[Tensor, "B T C"]:
        """Return the embedded tokens with their positions, which begin at `start`, worked in."""
        return x

    def rotate(self, x: Float[Tensor, "B H T D"], start: int) -> Float[Tensor, "B H T D"]:
        """Return queries or keys, whose positions begin at `start`, with their positions worked in."""
        return x

    def bias(self, num_queries: int, num_keys: int) -> Float[Tensor, "#H T S"] | None:
        """Return what is added to the scaled scores, or None."""
        return None


class Learned(Positions):
    """Add a trained vector for each position.

    Source: Gehring et al. 2017, section 3.1; Vaswani et al. 2017, section 3.5.
    """

    def __init__(self, context_length: int, width: int) -> None:
        super().__init__()
        self.table = nn.Parameter(torch.empty(context_length, width))

    def embed(self, x: Float[Tensor, "B T C"], start: int) -> Float[Tensor, "B T C"]:
        return x + self.table[start : start + x.size(1)]


class Rotary(Positions):
    """Turn each pair of channels (i, i + D/2) of queries and keys by position / base^(2i/D) radians.

    The product of a query and a key then depends on their distance alone.
    Source: Su et al. 2021, section 3.2; pairs are split in halves, as in GPT-NeoX and Llama, not interleaved.
    """

    cosine: Tensor
    sine: Tensor

    def __init__(self, context_length: int, head_width: int, base: float) -> None:
        super().__init__()
        frequencies = base ** (-torch.arange(0, head_width, 2, dtype=torch.float64) / head_width)
        angles = torch.arange(context_length, dtype=torch.float64)[:, None] * frequencies
        # Not persistent: they follow from the config, so a checkpoint need not hold them.
        self.register_buffer("cosine", angles.cos().float(), persistent=False)
        self.register_buffer("sine", angles.sin().float(), persistent=False)

    def rotate(self, x: Float[Tensor, "B H T D"], start: int) -> Float[Tensor, "B H T D"]:
        cosine = self.cosine[start : start + x.size(2)].to(x.dtype)
        sine = self.sine[start : start + x.size(2)].to(x.dtype)
        first, second = x.chunk(2, dim=-1)
        return torch.cat((first * cosine - second * sine, second * cosine + first * sine), dim=-1)


def build_positions(config: PositionsConfig, *, context_length: int, width: int, head_width: int) -> Positions:
    """Return the scheme that a config names."""
    if isinstance(config, LearnedConfig):
        return Learned(context_length, width)
    if isinstance(config, RotaryConfig):
        return Rotary(context_length, head_width, config.base)
    return Positions()
