"""Every element of the gradient of whole small models against finite differences, in float64."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call

from clearhead.model import shapes
from clearhead.model.build import build_model
from clearhead.model.config import FeedForwardConfig, GptConfig

SIZES = {"num_layers": 1, "num_heads": 2, "width": 4, "context_length": 4}
FAMILIES = {
    "modern": replace(shapes.modern(), **SIZES),
    "modern-squared-relu": replace(shapes.modern(), **SIZES, feed_forward=FeedForwardConfig(factor=2.0)),
    "modern-explicit": replace(shapes.modern(), **SIZES, kernel="explicit", num_kv_heads=1),
    "gpt2": shapes.gpt2(**SIZES),
    "lecture": shapes.lecture(**SIZES),
}
VOCABULARY_SIZE = 7


def drawn_model(config: GptConfig) -> nn.Module:
    """Return a model in float64 none of whose weights is zero or one."""
    model = build_model(config, VOCABULARY_SIZE).double()
    generator = torch.Generator().manual_seed(3)
    for parameter in model.parameters():
        parameter.data.add_(0.4 * torch.randn(parameter.shape, generator=generator, dtype=torch.float64))
    return model


def check(model: nn.Module) -> bool:
    names, values = zip(*model.named_parameters(), strict=True)
    tokens = torch.randint(VOCABULARY_SIZE, (3, 4), generator=torch.Generator().manual_seed(5))
    leaves = [value.detach().clone().requires_grad_() for value in values]

    def loss(*parameters: Tensor) -> Tensor:
        logits = functional_call(model, dict(zip(names, parameters, strict=True)), (tokens,))
        return F.cross_entropy(logits[:, :-1].flatten(0, 1), tokens[:, 1:].flatten())

    return torch.autograd.gradcheck(loss, leaves, raise_exception=False, rtol=1e-5, atol=1e-8)


@pytest.mark.parametrize("family", ["modern", "gpt2"])
def test_gradients_are_those_of_finite_differences(family: str) -> None:
    assert check(drawn_model(FAMILIES[family]))


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES)
def test_gradients_of_two_layers_are_those_of_finite_differences(family: str) -> None:
    assert check(drawn_model(replace(FAMILIES[family], num_layers=2)))


def test_a_wrong_backward_pass_would_be_seen() -> None:
    model = drawn_model(FAMILIES["modern"])
    model.blocks[0].attention.value.register_forward_hook(  # type: ignore[index, union-attr]
        lambda module, inputs, output: 1.001 * output - 0.001 * output.detach()
    )
    assert not check(model)
