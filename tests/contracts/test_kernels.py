"""Kernels agree with each other and with a plain loop, in what they return and in their gradients."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import product

import pytest
import torch
from torch import Tensor

from clearhead.core.errors import UserError
from clearhead.model.attention import Kernel, explicit, flex, fused
from clearhead.model.laws import Nothing, OnlyEarlier
from clearhead.model.masks import Causal, Full, Graph, Mask, PerDocument, Prefix, Window

HEADS, HEAD_WIDTH, BATCH = 6, 7, 2


@dataclass(frozen=True, slots=True)
class Scattered(Mask):
    """Lets each query read about half of the keys, the same ones in every call, and the last query none."""

    def dense(self, num_queries: int, num_keys: int, device: torch.device) -> Tensor:
        allowed = torch.rand(num_queries, num_keys, generator=torch.Generator().manual_seed(11)) < 0.5
        allowed[-1] = False
        return allowed[None, None]


MASKS = (Causal(), Full(), Nothing(), OnlyEarlier(), Scattered())
LENGTHS = ((5, 5), (5, 11), (1, 11), (1, 1))


def inputs(num_queries: int, num_keys: int, kv_heads: int, dtype: torch.dtype = torch.float32) -> list[Tensor]:
    """Return random queries, keys, values and the gradient that comes back."""
    generator = torch.Generator().manual_seed(3)
    shapes = [(HEADS, num_queries), (kv_heads, num_keys), (kv_heads, num_keys), (HEADS, num_queries)]
    return [torch.randn(BATCH, *shape, HEAD_WIDTH, generator=generator, dtype=dtype) for shape in shapes]


def bias_of(num_queries: int, num_keys: int) -> Tensor:
    return torch.randn(HEADS, num_queries, num_keys, generator=torch.Generator().manual_seed(5))


def run(kernel: Kernel, given: list[Tensor], mask: Mask, bias: Tensor | None) -> list[Tensor]:
    """Return a kernel's output and its gradients for queries, keys, values and the bias."""
    leaves = [tensor.clone().requires_grad_() for tensor in (*given[:3], *([] if bias is None else [bias]))]
    out = kernel(*leaves[:3], mask, *leaves[3:])
    return [out.detach(), *torch.autograd.grad(out, leaves, given[3])]


def disagreement(kernel: Kernel, twin: Kernel, given: list[Tensor], mask: Mask, bias: Tensor | None = None) -> float:
    pairs = zip(run(kernel, given, mask, bias), run(twin, given, mask, bias), strict=True)
    return max(float((left - right).abs().max()) for left, right in pairs)


@pytest.mark.parametrize("with_bias", [False, True])
@pytest.mark.parametrize("lengths", LENGTHS)
@pytest.mark.parametrize("mask", MASKS, ids=lambda mask: type(mask).__name__)
def test_fused_equals_explicit(mask: Mask, lengths: tuple[int, int], with_bias: bool) -> None:
    bias = bias_of(*lengths) if with_bias else None
    for kv_heads in (6, 3, 2, 1):
        assert disagreement(fused, explicit, inputs(*lengths, kv_heads), mask, bias) <= 1e-5


DOCUMENTS = torch.tensor([[0, 0, 0, 1, 1, 1, 2, 2, 2, 2, 2], [0, 1, 1, 1, 1, 1, 1, 1, 2, 3, 3]])
BOUND = (Window(3), Prefix(4), PerDocument().bind(DOCUMENTS), Graph(((0, 2), (2, 2), (9, 2), (3, 10), (10, 9))))


@pytest.mark.parametrize("with_bias", [False, True])
@pytest.mark.parametrize("lengths", LENGTHS)
@pytest.mark.parametrize("mask", BOUND, ids=lambda mask: type(mask).__name__)
def test_fused_equals_explicit_under_every_mask(mask: Mask, lengths: tuple[int, int], with_bias: bool) -> None:
    bias = bias_of(*lengths) if with_bias else None
    assert disagreement(fused, explicit, inputs(*lengths, 3), mask, bias) <= 1e-5


