"""Reading one token more, fast: a trained model's own parts, each folded once into few operations.

`model(token, cache=cache)` is the readable twin of a `Step`, and gives the same logits up to rounding. One token is so
little work for a small model that calling hundreds of operations takes longer than computing. So layers that read the
same states become one product, what a position decides is looked up once for all layers, and what stands between the
products is done by numpy, which calls an operation several times faster than torch. Both work on the same memory.

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
from clearhead.model.attention import QK_NORM_EPSILON, Attention
from clearhead.model.cache import Cache, Slot
from clearhead.model.layers import (
    Block,
    FeedForward,
    RMSNorm,
    ShortConvolution,
    SwiGLU,
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


@dataclass(frozen=True, slots=True)
class Place:
    """What the position of the new token decides, the same for every layer.

    Args:
        index: its number.
        turn: x @ turn is a query or key with its position worked in; None leaves it as it is.
        bias: what is added to the scaled scores; None adds nothing.
    """

    index: int
    turn: Float32[np.ndarray, "D D"] | None
    mask: Mask
    bias: Float[Tensor, "#H 1 S"] | None


Layer = Callable[[Rows, Place], Rows]


class Step:
    """A model that reads one token more in each row of a batch, with its weights as they are now.

    It reads and writes the cache that it was made with, so it may take turns with the model itself.

    Args:
        product: how it multiplies.
    """

    def __init__(self, model: GPT, cache: Cache, product: Product) -> None:
        self.model, self.cache, self.mask = model, cache, model.mask
        rows = next(iter(cache)).keys.size(0)
        self.turns: list[Float32[np.ndarray, "D D"]] = []
        self.embed = fold_embedding(model)
        self.layers: list[Layer] = []
        self.folded: list[Slot] = []
        for block, slot in zip(model.blocks, cache, strict=True):
            layer = fold_block(cast(Block, block), slot, product)
            if layer is not None:
                self.folded.append(slot)
            self.layers.append(layer or as_it_is(cast(Block, block), model, slot))
        self.head = fold_head(model, rows, product)

    def __call__(self, tokens: Int[Tensor, " B"]) -> Float[Tensor, "B V"]:
        """Return the logits of the token after these, and keep these in the cache. Gradients have to be off."""
        start = self.cache.offset
        place = self.place(start)
        x = self.embed(tokens, start)
        for layer in self.layers:
            x = layer(x, place)
        self.cache.advance(1)
        for slot in self.folded:
            slot.length = start + 1
        return torch.from_numpy(self.head(x))

    def place(self, index: int) -> Place:
        """Return what a position decides, as the model's own positions say."""
        return Place(index, self._turn(index), self.mask, self.model.positions.bias(1, index + 1))

    def _turn(self, index: int) -> Float32[np.ndarray, "D D"] | None:
        positions = self.model.positions
        if inherits(positions, "rotate"):
            return None
        if index >= len(self.turns):
            # A rotation is linear, so what it makes of the unit vectors is its matrix.
            start = len(self.turns)
            count = min(TURNS_AT_ONCE, self.model.context_length - start)
            unit = torch.eye(self.model.config.head_width)
            turned = positions.rotate(unit[:, None, None].expand(-1, -1, count, -1), start)
            self.turns += list(turned[:, 0].transpose(0, 1).contiguous().numpy())
        return self.turns[index]


def one_token_step(model: nn.Module, cache: Cache | None, weights: Weights = "fp32") -> Step | None:
    """Return a model's `Step` through a cache, or None where the model itself has to read every token."""
    if cache is None or not can_be_folded(model):
        return None
    too_large = weights == "fp32" and sum(parameter.numel() for parameter in model.parameters()) > LARGEST_FOLDED
    return None if too_large else Step(model, cache, PRODUCTS[weights])


def can_be_folded(model: nn.Module) -> TypeGuard[GPT]:
    """Say whether a model is a GPT as it was built, in fp32 on the CPU, and not in training."""
    if not isinstance(model, GPT) or not as_built(model, GPT) or model.training:
        return False
    weight = model.unembedding.weight
    return weight.device.type == "cpu" and weight.dtype == torch.float32


def require_steps(model: nn.Module) -> GPT:
    """Return a model that can be read by steps with rounded weights.

    Raises:
        UserError: it cannot be folded, or it keeps no cache.
    """
    if can_be_folded(model) and not model.reads_ahead:
        return model
    raise UserError("Rounded weights are for a GPT in fp32 on the CPU that keeps a cache; leave weights at fp32.")


class StepByStep(nn.Module):
    """A model that reads every token by a step, as writing does; scoring it measures what rounded weights cost.

    Raises:
        UserError: steps are not for this model.
    """

    def __init__(self, model: nn.Module, weights: Weights) -> None:
        super().__init__()
        self.model, self.weights = require_steps(model), weights
        self.context_length, self.vocabulary_size = self.model.context_length, self.model.vocabulary_size
        self.mask = self.model.mask

    def forward(self, tokens: Int[Tensor, "B T"], *, mask: Mask | None = None) -> Float[Tensor, "B T V"]:
        """Return the logits of each position's next token; gradients have to be off."""
        step = one_token_step(self.model, self.model.new_cache(tokens.size(0)), self.weights)
        assert step is not None
        step.mask = self.mask if mask is None else mask
        return torch.stack([step(column) for column in tokens.unbind(dim=1)], dim=1)


