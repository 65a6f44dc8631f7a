"""A trained model whose reading of one new token is compiled, exactly or with weights in int8, for one long text.

`Folded` is its twin, and reads what is more than one token; both use the same cache, and may take turns. Compiling
takes seconds in each process, so it pays only for long texts (docs/log.md).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Float32, Int
from torch import Tensor, nn

from clearhead.core.errors import UserError
from clearhead.generation.folded import CPU, Folded, Places, as_built, can_be_folded, embedding_tables, inherits
from clearhead.generation.products import PRODUCTS, Weights, joined, rounded
from clearhead.model.attention import KERNELS, QK_NORM_EPSILON, Attention
from clearhead.model.cache import Cache
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
from clearhead.model.transformer import GPT

if TYPE_CHECKING:
    from clearhead.generation.token_kernel import Linear, Norm, Stack

ACTIVATIONS: dict[Callable[..., Any], str] = {
    F.relu: "RELU",
    squared_relu: "SQUARED_RELU",
    gelu_tanh: "GELU_TANH",
    gelu_exact: "GELU_EXACT",
}


class Compiled:
    """A model with its weights as they are now, and the cache of one text through which it reads.

    Raises:
        UserError: numba is not installed, the model has a part that is not known here, or there is more than one text.
    """

    def __init__(self, model: GPT, cache: Cache, weights: Weights = "fp32") -> None:
        if next(iter(cache)).keys.size(0) > 1:
            raise UserError("A step that is compiled for a CPU reads one sample; leave compile out.")
        self.model, self.cache, self.slots, self.weights = model, cache, list(cache), weights
        self.stack, self.read_token = stack_of(model, weights), kernel().read_token
        self.places = Places(model, model.mask)
        self.keys, self.values = (
            tuple(getattr(slot, name).numpy()[0] for slot in cache) for name in ("keys", "values")
        )
        self.turns_nothing = inherits(model.positions, "rotate")
        self.adds_nothing = inherits(model.positions, "bias")

    @cached_property
    def folded(self) -> Folded:
        """What reads prompts."""
        return Folded(self.model, self.cache, PRODUCTS[self.weights])

    def __call__(self, tokens: Int[Tensor, "1 T"]) -> Float[Tensor, "1 T V"]:
        """Return the logits of each position's next token; the tokens continue the cache."""
        start = self.cache.offset
        if tokens.size(1) > 1 or not self.reads_all(start + 1):
            with torch.inference_mode():
                return self.folded(tokens)
        self.model.require_readable(self.model.mask, start, 1)
        token, size = int(tokens.item()), self.model.vocabulary_size
        # Compiled loops look at no bounds.
        assert start < self.keys[0].shape[1], "the cache is full"
        if not 0 <= token < size:
            raise IndexError(f"token {token} of a vocabulary of {size}")
        logits = np.empty((1, 1, size), dtype=np.float32)
        kept = self.keys, self.values, self.recent()
        self.read_token(self.stack, token, start, self.turn(start), *kept, logits[0, 0])
        self.cache.advance(1)
        for slot in self.slots:
            slot.length = start + 1
        return torch.from_numpy(logits)

    def turn(self, position: int) -> Float32[np.ndarray, "D D"]:
        """Return what turns the queries and keys of a position; an empty matrix does not."""
        if self.turns_nothing:
            return NO_TURN
        with torch.inference_mode():
            turns = self.places.turns_of(position, position + 1)
        return NO_TURN if turns is None else turns[0]

    def reads_all(self, end: int) -> bool:
        """Say whether the last of so many positions reads all of them, by scores alone."""
        return self.adds_nothing and self.model.mask.dense(1, end, CPU) is None

    def recent(self) -> tuple[Float32[np.ndarray, "N C"], ...]:
        """Return what each layer's convolution keeps of the states before, in memory that the cache holds."""
        before, width = self.stack.taps.shape[1] - 1, self.stack.taps.shape[2]
        if before:
            for slot in self.slots:
                if slot.recent is None:
                    slot.recent = torch.zeros(1, before, width)
            return tuple(cast(Tensor, slot.recent).numpy()[0] for slot in self.slots)
        return (np.empty((0, width), dtype=np.float32),) * len(self.slots)


