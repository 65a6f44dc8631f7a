"""What a run minimises: a function from a model and a batch to a loss."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from clearhead.core.errors import UserError
from clearhead.generation.score import logits_of
from clearhead.model.transformer import GPT, run_block
from clearhead.text.batches import Batch


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
    logits = logits_of(model, batch.tokens, batch.documents, batch.weights)
    if logits.ndim != 3 or logits.shape[:2] != batch.targets.shape:
        raise UserError(
            f"The model gives logits of the shape {tuple(logits.shape)} for targets of the shape "
            f"{tuple(batch.targets.shape)}; they must be (B, T, V), a row of V for each of B x T targets."
        )
    rows, targets = logits.flatten(0, 1).float(), batch.targets.flatten()
    if batch.weights is None:
        return Loss(F.cross_entropy(rows, targets, reduction="sum"), float(targets.numel()))
    nats = F.cross_entropy(rows, targets, reduction="none")
    weights = batch.weights.flatten()
    return Loss((nats * weights).sum(), float(weights.sum()))


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
