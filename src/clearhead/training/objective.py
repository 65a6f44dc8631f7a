"""What a run minimises: a function from a model and a batch to a loss."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from clearhead.core.errors import UserError
from clearhead.generation.score import logits_of
from clearhead.model.transformer import GPT, run_block
from clearhead.text.batches import Batch

LOGITS_KEPT = 2**27
LOGITS_AT_ONCE = 2**24
"""A batch with more logits than are kept, half a GB in float32, makes them in parts of so many (docs/log.md)."""


@dataclass(frozen=True, slots=True)
class Loss:
    """A loss that can be added over micro-batches and processes.

    Args:
        total: nats summed over the targets.
        weight: the number of targets, or the sum of their weights.
    """

    total: Tensor
    weight: float
    metrics: Mapping[str, float] = field(default_factory=dict)


Objective = Callable[[nn.Module, Batch[Tensor]], Loss]


def next_token(model: nn.Module, batch: Batch[Tensor]) -> Loss:
    """Sum the cross-entropy of each position's next token.

    Logits are (B, T, V) and targets (B, T); both are flattened to one row for each target, since
    `cross_entropy` takes classes in the second dimension. The model's mask, where it has one, is bound to the batch.

    Raises:
        UserError: the logits do not have one row for each target. Where B, T and V are equal, swapped axes cannot be
            told by their shapes; `model.laws` finds them.
    """
    if isinstance(model, GPT) and batch.targets.numel() * model.vocabulary_size > LOGITS_KEPT:
        return next_token_in_parts(model, batch)
    logits = logits_of(model, batch.tokens, batch.documents, batch.weights)
    if logits.ndim != 3 or logits.shape[:2] != batch.targets.shape:
        raise UserError(
            f"The model gives logits of the shape {tuple(logits.shape)} for targets of the shape "
            f"{tuple(batch.targets.shape)}; they must be (B, T, V), a row of V for each of B x T targets."
        )
    weights = None if batch.weights is None else batch.weights.flatten()
    return Loss(summed_nats(logits.flatten(0, 1), batch.targets.flatten(), weights), weight_of(batch))


def next_token_in_parts(model: GPT, batch: Batch[Tensor]) -> Loss:
    """Return the loss of `next_token` with the logits of only `LOGITS_AT_ONCE // V` targets in memory at a time.

    The logits of each part are made once more on the way back: a third more arithmetic in the head, where a vocabulary
    of 50,000 would take 200 kB for each token.
    """
    states = model.features(batch.tokens, mask=model.mask.bind(batch.documents, batch.weights)).flatten(0, 1)
    weights = torch.ones_like(batch.targets, dtype=torch.float32) if batch.weights is None else batch.weights
    at_once = max(1, LOGITS_AT_ONCE // model.vocabulary_size)

    def of_part(states: Tensor, targets: Tensor, weights: Tensor) -> Tensor:
        return summed_nats(model.head(states[None])[0], targets, weights)

    rows = (states, batch.targets.flatten(), weights.flatten())
    parts = zip(*(torch.split(each, at_once) for each in rows), strict=True)
    nats = [checkpoint(of_part, *part, use_reentrant=False, preserve_rng_state=False) for part in parts]
    return Loss(torch.stack(nats).sum(), weight_of(batch))


def summed_nats(
    logits: Float[Tensor, "N V"], targets: Int[Tensor, " N"], weights: Float[Tensor, " N"] | None
) -> Tensor:
    """Return the cross-entropy of all targets, each times its weight."""
    if weights is None:
        return F.cross_entropy(logits.float(), targets, reduction="sum")
    return (F.cross_entropy(logits.float(), targets, reduction="none") * weights).sum()


def weight_of(batch: Batch[Tensor]) -> float:
    """Return the number of targets, or the sum of their weights."""
    return float(batch.targets.numel() if batch.weights is None else batch.weights.sum())


class Step(nn.Module):
    """A model and its objective as one module, which compilers and parallel wrappers wrap from outside."""

    def __init__(self, model: nn.Module, objective: Objective) -> None:
        super().__init__()
        self.model = model
        self.objective = objective

    def forward(self, batch: Batch[Tensor]) -> Loss:
        """Return the loss of a batch."""
        return self.objective(self.model, batch)


def compiled(step: Step, device: str) -> Callable[[Batch[Tensor]], Loss]:
    """Return a step that runs in kernels of torch.compile's making.

    On a CPU one block is compiled and serves for the whole stack, which takes less time than compiling the step
    and is as fast (docs/log.md). On a GPU, and where there is no stack, the whole step is compiled.
    """
    # The compiler has a switch of its own.
    torch.use_deterministic_algorithms(torch.are_deterministic_algorithms_enabled())
    stacks = [module for module in step.modules() if isinstance(module, GPT)]
    if torch.device(device).type != "cpu" or not stacks:
        return torch.compile(step)
    for stack in stacks:
        stack.run_block = torch.compile(run_block)
    return step