NO_TURN = np.empty((0, 0), dtype=np.float32)


def kernel() -> Any:
    """Return the module whose functions numba compiles.

    Raises:
        UserError: numba is not installed.
    """
    try:
        from clearhead.generation import token_kernel
    except ImportError as error:
        raise UserError(f"A compiled step needs numba: pip install 'clearhead[compile]' ({error}).") from None
    return token_kernel


def stack_of(model: nn.Module, weights: Weights) -> Stack:
    """Return a model's weights as compiled loops read them.

    Raises:
        UserError: see `Compiled`.
    """
    loops = kernel()
    tables = embedding_tables(model) if can_be_folded(model) and not model.reads_ahead else None
    if not isinstance(model, GPT) or tables is None or not consists_of_known_parts(model):
        raise UserError("This model has parts that are not compiled; leave compile out.")
    blocks = [cast(Block, block) for block in model.blocks]
    attention = [cast(Attention, block.attention) for block in blocks]
    width = model.config.width
    kind, widen, narrow = thoughts(blocks, width, weights)
    cap = model.config.logit_softcap
    return cast(
        "Stack",
        loops.Stack(
            tokens=tables[0].numpy(),
            places=tables[1].contiguous().numpy(),
            embedding_norm=norms([model.embedding_norm], width),
            attention_norm=norms([block.attention_norm for block in blocks], width),
            project=linear([(each.query, each.key, each.value) for each in attention], weights),
            normalizes_heads=attention[0].qk_norm,
            head_epsilon=np.float32(QK_NORM_EPSILON),
            close=linear([(each.output,) for each in attention], weights),
            feed_forward_norm=norms([block.feed_forward_norm for block in blocks], width),
            taps=taps(blocks, width),
            activation=kind,
            widen=widen,
            narrow=narrow,
            final_norm=norms([model.final_norm], width),
            head=linear([(model.unembedding,)], weights),
            cap=np.float32(0.0 if cap is None else cap),
        ),
    )


def consists_of_known_parts(model: GPT) -> bool:
    """Say whether a model has only parts that are compiled, and these alike in all layers."""
    ends = is_norm(model.embedding_norm) and is_norm(model.final_norm) and as_built(model.unembedding, nn.Linear)
    return ends and all(map(is_known, model.blocks)) and len({kinds(cast(Block, block)) for block in model.blocks}) == 1


def kinds(block: Block) -> tuple[Any, ...]:
    """Return what a block's weights do not tell, and their shapes, which have to be those of every other layer."""
    norms = [(type(norm), getattr(norm, "eps", 0.0)) for norm in (block.attention_norm, block.feed_forward_norm)]
    thought = type(block.feed_forward), getattr(block.feed_forward, "activation", None)
    shapes = [(name, weight.shape) for name, weight in block.named_parameters()]
    return *norms, cast(Attention, block.attention).qk_norm, thought, *shapes


def is_known(block: nn.Module) -> bool:
    """Say whether a block consists of parts that are compiled."""
    if not isinstance(block, Block) or not as_built(block, Block):
        return False
    convolution = block.convolution is None or as_built(block.convolution, ShortConvolution)
    known = is_norm(block.attention_norm) and is_norm(block.feed_forward_norm)
    parts = convolution and known and attends(block.attention) and thinks(block.feed_forward)
    return parts and block.residual is pre_norm


def attends(attention: nn.Module) -> bool:
    """Say whether it is attention as it was built, with linear layers and one of the model's kernels."""
    if not isinstance(attention, Attention) or not as_built(attention, Attention):
        return False
    layers = (attention.query, attention.key, attention.value, attention.output)
    return attention.kernel in KERNELS.values() and all(as_built(layer, nn.Linear) for layer in layers)


