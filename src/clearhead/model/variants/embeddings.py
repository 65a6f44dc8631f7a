"""Tables of token vectors that are not trained."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from clearhead.core.errors import UserError


class FixedEmbedding(nn.Module):
    """Look up a token's row in a table that stays as it was drawn; it is kept with the weights, but is no parameter."""

    weight: Tensor

    def __init__(self, vocabulary_size: int, width: int) -> None:
        super().__init__()
        self.register_buffer("weight", torch.randn(vocabulary_size, width))

    def forward(self, tokens: Int[Tensor, "B T"]) -> Float[Tensor, "B T C"]:
        return F.embedding(tokens, self.weight)


class OneHot(FixedEmbedding):
    """Give each token a channel of its own: there is no embedding at all.

    Raises:
        UserError: there are more tokens than channels.
    """

    def __init__(self, vocabulary_size: int, width: int) -> None:
        super().__init__(vocabulary_size, width)
        if vocabulary_size > width:
            raise UserError(
                f"model.embedding.kind = one_hot needs a channel for each of the {vocabulary_size} ids, and there are "
                f"{width}; set model.width to at least {vocabulary_size}, or model.embedding.kind to frozen."
            )
        self.weight.copy_(torch.eye(vocabulary_size, width))


FIXED: dict[str, type[FixedEmbedding]] = {"frozen": FixedEmbedding, "one_hot": OneHot}
