"""How a model learns where a token stands: one class a scheme, each the identity where it does nothing."""

from __future__ import annotations

import torch
from jaxtyping import Float, Float64
from torch import Tensor, nn

from clearhead.core.errors import UserError
from clearhead.model.config import (
    AlibiConfig,
    ConcatenatedConfig,
    FourierConfig,
    LearnedConfig,
    NoPositionsConfig,
    PositionsConfig,
    RotaryConfig,
    SinusoidalConfig,
)
from clearhead.model.kernels import turn


class Positions(nn.Module):
    """A position scheme acts at up to three places; this one acts at none, which is the scheme `none`."""

    def token_width(self, width: int) -> int:
        """Return how much of the model's width the tokens' embedding fills; `embed` fills the rest."""
        return width

    def embed(self, x: Float[Tensor, "B T C"], start: int) -> Float[Tensor, "B T C"]:
        """Return the embedded tokens with their positions, which begin at `start`, worked in."""
        return x

    def rotate(self, x: Float[Tensor, "B H T D"], start: int) -> Float[Tensor, "B H T D"]:
        """Return queries or keys, whose positions begin at `start`, with their positions worked in."""
        return x

    def bias(self, num_queries: int, num_keys: int) -> Float[Tensor, "#H T S"] | None:
        """Return what is added to the scaled scores, or None."""
        return None

    def extended(self, context_length: int) -> Positions:
        """Return this scheme for another number of positions, which only a scheme that stores them changes."""
        return self

    def draw(self, std: float) -> None:
        """Draw a new model's parameters, of the deviation of its embedding."""
        for parameter in self.parameters():
            nn.init.normal_(parameter, std=std)


class Learned(Positions):
    """Add a trained vector for each position.

    Source: Gehring et al. 2017, section 3.1; Vaswani et al. 2017, section 3.5.
    """

    def __init__(self, context_length: int, width: int) -> None:
        super().__init__()
        self.table = nn.Parameter(torch.empty(context_length, width))

    def embed(self, x: Float[Tensor, "B T C"], start: int) -> Float[Tensor, "B T C"]:
        return x + self.table[start : start + x.size(1)]

    def extended(self, context_length: int) -> Positions:
        raise no_vector_for(context_length, self.table.size(0))


class Concatenated(Positions):
    """Put a trained vector for each position beside the token's embedding, which leaves it that much of the width.

    What a layer makes of token and position is then two separate products. Added vectors can do the same where they
    lie in different directions; here they must.
    """

    def __init__(self, context_length: int, position_width: int) -> None:
        super().__init__()
        self.table = nn.Parameter(torch.empty(context_length, position_width))

    def token_width(self, width: int) -> int:
        return width - self.table.size(1)

    def embed(self, x: Float[Tensor, "B T _"], start: int) -> Float[Tensor, "B T C"]:
        places = self.table[start : start + x.size(1)]
        return torch.cat((x, places.expand(x.size(0), -1, -1)), dim=-1)

    def extended(self, context_length: int) -> Positions:
        raise no_vector_for(context_length, self.table.size(0))


def no_vector_for(context_length: int, trained: int) -> UserError:
    """Return the refusal to read more positions than there are trained vectors."""
    return UserError(
        f"This model has a trained vector for each of {trained} positions and none for position {trained}, so it "
        f"cannot read {context_length}; a model with rotary, sinusoidal, alibi, fourier or no positions can."
    )


class Sinusoidal(Positions):
    """Add a sine and a cosine of the position at each of C/2 frequencies, base^(-2i/C).

    Near positions get near vectors. Source: Vaswani et al. 2017, section 3.5. Departs: sines and cosines stand in
    halves, not interleaved, and the embedding is not multiplied by sqrt(C); `amplitude` sets their balance.
    """

    def __init__(self, width: int, base: float, amplitude: float) -> None:
        super().__init__()
        self.width = width
        self.base = base
        self.amplitude = amplitude

    def embed(self, x: Float[Tensor, "B T C"], start: int) -> Float[Tensor, "B T C"]:
        count = (self.width + 1) // 2
        frequencies = self.base ** (-torch.arange(count, dtype=torch.float64) / count)
        angles = positions_from(start, x.size(1))[:, None] * frequencies
        waves = torch.cat((angles.sin(), angles.cos()), dim=-1)[:, : self.width]
        return x + self.amplitude * waves.to(x)


def positions_from(start: int, count: int) -> Float64[Tensor, " T"]:
    """Return the numbers of `count` positions; in double precision, since large angles lose their last digits."""
    return torch.arange(start, start + count, dtype=torch.float64)


