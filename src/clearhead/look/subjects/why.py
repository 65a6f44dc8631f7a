"""Why this token and not that one: a ledger that adds up, and what happens when a token is left out."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float64
from torch import Tensor

from clearhead.core.errors import UserError
from clearhead.look.frame import view
from clearhead.look.readout import shares
from clearhead.look.recording import trace
from clearhead.look.specimen import Reading, Source, Specimen, quoted, read
from clearhead.show.view import Picture, View

SHOWN = 16


def why(
    source: Source,
    prompt: str | None = None,
    *,
    token: str | None = None,
    instead: str | None = None,
    position: int = -1,
) -> View:
    """Show what each part of the model says for one next token and against another.

    The difference of the two logits is a sum over the token, its position, every head, every feed-forward layer and
    the biases, once what the norms divide by is held fixed. A weight of attention is no such explanation.

    Args:
        token: what is explained; the likeliest one unless given.
        instead: what it is held against; the likeliest other unless given.
        position: the place after which it stands.
    """
    reading = read(source, prompt, beginning=24)
    model, place = reading.specimen.gpt, reading.position(position)
    recorded = reading.trace("*")
    order = recorded.logits[0, place].argsort(descending=True, stable=True).tolist()
    chosen = order[0] if token is None else one_id(reading.specimen, token)
    other = one_id(reading.specimen, instead) if instead is not None else next(id_ for id_ in order if id_ != chosen)
    direction = (model.unembedding.weight[chosen] - model.unembedding.weight[other]).detach().double()
    parts = {name: float(vector @ direction) for name, vector in shares(recorded, place).items()}
    difference = float(recorded["final"][0, place].double() @ direction)
    ranked = sorted(parts, key=lambda name: -abs(parts[name]))
    few = ranked[:SHOWN]
    rest = sum(parts[name] for name in ranked[SHOWN:])
    shown = [*few, *([f"{len(ranked) - SHOWN} others"] if rest else []), "sum"]
    without = _left_out(reading, place, chosen, other)
    texts = reading.specimen.text([chosen, other])
    arrays = {
        "share": ("part", [parts[name] for name in ranked]),
        "contribution": ("ledger", [*(parts[name] for name in few), *([rest] if rest else []), sum(parts.values())]),
        "left_out": ("token", without),
        "difference": ("difference", [difference]),
    }
    most = " and ".join(f"{name} ({parts[name]:+.3f})" for name in ranked[:2])
    logits = recorded.logits[0, place].double()
    real = float(logits[chosen] - logits[other])
    capped = f" The soft-cap brings {difference:.3f} down to that." if model.config.logit_softcap else ""
    caption = (
        f"After {quoted(''.join(reading.pieces[max(0, place - 11) : place + 1]))} the logit of {quoted(texts[0])} is "
        f"{real:.3f} above that of {quoted(texts[1])}, which makes it {math.exp(real):.1f} times as likely.{capped} "
        f"The {len(parts)} parts sum to {sum(parts.values()):.3f}; most is said by {most}."
        f"{_said_of(without, reading)}{reading.note}"
    )
    labels = {"part": ranked, "ledger": shown, "token": reading.pieces[: place + 1]}
    title = f"for {quoted(texts[0])} (right) or {quoted(texts[1])} (left)"
    pictures = [
        Picture("bars", f"what each part says {title}", ("contribution",)),
        Picture("chips", "by how much the difference falls when a token is left out of the text", ("left_out",)),
    ]
    return view("why", arrays, caption, pictures, labels)


def one_id(specimen: Specimen, text: str) -> int:
    """Return the id of a text that is one token.

    Raises:
        UserError: it is none, or several.
    """
    ids = specimen.tokenizer.encode(text).tolist()
    if len(ids) != 1:
        raise UserError(f"{text!r} is {len(ids)} tokens for this model, and one is needed.")
    return int(ids[0])


def _left_out(reading: Reading, place: int, chosen: int, other: int) -> Float64[Tensor, " T"]:
    """Return by how much the difference of two logits falls when each token up to a place is left out."""
    ids = reading.tokens[0, : place + 1]
    whole = trace(reading.specimen.model, ids[None], ("logits",)).logits[0, -1].double()
    difference = whole[chosen] - whole[other]
    if len(ids) == 1:
        return torch.tensor([torch.nan], dtype=torch.float64)
    shorter = torch.stack([torch.cat((ids[:gap], ids[gap + 1 :])) for gap in range(len(ids))])
    logits = trace(reading.specimen.model, shorter, ("logits",)).logits[:, -1].double()
    return (difference - (logits[:, chosen] - logits[:, other])).cpu()


def _said_of(without: Float64[Tensor, " T"], reading: Reading) -> str:
    if not bool(without.isfinite().all()):
        return ""
    most = int(without.abs().argmax())
    return f" Leaving out {quoted(reading.pieces[most])} at {most} changes it most, by {-float(without[most]):+.3f}."
