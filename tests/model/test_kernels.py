"""Hand-written backward passes against plain torch."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from clearhead.model.kernels import delayed_sum, rms_normalize


def plain_delayed_sum(x: Tensor, taps: Tensor) -> Tensor:
    before = taps.size(0) - 1
    padded = F.pad(x, (0, 0, before, 0))
    return sum((padded[:, before - i : before - i + x.size(1)] * taps[i] for i in range(before + 1)), torch.zeros(()))


def plain_rms_normalize(x: Tensor) -> Tensor:
    return F.rms_norm(x, (x.size(-1),), eps=1e-5)


def fast_rms_normalize(x: Tensor) -> Tensor:
    return rms_normalize(x, 1e-5)


def gradients(function: Callable[..., Tensor], *inputs: Tensor) -> tuple[Tensor, ...]:
    leaves = [x.clone().requires_grad_() for x in inputs]
    out = function(*leaves)
    generator = torch.Generator().manual_seed(5)
    return out, *torch.autograd.grad((out * torch.randn(out.shape, generator=generator)).sum(), leaves)


def drawn(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(3), dtype=dtype)


def test_normalizing_equals_torchs() -> None:
    for x in (drawn(3, 7, 11), drawn(3, 7, 5, 11).transpose(1, 2), drawn(2, 13) * 1e-3, torch.zeros(2, 3)):
        for fast, plain in zip(gradients(fast_rms_normalize, x), gradients(plain_rms_normalize, x), strict=True):
            torch.testing.assert_close(fast, plain, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("reach", [1, 2, 5, 7])
def test_a_delayed_sum_equals_shifted_products(reach: int) -> None:
    x, taps = drawn(3, 7, 11), drawn(reach, 11)
    for fast, plain in zip(gradients(delayed_sum, x, taps), gradients(plain_delayed_sum, x, taps), strict=True):
        torch.testing.assert_close(fast, plain, rtol=1e-5, atol=1e-6)


def test_gradients_are_those_of_finite_differences() -> None:
    wide = [drawn(2, 3, 5, dtype=torch.float64).requires_grad_(), drawn(3, 5, dtype=torch.float64).requires_grad_()]
    assert torch.autograd.gradcheck(fast_rms_normalize, wide[:1])
    assert torch.autograd.gradcheck(delayed_sum, wide)


def test_a_backward_pass_that_forgets_the_norm_would_be_seen() -> None:
    x = drawn(3, 7, 11)
    forgetful = gradients(lambda x: x * rms_normalize(x.detach(), 1e-5) / x.detach(), x)[1]
    assert (forgetful - gradients(plain_rms_normalize, x)[1]).abs().max() > 0.01
