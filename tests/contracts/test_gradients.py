"""Gradients are slopes: of every part, against differences of the function itself, in double precision."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from clearhead.core.config import build
from clearhead.model.attention import Attention, Kernel, explicit, fused
from clearhead.model.config import (
    AlibiConfig,
    ConcatenatedConfig,
    FeedForwardConfig,
    FourierConfig,
    GptConfig,
    LayerNormConfig,
    LearnedConfig,
    NormConfig,
    PositionsConfig,
    RMSNormConfig,
    RotaryConfig,
    SinusoidalConfig,
    SwiGLUConfig,
)
from clearhead.model.heads import HeadsLoop, TorchAttention
from clearhead.model.layers import ShortConvolution, build_feed_forward, build_norm
from clearhead.model.masks import Causal, Full, Graph, Mask, PerDocument, Prefix, Window
from clearhead.model.positions import Alibi, Positions, Rotary, build_positions
from clearhead.model.transformer import GPT

B, T, C, H, D = 2, 3, 4, 2, 2


def random(*shape: int, seed: int = 7) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def with_random_weights(module: nn.Module) -> nn.Module:
    with torch.no_grad():
        for index, parameter in enumerate(module.double().parameters()):
            parameter.copy_(0.5 * random(*parameter.shape, seed=index))
    return module


def gradients_are_slopes(module: nn.Module, *inputs: Tensor, **settings: Any) -> bool:
    """Compare the gradients of a module, for its inputs and every parameter, with its slopes."""
    with_random_weights(module)
    names = [name for name, _ in module.named_parameters()]

    def function(*values: Tensor) -> Tensor:
        given, parameters = values[: len(inputs)], values[len(inputs) :]
        named = dict(zip(names, parameters, strict=True))
        out: Tensor = torch.func.functional_call(module, named, given, settings)
        return out

    at = [value.clone().requires_grad_() for value in (*inputs, *(p.detach() for p in module.parameters()))]
    return torch.autograd.gradcheck(function, at, eps=1e-6, atol=1e-7, rtol=1e-5, raise_exception=False)


class At(nn.Module):
    """One place of a position scheme, as a module."""

    def __init__(self, positions: Positions, place: str) -> None:
        super().__init__()
        self.positions, self.place = positions, place

    def forward(self, *inputs: Tensor) -> Tensor:
        if self.place == "bias":
            return inputs[0] + self.positions.bias(T, T)
        return getattr(self.positions, self.place)(*inputs, 2)


@pytest.mark.parametrize(
    ("config", "place", "shape"),
    [
        (LearnedConfig(), "embed", (B, T, C)),
        (ConcatenatedConfig(), "embed", (B, T, C - 1)),
        (SinusoidalConfig(), "embed", (B, T, C)),
        (FourierConfig(num_frequencies=2), "embed", (B, T, C)),
        (FourierConfig(num_frequencies=2, learned=False), "embed", (B, T, C)),
        (RotaryConfig(), "rotate", (B, H, T, D)),
        (AlibiConfig(), "bias", (B, H, T, T)),
    ],
)
def test_positions(config: PositionsConfig, place: str, shape: tuple[int, ...]) -> None:
    positions = build_positions(config, context_length=5, width=C, head_width=D)
    assert gradients_are_slopes(At(positions, place), random(*shape))


@pytest.mark.parametrize("config", [LayerNormConfig(), LayerNormConfig(bias=False), RMSNormConfig(gain=True)])
def test_norms(config: NormConfig) -> None:
    assert gradients_are_slopes(build_norm(config, C), random(B, T, C))


@pytest.mark.parametrize(
    "config",
    [
        *(FeedForwardConfig(kind=kind, factor=0.5) for kind in ("relu", "gelu", "gelu_exact", "squared_relu")),
        SwiGLUConfig(factor=1.0),
    ],
)
def test_feed_forward_layers(config: FeedForwardConfig | SwiGLUConfig) -> None:
    assert gradients_are_slopes(build_feed_forward(config, C, bias=True), random(B, T, C))


def test_the_convolution() -> None:
    assert gradients_are_slopes(ShortConvolution(C, 3), random(B, T, C))


DOCUMENTS = torch.tensor([[0, 0, 1], [0, 1, 1]])
MASKS = (Causal(), Full(), Window(2), Prefix(2), PerDocument().bind(DOCUMENTS), Graph(((0, 2), (2, 2))))


@pytest.mark.parametrize("kernel", [explicit, fused])
@pytest.mark.parametrize("mask", MASKS, ids=lambda mask: type(mask).__name__)
def test_attention(mask: Mask, kernel: Kernel) -> None:
    attention = Attention(C, H, 1, kernel, bias=True, qk_norm=True)
    positions = Rotary(T, D, 10.0)
    assert gradients_are_slopes(attention, random(B, T, C), mask=mask, positions=positions)


@pytest.mark.parametrize("kernel", [explicit, fused])
def test_attention_to_another_sequence(kernel: Kernel) -> None:
    attention = Attention(C, H, H, kernel, bias=False, qk_norm=False)
    x, source = random(B, T, C), random(B, T + 2, C, seed=8)
    assert gradients_are_slopes(attention, x, source, mask=Full(), positions=Alibi(H).double())


@pytest.mark.parametrize(
    "module", [HeadsLoop(C, H, explicit, bias=True, qk_norm=True), TorchAttention(C, H, bias=True)]
)
def test_other_modules_of_attention(module: nn.Module) -> None:
    assert gradients_are_slopes(module, random(B, T, C), mask=Causal(), positions=Alibi(H).double())


class OnEmbedded(nn.Module):
    """A whole model as a function of embedded tokens and its parameters; its loss as the last step."""

    def __init__(self, config: dict[str, Any], tokens: Tensor) -> None:
        super().__init__()
        self.model = GPT(build(GptConfig, config), 5)
        self.tokens = tokens

    def forward(self) -> Tensor:
        logits = self.model(self.tokens)
        return F.cross_entropy(logits.flatten(0, 1), self.tokens.roll(-1, dims=1).flatten())


@pytest.mark.parametrize("initialization", ["normal", "zero_residual"])
def test_the_loss_of_a_whole_model(initialization: str) -> None:
    config = {"num_layers": 1, "num_heads": 2, "width": 4, "context_length": 3, "convolution": 2}
    config |= {"feed_forward": {"kind": "swiglu", "factor": 0.5}, "initialization": initialization}
    assert gradients_are_slopes(OnEmbedded(config, torch.tensor([[3, 0, 4], [1, 1, 2]])))


class WrongSlope(nn.Module):
    """Gives back its input, with 1.01 times the gradient."""

    def forward(self, x: Tensor) -> Tensor:
        return 1.01 * x - (0.01 * x).detach()


class DetachedKeys(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.attention = Attention(C, H, H, explicit, bias=True, qk_norm=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.attention(x, x.detach(), mask=Causal(), positions=Positions())


@pytest.mark.parametrize("broken", [lambda: nn.Sequential(nn.LayerNorm(C), WrongSlope()), DetachedKeys])
def test_a_wrong_gradient_is_found(broken: Callable[[], nn.Module]) -> None:
    assert not gradients_are_slopes(broken(), random(B, T, C))
