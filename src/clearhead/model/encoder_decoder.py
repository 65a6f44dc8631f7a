"""The encoder-decoder: an encoder reads the source, a decoder writes the target and looks at the source as it does."""

from __future__ import annotations

from typing import TypeAlias, cast

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from clearhead.core.errors import UserError
from clearhead.model.attention import Attention, Mixer
from clearhead.model.cache import Cache, Slot
from clearhead.model.config import GptConfig
from clearhead.model.family_config import EncoderDecoderConfig
from clearhead.model.layers import Block, Dropout, build_norm
from clearhead.model.masks import Causal, Full, Mask
from clearhead.model.positions import Positions, build_positions
from clearhead.model.tap import Tap, scoped
from clearhead.model.transformer import GPT, build_attention, build_block, draw_linear_layers, role_of

Source: TypeAlias = tuple[Tensor, Mask]
"""The states that an encoder made of a batch of sources, (B, S, C), and the mask that says which may be read."""


class DecoderBlock(nn.Module):
    """Communicate, look at the source, then compute: a block with cross-attention between its two halves.

    The source's keys bear no positions: its states know their places already.
    Source: Vaswani et al. 2017, section 3.1, the right half of figure 1, with the norm before each branch.
    """

    def __init__(self, block: Block, cross_norm: nn.Module, cross: Attention) -> None:
        super().__init__()
        self.block = block
        self.cross_norm = cross_norm
        self.cross = cross
        self.no_positions = Positions()

    @property
    def attentions(self) -> tuple[Mixer, Mixer]:
        """What reads the target so far, and what reads the source."""
        return self.block.attention, self.cross

    def forward(
        self,
        x: Float[Tensor, "B T C"],
        source: Source,
        *,
        mask: Mask,
        positions: Positions,
        slots: tuple[Slot, Slot] | None = None,
        tap: Tap | None = None,
    ) -> Float[Tensor, "B T C"]:
        """Return the states after the three branches.

        Args:
            slots: what is kept of the target so far, and what is kept of the source.
        """
        of_target, of_source = (None, None) if slots is None else slots
        x = self.block.communicate(x, mask=mask, positions=positions, slot=of_target, tap=tap)
        states, readable = source
        seen = self.cross(
            self.cross_norm(x),
            states,
            mask=readable,
            positions=self.no_positions,
            slot=of_source,
            tap=scoped(tap, "cross"),
        )
        x = x + self.block.dropout(seen)
        if tap is not None:
            x = tap("resid_cross", x)
        return self.block.compute(x, slot=of_target, tap=tap)


