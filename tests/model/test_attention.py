"""Attention as a dataflow: projections, positions, kernel, gathering; and from another sequence."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from clearhead.model import attention as attention_module
from clearhead.model.attention import KERNELS, Attention, Kernel, causal_in_products, explicit, fused
from clearhead.model.cache import new_slot
from clearhead.model.masks import Causal, Full
from clearhead.model.positions import Positions, Rotary

B, T, S, H, D = 2, 7, 11, 6, 4
C = H * D


def random(*shape: int, seed: int = 1) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def attention(*, num_kv_heads: int = H, kernel: Kernel = explicit, qk_norm: bool = False) -> Attention:
    torch.manual_seed(3)
    return Attention(C, H, num_kv_heads, kernel, bias=True, qk_norm=qk_norm)


def linear(layer: nn.Linear, x: Tensor, heads: range) -> Tensor:
    """Return what some heads of a joint linear map make of x."""
    rows = slice(heads.start * D, heads.stop * D)
    return x @ layer.weight[rows].T + layer.bias[rows]


def by_hand(module: Attention, x: Tensor, source: Tensor, num_kv_heads: int, causal: bool) -> Tensor:
    """Run each head on its own, gather them side by side and project."""
    heads = []
    for head in range(H):
        shared = head * num_kv_heads // H
        q = linear(module.query, x, range(head, head + 1))
        k = linear(module.key, source, range(shared, shared + 1))
        v = linear(module.value, source, range(shared, shared + 1))
        if module.qk_norm:
            q, k = (part / (part.square().mean(-1, keepdim=True) + 1e-7).sqrt() for part in (q, k))
        scores = q @ k.mT / D**0.5
        if causal:
            scores = scores + torch.full(scores.shape[1:], float("-inf")).triu(1)
        heads.append(scores.softmax(-1) @ v)
    return torch.cat(heads, dim=-1) @ module.output.weight.T + module.output.bias


@pytest.mark.parametrize("kernel", [explicit, fused])
@pytest.mark.parametrize("qk_norm", [False, True])
@pytest.mark.parametrize("num_kv_heads", [6, 2, 1])
def test_attention_is_its_heads_one_by_one(num_kv_heads: int, qk_norm: bool, kernel: Kernel) -> None:
    module = attention(num_kv_heads=num_kv_heads, qk_norm=qk_norm, kernel=kernel)
    x = random(B, T, C)
    found = module(x, mask=Causal(), positions=Positions())
    torch.testing.assert_close(found, by_hand(module, x, x, num_kv_heads, causal=True), rtol=0, atol=1e-5)


@pytest.mark.parametrize("kernel", [explicit, fused])
def test_keys_and_values_may_come_from_another_sequence(kernel: Kernel) -> None:
    module = attention(num_kv_heads=2, kernel=kernel)
    x, source = random(B, T, C), random(B, S, C, seed=2)
    found = module(x, source, mask=Full(), positions=Positions())
    torch.testing.assert_close(found, by_hand(module, x, source, 2, causal=False), rtol=0, atol=1e-5)


def test_heads_that_share_keys_wrongly_are_told_apart() -> None:
    module, x = attention(num_kv_heads=2), random(B, T, C)
    difference = module(x, mask=Causal(), positions=Positions()) - by_hand(module, x, x, 1, causal=True)
    assert float(difference.detach().abs().max()) > 1e-3


def test_positions_reach_queries_and_keys_but_not_values() -> None:
    seen: dict[str, Tensor] = {}
    module, x = attention(), random(B, T, C)
    rotary = Rotary(S, D, 100.0)
    module(x, mask=Causal(), positions=rotary, tap=seen.setdefault)

    def heads(layer: nn.Linear) -> Tensor:
        return layer(x).view(B, T, H, D).transpose(1, 2)

    assert torch.equal(seen["q"], rotary.rotate(heads(module.query), 0))
    assert torch.equal(seen["k"], rotary.rotate(heads(module.key), 0))
    assert torch.equal(seen["v"], heads(module.value))


def test_a_slot_says_where_the_new_positions_begin() -> None:
    seen: dict[str, Tensor] = {}
    module, x, rotary = attention(), random(B, T, C), Rotary(S, D, 100.0)
    slot = new_slot(B, H, S, D, x)
    whole = module(x, mask=Causal(), positions=rotary)
    first = module(x[:, :5], mask=Causal(), positions=rotary, slot=slot)
    settings = {"positions": rotary, "slot": slot, "tap": seen.setdefault}
    second = module(x[:, 5:], mask=Causal(), **settings)
    torch.testing.assert_close(torch.cat((first, second), dim=1), whole, rtol=0, atol=1e-5)
    assert seen["k"].size(2) == 2
    assert seen["pattern"].shape == (B, H, 2, 7)


def test_the_kernels_have_names() -> None:
    assert KERNELS["explicit"] is explicit
    assert KERNELS["fused"] is fused


def test_a_bias_of_positions_is_added_to_the_scores() -> None:
    class Steep(Positions):
        def bias(self, num_queries: int, num_keys: int) -> Tensor:
            """Let each query see only its own position, as far as numbers go."""
            return 1e4 * torch.eye(num_keys)[None, -num_queries:]

    for kernel in (explicit, fused):
        module, x = attention(kernel=kernel), random(B, T, C)
        wanted = module.output(module.value(x))
        torch.testing.assert_close(module(x, mask=Causal(), positions=Steep()), wanted, rtol=0, atol=1e-5)


def with_gradients(kernel: Kernel, *inputs: Tensor) -> tuple[Tensor, ...]:
    """Return what a kernel gives under a causal mask, and the gradients of its inputs."""
    leaves = [x.clone().requires_grad_() for x in inputs]
    out = kernel(*leaves, Causal())
    return out, *torch.autograd.grad((out * random(*out.shape, seed=7)).sum(), leaves)


@pytest.mark.parametrize("num_kv_heads", [6, 2, 1])
def test_attention_in_two_products_is_the_explicit_one(num_kv_heads: int) -> None:
    inputs = [random(B, heads, T, D, seed=heads) for heads in (H, num_kv_heads, num_kv_heads)]
    in_products = with_gradients(lambda q, k, v, _: causal_in_products(q, k, v), *inputs)
    for found, expected in zip(in_products, with_gradients(explicit, *inputs), strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)
    ahead = with_gradients(lambda q, k, v, _: explicit(q, k, v, Full()), *inputs)
    assert not torch.allclose(in_products[0], ahead[0], atol=0.1)


@pytest.mark.parametrize(("longest", "in_products"), [(T, True), (T - 1, False)])
def test_in_bfloat16_short_causal_attention_is_products(
    longest: int, in_products: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[torch.dtype] = []

    def spied(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        calls.append(q.dtype)
        return causal_in_products(q, k, v)

    monkeypatch.setattr(attention_module, "causal_in_products", spied)
    monkeypatch.setattr(attention_module, "LONGEST_IN_PRODUCTS", longest)
    inputs = [random(B, H, T, D, seed=seed) for seed in (1, 2, 3)]
    expected = with_gradients(explicit, *inputs)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = with_gradients(fused, *inputs)
        fused(*inputs, Full())
        fused(*inputs, Causal(), random(H, T, T))
    assert calls == [torch.bfloat16] * in_products
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours.float(), theirs, rtol=0, atol=0.05)