@pytest.mark.parametrize("lengths", [(5, 11)])
@pytest.mark.parametrize("mask", [*MASKS, *BOUND], ids=lambda mask: type(mask).__name__)
def test_flex_equals_explicit(mask: Mask, lengths: tuple[int, int]) -> None:
    q, k, v, _ = inputs(*lengths, 3)
    bias = bias_of(*lengths)
    for settings in ((mask,), (mask, bias), (mask, bias[:1])):
        torch.testing.assert_close(flex(q, k, v, *settings), explicit(q, k, v, *settings), rtol=0, atol=1e-5)


def test_flex_refuses_by_name_what_torch_cannot_do_here() -> None:
    q, k, v, _ = inputs(5, 5, 6)
    with pytest.raises(UserError, match=r"The flex kernel cannot do this here .*; set model\.kernel = fused\."):
        flex(q.requires_grad_(), k, v, Causal())


def by_hand(q: Tensor, k: Tensor, v: Tensor, mask: Mask, bias: Tensor | None = None, tap: None = None) -> Tensor:
    """Attention one number at a time, as the paper's formula reads."""
    (batch, heads, queries, width), keys = q.shape, k.size(2)
    allowed = mask.dense(queries, keys, q.device)
    out = torch.zeros_like(q)
    for b, h, t in product(range(batch), range(heads), range(queries)):
        g = h * k.size(1) // heads
        read = [s for s in range(keys) if allowed is None or bool(allowed[0, 0, t, s])]
        scores = [float(q[b, h, t] @ k[b, g, s]) / math.sqrt(width) for s in read]
        if bias is not None:
            scores = [score + float(bias[h, t, s]) for score, s in zip(scores, read, strict=True)]
        total = sum(math.exp(score) for score in scores)
        for score, s in zip(scores, read, strict=True):
            out[b, h, t] += math.exp(score) / total * v[b, g, s]
    return out


@pytest.mark.parametrize("kernel", [explicit, fused])
@pytest.mark.parametrize("mask", MASKS, ids=lambda mask: type(mask).__name__)
def test_a_kernel_equals_the_formula(kernel: Kernel, mask: Mask) -> None:
    q, k, v, _ = inputs(5, 11, 2)
    bias = bias_of(5, 11)
    torch.testing.assert_close(kernel(q, k, v, mask, bias), by_hand(q, k, v, mask, bias), rtol=0, atol=1e-5)
    torch.testing.assert_close(kernel(q, k, v, mask), by_hand(q, k, v, mask), rtol=0, atol=1e-5)


def unscaled(q: Tensor, k: Tensor, v: Tensor, mask: Mask, bias: Tensor | None = None, tap: None = None) -> Tensor:
    return explicit(q * math.sqrt(HEAD_WIDTH), k, v, mask, bias)


def deaf_to_masks(q: Tensor, k: Tensor, v: Tensor, mask: Mask, bias: Tensor | None = None, tap: None = None) -> Tensor:
    return explicit(q, k, v, Full(), bias)


def deaf_to_bias(q: Tensor, k: Tensor, v: Tensor, mask: Mask, bias: Tensor | None = None, tap: None = None) -> Tensor:
    return explicit(q, k, v, mask, None if bias is None else 0.0 * bias)


def shared_in_turn(q: Tensor, k: Tensor, v: Tensor, mask: Mask, bias: Tensor | None = None, tap: None = None) -> Tensor:
    """Give head h the keys of head h mod K in place of h K / H."""
    groups = HEADS // k.size(1)
    return explicit(q, k.repeat(1, groups, 1, 1), v.repeat(1, groups, 1, 1), mask, bias)


def without_gradient_to_keys(
    q: Tensor, k: Tensor, v: Tensor, mask: Mask, bias: Tensor | None = None, tap: None = None
) -> Tensor:
    return explicit(q, k.detach() + 0.0 * k, v, mask, bias)


@pytest.mark.parametrize("broken", [unscaled, deaf_to_masks, deaf_to_bias, shared_in_turn, without_gradient_to_keys])
def test_a_broken_kernel_disagrees(broken: Kernel) -> None:
    assert disagreement(broken, explicit, inputs(5, 11, 3), Causal(), bias_of(5, 11)) > 1e-3