class Fourier(Positions):
    """Add a trained linear map of cosines and sines of the position: x + W sqrt(1/M) [cos(t r), sin(t r)].

    The product of two feature vectors, before the map, depends on the distance alone; with normal frequencies it
    falls like a normal curve of the distance.
    Source: Rahimi and Recht 2007, section 3 (random features); Li et al. 2021, section 3 (learned frequencies).
    Departs: the frequencies begin at evenly spaced quantiles of the normal distribution, not at draws from it; one
    linear map stands in place of a two-layer network.
    """

    frequencies: Tensor

    def __init__(self, width: int, num_frequencies: int, spread: float, *, learned: bool) -> None:
        super().__init__()
        levels = (torch.arange(num_frequencies, dtype=torch.float64) + 0.5) / num_frequencies
        frequencies = spread * torch.special.ndtri(levels).float()
        if learned:
            self.frequencies = nn.Parameter(frequencies)
        else:
            self.register_buffer("frequencies", frequencies, persistent=False)
        self.map = nn.Linear(2 * num_frequencies, width, bias=False)

    def embed(self, x: Float[Tensor, "B T C"], start: int) -> Float[Tensor, "B T C"]:
        times = torch.arange(start, start + x.size(1), device=x.device, dtype=x.dtype)
        mapped: Tensor = self.map(self.features(times))
        return x + mapped

    def features(self, times: Float[Tensor, " T"]) -> Float[Tensor, "T N"]:
        """Return the cosines and sines of some positions, of length 1 together."""
        angles = times[:, None] * self.frequencies
        scale = self.frequencies.size(0) ** -0.5
        waves: Tensor = scale * torch.cat((angles.cos(), angles.sin()), dim=-1)
        return waves

    def draw(self, std: float) -> None:
        nn.init.normal_(self.map.weight, std=std)


class Alibi(Positions):
    """Subtract slope x distance from each score, with a slope for each head: 2^(-8 h / H) for h = 1 ... H.

    A model trained on short texts reads longer ones. Source: Press et al. 2022, section 3. Departs: any number of
    heads takes its slopes from the one series, where the authors join two series if H is no power of 2; where a mask
    lets later positions be read, they too are far by their distance.
    """

    slopes: Tensor

    def __init__(self, num_heads: int) -> None:
        super().__init__()
        slopes = 2.0 ** (-8.0 * torch.arange(1, num_heads + 1) / num_heads)
        self.register_buffer("slopes", slopes, persistent=False)

    def bias(self, num_queries: int, num_keys: int) -> Float[Tensor, "H T S"]:
        keys = torch.arange(num_keys, device=self.slopes.device)
        distances = (keys[num_keys - num_queries :, None] - keys).abs()
        return -self.slopes[:, None, None] * distances


class Rotary(Positions):
    """Turn each pair of channels (i, i + D/2) of queries and keys by position / base^(2i/D) radians.

    The product of a query and a key then depends on their distance alone.
    Source: Su et al. 2021, section 3.2; pairs are split in halves, as in GPT-NeoX and Llama, not interleaved.
    """

    cosine: Tensor
    sine: Tensor

    def __init__(self, context_length: int, head_width: int, base: float) -> None:
        super().__init__()
        self.head_width = head_width
        self.base = base
        frequencies = base ** (-torch.arange(0, head_width, 2, dtype=torch.float64) / head_width)
        angles = torch.arange(context_length, dtype=torch.float64)[:, None] * frequencies
        # Not persistent: they follow from the config, so a checkpoint need not hold them.
        self.register_buffer("cosine", angles.cos().float(), persistent=False)
        self.register_buffer("sine", angles.sin().float(), persistent=False)

    def rotate(self, x: Float[Tensor, "B H T D"], start: int) -> Float[Tensor, "B H T D"]:
        cosine = self.cosine[start : start + x.size(2)].to(x.dtype)
        sine = self.sine[start : start + x.size(2)].to(x.dtype)
        return turn(x, cosine, sine)

    def extended(self, context_length: int) -> Positions:
        return Rotary(context_length, self.head_width, self.base).to(self.cosine.device)


def build_positions(config: PositionsConfig, *, context_length: int, width: int, head_width: int) -> Positions:
    """Return the scheme that a config names."""
    match config:
        case LearnedConfig():
            return Learned(context_length, width)
        case RotaryConfig():
            return Rotary(context_length, head_width, config.base)
        case SinusoidalConfig():
            return Sinusoidal(width, config.base, config.amplitude)
        case AlibiConfig():
            return Alibi(width // head_width)
        case ConcatenatedConfig():
            return Concatenated(context_length, round(config.share * width))
        case FourierConfig():
            return Fourier(width, config.num_frequencies, config.spread, learned=config.learned)
        case NoPositionsConfig():
            return Positions()
