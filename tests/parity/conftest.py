"""How far a model of transformers and ours are apart, and how such a model is made."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import PreTrainedModel

from clearhead.convert.huggingface import from_transformers
from clearhead.model.config import GptConfig
from clearhead.model.transformer import GPT
from clearhead.store.checkpoint import load_model_tensors


@torch.no_grad()
def randomized(model: PreTrainedModel) -> PreTrainedModel:
    """Return a model whose every weight is random and large enough to matter."""
    generator = torch.Generator().manual_seed(5)
    for parameter in model.parameters():
        noise = torch.randn(parameter.shape, generator=generator)
        parameter.copy_(0.25 * noise if parameter.ndim == 2 else 1.0 + 0.3 * noise)
    return model.eval()


def our_model(config: GptConfig, tensors: dict[str, Tensor]) -> GPT:
    """Return our model of a config with these parameters."""
    model = GPT(config, tensors["embedding.weight"].size(0)).eval()
    load_model_tensors(model, tensors)
    return model


def gradients(model: nn.Module, logits: Tensor, tokens: Tensor) -> dict[str, Tensor]:
    loss = F.cross_entropy(logits[:, :-1].flatten(0, 1), tokens[:, 1:].flatten())
    named = dict(model.named_parameters())
    return dict(zip(named, torch.autograd.grad(loss, list(named.values())), strict=True))


def furthest(left: Tensor, right: Tensor) -> float:
    assert left.shape == right.shape
    return float((left - right).detach().abs().max())


def disagreement(theirs: PreTrainedModel, ours: GPT) -> float:
    """Return the largest difference between two models' logits, and between their gradients, mapped to our names."""
    generator = torch.Generator().manual_seed(7)
    tokens = torch.randint(ours.vocabulary_size, (3, ours.context_length), generator=generator)
    their_logits, our_logits = theirs(tokens).logits, ours(tokens)
    _, their_gradients = from_transformers(theirs.config.to_dict(), gradients(theirs, their_logits, tokens))
    our_gradients = gradients(ours, our_logits, tokens)
    assert their_gradients.keys() == our_gradients.keys()
    return max(
        furthest(their_logits, our_logits),
        *(furthest(gradient, our_gradients[name]) for name, gradient in their_gradients.items()),
    )


@pytest.fixture(name="randomized", scope="session")
def _randomized() -> Callable[[PreTrainedModel], PreTrainedModel]:
    return randomized


@pytest.fixture(name="our_model", scope="session")
def _our_model() -> Callable[[GptConfig, dict[str, Tensor]], GPT]:
    return our_model


@pytest.fixture(name="disagreement", scope="session")
def _disagreement() -> Callable[[PreTrainedModel, GPT], float]:
    return disagreement
