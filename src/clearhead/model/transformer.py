"""The GPT: an embedding, a stack of blocks, a norm and a head."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from typing import cast

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from clearhead.core.errors import UserError
from clearhead.model.attention import KERNELS, Attention, Mixer
from clearhead.model.cache import Cache
from clearhead.model.config import (
    AveragingConfig,
    CausalConvolutionConfig,
    FixedEmbeddingConfig,
    FourierMixerConfig,
    GptConfig,
    SubstitutedAttentionConfig,
)
from clearhead.model.layers import Block, Dropout, ShortConvolution, build_feed_forward, build_norm
from clearhead.model.masks import Mask, build_mask, require_no_future
from clearhead.model.positions import Positions, build_positions
from clearhead.model.tap import Tap, scoped
from clearhead.model.variants.attention import SUBSTITUTIONS
from clearhead.model.variants.embeddings import FIXED, FixedEmbedding, OneHot
from clearhead.model.variants.mixers import Averaging, CausalConvolution, FourierMixer
from clearhead.model.variants.residual import RESIDUALS


class GPT(nn.Module):
    """A decoder-only transformer: tokens in, logits of the next token out.

    Source: Radford et al. 2019, with the parts that `config` names.
    """

    def __init__(self, config: GptConfig, vocabulary_size: int) -> None:
        super().__init__()
        self.config = config
        self.context_length = config.context_length
        self.vocabulary_size = vocabulary_size
        self.recompute_blocks = False
        self.run_block: RunBlock = run_block
        self.mask = build_mask(config.mask)
        self.positions = build_positions(
            config.positions,
            context_length=config.context_length,
            width=config.width,
            head_width=config.head_width,
        )
        self.embedding = build_embedding(config, vocabulary_size, self.positions.token_width(config.width))
        self.embedding_norm = build_norm(config.norm, config.width) if config.embedding_norm else nn.Identity()
        self.dropout: nn.Module = Dropout(config.dropout)
        self.blocks = nn.ModuleList(build_block(config) for _ in range(config.num_layers))
        self.final_norm = build_norm(config.norm, config.width)
        self.unembedding = nn.Linear(config.width, vocabulary_size, bias=False)
        if config.tied_head:
            self.unembedding.weight = self.embedding.weight
        initialize(self)

    def forward(
        self,
        tokens: Int[Tensor, "B T"],
        *,
        mask: Mask | None = None,
        cache: Cache | None = None,
        tap: Tap | None = None,
    ) -> Float[Tensor, "B T V"]:
        """Return the logits of each position's next token: `features`, then `head`."""
        logits = self.head(self.features(tokens, mask=mask, cache=cache, tap=tap))
        return logits if tap is None else tap("logits", logits)

    def features(
        self,
        tokens: Int[Tensor, "B T"],
        *,
        mask: Mask | None = None,
        cache: Cache | None = None,
        tap: Tap | None = None,
    ) -> Float[Tensor, "B T C"]:
        """Return the final state of each position.

        Args:
            mask: which positions may be read; the model's own mask unless another is given.
            cache: what earlier calls have read; the tokens continue it, and it is advanced.
            tap: sees, and may replace, every named tensor on the way; the blocks then use the explicit kernel.

        Raises:
            UserError: there are more positions, with those in the cache, than the model's context has; or the mask
                lets positions in the cache read these.
        """
        mask = self.mask if mask is None else mask
        start = 0 if cache is None else cache.offset
        self.require_readable(mask, start, tokens.size(1))
        x = self.dropout(self.embedding_norm(self._embed(tokens, start, tap)))
        if self.training and tap is None and cache is None:
            x = self._train_blocks(x, mask)
        else:
            slots = [None] * len(self.blocks) if cache is None else cache
            for index, (block, slot) in enumerate(zip(self.blocks, slots, strict=True)):
                x = block(x, mask=mask, positions=self.positions, slot=slot, tap=scoped(tap, f"blocks.{index}"))
        if cache is not None:
            cache.advance(tokens.size(1))
        final: Tensor = self.final_norm(x)
        return final if tap is None else tap("final", final)

    def _train_blocks(self, x: Float[Tensor, "B T C"], mask: Mask) -> Float[Tensor, "B T C"]:
        for block in self.blocks:
            run = partial(checkpoint, self.run_block, use_reentrant=False) if self.recompute_blocks else self.run_block
            x = run(block, x, mask, self.positions)
        return x

    def head(self, features: Float[Tensor, "B T C"], mask: Mask | None = None) -> Float[Tensor, "B T V"]:
        """Return the logits that the final states stand for."""
        logits: Tensor = self.unembedding(features)
        cap = self.config.logit_softcap
        return logits if cap is None else cap * torch.tanh(logits / cap)

    @property
    def reads_ahead(self) -> bool:
        """Whether positions read later ones whatever the mask, so that this is no language model."""
        return any(mixer.reads_ahead for mixer in self.mixers)

    @property
    def mixers(self) -> list[Mixer]:
        """What the blocks' positions gather from each other by, layer by layer."""
        return [cast(Block, block).attention for block in self.blocks]

    def new_cache(self, batch: int, capacity: int | None = None) -> Cache | None:
        """Return an empty cache for `batch` rows of `capacity` positions (the context length unless given).

        There is none where the model reads ahead: what a cache holds would change with what comes.
        """
        if self.reads_ahead:
            return None
        size = self.context_length if capacity is None else capacity
        like = self.unembedding.weight
        return Cache([mixer.new_slot(batch, size, like) for mixer in self.mixers])

    def use_mask(self, mask: Mask) -> None:
        """Train, score and write under another mask from now on.

        Raises:
            UserError: the mask lets a position read a later one.
        """
        require_no_future(mask, self.context_length)
        self.mask = mask

    def roles(self) -> dict[str, str]:
        """Return each parameter's role, by which optimizers choose how to treat it."""
        return {name: role_of(name, parameter) for name, parameter in self.named_parameters()}

    def _embed(self, tokens: Int[Tensor, "B T"], start: int, tap: Tap | None) -> Float[Tensor, "B T C"]:
        """Return the embedded tokens with what the position scheme adds to them."""
        x = self.embedding(tokens)
        if tap is None:
            return self.positions.embed(x, start)
        x = tap("embed.tok", x)
        placed = self.positions.embed(x, start)
        if placed is x:
            return x
        alone = F.pad(x, (0, placed.size(-1) - x.size(-1)))
        added = placed - alone
        replaced = tap("embed.pos", added)
        return placed if replaced is added else alone + replaced

    def require_readable(self, mask: Mask, start: int, count: int) -> None:
        """Refuse to read `count` positions from `start` on where they are too many, or come too late for the mask.

        Raises:
            UserError: see `features`.
        """
        if start and mask.looks_ahead(start):
            raise UserError(
                f"With {mask} one of the {start} positions in the cache would read a later one; "
                "read them all at once, or write without a cache."
            )
        num_positions = start + count
        if num_positions > self.context_length:
            raise UserError(
                f"The model reads at most {self.context_length} positions, not {num_positions}; "
                "give it the last ones only, or train one with a larger context_length."
            )


