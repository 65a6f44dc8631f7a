"""Attention head by head and by torch's own module: the numbers of `Attention`, and what is refused."""

from __future__ import annotations

import re
from collections.abc import Callable
from itertools import product
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from clearhead.core.config import build
from clearhead.core.errors import UserError
from clearhead.model import laws
from clearhead.model.attention import Attention, Kernel, explicit, fused
from clearhead.model.config import GptConfig
from clearhead.model.heads import PROJECTIONS, HeadsLoop, TorchAttention, with_attention
from clearhead.model.masks import Causal, Full, Graph, Mask, PerDocument, Prefix, Window
from clearhead.model.positions import Alibi, Positions, Rotary
from clearhead.model.transformer import GPT
from clearhead.model.variants.attention import SUBSTITUTIONS

B, T, S, H, D = 2, 7, 11, 3, 4
C = H * D
Other = type[HeadsLoop] | type[TorchAttention]
MODULES = (HeadsLoop, TorchAttention)
DOCUMENTS = torch.tensor([[0, 0, 0, 1, 1, 2, 2], [0, 1, 1, 1, 1, 1, 1]])
MASKS = (Causal(), Full(), Window(3), Prefix(4), PerDocument().bind(DOCUMENTS), Graph(((0, 2), (4, 2), (5, 5))))


def random(*shape: int, seed: int = 1) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def attention(*, bias: bool = True, qk_norm: bool = False, kv_heads: int = H, kernel: Kernel = fused) -> Attention:
    module = Attention(C, H, kv_heads, kernel, bias=bias, qk_norm=qk_norm)
    for index, parameter in enumerate(module.parameters()):
        with torch.no_grad():
            parameter.copy_(0.4 * random(*parameter.shape, seed=index))
    return module


