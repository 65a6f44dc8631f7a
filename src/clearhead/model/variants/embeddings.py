"""Tables of token vectors that are not trained."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from clearhead.core.errors import UserError
from clearhead.model.config import FixedEmbeddingConfig


class FixedEmbedding(nn.Module):
    """Look up a token's row in a table that stays as it was made: random rows, or one-hot rows.

    The table is kept with the weights but is no parameter.
    """

    weight: Tensor

    def __init__(self, vocabulary_size: int, width: int, config: FixedEmbeddingConfig) -> None:
        super().__init__()
        if config.kind == "one_hot" and vocabulary_size > width:
            raise UserError(
                f"model.embedding.kind = one_hot needs a channel for each of the {vocabulary_size} ids, and "
                f"there are {width}; set model.width to at least {vocabulary_size}, or embedding.kind = frozen."
            )
        one_hot = torch.eye(vocabulary_size, width) if config.kind == "one_hot" else None
        self.is_random = one_hot is None
        self.register_buffer("weight", torch.empty(vocabulary_size, width) if one_hot is None else one_hot)

    def draw(self, std: float) -> None:
        """Draw random rows; one-hot rows stay."""
        if self.is_random:
            self.weight.normal_(std=std)

    def forward(self, tokens: Int[Tensor, "B T"]) -> Float[Tensor, "B T C"]:
        return F.embedding(tokens, self.weight)
