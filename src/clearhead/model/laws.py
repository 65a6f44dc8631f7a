"""What every language model must obey, as functions that raise when it does not.

A model is any `nn.Module` with `forward(tokens) -> (B, T, V)` and `context_length`; the laws about caches, taps and
roles ask for the further methods that this program's own models have.
"""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Int
from torch import Tensor, nn

from clearhead.model.masks import Mask

BATCH = 3
"""Rows of the laws' inputs: unlike every other size in use, so that a swapped axis shows."""


class LawBroken(AssertionError):
    """A model does what no correct model does; the message says what was seen."""


def sample_tokens(model: nn.Module, vocabulary_size: int, rows: int = BATCH) -> Int[Tensor, "B T"]:
    """Return random tokens that fill the model's context."""
    generator = torch.Generator().manual_seed(7)
    return torch.randint(vocabulary_size, (rows, int(model.context_length)), generator=generator)  # type: ignore[arg-type]


def require(holds: bool, message: str) -> None:
    """Raise LawBroken unless the condition holds."""
    if not holds:
        raise LawBroken(message)


def furthest(left: Tensor, right: Tensor) -> float:
    """Return the largest difference between two tensors."""
    return float((left - right).detach().abs().max())


@torch.no_grad()
def logits_have_the_right_shape(model: nn.Module, vocabulary_size: int) -> None:
    """Logits are (B, T, V), also for one token and for one row, and they are finite."""
    tokens = sample_tokens(model, vocabulary_size)
    for part in (tokens, tokens[:, :1], tokens[:1]):
        logits = model(part)
        wanted = (*part.shape, vocabulary_size)
        require(tuple(logits.shape) == wanted, f"logits have shape {tuple(logits.shape)}, not {wanted}")
        require(bool(logits.isfinite().all()), "some logits are not finite")


@torch.no_grad()
def the_future_is_not_read(model: nn.Module, vocabulary_size: int) -> None:
    """Changing a token leaves the logits of every earlier position as they were."""
    tokens = sample_tokens(model, vocabulary_size)
    before = model(tokens)
    for position in range(1, tokens.size(1)):
        changed = tokens.clone()
        changed[:, position] = (changed[:, position] + 1) % vocabulary_size
        moved = furthest(model(changed)[:, :position], before[:, :position])
        require(moved < 1e-5, f"changing token {position} moved an earlier logit by {moved:.2g}")


def the_future_gets_no_gradient(model: nn.Module, vocabulary_size: int) -> None:
    """The logits at a position have no gradient with respect to the embedding of a later token."""
    embedded: list[Tensor] = []
    table = next(module for module in model.modules() if isinstance(module, nn.Embedding))
    handle = table.register_forward_hook(lambda _module, _inputs, output: embedded.append(output))
    logits = model(sample_tokens(model, vocabulary_size))
    handle.remove()
    position = logits.size(1) // 2
    # Random weights on the logits: their plain sum can have no gradient at all.
    weights = torch.randn(vocabulary_size, generator=torch.Generator().manual_seed(3))
    (gradient,) = torch.autograd.grad((logits[:, position] * weights).sum(), embedded[0])
    leak = float(gradient[:, position + 1 :].abs().max())
    require(leak == 0.0, f"position {position} has a gradient of {leak:.2g} from a later token")
    require(float(gradient[:, position].abs().max()) > 0.0, "a token does not reach its own position")


@torch.no_grad()
def rows_are_independent(model: nn.Module, vocabulary_size: int) -> None:
    """Each row of a batch gets the logits that it gets alone."""
    tokens = sample_tokens(model, vocabulary_size)
    together = model(tokens)
    for row in range(tokens.size(0)):
        moved = furthest(model(tokens[row : row + 1]), together[row : row + 1])
        require(moved < 1e-4, f"row {row} changes by {moved:.2g} when the other rows are taken away")


@torch.no_grad()
def evaluation_repeats(model: nn.Module, vocabulary_size: int) -> None:
    """In evaluation mode the same tokens give the same logits, bit for bit."""
    tokens = sample_tokens(model, vocabulary_size)
    require(torch.equal(model.eval()(tokens), model(tokens)), "two evaluations of the same tokens differ")