def run_block(block: nn.Module, x: Float[Tensor, "B T C"], mask: Mask, positions: Positions) -> Float[Tensor, "B T C"]:
    """Run one block of a stack in training; a compiler that wraps this compiles one block and runs it for all."""
    out: Tensor = block(x, mask=mask, positions=positions)
    return out


RunBlock = Callable[[nn.Module, Tensor, Mask, Positions], Tensor]


def role_of(name: str, parameter: Tensor) -> str:
    """Return `embedding`, `head`, `hidden` (matrices inside the blocks) or `gain` (vectors, and convolutions' taps)."""
    if parameter.ndim < 2 or name.endswith(".taps"):
        return "gain"
    if name.startswith("unembedding"):
        return "head"
    return "hidden" if name.startswith("blocks") else "embedding"


def build_block(config: GptConfig) -> Block:
    """Return one block of the kind that `config` describes."""
    return Block(
        build_norm(config.norm, config.width),
        build_mixer(config),
        build_norm(config.norm, config.width),
        ShortConvolution(config.width, config.convolution) if config.convolution > 1 else None,
        build_feed_forward(config.feed_forward, config.width, bias=config.bias),
        config.dropout,
        RESIDUALS[config.residual],
    )


def build_mixer(config: GptConfig) -> Mixer:
    """Return what a block's positions gather from each other by: attention, or what a config puts in its place."""
    if isinstance(config.mixer, AveragingConfig):
        return Averaging()
    if isinstance(config.mixer, CausalConvolutionConfig):
        return CausalConvolution(config.width, config.mixer.reach, bias=config.bias)
    if isinstance(config.mixer, FourierMixerConfig):
        return FourierMixer()
    attention = build_attention(config)
    if isinstance(config.mixer, SubstitutedAttentionConfig):
        SUBSTITUTIONS[config.mixer.kind](attention)
    return attention


