"""Muon against torch's own, stacked against one by one, and who is optimized how."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from clearhead.core.errors import DamagedFile
from clearhead.model.build import build_model
from clearhead.model.config import BigramConfig, GptConfig
from clearhead.training.config import AdamWConfig, MuonConfig
from clearhead.training.optim import Muon, OptimizerSet, build_optimizer, orthogonalize


def matrices(*shapes: tuple[int, int]) -> list[nn.Parameter]:
    generator = torch.Generator().manual_seed(11)
    made = [nn.Parameter(torch.randn(shape, generator=generator)) for shape in shapes]
    for matrix in made:
        matrix.grad = torch.randn(matrix.shape, generator=generator)
    return made


@pytest.mark.parametrize("shape", [(7, 7), (7, 29), (29, 7)])
def test_orthogonalize_brings_singular_values_near_one(shape: tuple[int, int]) -> None:
    torch.manual_seed(5)
    matrix = torch.randn(3, *shape)
    values = torch.linalg.svdvals(orthogonalize(matrix, steps=5))
    assert values.min() > 0.3
    assert values.max() < 1.3
    assert torch.linalg.svdvals(matrix).max() > 2.0


def test_orthogonalize_keeps_the_singular_vectors() -> None:
    torch.manual_seed(5)
    matrix = torch.randn(5, 13)
    u, _, vh = torch.linalg.svd(matrix, full_matrices=False)
    inner = u.T @ orthogonalize(matrix[None], steps=5)[0] @ vh.T
    assert (inner - inner.diagonal().diag()).abs().max() < 1e-4


def test_stacked_matrices_move_as_they_do_alone() -> None:
    together = matrices((5, 11), (5, 11), (11, 5), (5, 11))
    alone = [nn.Parameter(matrix.detach().clone()) for matrix in together]
    for copy, original in zip(alone, together, strict=True):
        copy.grad = original.grad.clone()
    stacked = Muon(together, lr=0.1, weight_decay=0.3)
    single = [Muon([matrix], lr=0.1, weight_decay=0.3) for matrix in alone]
    for _ in range(3):
        stacked.step()
        for optimizer in single:
            optimizer.step()
    for left, right in zip(together, alone, strict=True):
        assert (left - right).abs().max() < 1e-5


REACHED = ((0, 2, 3), (1, 2), (), (0, 1, 2, 3))
"""Which matrices have a gradient in each of four steps; the second one's shape is its own."""


def moved_in_part(without: Callable[[nn.Parameter], Tensor | None]) -> list[Tensor]:
    """Return matrices after these steps; `without` gives the gradient of those that are not reached."""
    moving = matrices((5, 11), (11, 5), (5, 11), (5, 11))
    gradients = [matrix.grad for matrix in moving]
    optimizer = Muon(moving, lr=0.1, weight_decay=0.3)
    for reached in REACHED:
        for index, matrix in enumerate(moving):
            matrix.grad = gradients[index] if index in reached else without(matrix)
        optimizer.step()
    return [matrix.detach() for matrix in moving]


def test_matrices_without_a_gradient_stay_while_others_of_their_shape_move() -> None:
    alone = matrices((5, 11), (11, 5), (5, 11), (5, 11))
    single = [Muon([matrix], lr=0.1, weight_decay=0.3) for matrix in alone]
    for reached in REACHED:
        for index in reached:
            single[index].step()

    def furthest(moved: list[Tensor]) -> float:
        return max(float((left - right.detach()).abs().max()) for left, right in zip(moved, alone, strict=True))

    assert furthest(moved_in_part(lambda _: None)) < 1e-5
    # A gradient of zeros is not the same: momentum and decay go on.
    assert furthest(moved_in_part(torch.zeros_like)) > 1e-2


@pytest.mark.parametrize("shape", [(17, 17), (31, 13), (13, 31)])
def test_muon_agrees_with_torch(shape: tuple[int, int]) -> None:
    """torch.optim.Muon works in bf16, so its update differs by a few percent; the sign of a mistake would not."""
    (ours,), (theirs,) = matrices(shape), matrices(shape)
    before = ours.detach().clone()
    settings = {"lr": 0.1, "momentum": 0.9, "weight_decay": 0.2}
    own = Muon([ours], **settings)
    reference = torch.optim.Muon([theirs], **settings, nesterov=True, ns_steps=5, adjust_lr_fn="original")
    for _ in range(3):
        own.step()
        reference.step()
    moved = (ours - before).norm()
    assert (ours - theirs).norm() < 0.05 * moved
    assert moved > 0.1


def test_each_role_gets_its_rate_and_only_matrices_decay() -> None:
    model = build_model(GptConfig(num_layers=2, num_heads=2, width=12, context_length=7, bias=True), 11)
    built = build_optimizer(MuonConfig(weight_decay=0.25), model)
    names = {parameter: name for name, parameter in model.named_parameters()}
    rates = {names[p]: (group["lr"], group["weight_decay"]) for group in built.groups() for p in group["params"]}
    assert set(rates) == set(names.values())
    defaults = MuonConfig()
    assert rates["embedding.weight"] == (defaults.embedding_learning_rate, 0.0)
    assert rates["unembedding.weight"] == (defaults.head_learning_rate, 0.0)
    assert rates["blocks.0.attention.query.weight"] == (defaults.learning_rate, 0.25)
    assert rates["blocks.0.attention.query.bias"] == (defaults.gain_learning_rate, 0.0)
    assert rates["blocks.1.convolution.taps"] == (defaults.gain_learning_rate, 0.0)


