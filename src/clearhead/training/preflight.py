"""What is known before the first update: sizes, costs, and whether the first loss is what it should be."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from clearhead.core.words import counted
from clearhead.generation.score import TOKENS_AT_ONCE
from clearhead.text.batches import Batch
from clearhead.training.loop import to_tensors
from clearhead.training.objective import LOGITS_AT_ONCE, LOGITS_KEPT, Objective

SURPRISING_GAP = 0.1
"""How far, in nats, a first loss may lie from ln V before a sentence explains it."""


@dataclass(frozen=True, slots=True)
class Sizes:
    """How big a model is and what it costs.

    Args:
        by_role: parameters by role.
        flops_per_token: of training, 6 N + 12 L C T with N the parameters of matrix products.
        memory_bytes: weights, gradients, the optimizers' memory and the activations of one step, estimated; the program
            and its libraries, more than 400 MB, come on top.
    """

    parameters: int
    by_role: dict[str, int]
    flops_per_token: int
    memory_bytes: int


def measure_sizes(model: nn.Module, tokens_at_once: int) -> Sizes:
    """Count a model's parameters and estimate its cost in training.

    Args:
        tokens_at_once: tokens of one micro-batch.
    """
    roles: dict[str, str] = model.roles() if hasattr(model, "roles") else {}  # type: ignore[operator]
    by_role: dict[str, int] = {}
    for name, parameter in model.named_parameters():
        role = roles.get(name, "all")
        by_role[role] = by_role.get(role, 0) + parameter.numel()
    total = sum(by_role.values())
    layers, width, context, vocabulary = _shape(model)
    tied = getattr(getattr(model, "config", None), "tied_head", False)
    products = total - (0 if tied else by_role.get("embedding", 0)) - by_role.get("gain", 0)
    # A block keeps about 18 widths a position for its backward pass, the head three times the logits made at once.
    logits = tokens_at_once * vocabulary
    if logits > LOGITS_KEPT:
        logits = max(vocabulary, LOGITS_AT_ONCE)
    activations = 4 * (tokens_at_once * 18 * layers * width + 3 * logits)
    return Sizes(
        parameters=total,
        by_role=by_role,
        flops_per_token=6 * products + 12 * layers * width * context,
        memory_bytes=16 * total + activations,
    )


def _shape(model: nn.Module) -> tuple[int, int, int, int]:
    config: Any = getattr(model, "config", None)
    context = int(getattr(model, "context_length", 1))
    vocabulary = int(getattr(model, "vocabulary_size", 0))
    # An LSTM has layers but no attention, whose cost grows with the context.
    layers = getattr(config, "num_layers", 0) if hasattr(config, "num_heads") else 0
    return layers, getattr(config, "width", 0), context, vocabulary


@torch.no_grad()
def first_loss(model: nn.Module, objective: Objective, batches: Sequence[Batch[Any]], device: str) -> float:
    """Return the mean loss of a step's batch before anything was learned, dropout off."""
    was_training = model.training
    model.eval()
    parts = [part for batch in batches for part in batch.cut(-(-batch.tokens.size // TOKENS_AT_ONCE))]
    losses = [objective(model, to_tensors(part, device)) for part in parts]
    model.train(was_training)
    return sum(float(loss.total) for loss in losses) / sum(loss.weight for loss in losses)


def explain_first_loss(loss: float, choices: int, alternative: str = "id") -> str:
    """Say in a sentence whether a first loss is what a model that knows nothing should have."""
    guess = math.log(choices)
    even = f"guessing among {counted(choices, alternative)} costs ln {choices} = {guess:.3f}"
    beginning = f"The first loss is {loss:.3f}; {even}"
    gap = loss - guess
    if abs(gap) <= SURPRISING_GAP:
        return f"{beginning}, so the model starts without opinions, as it should."
    if gap > 0:
        spread = math.sqrt(2 * gap)
        return (
            f"{beginning}. The gap of {gap:.3f} means confident wrong guesses: random logits with a standard deviation "
            f"of {spread:.2f} cost half its square more than guessing."
        )
    return f"{beginning}. It lies {-gap:.3f} below, so the weights or the batch already know something of the text."
