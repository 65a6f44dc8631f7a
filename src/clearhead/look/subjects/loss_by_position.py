"""What a longer look back is worth."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

from clearhead.core.errors import UserError
from clearhead.core.words import counted
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
    windows = nats.reshape(number, length)
    by_position, ranges = windows.mean(axis=0), doublings(length)
    means = np.array([by_position[first - 1 : last].mean() for first, last in ranges])
    arrays = {
        "nats": ("read", by_position),
        "standard_error": ("read", windows.std(axis=0) / np.sqrt(number)),
        "mean": ("range", means),
    }
    labels = {
        "read": [str(place) for place in range(1, length + 1)],
        "range": [f"{first}-{last}" if last > first else str(first) for first, last in ranges],
    }
    said = f"{means[-1]:.3f} with {labels['range'][-1]} read"
    caption = (
        f"On {number} windows of {length} tokens a token costs {means[0]:.3f} nats where one was read, {said}, "
        f"and {by_position.mean():.4f} on average. {what_helps(by_position, length)}"
    )
    pictures = [
        Picture("bars", "mean cost in nats, by how many tokens were read", ("mean",)),
        Picture("lines", "cost in nats by tokens read, place by place", ("nats",)),
    ]
    return view("loss-by-position", arrays, caption, pictures, labels)


def doublings(length: int) -> list[tuple[int, int]]:
    """Return ranges of numbers of tokens, each about as long as all before it: 1, 2, 3 to 4, 5 to 8 and so on."""
    ends = [2**power for power in range(length.bit_length()) if 2**power < length] + [length]
    return [(before + 1, end) for before, end in zip([0, *ends], ends, strict=False)]


def useful_context(by_position: Float[np.ndarray, " T"]) -> int:
    """Return from how many tokens on no longer range of tokens read is cheaper by `ENOUGH` nats."""
    ranges = doublings(len(by_position))
    means = np.array([by_position[first - 1 : last].mean() for first, last in ranges])
    best_later = np.minimum.accumulate(means[::-1])[::-1]
    return ranges[int(np.argmax(means - best_later < ENOUGH))][0]


def what_helps(by_position: Float[np.ndarray, " T"], length: int) -> str:
    """Return in a sentence how far back reading is worth it."""
    enough = useful_context(by_position)
    if enough == doublings(length)[-1][0]:
        return f"The last doubling of what was read still brought {ENOUGH} nats or more: a longer context may help."
    return f"From {counted(enough, 'token')} on, reading more brings less than {ENOUGH} nats."
