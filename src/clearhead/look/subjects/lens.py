"""What the model would say if it ended after each layer."""

from __future__ import annotations

import torch

from clearhead.look.frame import view
from clearhead.look.readout import lens as read_out
from clearhead.look.specimen import Source, quoted, read
from clearhead.show.readable import percent, visible
from clearhead.show.view import Picture, View

BEGINNING = 14


def lens(source: Source, prompt: str | None = None) -> View:
    """Show the likeliest next token of every place after every layer, by the model's own final norm and head.

    Source: nostalgebraist 2020, "interpreting GPT: the logit lens". The final norm is computed for each layer anew.
    """
    reading = read(source, prompt, beginning=BEGINNING)
    model = reading.specimen.gpt
    trace = reading.trace("blocks.*.resid_*", "logits")
    states = torch.stack([trace["blocks.0.resid_pre"][0], *(layer[0] for layer in trace.layers("resid_post"))])
    logits = read_out(model, states).double().cpu()
    probabilities = logits.softmax(dim=-1)
    best, guesses = probabilities.max(dim=-1)
    final = guesses[-1]
    depths = ["embedding", *(f"layer {index}" for index in range(len(model.blocks)))]
    of_final = probabilities.gather(2, final.expand(len(depths), -1)[..., None])[..., 0]
    agreeing = (guesses == final).double().mean(dim=1)
    distance = (probabilities[-1] * (probabilities[-1].log() - probabilities.log())).sum(dim=-1)
    arrays = {
        "probability": ("depth position", best),
        "guess": ("depth position", [[visible(piece) for piece in reading.specimen.text(row)] for row in guesses]),
        "probability_of_final": ("depth position", of_final),
        "agreement": ("depth", agreeing),
        "nats_from_final": ("depth", distance.mean(dim=1)),
        "logits": ("depth position id", logits),
    }
    last = len(reading) - 1
    settled = next(depth for depth in range(len(depths)) if bool((guesses[depth:, last] == final[last]).all()))
    shares = ", ".join(f"{name} {percent(share)}" for name, share in zip(depths[:-1], agreeing.tolist(), strict=False))
    caption = (
        f"Places whose guess is already the final one: {shares}. After {quoted(reading.pieces[last])} at {last} the "
        f"model ends with {quoted(reading.specimen.text(final[-1:])[0])} ({percent(best[-1, -1])}), which it first "
        f"says, and keeps to, after {'the ' if settled == 0 else ''}{depths[settled]}.{reading.note}"
    )
    labels = {"position": reading.pieces, "depth": depths, "id": reading.specimen.vocabulary()}
    pictures = [
        Picture(
            "map", "the next token that each depth would say, coloured by its probability", ("probability", "guess")
        ),
        Picture("bars", "how far each depth is from the end", ("nats_from_final", "agreement")),
    ]
    return view("lens", arrays, caption, pictures, labels)