def thinks(layer: nn.Module | None) -> bool:
    """Say whether it is a feed-forward layer that is compiled, or none."""
    if layer is None:
        return True
    known = isinstance(layer, FeedForward) and as_built(layer, FeedForward) and layer.activation in ACTIVATIONS
    return (known or as_built(layer, SwiGLU)) and all(as_built(part, nn.Linear) for part in layer.children())


def is_norm(norm: nn.Module) -> bool:
    """Say whether a norm is one that is compiled."""
    return as_built(norm, nn.Identity) or as_built(norm, nn.LayerNorm) or as_built(norm, RMSNorm)


def norms(each: Sequence[nn.Module], width: int) -> Norm:
    """Return the norms of one place in all layers."""
    loops = kernel()
    kinds = {nn.LayerNorm: loops.CENTERED, RMSNorm: loops.BY_SIZE}
    gains = [getattr(norm, "weight", None) for norm in each]
    shifts = [getattr(norm, "bias", None) for norm in each]
    return cast(
        "Norm",
        loops.Norm(
            kind=kinds.get(type(each[0]), loops.PLAIN),
            epsilon=np.float32(getattr(each[0], "eps", 0.0)),
            gain=rows([torch.ones(width) if gain is None else gain for gain in gains]),
            shift=rows([torch.zeros(width) if shift is None else shift for shift in shifts]),
        ),
    )


def linear(layers: Sequence[tuple[nn.Linear, ...]], weights: Weights) -> Linear:
    """Return the matrices and biases of one place in all layers, where several may read the same states."""
    biases = [
        torch.cat([torch.zeros(part.out_features) if part.bias is None else part.bias for part in parts])
        for parts in layers
    ]
    matrices = [joined(parts) for parts in layers]
    if weights == "int8":
        levels, scales = zip(*map(rounded, matrices), strict=True)
        return cast("Linear", kernel().Linear(rows(levels), rows([scale.float() for scale in scales]), rows(biases)))
    ones = [torch.ones(len(matrix)) for matrix in matrices]
    return cast("Linear", kernel().Linear(rows(matrices), rows(ones), rows(biases)))


def thoughts(blocks: Sequence[Block], width: int, weights: Weights) -> tuple[int, Linear, Linear]:
    """Return what the feed-forward layers do, and their matrices; where there are none these have no hidden state."""
    loops, first = kernel(), blocks[0].feed_forward
    if first is None:
        empty = [rows([torch.zeros(size)] * len(blocks)) for size in ((0, width), (width, 0))]
        return loops.RELU, *(loops.Linear(each, each.sum(axis=2), each.sum(axis=2)) for each in empty)
    narrow = linear([(cast(Any, block.feed_forward).output,) for block in blocks], weights)
    if isinstance(first, SwiGLU):
        gated = [cast(SwiGLU, block.feed_forward) for block in blocks]
        return loops.SWIGLU, linear([(layer.gate, layer.up) for layer in gated], weights), narrow
    kind = getattr(loops, ACTIVATIONS[cast(FeedForward, first).activation])
    return kind, linear([(cast(FeedForward, block.feed_forward).up,) for block in blocks], weights), narrow


def taps(blocks: Sequence[Block], width: int) -> Float32[np.ndarray, "L N C"]:
    """Return the taps of the convolutions; where there are none, of one that changes nothing."""
    kept = [torch.ones(1, width) if block.convolution is None else block.convolution.taps for block in blocks]
    return rows(kept)


def rows(tensors: Sequence[Tensor]) -> np.ndarray:
    """Return tensors of one shape as one array."""
    stacked: np.ndarray = torch.stack([tensor.detach() for tensor in tensors]).numpy()
    return stacked
