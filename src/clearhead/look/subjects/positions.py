"""How the model knows where a token stands."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from clearhead.look.frame import Arrays, view
from clearhead.look.recording import trace
from clearhead.look.specimen import Reading, Source, read
from clearhead.look.vectors import cosines
from clearhead.model.positions import Alibi, Rotary, Sinusoidal
from clearhead.model.tap import Tap
from clearhead.show.view import Picture, View


def positions(source: Source, prompt: str | None = None, *, seed: int = 1) -> View:
    """Show what the position scheme gives each place, and what is lost without it.

    Schemes that add vectors: how alike those are, beside sinusoids, and the loss with them zeroed or shuffled. Schemes
    that act on scores: how a fit changes with the distance. For all: the loss when every token but the last few has
    changed its place, which a bag of words would not notice.

    Args:
        seed: of the shuffles.
    """
    reading = read(source, prompt, at_least=4)
    scheme = reading.specimen.gpt.positions
    seen = reading.trace("*")
    generator = torch.Generator().manual_seed(seed)
    order = torch.randperm(len(reading), generator=generator)
    arrays: Arrays
    if "embed.pos" in seen.tensors:
        arrays, pictures, said = _vectors(reading, seen["embed.pos"][0].double().cpu(), order)
    elif isinstance(scheme, Rotary):
        arrays, pictures, said = _rotary(scheme, len(reading))
    elif isinstance(scheme, Alibi):
        arrays, pictures, said = _alibi(scheme, len(reading))
    else:
        arrays, pictures, said = {}, [], "This model adds nothing for positions; only the mask tells it of order."
    order_says, sentence = _order(reading, generator)
    arrays = {**arrays, "cost": ("text", order_says)}
    title = "cost of the last token, as it stands and with those before it moved"
    pictures = [*pictures, Picture("bars", title, ("cost",))]
    labels = {"text": ["in order", "moved"], "query": reading.pieces, "key": reading.pieces}
    return view("positions", arrays, f"{said} {sentence}{reading.note}", pictures, labels)


Shown = tuple[Arrays, list[Picture], str]


def _vectors(reading: Reading, added: Float[Tensor, "T C"], order: Tensor) -> Shown:
    waves = Sinusoidal(added.size(1), 10_000.0, 1.0).embed(torch.zeros(1, *added.shape, dtype=added.dtype), 0)[0]
    alike = cosines(added, added)
    edits = [[], [_changed(torch.zeros_like)], [_changed(lambda x: x[:, order])]]
    losses = [_loss(reading, edit) for edit in edits]
    arrays = {
        "alike": ("query key", alike),
        "alike_sinusoidal": ("query key", cosines(waves, waves)),
        "length": ("query", added.norm(dim=1)),
        "loss": ("positions", losses),
    }
    near = alike.diagonal(1).mean() if len(added) > 1 else alike.mean()
    far = alike.diagonal(len(added) // 2).mean()
    said = (
        f"Each place adds a vector of its own: neighbours have a cosine of {near:.2f}, places {len(added) // 2} apart "
        f"{far:.2f}. The text costs {losses[0]:.3f} nats; without the vectors {losses[1]:.3f}, with them shuffled "
        f"{losses[2]:.3f}."
    )
    pictures = [
        Picture("map", "how alike the vectors of two places are", ("alike",)),
        Picture("map", "the same for sinusoids", ("alike_sinusoidal",)),
    ]
    return arrays, pictures, said


def _rotary(scheme: Rotary, length: int) -> Shown:
    """Return the fit of a vector with itself by distance, for each pair of channels turned by its own frequency."""
    cosine = scheme.cosine[:length].double().cpu()
    mean = cosine.mean(dim=1)
    arrays = {"fit": ("distance", mean), "fit_by_frequency": ("distance frequency", cosine)}
    turn = float(torch.acos(cosine[1, 0])) if length > 1 else 0.0
    said = (
        f"Queries and keys are turned by their place, each of {cosine.size(1)} pairs of channels by its own angle, the "
        f"fastest by {turn:.2f} radians a token. A query that meets a key equal to it fits fully at distance 0, and to "
        f"{float(mean[1:].min()) if length > 1 else 1.0:.2f} of that at the worst distance within {length} tokens."
    )
    return arrays, [Picture("lines", "fit of equal query and key, by distance", ("fit",))], said


def _alibi(scheme: Alibi, length: int) -> Shown:
    bias = scheme.bias(1, length)[:, 0].flip(-1).double().cpu()
    slopes = scheme.slopes.double().cpu()
    said = (
        f"Scores fall with the distance, in head 0 by {slopes[0]:.3f} a token and in the last by {slopes[-1]:.3f}: "
        f"half of a weight is lost after {float(torch.log(torch.tensor(2.0)) / slopes[0]):.1f} and "
        f"{float(torch.log(torch.tensor(2.0)) / slopes[-1]):.0f} tokens."
    )
    return {"added_to_score": ("head distance", bias)}, [Picture("map", "added to scores", ("added_to_score",))], said


def _changed(change: Callable[[Tensor], Tensor]) -> Tap:
    return lambda name, tensor: change(tensor) if name == "embed.pos" else tensor


def _loss(reading: Reading, edits: list[Tap]) -> float:
    logits = trace(reading.specimen.model, reading.tokens, ("logits",), edits).logits
    return float(F.cross_entropy(logits[0, :-1].double(), reading.tokens[0, 1:]))


def _order(reading: Reading, generator: torch.Generator) -> tuple[list[float], str]:
    """Return the cost of the last token with the tokens before its nearest neighbour in order, and moved about."""
    tokens = reading.tokens[0]
    held = 2
    moved = tokens.clone()
    moved[: len(tokens) - held] = tokens[torch.randperm(len(tokens) - held, generator=generator).to(tokens.device)]
    costs = []
    for text in (tokens, moved):
        logits = trace(reading.specimen.model, text[None, :-1], ("logits",)).logits[0, -1].double()
        costs.append(float(F.cross_entropy(logits, tokens[-1])))
    return costs, (
        f"With the first {len(tokens) - held} tokens in another order, the last one costs {costs[1]:.3f} instead of "
        f"{costs[0]:.3f} nats."
    )
