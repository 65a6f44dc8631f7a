"""Operations whose backward pass is written by hand, since autograd's own spends most of a small model's step on them.

Each has a twin in plain torch that a test holds it equal to; what each saves is in docs/log.md.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn
from torch.autograd.function import once_differentiable


def rms_normalize(x: Float[Tensor, "*rows C"], epsilon: float) -> Float[Tensor, "*rows C"]:
    """Divide each row by its root mean square: x / sqrt(mean(x^2) + epsilon).

    Source: Zhang and Sennrich 2019, eq. 4.
    """
    if not torch.is_grad_enabled():
        return _normalized(x, epsilon)[0]
    normalized: Tensor = _RMSNormalize.apply(x, epsilon)  # type: ignore[no-untyped-call]
    return normalized


def turn(
    x: Float[Tensor, "*rows T D"], cosine: Float[Tensor, "T E"], sine: Float[Tensor, "T E"]
) -> Float[Tensor, "*rows T D"]:
    """Turn each pair of channels (a, b) = (i, i + D/2) by its angle: (a cos - b sin, b cos + a sin), with E = D/2."""
    if not torch.is_grad_enabled():
        return _turned(x, cosine, sine)
    turned: Tensor = _Turn.apply(x, cosine, sine)  # type: ignore[no-untyped-call]
    return turned


def side_by_side(x: Float[Tensor, "*rows C"], layers: Sequence[nn.Module]) -> Float[Tensor, "*rows D"]:
    """Return what several layers make of one input, joined: cat([layer(x) for layer in layers]).

    Linear layers become one product where there are more rows than columns, so that joining the weights is cheap: x
    is cast and read once, and so is the gradient.
    """
    weights: list[Tensor] = [layer.weight for layer in layers if _is_only_linear(layer)]
    biases: list[Tensor] = [layer.bias for layer in layers if _is_only_linear(layer) and layer.bias is not None]
    few = x.numel() < x.size(-1) ** 2
    if few or len(weights) < len(layers) or len(biases) not in (0, len(layers)):
        return torch.cat([layer(x) for layer in layers], dim=-1)
    return F.linear(x, torch.cat(weights), torch.cat(biases) if biases else None)


def delayed_sum(x: Float[Tensor, "B T C"], taps: Float[Tensor, "N C"]) -> Float[Tensor, "B T C"]:
    """Return y_t = sum_i taps_i * x_(t-i), channel by channel, with zeros before the first position."""
    if not torch.is_grad_enabled():
        return _summed(x, taps)
    y: Tensor = _DelayedSum.apply(x, taps)  # type: ignore[no-untyped-call]
    return y


def _is_only_linear(layer: nn.Module) -> bool:
    """Say whether a layer does nothing but its product: nobody watches or changes what goes in and out."""
    watched = layer._forward_hooks or layer._forward_pre_hooks or layer._backward_hooks or layer._backward_pre_hooks
    return type(layer) is nn.Linear and not watched


def _normalized(x: Tensor, epsilon: float) -> tuple[Tensor, Tensor]:
    norm = torch.linalg.vector_norm(x, dim=-1, keepdim=True)
    scale = norm.square_().div_(x.size(-1)).add_(epsilon).rsqrt_()
    return x * scale, scale


def _summed(x: Tensor, taps: Tensor) -> Tensor:
    y = x * taps[0]
    for delay in range(1, taps.size(0)):
        y[:, delay:].addcmul_(x[:, :-delay], taps[delay])
    return y


def _turned(x: Tensor, cosine: Tensor, sine: Tensor) -> Tensor:
    y = x * cosine.repeat(1, 2)
    half = sine.size(-1)
    y[..., :half].addcmul_(x[..., half:], sine, value=-1.0)
    y[..., half:].addcmul_(x[..., :half], sine)
    return y


class _Turn(torch.autograd.Function):
    """The gradient is turned back."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, cosine: Tensor, sine: Tensor) -> Tensor:
        ctx.save_for_backward(cosine, sine)
        return _turned(x, cosine, sine)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        cosine, sine = ctx.saved_tensors
        return _turned(gradient, cosine, -sine), None, None


class _RMSNormalize(torch.autograd.Function):
    """With y = x r and r = 1 / sqrt(mean(x^2) + epsilon), dL/dx = r (g - y mean(g y)) for g = dL/dy."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, epsilon: float) -> Tensor:
        y, scale = _normalized(x, epsilon)
        ctx.save_for_backward(y, scale)
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        y, scale = ctx.saved_tensors
        along = torch.linalg.vecdot(gradient, y).unsqueeze(-1).div_(y.size(-1))
        of_x: Tensor = torch.addcmul(gradient, y, along, value=-1.0).mul_(scale)
        return of_x, None


class _DelayedSum(torch.autograd.Function):
    """The gradient of x is the same sum run backwards in time; that of a tap is x, delayed, times the gradient."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, taps: Tensor) -> Tensor:
        ctx.save_for_backward(x, taps)
        return _summed(x, taps)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor]:
        x, taps = ctx.saved_tensors
        of_x = gradient * taps[0]
        of_taps = [(gradient * x).sum((0, 1))]
        for delay in range(1, taps.size(0)):
            later, earlier = gradient[:, delay:], x[:, :-delay]
            of_x[:, :-delay].addcmul_(later, taps[delay])
            of_taps.append((later * earlier).sum((0, 1)))
        return of_x, torch.stack(of_taps)
