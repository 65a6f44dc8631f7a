"""What every language model must obey, as functions that raise when it does not.

A model is any `nn.Module` with `forward(tokens) -> (B, T, V)` and `context_length`; the laws about caches, taps and
roles ask for the further methods that this program's own models have. Give a model in evaluation mode, with weights
that let it say something: where the head is zero, nothing can be seen. The model is left as it was.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Int
from torch import Tensor, nn

from clearhead.model.masks import Mask
from clearhead.model.tap import Tap

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
    """The logits at a position have no gradient with respect to the embedding of a later token.

    Of a model that embeds its tokens by something else than `nn.Embedding`, this says nothing.
    """
    tokens = sample_tokens(model, vocabulary_size)
    with embeddings_of(model, tokens) as embedded:
        logits = model(tokens)
    if not embedded:
        return
    position = logits.size(1) // 2
    # Random weights on the logits: their plain sum can have no gradient at all.
    weights = torch.randn(vocabulary_size, generator=torch.Generator().manual_seed(3))
    for gradient in torch.autograd.grad((logits[:, position] * weights).sum(), embedded):
        leak = float(gradient[:, position + 1 :].abs().max())
        require(leak == 0.0, f"position {position} has a gradient of {leak:.2g} from a later token")
        require(float(gradient[:, position].abs().max()) > 0.0, "a token does not reach its own position")


@contextmanager
def embeddings_of(model: nn.Module, tokens: Tensor) -> Iterator[list[Tensor]]:
    """Collect what the model's embeddings make of a batch of tokens, one vector for each, while the context lasts."""
    found: list[Tensor] = []

    def keep(_module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        # A table of positions is asked once for all rows.
        if inputs[0].shape == tokens.shape:
            found.append(output)

    tables = [module for module in model.modules() if isinstance(module, nn.Embedding)]
    handles = [table.register_forward_hook(keep) for table in tables]
    try:
        yield found
    finally:
        for handle in handles:
            handle.remove()


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
    tokens, training = sample_tokens(model, vocabulary_size), model.training
    repeats = torch.equal(model.eval()(tokens), model(tokens))
    model.train(training)
    require(repeats, "two evaluations of the same tokens differ")


@torch.no_grad()
def cached_equals_uncached(model: Any, vocabulary_size: int) -> None:
    """Reading in pieces through a cache gives the logits of reading at once, also when the cache is used again."""
    tokens = sample_tokens(model, vocabulary_size)
    whole, length = model(tokens), tokens.size(1)
    half, third = length // 2, length // 3
    cache = model.new_cache(tokens.size(0))
    for pieces in ([1] * length, [half, *[1] * (length - half)], [1, third, length - 1 - third], [length]):
        cache.clear()
        parts = torch.split(tokens, [piece for piece in pieces if piece], dim=1)
        read = torch.cat([model(part, cache=cache) for part in parts], dim=1)
        require(cache.offset == length, f"the cache counts {cache.offset} positions after {length}")
        moved = furthest(read, whole)
        require(moved < 1e-4, f"with a cache, read in pieces of {pieces}, a logit differs by {moved:.2g}")


def a_tap_changes_nothing(model: Any, vocabulary_size: int) -> None:
    """A tap that returns what it is given leaves logits and gradients as they are; each name comes once."""
    tokens = sample_tokens(model, vocabulary_size)
    plain = model(tokens)
    tapped, names = listen(model, tokens)
    require(furthest(plain, tapped) < 1e-5, f"a silent tap moves a logit by {furthest(plain, tapped):.2g}")
    require(len(names) == len(set(names)), f"a tap's names come twice in {names}")
    require("logits" in names, f"a tap is not shown the logits, only {names}")
    plain_gradients, tapped_gradients = gradients(model, plain, tokens), gradients(model, tapped, tokens)
    cut = sorted(set(plain_gradients) ^ set(tapped_gradients))
    require(not cut, f"with a silent tap no gradient reaches {cut}")
    for name, gradient in tapped_gradients.items():
        moved = furthest(gradient, plain_gradients[name])
        require(moved < 1e-5, f"a silent tap moves the gradient of {name} by {moved:.2g}")


@torch.no_grad()
def what_a_tap_returns_is_used(model: Any, vocabulary_size: int) -> None:
    """Whatever tensor a tap is shown, returning another in its place changes the logits."""
    tokens = sample_tokens(model, vocabulary_size)
    plain, names = listen(model, tokens)
    for name in names:
        require(not torch.equal(plain, model(tokens, tap=disturbing(name))), f"what a tap returns for {name} is lost")


def listen(model: Any, tokens: Tensor) -> tuple[Tensor, list[str]]:
    """Return a model's logits and the names that a tap is shown on the way."""
    names: list[str] = []

    def note(name: str, tensor: Tensor) -> Tensor:
        names.append(name)
        return tensor

    return model(tokens, tap=note), names


def disturbing(wanted: str) -> Tap:
    """Return a tap that disturbs the tensor of one name."""
    return lambda name, tensor: disturbed(tensor) if name == wanted else tensor


def disturbed(tensor: Tensor) -> Tensor:
    """Return a tensor with noise of its own size added; what is infinite stays so."""
    noise = torch.randn(tensor.shape, generator=torch.Generator().manual_seed(5))
    return tensor + noise * tensor[tensor.isfinite()].std()


def gradients(model: nn.Module, logits: Tensor, tokens: Tensor) -> dict[str, Tensor]:
    """Return the gradient of the mean cross-entropy for every parameter that it reaches."""
    loss = F.cross_entropy(logits[:, :-1].flatten(0, 1), tokens[:, 1:].flatten())
    named = dict(model.named_parameters())
    found = torch.autograd.grad(loss, list(named.values()), allow_unused=True)
    return {name: grad for name, grad in zip(named, found, strict=True) if grad is not None}


def gradients_are_those_of_differences(model: nn.Module, vocabulary_size: int) -> None:
    """In float64, the loss changes along a random direction of each parameter as its gradient says.

    (loss(w + h d) - loss(w - h d)) / 2h is the gradient's product with d, up to h^2.
    """
    tokens, dtype = sample_tokens(model, vocabulary_size), next(model.parameters()).dtype
    model.double()
    try:
        found = gradients(model, model(tokens), tokens)
        for name, parameter in model.named_parameters():
            direction = torch.randn(parameter.shape, generator=torch.Generator().manual_seed(11), dtype=torch.float64)
            direction /= direction.norm()
            slope = slope_along(model, tokens, parameter, direction)
            said = float((found[name] * direction).sum()) if name in found else 0.0
            close = abs(slope - said) <= 1e-7 + 1e-5 * abs(slope)
            require(close, f"the loss has slope {slope:.6g} along {name}, and its gradient says {said:.6g}")
    finally:
        model.to(dtype)


@torch.no_grad()
def slope_along(
    model: nn.Module, tokens: Tensor, parameter: nn.Parameter, direction: Tensor, step: float = 1e-5
) -> float:
    """Return the slope of the mean cross-entropy along a direction of one parameter, by two small steps."""
    before = parameter.clone()
    ends = []
    for sign in (1.0, -1.0):
        parameter.copy_(before + sign * step * direction)
        ends.append(float(F.cross_entropy(model(tokens)[:, :-1].flatten(0, 1), tokens[:, 1:].flatten())))
    parameter.copy_(before)
    return (ends[0] - ends[1]) / (2 * step)


def every_parameter_has_a_role(model: Any, vocabulary_size: int) -> None:
    """`roles()` names each parameter once, by one of the four roles."""
    named = {name for name, _ in model.named_parameters()}
    roles: dict[str, str] = model.roles()
    require(set(roles) == named, f"roles and parameters differ in {sorted(set(roles) ^ named)}")
    unknown = set(roles.values()) - {"embedding", "hidden", "head", "gain"}
    require(not unknown, f"there are unknown roles {sorted(unknown)}")


def masked_rows_stay_finite(model: Any, vocabulary_size: int) -> None:
    """With masks that let some position or all of them read nothing, logits and gradients stay finite."""
    tokens = sample_tokens(model, vocabulary_size)
    for mask in (OnlyEarlier(), Nothing()):
        logits = model(tokens, mask=mask)
        require(bool(logits.isfinite().all()), "logits of fully masked positions are not finite")
        for name, gradient in gradients(model, logits, tokens).items():
            require(bool(gradient.isfinite().all()), f"the gradient of {name} is not finite under a full mask")


class Nothing(Mask):
    """A mask under which no position may read any other, not even itself."""

    def dense(self, num_queries: int, num_keys: int, device: torch.device) -> Bool[Tensor, "1 1 T S"]:
        return torch.zeros(1, 1, num_queries, num_keys, dtype=torch.bool, device=device)


class OnlyEarlier(Mask):
    """A mask under which a position reads those before it but not itself, so the first one reads nothing."""

    def dense(self, num_queries: int, num_keys: int, device: torch.device) -> Bool[Tensor, "1 1 T S"]:
        square = torch.ones(num_queries, num_keys, dtype=torch.bool, device=device)
        return square.tril(diagonal=num_keys - num_queries - 1)[None, None]


def one_batch_can_be_learned(model: nn.Module, vocabulary_size: int) -> None:
    """Within a hundred plain steps on one batch, the loss of a copy falls well below that of a guess."""
    model, tokens = copy.deepcopy(model), sample_tokens(model, vocabulary_size)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
    reached = math.inf
    for _ in range(100):
        loss = F.cross_entropy(model(tokens)[:, :-1].flatten(0, 1), tokens[:, 1:].flatten())
        reached = float(loss.detach())
        if reached < 0.8 * math.log(vocabulary_size):
            return
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    raise LawBroken(f"after 100 steps on one batch the loss is {reached:.2f}")


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
    what_a_tap_returns_is_used,
    gradients_are_those_of_differences,
    every_parameter_has_a_role,
    masked_rows_stay_finite,
)
