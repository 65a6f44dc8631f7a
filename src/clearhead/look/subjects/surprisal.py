"""A text tinted by what each token cost."""

from __future__ import annotations

import math

import torch

from clearhead.look.frame import view
from clearhead.look.specimen import Source, quoted, read
from clearhead.show.readable import visible
from clearhead.show.view import Picture, View

ALTERNATIVES = 3
COSTLIEST = 8


def surprisal(source: Source, prompt: str | None = None) -> View:
    """Show the cost of each token of a text, -ln of the probability that the model gave it, and what it had expected.

    The first token has no cost: nothing stands before it.
    """
    reading = read(source, prompt, at_least=2)
    log_probabilities = reading.log_probabilities(reading.trace().logits).cpu()[:-1]
    targets = reading.tokens[0, 1:].cpu()
    nats = -log_probabilities.gather(1, targets[:, None])[:, 0]
    ranks = (log_probabilities > -nats[:, None]).sum(dim=1) + 1
    likeliest = log_probabilities.topk(min(ALTERNATIVES, log_probabilities.size(1)))
    entropy = torch.special.entr(log_probabilities.exp()).sum(dim=1)
    none = torch.tensor([math.nan], dtype=torch.float64)
    costliest = nats.argsort(descending=True, stable=True)[:COSTLIEST]
    guesses, chances = reading.specimen.text(likeliest.indices[:, 0]), likeliest.values.exp()
    arrays = {
        "nats": ("token", torch.cat((none, nats))),
        "entropy": ("token", torch.cat((none, entropy))),
        "rank": ("token", torch.cat((none, ranks))),
        "alternative": ("target guess", [reading.specimen.text(row) for row in likeliest.indices]),
        "alternative_probability": ("target guess", chances),
        "place": ("costliest", costliest + 1),
        "token": ("costliest", [visible(reading.pieces[place + 1]) for place in costliest]),
        "cost": ("costliest", nats[costliest]),
        "its_rank": ("costliest", ranks[costliest]),
        "expected": ("costliest", [visible(guesses[place]) for place in costliest]),
    }
    first = int(costliest[0])
    caption = (
        f"The {len(nats)} tokens after the first cost {nats.mean():.3f} nats on average, as much as a choice among "
        f"{nats.mean().exp():.1f}; the model itself expected to pay {entropy.mean():.3f}. {int((ranks == 1).sum())} "
        f"were its first guess. The costliest, {quoted(reading.pieces[first + 1])} at {first + 1}, cost "
        f"{nats[first]:.2f} and was its number {int(ranks[first])}.{reading.note}"
    )
    pictures = [
        Picture("chips", "cost of each token in nats", ("nats",)),
        Picture("table", "the costliest", ("place", "token", "cost", "its_rank", "expected")),
    ]
    return view("surprisal", arrays, caption, pictures, {"token": reading.pieces})