@torch.no_grad()
def cached_equals_uncached(model: Any, vocabulary_size: int) -> None:
    """Reading in pieces through a cache gives the logits of reading at once."""
    tokens = sample_tokens(model, vocabulary_size)
    whole = model(tokens)
    for first in (1, tokens.size(1) // 2, tokens.size(1) - 1):
        cache = model.new_cache(tokens.size(0))
        pieces = [model(tokens[:, :first], cache=cache)]
        require(cache.offset == first, f"the cache counts {cache.offset} positions after {first}")
        pieces += [model(tokens[:, t : t + 1], cache=cache) for t in range(first, tokens.size(1))]
        moved = furthest(torch.cat(pieces, dim=1), whole)
        require(moved < 1e-4, f"with a cache, after a first piece of {first}, a logit differs by {moved:.2g}")


def a_tap_changes_nothing(model: Any, vocabulary_size: int) -> None:
    """A tap that returns what it is given leaves logits and gradients as they are, and each name comes once."""
    tokens = sample_tokens(model, vocabulary_size)
    names: list[str] = []

    def listen(name: str, tensor: Tensor) -> Tensor:
        names.append(name)
        return tensor

    plain, tapped = model(tokens), model(tokens, tap=listen)
    require(furthest(plain, tapped) < 1e-5, f"a silent tap moves a logit by {furthest(plain, tapped):.2g}")
    require(len(names) == len(set(names)) > 0, "a tap's names are missing or come twice")
    plain_gradients = gradients(model, plain, tokens)
    for name, gradient in gradients(model, tapped, tokens).items():
        moved = furthest(gradient, plain_gradients[name])
        require(moved < 1e-5, f"a silent tap moves the gradient of {name} by {moved:.2g}")


def gradients(model: nn.Module, logits: Tensor, tokens: Tensor) -> dict[str, Tensor]:
    """Return the gradient of the mean cross-entropy for every parameter that it reaches."""
    loss = F.cross_entropy(logits[:, :-1].flatten(0, 1), tokens[:, 1:].flatten())
    named = dict(model.named_parameters())
    found = torch.autograd.grad(loss, list(named.values()), allow_unused=True)
    return {name: grad for name, grad in zip(named, found, strict=True) if grad is not None}


def every_parameter_has_a_role(model: Any, vocabulary_size: int) -> None:
    """`roles()` names each parameter once, by one of the four roles."""
    named = {name for name, _ in model.named_parameters()}
    roles: dict[str, str] = model.roles()
    require(set(roles) == named, f"roles and parameters differ in {sorted(set(roles) ^ named)}")
    unknown = set(roles.values()) - {"embedding", "hidden", "head", "gain"}
    require(not unknown, f"there are unknown roles {sorted(unknown)}")


def masked_rows_stay_finite(model: Any, vocabulary_size: int) -> None:
    """With a mask that lets no position read anything, logits and gradients stay finite."""
    tokens = sample_tokens(model, vocabulary_size)
    logits = model(tokens, mask=Nothing())
    require(bool(logits.isfinite().all()), "logits of fully masked positions are not finite")
    for name, gradient in gradients(model, logits, tokens).items():
        require(bool(gradient.isfinite().all()), f"the gradient of {name} is not finite under a full mask")


class Nothing(Mask):
    """A mask under which no position may read any other, not even itself."""

    def dense(self, num_queries: int, num_keys: int, device: torch.device) -> Tensor:
        return torch.zeros(1, 1, num_queries, num_keys, dtype=torch.bool, device=device)


def one_batch_can_be_learned(model: nn.Module, vocabulary_size: int) -> None:
    """A hundred plain steps on one batch bring its loss well below that of a guess."""
    tokens = sample_tokens(model, vocabulary_size)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
    for _ in range(100):
        loss = F.cross_entropy(model(tokens)[:, :-1].flatten(0, 1), tokens[:, 1:].flatten())
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    reached = float(loss.detach())
    require(reached < 0.8 * math.log(vocabulary_size), f"after 100 steps on one batch the loss is {reached:.2f}")


ANY_MODEL = (
    logits_have_the_right_shape,
    the_future_is_not_read,
    the_future_gets_no_gradient,
    rows_are_independent,
    evaluation_repeats,
    one_batch_can_be_learned,
)
OUR_MODELS = (
    cached_equals_uncached,
    a_tap_changes_nothing,
    every_parameter_has_a_role,
    masked_rows_stay_finite,
)
