"""The encoder: a transformer that reads a whole text at once, and a head that chooses a class for it."""

from __future__ import annotations

from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from clearhead.model.family_config import EncoderConfig, FullConfig
from clearhead.model.layers import TokenDropout
from clearhead.model.masks import Full, Mask, build_mask
from clearhead.model.tap import Tap
from clearhead.model.transformer import GPT


class Encoder(nn.Module):
    """A stack of blocks that reads in both directions, averages what its positions say, and names a class.

    Its body is the GPT's, under a mask that hides nothing but padding.
    Source: Devlin et al. 2019, section 3. Departs: the norm stands before each branch, and the mean over all positions
    takes the place of a special first token.
    """

    def __init__(self, config: EncoderConfig, vocabulary_size: int) -> None:
        super().__init__()
        self.config = config
        self.context_length = config.context_length
        self.vocabulary_size = vocabulary_size
        self.mask = Full() if isinstance(config.mask, FullConfig) else build_mask(config.mask)
        self.body = GPT(config.body, vocabulary_size)
        self.body.dropout = nn.Sequential(TokenDropout(config.token_dropout), self.body.dropout)
        self.dropout = nn.Dropout(config.dropout)
        self.classifier = nn.Linear(config.width, config.classes)
        nn.init.zeros_(self.classifier.weight)
        nn.init.zeros_(self.classifier.bias)

    def forward(
        self, tokens: Int[Tensor, "B T"], *, mask: Mask | None = None, tap: Tap | None = None
    ) -> Float[Tensor, "B N"]:
        """Return the logits of each text's class: `features`, then `head`."""
        logits = self.head(self.features(tokens, mask=mask, tap=tap), mask)
        return logits if tap is None else tap("logits", logits)

    def features(
        self, tokens: Int[Tensor, "B T"], *, mask: Mask | None = None, tap: Tap | None = None
    ) -> Float[Tensor, "B T C"]:
        """Return the final state of each position.

        Args:
            mask: which positions may be read; the model's own mask unless another is given. Rows of different length
                need one that knows their padding: `Padded(model.mask, lengths)`.

        Raises:
            UserError: there are more positions than the model's context has.
        """
        return self.body.features(tokens, mask=self.mask if mask is None else mask, tap=tap)

    def head(self, features: Float[Tensor, "B T C"], mask: Mask | None = None) -> Float[Tensor, "B N"]:
        """Return the logits of the classes: a linear map of the mean of the positions that are no padding."""
        is_text = None if mask is None else mask.is_text(features.size(1))
        logits: Tensor = self.classifier(self.dropout(mean_of(features, is_text)))
        return logits

    def roles(self) -> dict[str, str]:
        """Return each parameter's role, by which optimizers choose how to treat it."""
        inner = {f"body.{name}": role for name, role in self.body.roles().items()}
        return {**inner, "classifier.weight": "head", "classifier.bias": "gain"}

    @property
    def recompute_blocks(self) -> bool:
        """Whether the blocks keep less for the backward pass and compute it again."""
        return self.body.recompute_blocks

    @recompute_blocks.setter
    def recompute_blocks(self, wanted: bool) -> None:
        self.body.recompute_blocks = wanted


def mean_of(features: Float[Tensor, "B T C"], is_text: Bool[Tensor, "B T"] | None) -> Float[Tensor, "B C"]:
    """Return the mean over the positions that hold text; None says that all do."""
    if is_text is None:
        return features.mean(dim=1)
    counted = is_text.to(features.dtype)[..., None]
    total: Tensor = (features * counted).sum(dim=1)
    return total / counted.sum(dim=1).clamp(min=1)
