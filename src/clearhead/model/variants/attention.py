"""Attention with one of its parts taken out or replaced: what each part is for."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from jaxtyping import Float
from torch import Tensor, nn

from clearhead.model.attention import Attention, Kernel
from clearhead.model.masks import Full, Mask
from clearhead.model.tap import Tap


class Constant(nn.Module):
    """Give every position the same trained vector, whatever it reads."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.vector = nn.Parameter(torch.randn(width))

    def forward(self, x: Float[Tensor, "B T C"]) -> Float[Tensor, "B T D"]:
        return self.vector.expand(*x.shape[:-1], -1)


def share_query_and_key(attention: Attention) -> None:
    """K = Q: what a position looks for is what it contains, so scores before the mask are symmetric."""
    attention.key = attention.query


def value_is_input(attention: Attention) -> None:
    """V = x: a position communicates its state as it is, cut into heads."""
    attention.add_module("value", nn.Identity())


def share_value_and_key(attention: Attention) -> None:
    """V = K: a position communicates what it is found by (before positions turn it)."""
    attention.value = attention.key


def constant_query(attention: Attention) -> None:
    """Every position looks for the same: weights depend on the keys alone."""
    attention.add_module("query", Constant(attention.num_heads * attention.head_width))


def constant_key(attention: Attention) -> None:
    """Every position says the same of itself: only the place of a key can make a difference."""
    attention.add_module("key", Constant(attention.num_kv_heads * attention.head_width))


def no_output_projection(attention: Attention) -> None:
    """Heads are laid side by side and not mixed: each keeps its own channels of the stream."""
    attention.add_module("output", nn.Identity())


def unscaled(attention: Attention) -> None:
    """Scores are not divided by sqrt(D), so they grow with the head's width and softmax grows sharp."""
    change_kernels(attention, _unscaled)


def unmasked(attention: Attention) -> None:
    """Every position reads every other, whatever mask is given: no language model, since it sees what it predicts."""
    attention.reads_ahead = True
    change_kernels(attention, _unmasked)


def change_kernels(attention: Attention, change: Callable[..., Tensor]) -> None:
    """Wrap the kernel, and the one that is used with a tap."""
    attention.kernel = partial(change, attention.kernel)
    attention.tapped_kernel = partial(change, attention.tapped_kernel)


def _unscaled(
    kernel: Kernel,
    q: Float[Tensor, "B H T D"],
    k: Float[Tensor, "B K S D"],
    v: Float[Tensor, "B K S D"],
    mask: Mask,
    bias: Float[Tensor, "#H T S"] | None = None,
    tap: Tap | None = None,
) -> Float[Tensor, "B H T D"]:
    # The kernel divides by sqrt(D) again.
    return kernel(q * q.size(-1) ** 0.5, k, v, mask, bias, tap)


def _unmasked(
    kernel: Kernel,
    q: Float[Tensor, "B H T D"],
    k: Float[Tensor, "B K S D"],
    v: Float[Tensor, "B K S D"],
    mask: Mask,
    bias: Float[Tensor, "#H T S"] | None = None,
    tap: Tap | None = None,
) -> Float[Tensor, "B H T D"]:
    return kernel(q, k, v, Full(), bias, tap)


SUBSTITUTIONS: dict[str, Callable[[Attention], None]] = {
    "key_is_query": share_query_and_key,
    "value_is_input": value_is_input,
    "value_is_key": share_value_and_key,
    "constant_query": constant_query,
    "constant_key": constant_key,
    "no_output": no_output_projection,
    "unscaled": unscaled,
    "unmasked": unmasked,
}
"""What is done to attention, by the name that a config gives it."""