def as_built(module: nn.Module | None, kind: type[nn.Module]) -> bool:
    """Say whether a module is just what its class says: no subclass, no hook, no method of its own."""
    if type(module) is not kind:
        return False
    overridden = (name for name in vars(module) if callable(getattr(kind, name, None)))
    return not (module._forward_hooks or module._forward_pre_hooks or any(overridden))


def inherits(positions: Positions, method: str) -> bool:
    """Say whether a position scheme does nothing in one of its three places."""
    return getattr(type(positions), method) is getattr(Positions, method)


def as_it_is(block: Block, model: GPT, slot: Slot) -> Layer:
    """Return a block as the model itself runs it."""

    def layer(x: Rows, place: Place) -> Rows:
        states = torch.from_numpy(x)[:, None]
        out: Tensor = block(states, mask=place.mask, positions=model.positions, slot=slot)
        return out[:, 0].numpy()

    return layer


def rms(width: int, epsilon: float) -> Callable[[np.ndarray], np.ndarray]:
    """Return what divides rows by their root mean square: x sqrt(C) / sqrt(|x|^2 + C epsilon)."""
    total, root, scale, floor = np.add.reduce, np.sqrt, math.sqrt(width), width * epsilon
    return lambda x: x * (scale / root(total(x * x, axis=-1, keepdims=True) + floor))


def layer_norm(norm: nn.LayerNorm) -> Map:
    """Return a LayerNorm: the rows' root mean square is taken after their mean is."""
    (width,) = norm.normalized_shape
    normalize, total = rms(width, norm.eps), np.add.reduce
    gain = 1.0 if norm.weight is None else norm.weight.detach().numpy()
    shift = 0.0 if norm.bias is None else norm.bias.detach().numpy()
    return lambda x: normalize(x - total(x, axis=-1, keepdims=True) / width) * gain + shift


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
    """Return x + attention(norm(x)) for one position: one product gives q, k and v; the kernel is the model's own."""
    normalize, attention = fold_norm(block.attention_norm), block.attention
    if normalize is None or not isinstance(attention, Attention) or not as_built(attention, Attention):
        return None
    layers = (attention.query, attention.key, attention.value, attention.output)
    if not all(as_built(layer, nn.Linear) for layer in layers):
        return None
    B, D, H, K = slot.keys.size(0), attention.head_width, attention.num_heads, attention.num_kv_heads
    project, close, kernel = product(B, *layers[:3]), product(B, attention.output), attention.kernel
    normalize_heads = rms(D, QK_NORM_EPSILON) if attention.qk_norm else None
    keys, values = slot.keys.numpy(), slot.values.numpy()

    def layer(x: Rows, place: Place) -> Rows:
        heads = project(normalize(x)).reshape(B, H + 2 * K, D)
        q_k = heads[:, : H + K]
        if normalize_heads is not None:
            q_k = normalize_heads(q_k)
        if place.turn is not None:
            q_k = q_k @ place.turn
        end = place.index + 1
        keys[:, :, place.index] = q_k[:, H:]
        values[:, :, place.index] = heads[:, H + K :]
        queries = torch.from_numpy(q_k[:, :H, None])
        gathered = kernel(queries, slot.keys[:, :, :end], slot.values[:, :, :end], place.mask, place.bias)
        return x + close(gathered.numpy().reshape(B, H * D))

    return layer


def fold_feed_forward(block: Block, slot: Slot, product: Product) -> Map | None:
    """Return x + feed_forward(convolution(norm(x))) for one position."""
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
    nothing, join, total = torch.zeros(slot.keys.size(0), len(taps) - 1, taps.shape[1]), np.concatenate, np.add.reduce

    def mix(x: Rows) -> Rows:
        recent = nothing if slot.recent is None else slot.recent
        joined = join((recent.numpy(), x[:, None]), axis=1)
        slot.recent = torch.from_numpy(joined[:, 1:])
        mixed: Rows = total(joined * taps, axis=1)
        return mixed

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


ACTIVATIONS: dict[Callable[..., Any], Map] = {F.relu: _rectified, squared_relu: _squared, gelu_tanh: _gelu}


def fold_embedding(model: GPT) -> Callable[[Int[Tensor, " B"], int], Rows]:
    """Return the embedding; where positions have no part in it, it is a table with the norm done."""
    if inherits(model.positions, "embed"):
        every = torch.arange(model.vocabulary_size)
        table = model.embedding_norm(model.embedding(every)).detach().numpy()
        return lambda tokens, start: table[tokens.numpy()]

    def embed(tokens: Int[Tensor, " B"], start: int) -> Rows:
        placed = model.positions.embed(model.embedding(tokens[:, None]), start)
        out: Tensor = model.embedding_norm(placed)
        return out[:, 0].numpy()

    return embed


def fold_head(model: GPT, rows: int, product: Product) -> Map:
    """Return the final norm and the head."""
    normalize = fold_norm(model.final_norm) or (lambda x: model.final_norm(torch.from_numpy(x)).numpy())
    head, cap = product(rows, model.unembedding), model.config.logit_softcap
    if cap is None:
        return lambda x: head(normalize(x)).copy()
    return lambda x: cap * np.tanh(head(normalize(x)) / cap)
