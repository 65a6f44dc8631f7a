"""What is the mask for, and does it matter when a model writes?"""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float64, Int
from torch import nn

from clearhead.core import run as runs
from clearhead.core.run import Selection
from clearhead.generation.score import token_nats
from clearhead.lab.experiment import Arm, Outcome
from clearhead.lab.losses import loss_study, plain
from clearhead.model.masks import Full, Mask
from clearhead.store.load import load_selection

WINDOWS = 1024
ROWS_AT_ONCE = 128


def when_writing(outcome: Outcome) -> dict[str, float | None]:
    """Return what the last token of a window costs when nothing after it is there to be read: the loss in writing.

    Once under the model's own mask and once without any: the tokens before it then read each other in both directions.
    """
    model = load_selection(Selection(outcome.run, "last")).model
    ids = np.fromfile(outcome.run.path / runs.VALIDATION_FILE, dtype="<i4").astype(np.int64)
    return {
        "when writing": float(last_nats(model, ids, None).mean()),
        "writing, no mask": float(last_nats(model, ids, Full()).mean()),
    }


@torch.inference_mode()
def last_nats(model: nn.Module, ids: Int[np.ndarray, " N"], mask: Mask | None) -> Float64[np.ndarray, " W"]:
    """Return what the token after each of some evenly spaced windows costs."""
    length = int(model.context_length)  # type: ignore[arg-type]
    starts = np.unique(np.linspace(0, len(ids) - length - 1, WINDOWS).astype(int))
    costs = []
    for first in range(0, len(starts), ROWS_AT_ONCE):
        rows = torch.from_numpy(ids[starts[first : first + ROWS_AT_ONCE, None] + np.arange(length + 1)])
        logits = model(rows[:, :-1], mask=mask)[:, -1:]
        costs.append(token_nats(logits, rows[:, -1:])[:, 0].double().numpy())
    return np.concatenate(costs)


STUDY = loss_study(
    name="mask",
    question="What is the mask for, and does it matter when a model writes?",
    arms=(
        Arm(name="masked, 1 block", changes={"model.num_layers": 1}, about="trained under the causal mask"),
        Arm(name="masked, 4 blocks", changes={"model.num_layers": 4}, about="trained under the causal mask"),
        Arm(
            name="unmasked, 4 blocks",
            changes={"model.num_layers": 4, "model.mixer.kind": "unmasked"},
            about="trained in full sight of what it was to predict",
        ),
        Arm(
            name="FNet, 4 blocks",
            changes={"model.num_layers": 4, "model.mixer.kind": "fnet"},
            about="a Fourier transform in place of attention; it too reads ahead",
        ),
    ),
    base=plain,
    measure=when_writing,
    minutes=6.0,
)
