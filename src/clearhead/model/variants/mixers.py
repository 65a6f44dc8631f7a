"""What may stand where attention stands: an even average, a causal convolution, a Fourier transform."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from clearhead.model.attention import Mixer
from clearhead.model.cache import Slot, new_slot
from clearhead.model.masks import Mask
from clearhead.model.positions import Positions
from clearhead.model.tap import Tap


class Averaging(Mixer):
    """Let each position gather the plain mean of all that it may read: attention with equal weights, a bag of words.

    It has no parameters.
    """

    def forward(
        self,
        x: Float[Tensor, "B T C"],
        *,
        mask: Mask,
        positions: Positions,
        slot: Slot | None = None,
        tap: Tap | None = None,
    ) -> Float[Tensor, "B T C"]:
        """Return the mean state of the positions that each position may read; zeros where it may read none."""
        states = remembered(x, slot)
        allowed = mask.dense(x.size(1), states.size(1), x.device)
        if allowed is None:
            allowed = torch.ones(1, 1, x.size(1), states.size(1), dtype=torch.bool, device=x.device)
        weights = allowed[:, 0].to(x.dtype)
        weights = weights / weights.sum(dim=-1, keepdim=True).clamp(min=1.0)
        if tap is not None:
            weights = tap("pattern", weights)
        mean = weights @ states
        return mean if tap is None else tap("z", mean)

    def new_slot(self, batch: int, capacity: int, like: Tensor) -> Slot:
        """Return an empty slot for `capacity` states."""
        return new_slot(batch, 1, capacity, like.size(-1), like)


class CausalConvolution(Mixer):
    """Let each position gather from the `reach` latest ones by their distance alone, whatever they hold.

    y = output(sum_i taps_i * value(x)_(t-i)), channel by channel. What lies further back is out of reach, however
    fitting it would be; several layers reach further. Masks are not looked at: it never reads ahead.
    Source: van den Oord et al. 2016 (WaveNet), section 2.1. Departs: one vector of taps for each distance (a depthwise
    convolution) between two linear maps, no gates.
    """

    def __init__(self, width: int, reach: int, *, bias: bool) -> None:
        super().__init__()
        self.value = nn.Linear(width, width, bias=bias)
        self.taps = nn.Parameter(torch.randn(reach, width) * reach**-0.5)
        self.output = nn.Linear(width, width, bias=bias)

    def forward(
        self,
        x: Float[Tensor, "B T C"],
        *,
        mask: Mask,
        positions: Positions,
        slot: Slot | None = None,
        tap: Tap | None = None,
    ) -> Float[Tensor, "B T C"]:
        """Return what each position gathered from the positions just before it."""
        value = self.value(x)
        if tap is not None:
            value = tap("v", value)
        states, reach = remembered(value, slot), self.taps.size(0)
        padded = F.pad(states, (0, 0, reach - 1, 0))[:, states.size(1) - x.size(1) :]
        gathered = F.conv1d(padded.mT, self.taps.flip(0).mT[:, None], groups=x.size(2)).mT
        if tap is not None:
            gathered = tap("z", gathered)
        out: Tensor = self.output(gathered)
        return out

    def new_slot(self, batch: int, capacity: int, like: Tensor) -> Slot:
        """Return an empty slot for `capacity` states."""
        return new_slot(batch, 1, capacity, self.value.out_features, like)


class FourierMixer(Mixer):
    """Mix all positions and all channels by a Fourier transform: the real part of FFT_T(FFT_C(x)), nothing trained.

    Every position reads every other, those after it too, so it is a part for encoders and not for language models.
    Source: Lee-Thorp et al. 2021 (FNet), section 3. Departs: divided by sqrt(T C), which keeps the size of x.
    """

    reads_ahead = True

    def forward(
        self,
        x: Float[Tensor, "B T C"],
        *,
        mask: Mask,
        positions: Positions,
        slot: Slot | None = None,
        tap: Tap | None = None,
    ) -> Float[Tensor, "B T C"]:
        """Return the mixed states; masks are not looked at."""
        assert slot is None, "a transform of the whole text has no cache"
        mixed = torch.fft.fft2(x.float(), norm="ortho").real.to(x.dtype)
        return mixed if tap is None else tap("z", mixed)


def remembered(x: Float[Tensor, "B T C"], slot: Slot | None) -> Float[Tensor, "B S C"]:
    """Return the states of all positions so far, and keep the new ones where there is a slot."""
    if slot is None:
        return x
    return slot.append(x[:, None], x[:, None])[1][:, 0]
