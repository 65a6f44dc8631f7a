"""Norms, feed-forward layers, the convolution and the block, against their formulas."""

from __future__ import annotations

import math
from typing import Any, get_args

import pytest
import torch
from torch import Tensor, nn

from clearhead.model.attention import Attention, explicit
from clearhead.model.cache import new_slot
from clearhead.model.config import Activation, FeedForwardConfig, LayerNormConfig, RMSNormConfig, SwiGLUConfig
from clearhead.model.layers import (
    Block,
    Dropout,
    FeedForward,
    ShortConvolution,
    SwiGLU,
    TokenDropout,
    build_feed_forward,
    build_norm,
)
from clearhead.model.masks import Causal
from clearhead.model.positions import Positions

B, T, C = 2, 7, 10


def random(*shape: int, seed: int = 1) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def randomized(module: nn.Module, seed: int = 3) -> Any:
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator))
    return module


def close(found: Tensor, wanted: Tensor) -> None:
    torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-5)


# Norms.


@pytest.mark.parametrize("bias", [True, False])
def test_layer_norm_is_its_formula(bias: bool) -> None:
    norm = randomized(build_norm(LayerNormConfig(epsilon=0.1, bias=bias), C))
    x = random(B, T, C) + 3.0
    variance = ((x - x.mean(-1, keepdim=True)) ** 2).mean(-1, keepdim=True)
    wanted = (x - x.mean(-1, keepdim=True)) / (variance + 0.1).sqrt() * norm.weight
    close(norm(x), wanted + norm.bias if bias else wanted)
    assert (norm.bias is not None) is bias


@pytest.mark.parametrize("gain", [True, False])
def test_rms_norm_is_its_formula(gain: bool) -> None:
    norm = randomized(build_norm(RMSNormConfig(epsilon=0.1, gain=gain), C))
    x = random(B, T, C) + 3.0
    wanted = x / ((x**2).mean(-1, keepdim=True) + 0.1).sqrt()
    close(norm(x), wanted * norm.weight if gain else wanted)
    assert len(list(norm.parameters())) == gain


def test_norms_start_without_a_say_of_their_own() -> None:
    x = random(B, T, C)
    for config in (LayerNormConfig(epsilon=1e-9), RMSNormConfig(epsilon=1e-9, gain=True)):
        normed = build_norm(config, C)(x)
        close(normed.square().mean(-1), torch.ones(B, T))


# Feed-forward layers.


def formula(kind: str, x: float) -> float:
    if kind == "gelu":
        return 0.5 * x * (1.0 + math.tanh(math.sqrt(2.0 / math.pi) * (x + 0.044715 * x**3)))
    if kind == "gelu_exact":
        return 0.5 * x * (1.0 + math.erf(x / math.sqrt(2.0)))
    return max(x, 0.0) ** (2 if kind == "squared_relu" else 1)


@pytest.mark.parametrize("kind", get_args(Activation))
def test_a_feed_forward_layer_is_two_maps_with_its_activation(kind: Activation) -> None:
    layer = randomized(build_feed_forward(FeedForwardConfig(kind=kind, factor=1.7), C, bias=True))
    assert isinstance(layer, FeedForward)
    x = random(B, T, C)
    hidden = x @ layer.up.weight.T + layer.up.bias
    assert hidden.size(-1) == 17
    active = hidden.detach().clone().apply_(lambda value: formula(kind, value))
    close(layer(x), active @ layer.output.weight.T + layer.output.bias)


def test_swiglu_is_its_formula() -> None:
    layer = randomized(build_feed_forward(SwiGLUConfig(factor=3.0), C, bias=True))
    assert isinstance(layer, SwiGLU)
    x = random(B, T, C)
    gate = x @ layer.gate.weight.T + layer.gate.bias
    up = x @ layer.up.weight.T + layer.up.bias
    close(layer(x), (gate / (1.0 + (-gate).exp()) * up) @ layer.output.weight.T + layer.output.bias)


@pytest.mark.parametrize(("width", "factor", "hidden"), [(10, 3.0, 32), (192, 8 / 3, 512), (10, 0.1, 8)])
def test_the_hidden_width_of_swiglu_is_a_multiple_of_8(width: int, factor: float, hidden: int) -> None:
    layer = build_feed_forward(SwiGLUConfig(factor=factor), width, bias=False)
    assert layer.up.out_features == hidden


def test_a_feed_forward_layer_has_at_least_one_channel() -> None:
    assert build_feed_forward(FeedForwardConfig(factor=0.001), C, bias=False).up.out_features == 1


@pytest.mark.parametrize("config", [FeedForwardConfig(), SwiGLUConfig()])
def test_positions_do_not_meet_in_a_feed_forward_layer(config: FeedForwardConfig | SwiGLUConfig) -> None:
    layer = randomized(build_feed_forward(config, C, bias=False))
    x = random(B, T, C)
    close(layer(x)[:, 4:5], layer(x[:, 4:5]))


# The convolution.


def by_hand(convolution: ShortConvolution, x: Tensor) -> Tensor:
    """y_t = sum_i taps_i x_(t-i), one number at a time."""
    y = torch.zeros_like(x)
    reach = convolution.taps.size(0)
    for t in range(x.size(1)):
        for i in range(min(reach, t + 1)):
            y[:, t] += convolution.taps[i].detach() * x[:, t - i]
    return y


