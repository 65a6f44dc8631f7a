"""A recurrent language model, which reads one token after another and keeps a state of fixed size."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from clearhead.core.errors import UserError
from clearhead.model.cache import Cache, Slot
from clearhead.model.config import LstmConfig
from clearhead.model.masks import Mask
from clearhead.model.tap import Tap

State = tuple[Float[Tensor, "L B C"], Float[Tensor, "L B C"]]


class StateSlot(Slot):
    """What an LSTM carries from one token to the next: the outputs and the cells of its layers."""

    state: State | None = None

    def clear(self) -> None:
        super().clear()
        self.state = None


class Lstm(nn.Module):
    """Read tokens one after another; all that was read is in one state, which each token changes a little.

    Source: Hochreiter and Schmidhuber 1997; with forget gates, Gers et al. 2000. The layers are torch's own `LSTM`.
    Windows begin with an empty state, as the other models' do.
    """

    def __init__(self, config: LstmConfig, vocabulary_size: int) -> None:
        super().__init__()
        self.config = config
        self.context_length = config.context_length
        self.vocabulary_size = vocabulary_size
        self.embedding = nn.Embedding(vocabulary_size, config.width)
        self.layers = nn.LSTM(config.width, config.width, config.num_layers, batch_first=True)
        self.unembedding = nn.Linear(config.width, vocabulary_size, bias=False)
        nn.init.zeros_(self.unembedding.weight)

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
    ) -> Float[Tensor, "B T C"]:
        """Return the last layer's output at each position.

        No mask is looked at: the state holds whatever was read before.
        """
        slots = [] if cache is None else [slot for slot in cache if isinstance(slot, StateSlot)]
        self._require_room(tokens.size(1) + (0 if cache is None else cache.offset))
        x = self.embedding(tokens)
        if tap is not None:
            x = tap("embed.tok", x)
        final, state = self.layers(x, slots[0].state if slots else None)
        if cache is not None:
            slots[0].state = state
            cache.advance(tokens.size(1))
        out: Tensor = final
        return out if tap is None else tap("final", out)

    def head(self, features: Float[Tensor, "B T C"], mask: Mask | None = None) -> Float[Tensor, "B T V"]:
        """Return the logits that the final states stand for."""
        logits: Tensor = self.unembedding(features)
        return logits

    def new_cache(self, batch: int, capacity: int | None = None) -> Cache:
        """Return a cache of one state, which is as large after a thousand tokens as after one."""
        nothing = torch.empty(batch, 0, 0, 0)
        return Cache([StateSlot(nothing, nothing)])

    def roles(self) -> dict[str, str]:
        """Return each parameter's role."""
        return {name: self._role(name, parameter) for name, parameter in self.named_parameters()}

    def _role(self, name: str, parameter: Tensor) -> str:
        if name.startswith("layers"):
            return "hidden" if parameter.ndim == 2 else "gain"
        return "head" if name.startswith("unembedding") else "embedding"

    def _require_room(self, num_positions: int) -> None:
        if num_positions > self.context_length:
            raise UserError(
                f"The model was trained on windows of {self.context_length} positions, not {num_positions}; "
                "give it the last ones only, or train one with a larger context_length."
            )