def gradients(module: nn.Module, out: Tensor, x: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
    """Return the gradients of a random sum of the output, for the input and every parameter."""
    named = dict(module.named_parameters())
    found = torch.autograd.grad((out * random(*out.shape, seed=9)).sum(), [x, *named.values()])
    return found[0], dict(zip(named, found[1:], strict=True))


def put(module: nn.Module, values: dict[str, Tensor]) -> None:
    with torch.no_grad():
        for name, value in values.items():
            module.get_parameter(name).copy_(value)


def disagreement(plain: Attention, other: Any, x: Tensor, *source: Tensor, **where: Any) -> float:
    """Return the largest difference in outputs and gradients; gradients are converted as weights are."""
    wanted, found = plain(x, *source, **where), other(x, *source, **where)
    wanted_x, wanted_gradients = gradients(plain, wanted, x)
    found_x, found_gradients = gradients(other, found, x)
    put(other, found_gradients)
    joined = dict(other.joined().named_parameters())
    moved = [laws.furthest(joined[name], gradient) for name, gradient in wanted_gradients.items()]
    return max(laws.furthest(found, wanted), laws.furthest(found_x, wanted_x), *moved)


@pytest.mark.parametrize("module", MODULES)
@pytest.mark.parametrize("mask", MASKS, ids=lambda mask: type(mask).__name__)
@pytest.mark.parametrize("positions", [Positions(), Alibi(H)], ids=lambda positions: type(positions).__name__)
@pytest.mark.parametrize("bias", [False, True])
def test_outputs_and_gradients_are_equal(module: Other, mask: Mask, positions: Positions, bias: bool) -> None:
    # Gradients of some tens differ by 1e-5 in float32 by rounding alone, on some CPUs.
    plain = attention(bias=bias).double()
    x = random(B, T, C).double().requires_grad_()
    assert disagreement(plain, module.of(plain), x, mask=mask, positions=positions) <= 1e-5


@pytest.mark.parametrize("kernel", [explicit, fused])
@pytest.mark.parametrize("qk_norm", [False, True])
def test_the_loop_turns_and_normalizes_heads_too(qk_norm: bool, kernel: Kernel) -> None:
    plain, x = attention(qk_norm=qk_norm, kernel=kernel), random(B, T, C).requires_grad_()
    assert disagreement(plain, HeadsLoop.of(plain), x, mask=Causal(), positions=Rotary(T, D, 100.0)) <= 1e-5


@pytest.mark.parametrize("module", MODULES)
def test_keys_and_values_may_come_from_another_sequence(module: Other) -> None:
    plain, x, source = attention(), random(B, T, C).requires_grad_(), random(B, S, C, seed=2)
    assert disagreement(plain, module.of(plain), x, source, mask=Full(), positions=Positions()) <= 1e-5


@pytest.mark.parametrize("module", MODULES)
def test_positions_that_may_read_nothing_stay_finite(module: Other) -> None:
    plain, x = attention(), random(B, T, C).requires_grad_()
    other = module.of(plain).eval()
    for mask in (laws.Nothing(), laws.OnlyEarlier()):
        assert disagreement(plain, module.of(plain), x, mask=mask, positions=Positions()) <= 1e-5
        with torch.no_grad():
            found = other(x, mask=mask, positions=Positions())
        torch.testing.assert_close(found[:, 0], plain.output.bias.expand(B, -1), rtol=0, atol=1e-5)


@pytest.mark.parametrize("module", MODULES)
@pytest.mark.parametrize("bias", [False, True])
def test_there_and_back_is_the_same_attention(module: Other, bias: bool) -> None:
    plain = attention(bias=bias)
    back = module.of(plain).joined()
    assert set(back.state_dict()) == set(plain.state_dict())
    assert all(torch.equal(back.state_dict()[name], value) for name, value in plain.state_dict().items())


def test_a_wrong_converter_is_noticed() -> None:
    plain, x = attention(), random(B, T, C).requires_grad_()
    where = {"mask": Causal(), "positions": Positions()}
    for first, second in (("query", "key"), ("key", "value")):
        swapped = HeadsLoop.of(plain)
        weights = [getattr(swapped.heads[1], name).weight for name in (first, second)]
        with torch.no_grad():
            kept = weights[0].clone()
            weights[0].copy_(weights[1])
            weights[1].copy_(kept)
        assert disagreement(plain, swapped, x, **where) > 1e-3
    reordered = HeadsLoop.of(plain)
    reordered.heads = nn.ModuleList(reversed(reordered.heads))
    assert disagreement(plain, reordered, x, **where) > 1e-3


# What is refused.


def changed(kind: str) -> Attention:
    """Return an attention with a part taken out or replaced."""
    plain = attention()
    SUBSTITUTIONS[kind](plain)
    return plain


REFUSED: dict[str, Callable[[], object]] = {
    "HeadsLoop gives each head keys and values of its own, so 3 heads cannot share 1; set model.num_kv_heads = 3, "
    "or use Attention.": lambda: HeadsLoop.of(attention(kv_heads=1)),
    "TorchAttention gives each head keys and values of its own, so 3 heads cannot share 1; set model.num_kv_heads = 3, "
    "or use Attention.": lambda: TorchAttention.of(attention(kv_heads=1)),
    "HeadsLoop needs linear maps to query, key, value and output, each with weights of its own; convert an attention "
    "that has them all.": lambda: HeadsLoop.of(changed("value_is_input")),
    "TorchAttention needs linear maps to query, key, value and output, each with weights of its own; convert an "
    "attention that has them all.": lambda: TorchAttention.of(changed("key_is_query")),
    "TorchAttention computes attention its own way, so it cannot take another kernel's place.": (
        lambda: TorchAttention.of(changed("unscaled"))
    ),
    "TorchAttention keeps its queries and keys to itself, so they cannot be normalized; set model.qk_norm = false, "
    "or use HeadsLoop.": lambda: TorchAttention.of(attention(qk_norm=True)),
    "TorchAttention keeps its queries and keys to itself, so Rotary positions cannot turn them; use Attention or "
    "HeadsLoop.": lambda: TorchAttention.of(attention())(random(B, T, C), mask=Causal(), positions=Rotary(T, D, 100.0)),
}


@pytest.mark.parametrize("message", list(REFUSED))
def test_what_cannot_be_expressed_is_refused_by_name(message: str) -> None:
    with pytest.raises(UserError, match=f"^{re.escape(message)}$"):
        REFUSED[message]()


@pytest.mark.parametrize("module", MODULES)
def test_caches_and_taps_are_refused_by_name(module: Other) -> None:
    model = with_attention(model_with("none", {"kind": "causal"}), module.of)
    tokens = torch.zeros(B, 7, dtype=torch.long)
    with pytest.raises(UserError, match=f"^{module.__name__} keeps no cache"):
        model(tokens, cache=model.new_cache(B))
    with pytest.raises(UserError, match=f"^{module.__name__} shows nothing to a tap"):
        model(tokens, tap=lambda name, tensor: tensor)


# In a model.

POSITIONS = ("learned", "rotary", "none", "sinusoidal", "alibi", "concatenated", "fourier")
KINDS = ({"kind": "causal"}, {"kind": "window", "length": 3}, {"kind": "per_document"}, {"kind": "prefix"})


def model_with(positions: str, mask: dict[str, Any]) -> GPT:
    sizes = {"num_layers": 2, "num_heads": 2, "width": 12, "context_length": 7, "qk_norm": False}
    model = GPT(build(GptConfig, {**sizes, "positions": {"kind": positions}, "mask": mask}), 11).eval()
    for index, parameter in enumerate(model.parameters()):
        torch.nn.init.normal_(parameter, std=0.3, generator=torch.Generator().manual_seed(index))
    model.mask = model.mask.bind(DOCUMENTS[:1])
    return model


@pytest.mark.parametrize(
    ("module", "positions"),
    [pair for pair in product(MODULES, POSITIONS) if pair != (TorchAttention, "rotary")],
)
@pytest.mark.parametrize("mask", KINDS, ids=lambda mask: mask["kind"])
def test_a_model_gives_the_same_logits_and_gradients(module: Other, positions: str, mask: dict[str, Any]) -> None:
    model = model_with(positions, mask)
    other = with_attention(model, module.of)
    tokens = torch.randint(11, (2, 7), generator=torch.Generator().manual_seed(1))
    wanted, found = model(tokens), other(tokens)
    torch.testing.assert_close(found, wanted, rtol=0, atol=1e-5)
    plain, converted = (laws.gradients(m, logits, tokens) for m, logits in ((model, wanted), (other, found)))
    shared = set(plain) & set(converted)
    assert len(shared) > 4
    for name in shared:
        torch.testing.assert_close(converted[name], plain[name], rtol=0, atol=1e-5)


@pytest.mark.parametrize("module", MODULES)
def test_every_weight_of_a_models_attention_is_converted(module: Other) -> None:
    model = model_with("none", {"kind": "causal"})
    other = with_attention(model, module.of)
    assert not any(isinstance(part, Attention) for part in other.modules())
    for before, after in zip(model.blocks, other.blocks, strict=True):
        joined = after.attention.joined()
        for name in (*PROJECTIONS, "output"):
            assert torch.equal(getattr(joined, name).weight, getattr(before.attention, name).weight)


@pytest.mark.slow
@pytest.mark.parametrize("module", MODULES)
@pytest.mark.parametrize("mask", KINDS, ids=lambda mask: mask["kind"])
def test_a_model_with_another_module_obeys(module: Other, mask: dict[str, Any]) -> None:
    other = with_attention(model_with("alibi", mask), module.of)
    for law in (*laws.ANY_MODEL, laws.every_parameter_has_a_role, laws.masked_rows_stay_finite):
        law(other, 11)
