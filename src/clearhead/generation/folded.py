"""A trained model folded into few operations, for writing: each of its own parts gives its shorter form once.

`model(tokens, cache=cache)` is the readable twin of `folded(tokens)`, and gives the same logits up to rounding. One
token is so little work for a small model that calling hundreds of operations takes longer than computing. So layers
that read the same states become one product, what a position decides is looked up once for all layers, and what stands
between the products is done by numpy, which calls an operation several times faster than torch. Both work on the same
memory.

A part that does not know how to be folded runs as it is, through the same cache.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeGuard, cast

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Float32, Int
from torch import Tensor, nn

from clearhead.core.errors import UserError
from clearhead.generation.products import PRODUCTS, Map, Product, Rows, Weights
from clearhead.model.attention import KERNELS, QK_NORM_EPSILON, Attention
from clearhead.model.cache import Cache, Slot
from clearhead.model.layers import (
    Block,
    FeedForward,
    RMSNorm,
    ShortConvolution,
    SwiGLU,
    gelu_exact,
    gelu_tanh,
    pre_norm,
    squared_relu,
)
from clearhead.model.masks import Mask
from clearhead.model.positions import Positions
from clearhead.model.transformer import GPT

LARGEST_FOLDED = 2**26
"""The most parameters of a model that is folded, since folding copies its matrices (here 256 MB)."""

TURNS_AT_ONCE = 64

MANY_ROWS = 32
"""From here on several threads attend faster than one without torch's overhead (docs/log.md)."""

CPU = torch.device("cpu")


@dataclass(slots=True)
class Place:
    """What the positions of the new tokens decide, the same for every layer.

    Args:
        turns: for each position, x @ turn is a query or key with it worked in; None leaves them as they are.
        bias: what is added to the scaled scores; None adds nothing.
        reads_all: it is one position, and it reads every position so far, by the scores alone.
    """

    start: int
    end: int
    turns: Float32[np.ndarray, "T D D"] | None
    mask: Mask
    bias: Float[Tensor, "#H T S"] | None
    reads_all: bool


class Places:
    """Asks a model's own position scheme and a mask what positions decide, and remembers the turns."""

    def __init__(self, model: GPT, mask: Mask) -> None:
        self.model, self.mask = model, mask
        self.turns = np.empty((0, model.config.head_width, model.config.head_width), dtype=np.float32)

    def __call__(self, start: int, end: int) -> Place:
        """Return what the positions from `start` to before `end` decide."""
        bias = self.model.positions.bias(end - start, end)
        one = end - start == 1 and bias is None
        reads_all = one and self.mask.dense(1, end, CPU) is None
        return Place(start, end, self.turns_of(start, end), self.mask, bias, reads_all)

    def turns_of(self, start: int, end: int) -> Float32[np.ndarray, "T D D"] | None:
        """Return what turns queries and keys of these positions, or None where nothing does."""
        positions = self.model.positions
        if inherits(positions, "rotate"):
            return None
        while end > len(self.turns):
            # A rotation is linear, so what it makes of the unit vectors is its matrix.
            first = len(self.turns)
            count = min(TURNS_AT_ONCE, self.model.context_length - first)
            unit = torch.eye(self.turns.shape[1])[:, None, None].expand(-1, -1, count, -1)
            turns = positions.rotate(unit, first)[:, 0].transpose(0, 1)
            self.turns = np.concatenate((self.turns, turns.numpy()))
        return self.turns[start:end]


Layer = Callable[[Rows, Place], Rows]
"""A block, from the states of the new positions, one a row, to other states; row by row of the batch."""


class Folded:
    """A model with its weights as they are now, and the cache through which it reads.

    It reads and writes that cache as the model does, so the two may take turns.

    Args:
        product: how it multiplies.
        mask: the model's own unless another is given.
    """

    def __init__(self, model: GPT, cache: Cache, product: Product, mask: Mask | None = None) -> None:
        self.model, self.cache, self.mask = model, cache, model.mask if mask is None else mask
        rows = next(iter(cache)).keys.size(0)
        self.place = Places(model, self.mask)
        self.embed = fold_embedding(model)
        self.layers: list[Layer] = []
        self.folded: list[Slot] = []
        for block, slot in zip(model.blocks, cache, strict=True):
            layer = fold_block(cast(Block, block), slot, product)
            if layer is not None:
                self.folded.append(slot)
            self.layers.append(layer or as_it_is(cast(Block, block), model, slot))
        self.head = fold_head(model, rows, product)

    def __call__(self, tokens: Int[Tensor, "B T"]) -> Float[Tensor, "B T V"]:
        """Return the logits of each position's next token; the tokens continue the cache. Gradients have to be off."""
        start, count = self.cache.offset, tokens.size(1)
        self.model.require_readable(self.mask, start, count)
        place = self.place(start, start + count)
        x = self.embed(tokens, start)
        for layer in self.layers:
            x = layer(x, place)
        self.cache.advance(count)
        for slot in self.folded:
            slot.length = place.end
        return torch.from_numpy(self.head(x)).view(*tokens.shape, -1)


