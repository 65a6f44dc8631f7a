"""The twins: equal to torch's in outputs and gradients, told from broken ones, and fit for a run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from clearhead.model import laws, twins
from clearhead.model.attention import Kernel, explicit
from clearhead.model.config import FeedForwardConfig, GptConfig, LayerNormConfig, NormConfig, RMSNormConfig
from clearhead.model.masks import Causal, Full, Mask, PerDocument, Prefix, Window
from clearhead.model.transformer import GPT

B, T, C, V = 2, 5, 7, 11
TARGETS = torch.tensor([3, 0, 10, 3, 7])
TOKENS = torch.tensor([[3, 0, 10], [3, 7, 7]])


def random(*shape: int, seed: int = 1) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def outcome(function: Callable[..., Tensor], *leaves: Tensor) -> list[Tensor]:
    """Return an output and its gradients for some leaves."""
    out = function()
    return [out.detach(), *torch.autograd.grad(out, leaves, random(*out.shape, seed=9))]


def furthest(left: list[Tensor], right: list[Tensor]) -> float:
    return max(laws.furthest(a, b) for a, b in zip(left, right, strict=True))


# Functions.


def naive_softmax(x: Tensor) -> Tensor:
    return x.exp() / x.exp().sum(dim=-1, keepdim=True)


def transposed(x: Tensor) -> Tensor:
    return x.softmax(dim=-2)


def disagreement(twin: Callable[[Tensor], Tensor], torchs: Callable[[Tensor], Tensor], x: Tensor) -> float:
    leaf = x.clone().requires_grad_()
    return furthest(outcome(lambda: twin(leaf), leaf), outcome(lambda: torchs(leaf), leaf))


@pytest.mark.parametrize("scale", [1.0, 1000.0])
def test_softmax(scale: float) -> None:
    x = scale * random(B, T, V)
    assert disagreement(twins.softmax, lambda x: F.softmax(x, dim=-1), x) <= 1e-5
    assert disagreement(twins.log_softmax, lambda x: F.log_softmax(x, dim=-1), x) <= 1e-5 * scale
    for broken in (naive_softmax, transposed):
        fails = not disagreement(broken, lambda x: F.softmax(x, dim=-1), x) <= 1e-3
        assert fails == (broken is transposed or scale > 1)


@pytest.mark.parametrize("scale", [1.0, 30.0])
def test_cross_entropy(scale: float) -> None:
    def torchs(logits: Tensor) -> Tensor:
        return F.cross_entropy(logits, TARGETS, reduction="none")

    logits = scale * random(T, V)
    assert disagreement(lambda x: twins.cross_entropy(x, TARGETS), torchs, logits) <= 1e-5
    assert disagreement(lambda x: twins.cross_entropy(x, TARGETS.roll(1)), torchs, logits) > 1e-3


# Modules.

MODULES: list[tuple[nn.Module, Tensor]] = [
    (nn.LayerNorm(C), random(B, T, C)),
    (nn.LayerNorm(C, bias=False, eps=0.1), random(B, T, C)),
    (nn.LayerNorm(C, elementwise_affine=False), random(B, T, C)),
    (nn.RMSNorm(C, eps=1e-6), random(B, T, C)),
    (nn.RMSNorm(C, eps=0.1, elementwise_affine=False), random(B, T, C)),
    (nn.Embedding(V, C), TOKENS),
]


@pytest.mark.parametrize(("module", "x"), MODULES, ids=lambda value: type(value).__name__)
def test_modules(module: nn.Module, x: Tensor) -> None:
    for index, parameter in enumerate(module.parameters()):
        nn.init.normal_(parameter, generator=torch.Generator().manual_seed(index))
    twin = twins.twin_of(module)
    assert dict(twin.named_parameters()).keys() == dict(module.named_parameters()).keys()
    leaves = [*module.parameters(), *([x.requires_grad_()] if x.is_floating_point() else [])]
    wanted = outcome(lambda: module(x), *leaves)
    assert furthest(outcome(lambda: twin(x), *leaves), wanted) <= 1e-5
    assert furthest(outcome(lambda: twin(x.flip(-1)), *leaves), wanted) > 1e-3


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("probability", [0.0, 0.3])
def test_dropout_drops_what_torchs_drops(probability: float, training: bool) -> None:
    x = random(B, 100, C).requires_grad_()
    sides = []
    for module in (twins.Dropout(probability), nn.Dropout(probability)):
        torch.manual_seed(3)
        sides.append(outcome(lambda module=module: module.train(training)(x), x))
    assert furthest(*sides) <= 1e-6
    dropped = float((sides[0][0] == 0).float().mean())
    assert dropped == pytest.approx(probability if training else 0.0, abs=0.04)


DOCUMENTS = torch.tensor([[0, 0, 1, 1, 1], [0, 1, 1, 2, 2]])
MASKS = (Causal(), Full(), Window(2), Prefix(3), PerDocument().bind(DOCUMENTS), laws.Nothing(), laws.OnlyEarlier())


def attention_outcome(kernel: Kernel, mask: Mask, kv_heads: int, bias: Tensor | None) -> list[Tensor]:
    q, k, v = (random(B, heads, T, 3, seed=seed) for seed, heads in ((1, 4), (2, kv_heads), (3, kv_heads)))
    leaves = [leaf.requires_grad_() for leaf in (q, k, v, *([] if bias is None else [bias]))]
    return outcome(lambda: kernel(q, k, v, mask, bias), *leaves)


@pytest.mark.parametrize("mask", MASKS, ids=lambda mask: type(mask).__name__)
@pytest.mark.parametrize(("kv_heads", "with_bias"), [(4, False), (2, True)])
def test_attention_with_loops(mask: Mask, kv_heads: int, with_bias: bool) -> None:
    def bias() -> Tensor | None:
        return random(4, T, T, seed=5) if with_bias else None

    if isinstance(mask, laws.Nothing):
        q = random(B, 4, T, 3)
        assert not twins.attend(q, q, q, mask).any()
        return
    wanted = attention_outcome(explicit, mask, kv_heads, bias())
    assert furthest(attention_outcome(twins.attend, mask, kv_heads, bias()), wanted) <= 1e-5
    if not isinstance(mask, Full):
        assert furthest(attention_outcome(twins.attend, Full(), kv_heads, bias()), wanted) > 1e-3


# The optimizer.


def descend(kind: Callable[..., torch.optim.Optimizer], num_steps: int) -> Tensor:
    """Return where a few steps on a curved function end."""
    w = nn.Parameter(random(3, 5))
    optimizer = kind([w], lr=0.1, betas=(0.8, 0.95), eps=1e-3, weight_decay=0.2)
    for _ in range(num_steps):
        optimizer.zero_grad()
        ((w - 2.0).square() * random(3, 5, seed=4).abs()).sum().backward()
        optimizer.step()
    return w.detach()


class WithoutCorrection(twins.AdamW):
    """Begins with averages of nothing, uncorrected."""

    def step(self, closure: object = None) -> None:
        for memory in self.state.values():
            memory["steps"] = memory["steps"] + 50
        super().step()


@pytest.mark.parametrize("num_steps", [1, 2, 30])
def test_an_adamw_step(num_steps: int) -> None:
    torch.testing.assert_close(descend(twins.AdamW, num_steps), descend(torch.optim.AdamW, num_steps))


def test_a_wrong_step_is_noticed() -> None:
    assert laws.furthest(descend(WithoutCorrection, 3), descend(torch.optim.AdamW, 3)) > 1e-3


# Sampling.


def test_a_draw_is_the_inverse_of_the_cumulative_distribution() -> None:
    probabilities = torch.tensor([0.0, 0.5, 0.125, 0.0, 0.375, 0.0])
    edges = torch.cumsum(probabilities.double(), dim=0)
    for uniform in torch.arange(0, 1, 1 / 64, dtype=torch.float64):
        wanted = torch.searchsorted(edges, uniform, right=True)
        assert twins.draw(probabilities, float(uniform)) == int(wanted)


def test_draws_come_as_often_as_they_are_probable() -> None:
    probabilities = random(V).softmax(dim=0)
    uniforms = torch.rand(4000, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    counts = torch.bincount(torch.tensor([twins.draw(probabilities, float(u)) for u in uniforms]), minlength=V)
    torch.testing.assert_close(counts / 4000, probabilities, rtol=0, atol=0.03)


def test_rounding_leaves_no_draw_without_an_answer() -> None:
    assert twins.draw(torch.tensor([0.5, 0.4999, 0.0]), 0.99999) == 1


# In a model.

SIZES = GptConfig(num_layers=1, num_heads=2, width=8, context_length=4, initialization="normal", dropout=0.5)


def plain_model(norm: NormConfig, *, tied: bool) -> GPT:
    torch.manual_seed(5)
    return GPT(replace(SIZES, norm=norm, tied_head=tied, feed_forward=FeedForwardConfig(factor=1.0)), V)


def losses(model: GPT, optimizer: torch.optim.Optimizer, entropy: Callable[[Tensor, Tensor], Tensor]) -> list[float]:
    """Train a few steps, dropout on, and return the loss of each."""
    tokens = torch.randint(V, (3, 5), generator=torch.Generator().manual_seed(2))
    found = []
    for step in range(5):
        torch.manual_seed(step)
        loss = entropy(model.train()(tokens[:, :-1]).flatten(0, 1), tokens[:, 1:].flatten()).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        found.append(float(loss.detach()))
    return found


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("norm", [LayerNormConfig(), RMSNormConfig(gain=True)])
def test_a_model_of_twins_trains_as_the_plain_one(norm: NormConfig, tied: bool) -> None:
    plain = plain_model(norm, tied=tied)
    twin = twins.replace(plain)
    assert not any(isinstance(part, tuple(twins.TWINS)) for part in twin.modules())
    assert {twins.Embedding, twins.Dropout} < {type(part) for part in twin.modules()}
    assert set(twin.state_dict()) == set(plain.state_dict())
    assert twin.roles() == plain.roles()
    wanted = losses(plain, torch.optim.AdamW(plain.parameters(), lr=0.01), torch.nn.functional.cross_entropy)
    found = losses(twin, twins.AdamW(twin.parameters(), lr=0.01), twins.cross_entropy)
    assert found == pytest.approx(wanted, abs=1e-5)
    assert wanted[-1] < wanted[0] - 0.01
    for name, parameter in twin.named_parameters():
        torch.testing.assert_close(parameter, plain.get_parameter(name), rtol=0, atol=1e-5)


def test_the_original_keeps_its_parts() -> None:
    plain = plain_model(LayerNormConfig(), tied=False)
    twins.replace(plain)
    assert isinstance(plain.embedding, nn.Embedding)
    assert plain.blocks[0].attention.kernel is not twins.attend
