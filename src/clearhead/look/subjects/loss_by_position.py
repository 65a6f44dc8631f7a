"""What a longer look back is worth."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

from clearhead.core.errors import UserError
from clearhead.generation.score import text_nats
from clearhead.look.frame import view
from clearhead.look.specimen import Source, read
from clearhead.show.view import Picture, View

WINDOWS = 64
ENOUGH = 0.01


def loss_by_position(source: Source, prompt: str | None = None) -> View:
    """Show the mean cost of a token by how many tokens the model had read before it.

    Measured on whole windows that follow each other, as the evaluation rule has them.
    """
    reading = read(source, prompt, whole=True)
    specimen, length = reading.specimen, reading.specimen.context_length
    ids = reading.tokens[0].cpu().numpy()
    number = min(WINDOWS, (len(ids) - 1) // length)
    if number < 1:
        raise UserError(f"One whole window takes {length + 1} tokens, and the text has {len(ids)}; give a longer one.")
    nats = text_nats(specimen.model, ids[: number * length + 1], end=specimen.document_end)
    by_position = nats.reshape(number, length).mean(axis=0)
    arrays = {
        "nats": ("read", by_position),
        "standard_error": ("read", nats.reshape(number, length).std(axis=0) / np.sqrt(number)),
    }
    quarter = max(1, length // 4)
    enough = useful_context(by_position)
    caption = (
        f"On {number} windows of {length} tokens the first token of a window costs {by_position[0]:.3f} nats, the last "
        f"quarter {by_position[-quarter:].mean():.3f}, the whole {by_position.mean():.4f}. From {enough} tokens on, "
        f"what is read further back brings less than {ENOUGH} nats on average."
    )
    labels = {"read": [str(place) for place in range(1, length + 1)]}
    pictures = [Picture("lines", "cost in nats by tokens read", ("nats",))]
    return view("loss-by-position", arrays, caption, pictures, labels)


def useful_context(by_position: Float[np.ndarray, " T"]) -> int:
    """Return after how many tokens the rest of the window is cheaper by less than `ENOUGH` nats than what follows next.

    The mean of all places from there on is compared with that of the last quarter.
    """
    last = by_position[-max(1, len(by_position) // 4) :].mean()
    means = np.cumsum(by_position[::-1])[::-1] / np.arange(len(by_position), 0, -1)
    return int(np.argmax(means - last < ENOUGH)) + 1