def fold(model: nn.Module, cache: Cache | None, weights: Weights = "fp32") -> Folded | None:
    """Return a model folded over a cache, or None where the model itself has to read."""
    if cache is None or not can_be_folded(model):
        return None
    too_large = weights == "fp32" and sum(parameter.numel() for parameter in model.parameters()) > LARGEST_FOLDED
    return None if too_large else Folded(model, cache, PRODUCTS[weights])


def can_be_folded(model: nn.Module) -> TypeGuard[GPT]:
    """Say whether a model is a GPT as it was built, in fp32 on the CPU, and not in training."""
    if not isinstance(model, GPT) or not as_built(model, GPT) or model.training:
        return False
    weight = model.unembedding.weight
    return weight.device.type == "cpu" and weight.dtype == torch.float32


def require_foldable(model: nn.Module) -> GPT:
    """Return a model that can be read with rounded weights, or by a step that is compiled for a CPU.

    Raises:
        UserError: it cannot be folded, or it keeps no cache.
    """
    if can_be_folded(model) and not model.reads_ahead:
        return model
    raise UserError(
        "Rounded weights and steps compiled by numba are for a GPT in fp32 on the CPU that keeps a cache; leave "
        "them out."
    )


class Rounded(nn.Module):
    """A model that is always read folded, with rounded weights; scoring it measures what the rounding costs.

    Raises:
        UserError: the model cannot be folded.
    """

    def __init__(self, model: nn.Module, weights: Weights) -> None:
        super().__init__()
        self.model, self.product = require_foldable(model), PRODUCTS[weights]
        self.context_length, self.vocabulary_size = self.model.context_length, self.model.vocabulary_size
        self.mask = self.model.mask

    def forward(self, tokens: Int[Tensor, "B T"], *, mask: Mask | None = None) -> Float[Tensor, "B T V"]:
        """Return the logits of each position's next token; gradients have to be off."""
        cache = self.model.new_cache(tokens.size(0))
        assert cache is not None
        return Folded(self.model, cache, self.product, mask)(tokens)


def as_built(module: nn.Module | None, kind: type[nn.Module]) -> bool:
    """Say whether a module is just what its class says: no subclass, no hook, no method of its own."""
    if type(module) is not kind:
        return False
    overridden = (name for name in vars(module) if callable(getattr(kind, name, None)))
    return not (module._forward_hooks or module._forward_pre_hooks or any(overridden))


def inherits(positions: Positions, method: str) -> bool:
    """Say whether a position scheme does nothing in one of its three places."""
    return getattr(type(positions), method) is getattr(Positions, method) and method not in vars(positions)


def as_it_is(block: Block, model: GPT, slot: Slot) -> Layer:
    """Return a block as the model itself runs it."""

    def layer(x: Rows, place: Place) -> Rows:
        states = torch.from_numpy(x).view(slot.keys.size(0), -1, x.shape[1])
        out: Tensor = block(states, mask=place.mask, positions=model.positions, slot=slot)
        return out.flatten(0, 1).numpy()

    return layer


def rms(width: int, epsilon: float) -> Callable[[np.ndarray], np.ndarray]:
    """Return what divides rows by their root mean square; a product takes the mean faster than a sum does."""
    mean = np.full((width, 1), 1.0 / width, dtype=np.float32)
    return lambda x: x / np.sqrt((x * x) @ mean + epsilon)


def layer_norm(norm: nn.LayerNorm) -> Map:
    """Return a LayerNorm: one call of torch's takes less than numpy's six."""
    shape, epsilon = norm.normalized_shape, norm.eps
    gain, shift = (None if part is None else part.detach() for part in (norm.weight, norm.bias))
    return lambda x: torch.layer_norm(torch.from_numpy(x), shape, gain, shift, epsilon, False).numpy()


def fold_norm(norm: nn.Module) -> Map | None:
    """Return a norm, or None where it is of another kind."""
    if as_built(norm, nn.Identity):
        return lambda x: x
    if isinstance(norm, nn.LayerNorm) and as_built(norm, nn.LayerNorm):
        return layer_norm(norm)
    if isinstance(norm, RMSNorm) and as_built(norm, RMSNorm):
        assert norm.eps is not None
        normalize = rms(norm.normalized_shape[0], norm.eps)
        if norm.weight is None:
            return normalize
        gain = norm.weight.detach().numpy()
        return lambda x: normalize(x) * gain
    return None


