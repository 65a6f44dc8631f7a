"""The products of a step: rows of states times the weights of linear layers, exactly or with rounded weights."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, Protocol, runtime_checkable

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Float32
from torch import Tensor, nn

Weights = Literal["fp32", "bf16", "int8"]

Rows = Float32[np.ndarray, "B _"]
Map = Callable[[Rows], Rows]
"""From the states of one position in each row of a batch to other states."""


@runtime_checkable
class Product(Protocol):
    """Returns what all the layers make of the same states, side by side, for so many rows.

    A result is overwritten by the next call.
    """

    def __call__(self, rows: int, *layers: nn.Linear) -> Map: ...


def exact(rows: int, *layers: nn.Linear) -> Map:
    """Multiply in fp32. The layers' matrices stand as one, turned and packed, which multiplies one row fastest."""
    weight = side_by_side(layers).t().contiguous()
    given, made = torch.empty(rows, weight.size(0)), torch.empty(rows, weight.size(1))
    return shifted(lambda: torch.mm(given, weight, out=made), given, made, layers)


def bf16(rows: int, *layers: nn.Linear) -> Map:
    """Multiply weights and states that are rounded to bfloat16; many rows are faster so."""
    weight = side_by_side(layers).t().to(torch.bfloat16).contiguous()
    given, made = torch.empty(rows, weight.size(0)), torch.empty(rows, weight.size(1))
    return shifted(lambda: made.copy_(torch.mm(given.to(torch.bfloat16), weight)), given, made, layers)


def int8(rows: int, *layers: nn.Linear) -> Map:
    """Multiply weights rounded to 255 levels, scaled for each output, by states in bfloat16; few rows are faster so.

    Source: Dettmers et al. 2022, section 2.1 (absolute maximum); the states are not rounded to integers.
    """
    levels, scales = rounded(side_by_side(layers))
    # Torch's operation reads past the end of sizes that are no multiple of 16.
    outputs, inputs = levels.shape
    levels = F.pad(levels, (0, -inputs % 16, 0, -outputs % 16))
    scales = F.pad(scales, (0, -outputs % 16))
    states = torch.zeros(rows, levels.size(1), dtype=torch.bfloat16)
    given, made = torch.empty(rows, inputs), torch.empty(rows, outputs)

    def multiply() -> None:
        states[:, :inputs].copy_(given)
        made.copy_(torch._weight_int8pack_mm(states, levels, scales)[:, :outputs])

    return shifted(multiply, given, made, layers)


PRODUCTS: dict[Weights, Product] = {"fp32": exact, "bf16": bf16, "int8": int8}


def rounded(weight: Float[Tensor, "N C"]) -> tuple[Tensor, Tensor]:
    """Return whole numbers of at most 127 and, for each row, the bfloat16 to multiply them by."""
    largest = weight.abs().amax(dim=1)
    # A little more than the largest over 127, so that rounding the scale down cuts nothing off.
    scales = (largest / 127 * (1 + 2**-8)).to(torch.bfloat16)
    scales = torch.where(largest > 0, scales, torch.ones_like(scales))
    return (weight / scales.float()[:, None]).round().to(torch.int8), scales


def side_by_side(layers: tuple[nn.Linear, ...]) -> Float[Tensor, "N C"]:
    """Return the matrices of layers that read the same states as one."""
    return torch.cat([layer.weight.detach() for layer in layers])


def shifted(multiply: Callable[[], object], given: Tensor, made: Tensor, layers: tuple[nn.Linear, ...]) -> Map:
    """Return a product, with the layers' biases, as a function of numpy's arrays; `multiply` turns given into made."""
    biases = [layer.bias.detach() for layer in layers if layer.bias is not None]
    bias = torch.cat(biases).numpy() if biases else None
    x_given, x_made = given.numpy(), made.numpy()

    def product(x: Rows) -> Rows:
        np.copyto(x_given, x)
        multiply()
        return x_made if bias is None else x_made + bias

    return product