def build_attention(config: GptConfig) -> Attention:
    """Return attention of the sizes and with the kernel that `config` names."""
    return Attention(
        config.width,
        config.num_heads,
        config.kv_heads,
        KERNELS[config.kernel],
        bias=config.bias,
        qk_norm=config.qk_norm,
    )


def build_embedding(config: GptConfig, vocabulary_size: int, width: int) -> nn.Embedding | FixedEmbedding:
    """Return the table of token vectors that a config names."""
    if isinstance(config.embedding, FixedEmbeddingConfig):
        return FIXED[config.embedding.kind](vocabulary_size, width)
    return nn.Embedding(vocabulary_size, width)


def extended(model: GPT, context_length: int) -> GPT:
    """Return a copy of a trained model that reads more positions, where its position scheme can be computed for them.

    The copy has the same parameters; how well it reads beyond its training is another question.

    Raises:
        UserError: the scheme has a trained vector for each position.
    """
    longer = copy.deepcopy(model)
    longer.config = replace(model.config, context_length=context_length)
    longer.context_length = context_length
    longer.positions = longer.positions.extended(context_length)
    return longer


def linear_layers(model: nn.Module) -> Iterator[tuple[str, nn.Linear]]:
    """Yield the linear layers of a model by name."""
    for name, module in model.named_modules():
        if isinstance(module, nn.Linear):
            yield name, module


@torch.no_grad()
def initialize(model: GPT) -> None:
    """Draw a new model's weights as its config says.

    `normal`: every matrix from N(0, 0.02^2), the outputs of the residual branches divided by sqrt(2 L), so the
    stream's variance does not grow with depth. Source: Radford et al. 2019, section 2.3.
    `zero_residual`: matrices from N(0, 1/fan_in); the outputs of the residual branches and the head are zero, so
    the first prediction is uniform and its loss is ln V. Source: Zhang et al. 2019 (Fixup), section 2.
    """
    config = model.config
    draw_linear_layers(model, config)
    embedding_std = 1.0 if config.initialization == "zero_residual" and not config.tied_head else 0.02
    if not isinstance(model.embedding, OneHot):
        model.embedding.weight.normal_(std=embedding_std)
    model.positions.draw(embedding_std)


@torch.no_grad()
def draw_linear_layers(model: nn.Module, config: GptConfig) -> None:
    """Draw the matrices of a model that is made of the parts that `config` names."""
    zero = config.initialization == "zero_residual"
    for name, layer in linear_layers(model):
        closes_branch = name.endswith(".output") and config.residual != "none"
        if zero:
            std = 0.0 if closes_branch or name == "unembedding" else layer.in_features**-0.5
        else:
            std = 0.02 / math.sqrt(2 * config.num_layers) if closes_branch else 0.02
        layer.weight.normal_(std=std)
        if layer.bias is not None:
            layer.bias.zero_()