def fold_block(block: Block, slot: Slot, product: Product) -> Layer | None:
    """Return a block, or None where one of its parts is of another kind."""
    if not as_built(block, Block) or block.residual is not pre_norm:
        return None
    attend = fold_attention(block, slot, product)
    think = fold_feed_forward(block, slot, product)
    if attend is None or think is None:
        return None
    return lambda x, place: think(attend(x, place))


def fold_attention(block: Block, slot: Slot, product: Product) -> Layer | None:
    """Return x + attention(norm(x)): one product gives queries, keys and values; the kernel is the model's own."""
    normalize, attention = fold_norm(block.attention_norm), block.attention
    if normalize is None or not isinstance(attention, Attention) or not as_built(attention, Attention):
        return None
    layers = (attention.query, attention.key, attention.value, attention.output)
    if not all(as_built(layer, nn.Linear) for layer in layers):
        return None
    B, D, H, K = slot.keys.size(0), attention.head_width, attention.num_heads, attention.num_kv_heads
    project, close, kernel = product(B, *layers[:3]), product(B, attention.output), attention.kernel
    # Numpy's calls cost less, but only torch's are shared between threads, which pays for many rows.
    in_numpy = kernel in KERNELS.values() and (B < MANY_ROWS or torch.get_num_threads() == 1)
    normalize_heads = rms(D, QK_NORM_EPSILON) if attention.qk_norm else None
    keys, values = slot.keys.numpy(), slot.values.numpy()

    def layer(x: Rows, place: Place) -> Rows:
        start, end = place.start, place.end
        heads = project(normalize(x)).reshape(B, -1, H + 2 * K, D)
        q_k = heads[:, :, : H + K]
        if normalize_heads is not None:
            q_k = normalize_heads(q_k)
        if place.turns is not None:
            q_k = q_k @ place.turns
        keys[:, :, start:end] = q_k[:, :, H:].swapaxes(1, 2)
        values[:, :, start:end] = heads[:, :, H + K :].swapaxes(1, 2)
        queries = q_k[:, :, :H]
        if place.reads_all and in_numpy:
            gathered = averages(queries.reshape(B, K, -1, D), keys[:, :, :end], values[:, :, :end])
        else:
            known = slot.keys[:, :, :end], slot.values[:, :, :end]
            gathered = kernel(torch.from_numpy(queries.swapaxes(1, 2)), *known, place.mask, place.bias).numpy()
            gathered = gathered.swapaxes(1, 2)
        return x + close(gathered.reshape(-1, H * D))

    return layer


def averages(
    q: Float32[np.ndarray, "B K G D"], k: Float32[np.ndarray, "B K S D"], v: Float32[np.ndarray, "B K S D"]
) -> Float32[np.ndarray, "B K G D"]:
    """Return what every kernel of the model gives one position that reads all others; numpy's calls cost less."""
    scores = q @ k.swapaxes(2, 3)
    weights = np.exp((scores - np.maximum.reduce(scores, axis=-1, keepdims=True)) * q.shape[-1] ** -0.5)
    gathered: np.ndarray = weights @ v / np.add.reduce(weights, axis=-1, keepdims=True)
    return gathered


def fold_feed_forward(block: Block, slot: Slot, product: Product) -> Map | None:
    """Return x + feed_forward(convolution(norm(x)))."""
    if block.feed_forward is None:
        return lambda x: x
    normalize, mix = fold_norm(block.feed_forward_norm), fold_convolution(block.convolution, slot)
    think = fold_thought(block.feed_forward, slot.keys.size(0), product)
    if normalize is None or mix is None or think is None:
        return None
    return lambda x: x + think(mix(normalize(x)))


def fold_convolution(convolution: ShortConvolution | None, slot: Slot) -> Map | None:
    """Return the sum over the latest positions that the feed-forward layer reads."""
    if convolution is None:
        return lambda x: x
    if not as_built(convolution, ShortConvolution):
        return None
    taps = convolution.taps.detach().flip(0).numpy()
    before, join = len(taps) - 1, np.concatenate
    nothing = torch.zeros(slot.keys.size(0), before, taps.shape[1])

    def mix(x: Rows) -> Rows:
        recent = nothing if slot.recent is None else slot.recent
        joined = join((recent.numpy(), x.reshape(len(nothing), -1, x.shape[1])), axis=1)
        count = joined.shape[1] - before
        slot.recent = torch.from_numpy(joined[:, count:])
        mixed = joined[:, before:] * taps[before]
        for place in range(before):
            mixed += joined[:, place : place + count] * taps[place]
        rows: Rows = mixed.reshape(x.shape)
        return rows

    return mix


