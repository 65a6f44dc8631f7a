"""Hand-written backward passes against plain torch."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from clearhead.model.kernels import delayed_sum, rms_normalize, side_by_side, turn


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


def plain_turn(x: Tensor, angles: Tensor) -> Tensor:
    first, second = x.chunk(2, dim=-1)
    turned = torch.complex(first, second) * torch.polar(torch.ones_like(angles), angles)
    return torch.cat((turned.real, turned.imag), dim=-1)


def test_turning_is_multiplying_by_a_complex_number() -> None:
    angles = drawn(7, 5)
    for x in (drawn(3, 2, 7, 10), drawn(3, 7, 2, 10).transpose(1, 2)):
        fast = gradients(lambda x: turn(x, angles.cos(), angles.sin()), x)
        for ours, plain in zip(fast, gradients(lambda x: plain_turn(x, angles), x), strict=True):
            torch.testing.assert_close(ours, plain, rtol=1e-5, atol=1e-6)
    backwards = plain_turn(x, -angles)
    assert not torch.allclose(fast[0], backwards, atol=0.1)


def test_gradients_are_those_of_finite_differences() -> None:
    wide = [drawn(2, 3, 5, dtype=torch.float64).requires_grad_(), drawn(3, 5, dtype=torch.float64).requires_grad_()]
    assert torch.autograd.gradcheck(fast_rms_normalize, wide[:1])
    assert torch.autograd.gradcheck(delayed_sum, wide)
    angles = drawn(7, 5, dtype=torch.float64)
    assert torch.autograd.gradcheck(
        lambda x: turn(x, angles.cos(), angles.sin()), drawn(2, 7, 10, dtype=torch.float64).requires_grad_()
    )


def test_a_backward_pass_that_forgets_the_norm_would_be_seen() -> None:
    x = drawn(3, 7, 11)
    forgetful = gradients(lambda x: x * rms_normalize(x.detach(), 1e-5) / x.detach(), x)[1]
    assert (forgetful - gradients(plain_rms_normalize, x)[1]).abs().max() > 0.01


def linear_layers(*widths: int, bias: bool) -> list[nn.Linear]:
    torch.manual_seed(2)
    return [nn.Linear(11, width, bias=bias) for width in widths]


@pytest.mark.parametrize("bias", [False, True])
def test_layers_side_by_side_equal_layers_one_by_one(bias: bool) -> None:
    layers = linear_layers(5, 7, 3, bias=bias)
    one_by_one = gradients(lambda x: torch.cat([layer(x) for layer in layers], dim=-1), drawn(2, 13, 11))
    for joined, plain in zip(gradients(lambda x: side_by_side(x, layers), drawn(2, 13, 11)), one_by_one, strict=True):
        torch.testing.assert_close(joined, plain)
    few = drawn(2, 13, 11)[:, :3]
    torch.testing.assert_close(side_by_side(few, layers), one_by_one[0][:, :3])


def test_the_weights_of_layers_side_by_side_learn_the_same() -> None:
    layers = linear_layers(5, 7, 3, bias=True)
    parameters = list(nn.ModuleList(layers).parameters())
    x, weights = drawn(2, 13, 11), drawn(2, 13, 15)
    joined = torch.autograd.grad((side_by_side(x, layers) * weights).sum(), parameters)
    plain = torch.autograd.grad((torch.cat([layer(x) for layer in layers], dim=-1) * weights).sum(), parameters)
    for of_joined, of_plain in zip(joined, plain, strict=True):
        torch.testing.assert_close(of_joined, of_plain)


def test_who_watches_a_layer_sees_it_side_by_side_too() -> None:
    layers, seen = linear_layers(5, 7, bias=False), []
    layers[1].register_forward_hook(lambda module, inputs, output: seen.append(output.shape) or 2 * output)
    x = drawn(2, 13, 11)
    doubled = side_by_side(x, [layers[0], layers[1]])
    assert seen == [(2, 13, 7)]
    torch.testing.assert_close(doubled[..., 5:], 2 * layers[1].forward(x))


def test_layers_that_are_more_than_a_product_are_asked() -> None:
    layers = [*linear_layers(5, bias=True), nn.Identity(), *linear_layers(3, bias=False)]
    x = drawn(2, 13, 11)
    torch.testing.assert_close(side_by_side(x, layers), torch.cat([layer(x) for layer in layers], dim=-1))
