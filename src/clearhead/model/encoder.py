"""The encoder: a stack of blocks in which every position reads every other."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor, nn

from clearhead.model.config import GptConfig
from clearhead.model.layers import build_norm
from clearhead.model.masks import Mask
from clearhead.model.positions import build_positions
from clearhead.model.tap import Tap, scoped
from clearhead.model.transformer import build_block


class Encoder(nn.Module):
    """Turn embedded tokens into states that know of each other in both directions.

    Source: Vaswani et al. 2017, section 3.1, the left half of figure 1, with the parts that `config` names.
    """

    def __init__(self, config: GptConfig) -> None:
        super().__init__()
        self.positions = build_positions(
            config.positions,
            context_length=config.context_length,
            width=config.width,
            head_width=config.head_width,
        )
        self.embedding_norm = build_norm(config.norm, config.width) if config.embedding_norm else nn.Identity()
        self.dropout = nn.Dropout(config.dropout)
        self.blocks = nn.ModuleList(build_block(config) for _ in range(config.num_layers))
        self.final_norm = build_norm(config.norm, config.width)

    def forward(self, embedded: Float[Tensor, "B S C"], mask: Mask, tap: Tap | None = None) -> Float[Tensor, "B S C"]:
        """Return the final state of each position."""
        x = self.dropout(self.embedding_norm(self.positions.embed(embedded, 0)))
        for index, block in enumerate(self.blocks):
            x = block(x, mask=mask, positions=self.positions, tap=scoped(tap, f"blocks.{index}"))
        final: Tensor = self.final_norm(x)
        return final if tap is None else tap("final", final)