def fold_thought(layer: nn.Module, rows: int, product: Product) -> Map | None:
    """Return a feed-forward layer; a gated one's two matrices that read x are one."""
    if isinstance(layer, SwiGLU) and as_built(layer, SwiGLU):
        both, close, hidden = product(rows, layer.gate, layer.up), product(rows, layer.output), layer.up.out_features

        def gated(x: Rows) -> Rows:
            gate, up = (made := both(x))[:, :hidden], made[:, hidden:]
            return close(gate * up / (1.0 + np.exp(-gate)))

        return gated
    if isinstance(layer, FeedForward) and as_built(layer, FeedForward) and layer.activation in ACTIVATIONS:
        widen, narrow, activate = product(rows, layer.up), product(rows, layer.output), ACTIVATIONS[layer.activation]
        return lambda x: narrow(activate(widen(x)))
    return None


def _rectified(x: Rows) -> Rows:
    kept: Rows = np.maximum(x, 0.0)
    return kept


def _squared(x: Rows) -> Rows:
    squares: Rows = np.square(_rectified(x))
    return squares


def _gelu(x: Rows) -> Rows:
    bent: Rows = 0.5 * x * (1.0 + np.tanh(math.sqrt(2.0 / math.pi) * (x + 0.044715 * x * x * x)))
    return bent


def _gelu_exact(x: Rows) -> Rows:
    # Numpy has no error function, and torch's own GELU takes twice as long for few numbers.
    bent: Rows = torch.from_numpy(math.sqrt(0.5) * x).erf_().numpy()
    bent += 1.0
    bent *= x
    bent *= 0.5
    return bent


ACTIVATIONS: dict[Callable[..., Any], Map] = {
    F.relu: _rectified,
    squared_relu: _squared,
    gelu_tanh: _gelu,
    gelu_exact: _gelu_exact,
}


def fold_embedding(model: GPT) -> Callable[[Int[Tensor, "B T"], int], Rows]:
    """Return the embedding: where positions add something or nothing, two tables whose rows are added."""
    normalize = fold_norm(model.embedding_norm) or (lambda x: model.embedding_norm(torch.from_numpy(x)).numpy())
    tables, places = embedding_tables(model), model.positions
    if tables is None:
        return lambda tokens, start: normalize(places.embed(model.embedding(tokens), start).flatten(0, 1).numpy())
    table, added = tables
    if inherits(places, "embed"):
        rows = model.embedding_norm(table).detach().numpy()
        return lambda tokens, start: rows[tokens.flatten().numpy()]
    rows, offsets = table.numpy(), added.numpy()

    def embed(tokens: Int[Tensor, "B T"], start: int) -> Rows:
        found = rows[tokens.numpy()] + offsets[start : start + tokens.size(1)]
        return normalize(found.reshape(-1, found.shape[2]))

    return embed


def embedding_tables(model: GPT) -> tuple[Float[Tensor, "V C"], Float[Tensor, "S C"]] | None:
    """Return the vectors of tokens and those that positions add to them, or None where no sum is a first state."""
    tokens, places = embedded_tokens(model), model.positions
    added = places.embed(tokens.new_zeros(1, model.context_length, tokens.size(1)), 0)[0].detach()
    missing = added.size(1) - tokens.size(1)
    table = F.pad(tokens, (0, missing)) if missing else tokens
    some = min(len(tokens), len(added))
    is_sum = torch.allclose(places.embed(tokens[None, :some], 0)[0], table[:some] + added[:some], equal_nan=True)
    return (table, added) if is_sum else None


def embedded_tokens(model: GPT) -> Float[Tensor, "V _"]:
    """Return each token's embedding; a table of weights is not copied."""
    if as_built(model.embedding, nn.Embedding):
        return cast(nn.Embedding, model.embedding).weight.detach()
    every = torch.arange(model.vocabulary_size, device=model.unembedding.weight.device)
    rows: Tensor = model.embedding(every[None])[0]
    return rows.detach()


def fold_head(model: GPT, rows: int, product: Product) -> Map:
    """Return the final norm and the head."""
    normalize = fold_norm(model.final_norm) or (lambda x: model.final_norm(torch.from_numpy(x)).numpy())
    head, cap = product(rows, model.unembedding), model.config.logit_softcap
    if cap is None:
        return lambda x: head(normalize(x)).copy()
    return lambda x: cap * np.tanh(head(normalize(x)) / cap)
