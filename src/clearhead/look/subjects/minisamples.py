"""One row of a batch as the many examples that it is."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F

from clearhead.look.frame import view
from clearhead.look.specimen import Source, quoted, read
from clearhead.show.readable import percent, visible
from clearhead.show.view import Picture, View

SHOWN_CONTEXT = 28


def minisamples(source: Source, prompt: str | None = None) -> View:
    """Show a text of T tokens as T - 1 examples: what was read, what came, and what that cost.

    The mean of the costs is the loss that training would see on this row.
    """
    reading = read(source, prompt, at_least=2)
    logits = reading.trace().logits[0, :-1].double().cpu()
    targets = reading.tokens[0, 1:].cpu()
    nats = F.cross_entropy(logits, targets, reduction="none")
    guesses = logits.argmax(dim=-1)
    contexts = ["".join(reading.pieces[: place + 1]) for place in range(len(nats))]
    places = torch.arange(len(nats))
    best = torch.softmax(logits, dim=-1).amax(dim=-1)
    arrays = {
        "context": ("position", [visible(context[-SHOWN_CONTEXT:]) for context in contexts]),
        "target": ("position", [visible(piece) for piece in reading.pieces[1:]]),
        "probability": ("position", (-nats).exp()),
        "nats": ("position", nats),
        "guess": ("position", [visible(piece) for piece in reading.specimen.text(guesses)]),
        "probability_of_guess": ("position", best),
        "mean_so_far": ("position", nats.cumsum(0) / (places + 1)),
    }
    costliest = int(nats.argmax())
    caption = (
        f"{len(reading)} tokens are {len(nats)} examples, learned from together. Their mean cost is {nats.mean():.4f} "
        f"nats, the loss of this row; guessing among {logits.size(-1)} would cost {math.log(logits.size(-1)):.3f}. "
        f"{int((guesses == targets).sum())} of {len(nats)} next tokens are the model's first guess. The costliest is "
        f"{quoted(reading.pieces[costliest + 1])} at position {costliest + 1}, which it gave "
        f"{percent((-nats[costliest]).exp(), 2)}.{reading.note}"
    )
    shown = ("context", "target", "probability", "nats", "guess", "probability_of_guess")
    return view("minisamples", arrays, caption, [Picture("table", "what is read, and what comes", shown)], {})
