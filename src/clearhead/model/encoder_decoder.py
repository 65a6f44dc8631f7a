"""The encoder-decoder: an encoder reads the source, a decoder writes the target and looks at the source as it does."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from clearhead.core.errors import UserError
from clearhead.model.attention import KERNELS, Attention
from clearhead.model.cache import Cache, Slot, new_slot
from clearhead.model.config import EncoderDecoderConfig, GptConfig
from clearhead.model.encoder import Encoder
from clearhead.model.layers import Block, build_norm
from clearhead.model.masks import Causal, Mask, Padded
from clearhead.model.positions import Positions, build_positions
from clearhead.model.tap import Tap, scoped
from clearhead.model.transformer import build_block, draw_linear_layers

Source = tuple[Tensor, Mask]
"""What an encoder made of a batch of sources, (B, S, C), and which of their positions may be read."""

BRANCHES_OF_A_DECODER_BLOCK = 3


class DecoderBlock(nn.Module):
    """Communicate, ask the source, then compute: a block with attention to an encoder's states in its middle.

    Keys and values of the source bear no positions of their own: the encoder has worked them in.
    Source: Vaswani et al. 2017, section 3.1, the right half of figure 1, with the norm before each branch.
    """

    def __init__(self, block: Block, cross_norm: nn.Module, cross: Attention) -> None:
        super().__init__()
        self.block = block
        self.cross_norm = cross_norm
        self.cross = cross
        self.no_positions = Positions()

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
            slots: what is kept of the target so far, and of the source.
        """
        own, of_source = (None, None) if slots is None else slots
        x = self.block.communicate(x, mask=mask, positions=positions, slot=own, tap=tap)
        states, source_mask = source
        asked = self.cross(
            self.cross_norm(x),
            states,
            mask=source_mask,
            positions=self.no_positions,
            slot=of_source,
            tap=scoped(tap, "cross"),
        )
        x = x + self.block.dropout(asked)
        if tap is not None:
            x = tap("resid_cross", x)
        return self.block.compute(x, slot=own, tap=tap)


class EncoderDecoder(nn.Module):
    """A transformer for pairs: source and target tokens in, logits of the target's next token out.

    Sources and targets share one embedding. Source: Vaswani et al. 2017, section 3, with the parts that `config`
    names; one embedding for all: their section 3.4 and Press and Wolf 2017.
    """

    def __init__(self, config: EncoderDecoderConfig, vocabulary_size: int) -> None:
        super().__init__()
        self.config = config
        self.context_length = config.context_length
        self.vocabulary_size = vocabulary_size
        self.embedding = nn.Embedding(vocabulary_size, config.width)
        self.encoder = Encoder(config.stack(config.num_encoder_layers))
        parts = config.stack(config.num_decoder_layers)
        self.positions = build_positions(
            parts.positions, context_length=parts.context_length, width=parts.width, head_width=parts.head_width
        )
        self.embedding_norm = build_norm(parts.norm, parts.width) if parts.embedding_norm else nn.Identity()
        self.dropout = nn.Dropout(parts.dropout)
        self.blocks = nn.ModuleList(build_decoder_block(parts) for _ in range(parts.num_layers))
        self.final_norm = build_norm(parts.norm, parts.width)
        self.unembedding = nn.Linear(parts.width, vocabulary_size, bias=False)
        if config.tied_head:
            self.unembedding.weight = self.embedding.weight
        self._initialize()

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
            tokens: ids; those below 0 fill up a row and are read by nobody.
            mask: which positions may be read; those of real tokens unless another is given.

        Raises:
            UserError: a source is longer than the model's context.
        """
        self._require_room(tokens.size(1))
        mask = Padded(tokens >= 0) if mask is None else mask
        embedded = self.embedding(tokens.clamp(min=0))
        return self.encoder(embedded, mask, scoped(tap, "encoder")), mask

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
            source: what `encode` returned.
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
        """Return an empty cache for `batch` rows: for each block a slot of the target and one of the source.

        Args:
            capacity: the most positions of the target; the context length unless given.
            source_length: the positions of the source; likewise.
        """
        config, like = self.config, self.embedding.weight
        sizes = [self.context_length if size is None else size for size in (capacity, source_length)]
        head_width = config.width // config.num_heads
        return Cache([new_slot(batch, config.num_heads, size, head_width, like) for _ in self.blocks for size in sizes])

    def roles(self) -> dict[str, str]:
        """Return each parameter's role, by which optimizers choose how to treat it."""
        return {name: self._role_of(name, parameter) for name, parameter in self.named_parameters()}

    def _role_of(self, name: str, parameter: Tensor) -> str:
        if parameter.ndim < 2 or name.endswith(".taps"):
            return "gain"
        if "blocks." in name:
            return "hidden"
        is_head = name.startswith("unembedding") or (name.startswith("embedding") and self.config.tied_head)
        return "head" if is_head else "embedding"

    @torch.no_grad()
    def _initialize(self) -> None:
        config = self.config
        zero = config.initialization == "zero_residual"
        num_branches = 2 * config.num_encoder_layers + BRANCHES_OF_A_DECODER_BLOCK * config.num_decoder_layers
        draw_linear_layers(self, zero=zero, num_branches=num_branches)
        embedding_std = 1.0 if zero and not config.tied_head else 0.02
        self.embedding.weight.normal_(std=embedding_std)
        for positions in (self.positions, self.encoder.positions):
            for parameter in positions.parameters():
                parameter.normal_(std=embedding_std)

    def _require_room(self, num_positions: int) -> None:
        if num_positions > self.context_length:
            raise UserError(
                f"The model reads at most {self.context_length} positions, not {num_positions}; "
                "give it a shorter text, or train one with a larger context_length."
            )


def build_decoder_block(config: GptConfig) -> DecoderBlock:
    """Return one decoder block of the kind that `config` describes."""
    cross = Attention(
        config.width,
        config.num_heads,
        config.kv_heads,
        KERNELS[config.kernel],
        bias=config.bias,
        qk_norm=config.qk_norm,
    )
    return DecoderBlock(build_block(config), build_norm(config.norm, config.width), cross)
