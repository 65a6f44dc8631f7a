"""Which positions work, and which still do on longer texts than they were trained on?"""

from __future__ import annotations

import numpy as np
from jaxtyping import Int

from clearhead.core import run as runs
from clearhead.core.errors import UserError
from clearhead.core.run import Selection
from clearhead.generation.score import text_nats
from clearhead.lab.experiment import Arm, Outcome
from clearhead.lab.losses import loss_study, plain
from clearhead.model.transformer import GPT, extended
from clearhead.store.load import load_selection

KINDS = ("learned", "sinusoidal", "rotary", "alibi", "concatenated", "fourier", "none")
FACTORS = (1, 2, 4)
SCORED_TOKENS = 20_000


def at_lengths(outcome: Outcome) -> dict[str, float | None]:
    """Return the loss in windows of the trained length, of twice and of four times as much, on the same tokens.

    None where the scheme has no positions beyond those that were trained.
    """
    model = load_selection(Selection(outcome.run, "last")).model
    assert isinstance(model, GPT)
    ids = np.fromfile(outcome.run.path / runs.VALIDATION_FILE, dtype="<i4").astype(np.int64)[:SCORED_TOKENS]
    return {f"in {factor}T" if factor > 1 else "in T": loss_in(model, ids, factor) for factor in FACTORS}


def loss_in(model: GPT, ids: Int[np.ndarray, " N"], factor: int) -> float | None:
    """Return the loss in windows so many times as long as the model's own."""
    if factor == 1:
        return float(text_nats(model, ids).mean())
    try:
        longer = extended(model, factor * model.context_length)
    except UserError:
        return None
    return float(text_nats(longer, ids).mean())


STUDY = loss_study(
    name="positions",
    question="Which positions work, and which still do on longer texts than they were trained on?",
    arms=[Arm(name=kind, changes={"model.positions.kind": kind}) for kind in KINDS],
    base=plain,
    measure=at_lengths,
    minutes=12.0,
)