def test_adamw_equals_torch_and_spares_vectors_from_decay() -> None:
    model = build_model(GptConfig(num_layers=1, num_heads=2, width=12, context_length=7, bias=True), 11, seed=3)
    twin = build_model(GptConfig(num_layers=1, num_heads=2, width=12, context_length=7, bias=True), 11, seed=3)
    ours = build_optimizer(AdamWConfig(learning_rate=0.01, weight_decay=0.5), model)
    groups = [
        {"params": [p for p in twin.parameters() if p.ndim >= 2], "weight_decay": 0.5},
        {"params": [p for p in twin.parameters() if p.ndim < 2], "weight_decay": 0.0},
    ]
    theirs = torch.optim.AdamW(groups, lr=0.01, betas=(0.9, 0.99), eps=1e-8)
    for left, right in zip(model.parameters(), twin.parameters(), strict=True):
        left.grad = torch.randn(left.shape)
        right.grad = left.grad.clone()
    for _ in range(3):
        ours.step()
        theirs.step()
    for left, right in zip(model.parameters(), twin.parameters(), strict=True):
        assert (left - right).abs().max() < 1e-6


def test_a_module_without_roles_is_taken_whole() -> None:
    model = nn.Sequential(nn.Embedding(7, 5), nn.Linear(5, 7))
    built = build_optimizer(MuonConfig(), model)
    assert sum(len(group["params"]) for group in built.groups()) == 3


@pytest.mark.parametrize("config", [AdamWConfig(), MuonConfig()])
def test_the_memory_comes_back_to_the_bit(config: AdamWConfig | MuonConfig) -> None:
    def fresh() -> tuple[nn.Module, OptimizerSet]:
        model = build_model(GptConfig(num_layers=1, num_heads=2, width=12, context_length=7), 11, seed=3)
        return model, build_optimizer(config, model)

    def step(model: nn.Module, optimizer: OptimizerSet, seed: int) -> None:
        torch.manual_seed(seed)
        for parameter in model.parameters():
            parameter.grad = torch.randn(parameter.shape)
        optimizer.step()

    model, optimizer = fresh()
    step(model, optimizer, 1)
    other, resumed = fresh()
    other.load_state_dict(model.state_dict())
    resumed.load_tensors({name: tensor.clone() for name, tensor in optimizer.tensors().items()})
    forgetful, without = fresh()
    forgetful.load_state_dict(model.state_dict())
    for each in ((model, optimizer), (other, resumed), (forgetful, without)):
        step(*each, seed=2)
    pairs = list(zip(model.parameters(), other.parameters(), strict=True))
    assert all(torch.equal(left, right) for left, right in pairs)
    assert not all(torch.equal(a, b) for a, b in zip(model.parameters(), forgetful.parameters(), strict=True))


STRANGE_MEMORY: dict[str, Callable[[dict[str, Tensor]], Any]] = {
    "one is missing": lambda memory: memory.pop("2.weight/exp_avg_sq"),
    "one too many": lambda memory: memory.update({"zzz/exp_avg": torch.zeros(3)}),
    "no name": lambda memory: memory.update({"zzz": torch.zeros(3)}),
    "another shape": lambda memory: memory.update({"2.weight/exp_avg": torch.zeros(())}),
    "another type": lambda memory: memory.update({"2.weight/exp_avg": memory["2.weight/exp_avg"].bfloat16()}),
    "steps in a row": lambda memory: memory.update({"2.weight/step": torch.zeros(3)}),
}


@pytest.mark.parametrize("strange", STRANGE_MEMORY)
def test_a_memory_of_something_else_is_refused(strange: str) -> None:
    """Taken as it is, a tensor of another shape can end the process inside torch."""
    model = nn.Sequential(nn.Embedding(7, 5), nn.Linear(5, 5), nn.Linear(5, 7))
    optimizer = build_optimizer(AdamWConfig(), model)
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    optimizer.step()
    memory = dict(optimizer.tensors())
    STRANGE_MEMORY[strange](memory)
    with pytest.raises(DamagedFile, match="The saved optimizer"):
        build_optimizer(AdamWConfig(), model).load_tensors(memory)


def test_rates_move_together() -> None:
    built = build_optimizer(MuonConfig(), build_model(GptConfig(num_layers=1, num_heads=2, width=12), 11))
    built.set_factor(0.25)
    assert all(group["lr"] == pytest.approx(0.25 * group["peak_lr"]) for group in built.groups())


def test_a_bigram_has_no_hidden_matrices() -> None:
    built = build_optimizer(MuonConfig(), build_model(BigramConfig(context_length=5), 7))
    assert [type(optimizer).__name__ for optimizer in built.optimizers] == ["AdamW"]


def test_bf16_products_inside_muon_move_the_weights_nearly_as_fp32_ones_do() -> None:
    moved = {}
    for precision in ("fp32", "bf16"):
        model = build_model(GptConfig(num_layers=1, num_heads=2, width=12, context_length=7), 11)
        before = {name: p.detach().clone() for name, p in model.named_parameters()}
        built = build_optimizer(MuonConfig(), model, precision)
        for index, parameter in enumerate(model.parameters()):
            parameter.grad = torch.randn(parameter.shape, generator=torch.Generator().manual_seed(index))
        built.step()
        moved[precision] = torch.cat([(p - before[name]).flatten() for name, p in model.named_parameters()])
        assert all(tensor.dtype == torch.float32 for tensor in built.tensors().values())
    apart = (moved["fp32"] - moved["bf16"]).norm() / moved["fp32"].norm()
    assert 0.0 < apart < 0.03
