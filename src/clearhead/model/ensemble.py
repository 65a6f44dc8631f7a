"""Several encoders as one: each learns on its own, and what they say is averaged."""

from __future__ import annotations

import math
from dataclasses import replace

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from clearhead.model.encoder import Encoder
from clearhead.model.family_config import EncoderConfig
from clearhead.model.masks import Mask
from clearhead.model.tap import Tap


class Ensemble(nn.Module):
    """Encoders of one config from different draws; the probability of a class is the mean of theirs.

    What one of them gets wrong by the chance of its draw and its dropout, the others mostly get right.
    Source: Lakshminarayanan et al. 2017, section 2.4. Departs: all read the same batches, in one run.
    """

    def __init__(self, config: EncoderConfig, vocabulary_size: int) -> None:
        super().__init__()
        self.config = config
        self.context_length = config.context_length
        self.vocabulary_size = vocabulary_size
        alone = replace(config, num_members=1)
        self.members = nn.ModuleList(Encoder(alone, vocabulary_size) for _ in range(config.num_members))

    @property
    def encoders(self) -> list[Encoder]:
        """The members."""
        return [member for member in self.members if isinstance(member, Encoder)]

    @property
    def mask(self) -> Mask:
        """The mask that every member reads with."""
        return self.encoders[0].mask

    def forward(
        self, tokens: Int[Tensor, "B T"], *, mask: Mask | None = None, tap: Tap | None = None
    ) -> Float[Tensor, "B N"]:
        """Return the logarithm of the mean of the members' probabilities, which is a text's logits up to a constant."""
        each = torch.stack([encoder(tokens, mask=mask).log_softmax(dim=-1) for encoder in self.encoders])
        logits: Tensor = each.logsumexp(dim=0) - math.log(len(each))
        return logits if tap is None else tap("logits", logits)

    def roles(self) -> dict[str, str]:
        """Return each parameter's role, by which optimizers choose how to treat it."""
        return {
            f"members.{at}.{name}": role
            for at, encoder in enumerate(self.encoders)
            for name, role in encoder.roles().items()
        }

    @property
    def recompute_blocks(self) -> bool:
        """Whether the blocks keep less for the backward pass and compute it again."""
        return self.encoders[0].recompute_blocks

    @recompute_blocks.setter
    def recompute_blocks(self, wanted: bool) -> None:
        for encoder in self.encoders:
            encoder.recompute_blocks = wanted
