"""Which batches are not learned from: those whose loss or gradient is not finite, or far off those before them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

WINDOW = 128
"""How many of the latest updates the next batch is judged by."""

FEWEST = 64
"""How many of them there must be: at the start of a run losses may still leap about."""

LOSS_MARGIN_NATS = 1.0
NORM_RATIO = 10.0
"""How far above the highest of the window a loss is a spike, and how many times the largest a gradient norm is one.

Both are wide on purpose: a text of another kind is to be learned from, and clipping deals with gradients that are
merely large. In healthy runs neither was ever reached (docs/log.md).
"""

SKIPS_IN_A_ROW = 3
"""So many batches are skipped for one step before the weights, and not the batches, are taken to be the trouble."""

REWINDS = 3
"""So many times a run goes back to a saved step before it stops."""

Trouble = Literal["non_finite", "spike"]


@dataclass
class Recent:
    """The losses and gradient norms of the latest updates; they are stored with each step."""

    losses: tuple[float, ...] = ()
    norms: tuple[float, ...] = ()

    def judge(self, loss: float, norm: float) -> Trouble | None:
        """Say what is wrong with a batch, by its loss and the norm of its gradient; None if nothing is."""
        if not (math.isfinite(loss) and math.isfinite(norm)):
            return "non_finite"
        if len(self.losses) < FEWEST:
            return None
        if loss > max(self.losses) + LOSS_MARGIN_NATS or norm > NORM_RATIO * max(self.norms):
            return "spike"
        return None

    def take(self, loss: float, norm: float) -> None:
        """Remember a batch that was learned from."""
        self.losses = (*self.losses, loss)[-WINDOW:]
        self.norms = (*self.norms, norm)[-WINDOW:]
