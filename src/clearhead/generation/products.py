"""The products of a folded model: states times the weights of linear layers, exactly or with rounded weights."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, Protocol, runtime_checkable

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Float32
from torch import Tensor, nn

from clearhead.core.runtime import multiplies_slowly

Weights = Literal["fp32", "bf16", "int8"]

Rows = Float32[np.ndarray, "_ _"]
"""States, one a row: those of a position of each row of the batch, or of several."""
Map = Callable[[Rows], Rows]
"""From states, one a row, to other states."""


FEWEST_FOR_ONEDNN = 4
"""From so many rows on oneDNN's products in fp32 are faster where torch's own are slow (docs/log.md)."""


@runtime_checkable
class Product(Protocol):
    """Returns what all the layers make of the same states, side by side.

    Of `rows` states, the usual number, a result is overwritten by the next call.
    """

    def __call__(self, rows: int, *layers: nn.Linear) -> Map: ...


def exact(rows: int, *layers: nn.Linear) -> Map:
    """Multiply in fp32, by the library of torch's two that is faster here."""
    return by_onednn(rows, *layers) if rows >= FEWEST_FOR_ONEDNN and multiplies_slowly() else by_torch(rows, *layers)


def by_torch(rows: int, *layers: nn.Linear) -> Map:
    """Multiply in fp32. The layers' matrices stand as one, turned and packed, which multiplies one row fastest."""
    weight = joined(layers).t().contiguous()
    return over_arrays(lambda given, made: torch.mm(given, weight, out=made), rows, layers)


def by_onednn(rows: int, *layers: nn.Linear) -> Map:
    """Multiply in fp32 by oneDNN, which uses every CPU's widest instructions, with weights packed for so many rows."""
    weight = torch.ops.mkldnn._reorder_linear_weight(joined(layers).contiguous(), rows)

    def multiply(given: Tensor, _: Tensor) -> Tensor:
        made: Tensor = torch.ops.mkldnn._linear_pointwise(given, weight, None, "none", [], "")
        return made

    return over_arrays(multiply, rows, layers)


def bf16(rows: int, *layers: nn.Linear) -> Map:
    """Multiply weights and states that are rounded to bfloat16; many rows are faster so."""
    weight = joined(layers).t().to(torch.bfloat16).contiguous()
    return over_arrays(lambda given, made: made.copy_(torch.mm(given.to(torch.bfloat16), weight)), rows, layers)


def int8(rows: int, *layers: nn.Linear) -> Map:
    """Multiply weights rounded to 255 levels, scaled for each output, by states in bfloat16; few rows are faster so.

    Source: Dettmers et al. 2022, section 2.1 (absolute maximum); the states are not rounded to integers.
    """
    levels, scales = rounded(joined(layers))
    # Torch's operation reads past the end of sizes that are no multiple of 16.
    outputs, inputs = levels.shape
    levels = F.pad(levels, (0, -inputs % 16, 0, -outputs % 16))
    scales = F.pad(scales, (0, -outputs % 16))

    def multiply(given: Tensor, made: Tensor) -> Tensor:
        states = F.pad(given.to(torch.bfloat16), (0, -inputs % 16))
        return made.copy_(torch._weight_int8pack_mm(states, levels, scales)[:, :outputs])

    return over_arrays(multiply, rows, layers)


PRODUCTS: dict[Weights, Product] = {"fp32": exact, "bf16": bf16, "int8": int8}


def rounded(weight: Float[Tensor, "N C"]) -> tuple[Tensor, Tensor]:
    """Return whole numbers of at most 127 and, for each row, the bfloat16 to multiply them by."""
    largest = weight.abs().amax(dim=1)
    # A little more than the largest over 127, so that rounding the scale down cuts nothing off.
    scales = (largest / 127 * (1 + 2**-8)).to(torch.bfloat16)
    # What is no number stays none, so that a broken model shows.
    scales = torch.where(largest == 0, torch.ones_like(scales), scales)
    return (weight / scales.float()[:, None]).round().to(torch.int8), scales


def joined(layers: tuple[nn.Linear, ...]) -> Float[Tensor, "N C"]:
    """Return the matrices of layers that read the same states as one."""
    weights = [layer.weight.detach() for layer in layers]
    return weights[0] if len(weights) == 1 else torch.cat(weights)


def over_arrays(multiply: Callable[[Tensor, Tensor], Tensor], rows: int, layers: tuple[nn.Linear, ...]) -> Map:
    """Return a product, with the layers' biases, as a function of numpy's arrays.

    Args:
        multiply: returns what the layers' matrices make of its first tensor; its second may be filled with that.
    """
    biases = [layer.bias.detach() for layer in layers if layer.bias is not None]
    bias = torch.cat(biases).numpy() if biases else None
    width = sum(layer.out_features for layer in layers)
    usual = torch.empty(rows, width)

    def product(x: Rows) -> Rows:
        made = usual if len(x) == rows else torch.empty(len(x), width)
        y: Rows = multiply(torch.from_numpy(x), made).numpy()
        return y if bias is None else y + bias

    return product