@pytest.mark.parametrize("reach", [2, 3, 5, 11])
def test_a_convolution_is_a_loop(reach: int) -> None:
    convolution = randomized(ShortConvolution(C, reach))
    x = random(B, T, C)
    close(convolution(x), by_hand(convolution, x))


def test_a_convolution_that_looks_ahead_is_not_that_loop() -> None:
    convolution = randomized(ShortConvolution(C, 3))
    x = random(B, T, C)
    ahead = by_hand(convolution, x.flip(1)).flip(1)
    assert float((ahead - by_hand(convolution, x)).abs().max()) > 0.1


def test_a_convolution_begins_as_the_identity() -> None:
    x = random(B, T, C)
    assert torch.equal(ShortConvolution(C, 3)(x), x)


@pytest.mark.parametrize("pieces", [[1] * 7, [3, 4], [1, 5, 1], [6, 1]])
def test_a_convolution_in_pieces_remembers_what_came_before(pieces: list[int]) -> None:
    convolution = randomized(ShortConvolution(C, 4))
    x = random(B, T, C)
    slot = new_slot(B, 1, T, 5, x)
    read = torch.cat([convolution(piece, slot) for piece in x.split(pieces, dim=1)], dim=1)
    close(read, convolution(x))


# The block.


class Recorder(nn.Module):
    """Multiplies by a number, and tells in which order it was asked."""

    def __init__(self, name: str, factor: float, asked: list[str]) -> None:
        super().__init__()
        self.name, self.factor, self.asked = name, factor, asked

    def forward(self, x: Tensor, *_: object, **__: object) -> Tensor:
        self.asked.append(self.name)
        return x * self.factor


def test_a_block_adds_what_its_branches_say() -> None:
    asked: list[str] = []
    factors = {"norm": 2.0, "attend": 3.0, "second norm": 5.0, "convolve": 7.0, "think": 11.0}
    norm, attend, second_norm, convolve, think = (Recorder(name, by, asked) for name, by in factors.items())
    block = Block(norm, Attention(C, 2, 2, explicit, bias=False, qk_norm=False), second_norm, None, think, dropout=0.0)
    block.attention, block.convolution = attend, convolve
    x = random(B, T, C)
    middle = x * (1 + 2 * 3)
    close(block(x, mask=Causal(), positions=Positions()), middle * (1 + 5 * 7 * 11))
    assert asked == list(factors)


@pytest.mark.parametrize("branch", ["attention", "feed_forward"])
def test_dropout_takes_its_share_of_each_branch(branch: str) -> None:
    nothing = nn.Identity()
    block = Block(nothing, Attention(C, 2, 2, explicit, bias=False, qk_norm=False), nothing, None, nothing, dropout=0.5)
    block.attention, block.feed_forward = Recorder("attend", 0.0, []), Recorder("think", 0.0, [])
    getattr(block, branch).factor = 1.0
    x = random(B, 101, C)
    torch.manual_seed(3)
    added = block(x, mask=Causal(), positions=Positions()) - x
    kept = added != 0
    assert 0.4 < float(kept.float().mean()) < 0.6
    close(added[kept], 2.0 * x[kept])


def test_dropout_acts_in_training_only() -> None:
    norm = build_norm(RMSNormConfig(), C)
    attention = Attention(C, 2, 2, explicit, bias=False, qk_norm=False)
    feed_forward = build_feed_forward(FeedForwardConfig(), C, bias=False)
    block = Block(norm, attention, norm, None, feed_forward, dropout=0.5)
    x = random(B, T, C)
    settings = {"mask": Causal(), "positions": Positions()}
    assert not torch.equal(block(x, **settings), block(x, **settings))
    block.eval()
    assert torch.equal(block(x, **settings), block(x, **settings))


def test_dropout_keeps_its_share_and_the_mean() -> None:
    dropout, ones = Dropout(0.3), torch.ones(101, 503)
    torch.manual_seed(5)
    out = dropout(ones)
    assert sorted(out.unique().tolist()) == pytest.approx([0.0, 256 / (256 - 77)])
    assert float((out == 0).float().mean()) == pytest.approx(0.3, abs=0.01)
    assert float(out.mean()) == pytest.approx(1.0, abs=0.01)
    torch.manual_seed(5)
    assert torch.equal(dropout(ones), out)
    assert not torch.equal(dropout(ones), out)
    assert torch.equal(dropout.eval()(ones), ones)


def test_what_dropout_drops_gets_no_gradient() -> None:
    x = torch.randn(7, 11, requires_grad=True)
    out = Dropout(0.5)(x)
    out.sum().backward()
    assert x.grad is not None
    assert torch.equal(x.grad * x.detach(), out.detach())
    assert torch.equal(x.grad == 0, out.detach() == 0)


def test_token_dropout_hides_whole_tokens_in_training_alone() -> None:
    torch.manual_seed(3)
    x, hide = torch.rand(101, 53, 7) + 1, TokenDropout(0.3)
    out = hide(x)
    hidden = (out == 0).any(dim=-1)
    assert 0.28 < hidden.float().mean() < 0.32
    assert torch.equal(out, torch.where(hidden[..., None], 0.0, x))
    assert torch.equal(hide.eval()(x), x)
