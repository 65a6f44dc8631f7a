"""Changes to a forward pass, as taps: heads switched off, attention made sharper or flatter, activations replaced."""

from __future__ import annotations

import re
from collections.abc import Mapping

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from clearhead.model.tap import Tap

_BLOCK = re.compile(r"blocks\.(\d+)\.(.+)")


def weighted_heads(weights: Float[Tensor, "B L H"]) -> Tap:
    """Multiply what each head gathers: 1 leaves it, 0 switches it off.

    The weights may differ from row to row of the batch, so a map of all heads switched off in turn is one pass.
    """

    def edit(name: str, tensor: Tensor) -> Tensor:
        match = _BLOCK.fullmatch(name)
        if match is None or match[2] != "attn.z":
            return tensor
        return tensor * weights[:, int(match[1]), :, None, None].to(tensor)

    return edit


def sharpened(alpha: float | Float[Tensor, " B"], layer: int | None = None) -> Tap:
    """Multiply the scores that softmax sees by alpha, in one layer or in all.

    0 is the even mean of all that may be read (the averaging trick), 1 the model itself, sqrt(D) undoes the division
    by sqrt(D). What the position scheme adds to the scores is multiplied too.

    Args:
        alpha: one number, or one for each row of the batch.
    """
    factor = torch.as_tensor(alpha).reshape(-1, 1, 1, 1)

    def edit(name: str, tensor: Tensor) -> Tensor:
        match = _BLOCK.fullmatch(name)
        if match is None or match[2] != "attn.scores_masked" or layer not in (None, int(match[1])):
            return tensor
        seen = tensor.isfinite()  # 0 times the mask's minus infinity would be no number
        return torch.where(seen, tensor.masked_fill(~seen, 0.0) * factor.to(tensor), tensor)

    return edit


def replaced(tensors: Mapping[str, Tensor], where: Bool[Tensor, "#B T"] | None = None) -> Tap:
    """Put other activations in the place of the model's own: patching.

    Args:
        tensors: by name, as a trace of another text has them.
        where: at which positions, for each row of the batch or for all; everywhere unless given.
    """

    def edit(name: str, tensor: Tensor) -> Tensor:
        if name not in tensors:
            return tensor
        other = tensors[name].to(tensor).expand_as(tensor)
        if where is None:
            return other
        return torch.where(where.view(where.size(0), *[1] * (tensor.ndim - 3), -1, 1), other, tensor)

    return edit
