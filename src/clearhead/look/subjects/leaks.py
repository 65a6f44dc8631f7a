"""Whether the past can see the future: change a token and watch what moves."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor

from clearhead.look.frame import view
from clearhead.look.recording import trace
from clearhead.look.specimen import Source, read
from clearhead.model.masks import Full
from clearhead.model.transformer import GPT
from clearhead.show.view import Picture, View

BEGINNING = 24


def leaks(source: Source, prompt: str | None = None) -> View:
    """Show how far the logits of every place move when one token is changed: those before it must not move at all.

    For a GPT the same without its mask is shown beside it: what a leak would look like.
    """
    reading = read(source, prompt, beginning=BEGINNING, at_least=2)
    model, rows = reading.specimen.model, changed_rows(reading.tokens, reading.specimen.tokenizer.vocabulary_size)
    moved = _moved(trace(model, rows).logits)
    past = torch.ones_like(moved).tril(-1).bool()
    arrays = {"moved": ("changed position", moved)}
    pictures = [Picture("map", "largest change of a logit", ("moved",))]
    said = ""
    if isinstance(model, GPT) and not model.reads_ahead:
        with torch.no_grad():
            open_ = _moved(model(rows, mask=Full()))
        arrays["moved_without_mask"] = ("changed position", open_)
        pictures.append(Picture("map", "the same with the mask taken away", ("moved_without_mask",)))
        said = f" Without the mask they would move by up to {float(open_[past].max()):.3g}."
    leak = float(moved[past].max())
    verdict = "No place sees what comes after it" if leak == 0 else f"THE FUTURE LEAKS, by up to {leak:.3g}"
    later = moved[~past]
    caption = (
        f"{verdict}: each of {len(reading)} tokens was changed in turn, and the places before it moved by {leak:.3g}; "
        f"the place itself and those after it by up to {float(later.max()):.3g}.{said}{reading.note}"
    )
    labels = {"changed": reading.pieces, "position": reading.pieces}
    return view("leaks", arrays, caption, pictures, labels)


def changed_rows(tokens: Int[Tensor, "1 T"], vocabulary_size: int) -> Int[Tensor, "R T"]:
    """Return the text as it is, and below it once for each place with the token there replaced by the next id."""
    length = tokens.size(1)
    rows = tokens.repeat(length + 1, 1)
    places = torch.arange(length, device=tokens.device)
    rows[places + 1, places] = (tokens[0] + 1) % vocabulary_size
    return rows


def _moved(logits: Float[Tensor, "R T V"]) -> Float[Tensor, "T T"]:
    """Return for each changed row how far it is from the first one at every place."""
    return (logits[1:] - logits[:1]).abs().amax(dim=-1).double().cpu()