class EncoderDecoder(nn.Module):
    """A transformer for pairs: source and target in, logits of the target's next token out.

    The encoder is a GPT's stack of blocks under a mask that hides nothing but padding; the decoder's blocks are a
    GPT's with cross-attention added. One embedding serves source, target and, tied, the head.
    Source: Vaswani et al. 2017, sections 3.1 and 3.4, with the parts that `config` names. Departs: the encoder's
    embedding and the decoder's pass a norm in place of the factor sqrt(C).
    """

    def __init__(self, config: EncoderDecoderConfig, vocabulary_size: int) -> None:
        super().__init__()
        self.config = config
        self.context_length = config.context_length
        self.vocabulary_size = vocabulary_size
        self.encoder = GPT(config.encoder, vocabulary_size)
        parts = config.decoder
        self.positions = build_positions(
            parts.positions, context_length=parts.context_length, width=parts.width, head_width=parts.head_width
        )
        self.embedding_norm = build_norm(parts.norm, parts.width)
        self.dropout = Dropout(parts.dropout)
        self.blocks = nn.ModuleList(build_decoder_block(parts) for _ in range(parts.num_layers))
        self.final_norm = build_norm(parts.norm, parts.width)
        self.unembedding = nn.Linear(parts.width, vocabulary_size, bias=False)
        if config.tied_head:
            self.unembedding.weight = self.embedding.weight
        draw_weights(self)

    @property
    def embedding(self) -> nn.Embedding:
        """The one embedding, of sources and targets."""
        return cast(nn.Embedding, self.encoder.embedding)

    def forward(
        self,
        tokens: Int[Tensor, "B T"],
        *,
        source: Source,
        mask: Mask | None = None,
        cache: Cache | None = None,
        tap: Tap | None = None,
    ) -> Float[Tensor, "B T V"]:
        """Return the logits of each target position's next token: `features`, then `head`."""
        logits = self.head(self.features(tokens, mask=mask, cache=cache, source=source, tap=tap))
        return logits if tap is None else tap("logits", logits)

    def encode(self, tokens: Int[Tensor, "B S"], mask: Mask | None = None, tap: Tap | None = None) -> Source:
        """Return what the decoder reads of a batch of sources.

        Args:
            mask: which positions may be read, by the encoder and by the decoder; all unless another is given. Rows of
                different length need one that knows their padding: `Padded(Full(), lengths)`.

        Raises:
            UserError: a source has more positions than the model's context.
        """
        mask = Full() if mask is None else mask
        return self.encoder.features(tokens, mask=mask, tap=scoped(tap, "encoder")), mask

    def features(
        self,
        tokens: Int[Tensor, "B T"],
        *,
        source: Source,
        mask: Mask | None = None,
        cache: Cache | None = None,
        tap: Tap | None = None,
    ) -> Float[Tensor, "B T C"]:
        """Return the final state of each target position.

        Args:
            source: what `encode` returned; through a cache, its states are read once and only its mask later on.
            mask: which target positions may be read; the causal mask unless another is given.
            cache: what earlier calls have read; the tokens continue it, and it is advanced.
            tap: sees, and may replace, every named tensor on the way; the blocks then use the explicit kernel.

        Raises:
            UserError: there are more positions, with those in the cache, than the model's context has.
        """
        mask = Causal() if mask is None else mask
        start = 0 if cache is None else cache.offset
        self._require_room(start + tokens.size(1))
        x = self.embedding(tokens)
        if tap is not None:
            x = tap("embed.tok", x)
        x = self.dropout(self.embedding_norm(self.positions.embed(x, start)))
        for index, block in enumerate(self.blocks):
            slots = None if cache is None else (cache.slots[2 * index], cache.slots[2 * index + 1])
            x = block(x, source, mask=mask, positions=self.positions, slots=slots, tap=scoped(tap, f"blocks.{index}"))
        if cache is not None:
            cache.advance(tokens.size(1))
        final: Tensor = self.final_norm(x)
        return final if tap is None else tap("final", final)

    def head(self, features: Float[Tensor, "B T C"], mask: Mask | None = None) -> Float[Tensor, "B T V"]:
        """Return the logits that the final states stand for."""
        logits: Tensor = self.unembedding(features)
        return logits

    def new_cache(self, batch: int, capacity: int | None = None, *, source_length: int | None = None) -> Cache:
        """Return an empty cache for `batch` rows: for each block one slot of the target and one of the source.

        Args:
            capacity: the most positions of the target; the context length unless given.
            source_length: the positions of the source; likewise.
        """
        sizes = [self.context_length if size is None else size for size in (capacity, source_length)]
        slots = []
        for block in self.blocks:
            for attention, size in zip(cast(DecoderBlock, block).attentions, sizes, strict=True):
                slots.append(attention.new_slot(batch, size, self.embedding.weight))
        return Cache(slots)

    def roles(self) -> dict[str, str]:
        """Return each parameter's role, by which optimizers choose how to treat it."""
        roles = {name: role_of(name.removeprefix("encoder."), parameter) for name, parameter in self.named_parameters()}
        if self.config.tied_head:
            # The rates that suit an embedding alone are many times too high for a head.
            roles["encoder.embedding.weight"] = "head"
        return roles

    def _require_room(self, num_positions: int) -> None:
        if num_positions > self.context_length:
            raise UserError(
                f"The model writes at most {self.context_length} tokens, not {num_positions}; "
                "give it a shorter text, or train one with a larger context_length."
            )


def build_decoder_block(config: GptConfig) -> DecoderBlock:
    """Return one decoder block of the kind that `config` describes."""
    return DecoderBlock(build_block(config), build_norm(config.norm, config.width), build_attention(config))


@torch.no_grad()
def draw_weights(model: EncoderDecoder) -> None:
    """Draw a new model's weights as `initialize` does by `zero_residual`; a tied embedding is drawn small."""
    draw_linear_layers(model, model.config.decoder)
    std = 0.02 if model.config.tied_head else 1.0
    model.embedding.weight.normal_(std=std)
    for positions in (model.encoder.positions, model.positions):
        positions.draw(std)
