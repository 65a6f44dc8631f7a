"""The first rung of the ladder, the bigram table; the others are a GPT with parts left out."""

from __future__ import annotations

from jaxtyping import Float, Int
from torch import Tensor, nn

from clearhead.model.cache import Cache
from clearhead.model.config import BigramConfig
from clearhead.model.masks import Mask
from clearhead.model.tap import Tap


class Bigram(nn.Module):
    """Read the next token's logits off a table with one row for each token: tokens do not talk to each other.

    Its best loss is that of the text's bigram counts.
    """

    def __init__(self, config: BigramConfig, vocabulary_size: int) -> None:
        super().__init__()
        self.config = config
        self.context_length = config.context_length
        self.vocabulary_size = vocabulary_size
        self.table = nn.Embedding(vocabulary_size, vocabulary_size)
        nn.init.normal_(self.table.weight, std=0.02)

    def forward(
        self,
        tokens: Int[Tensor, "B T"],
        *,
        mask: Mask | None = None,
        cache: Cache | None = None,
        tap: Tap | None = None,
    ) -> Float[Tensor, "B T V"]:
        """Return the logits of each position's next token."""
        logits = self.head(self.features(tokens, mask=mask, cache=cache, tap=tap))
        return logits if tap is None else tap("logits", logits)

    def features(
        self,
        tokens: Int[Tensor, "B T"],
        *,
        mask: Mask | None = None,
        cache: Cache | None = None,
        tap: Tap | None = None,
    ) -> Float[Tensor, "B T V"]:
        """Return each token's row of the table; no mask matters, since nothing but the token is read."""
        if cache is not None:
            cache.advance(tokens.size(1))
        rows: Tensor = self.table(tokens)
        return rows if tap is None else tap("embed.tok", rows)

    def head(self, features: Float[Tensor, "B T V"], mask: Mask | None = None) -> Float[Tensor, "B T V"]:
        """Return the features: a bigram's rows are logits already."""
        return features

    def new_cache(self, batch: int, capacity: int | None = None) -> Cache:
        """Return a cache that only counts positions, since nothing of them need be kept."""
        return Cache([])

    def roles(self) -> dict[str, str]:
        """Return each parameter's role."""
        return {name: "embedding" for name, _ in self.named_parameters()}
