"""One token's way through the model, with the real numbers."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from clearhead.look.frame import view
from clearhead.look.specimen import Source, quoted, read
from clearhead.look.subjects.shapes import MEANINGS
from clearhead.show.readable import count, percent
from clearhead.show.view import Picture, View

INSIDE = ("attn.in", "attn.q", "attn.k", "attn.v", "attn.z", "attn.out", "resid_mid", "mlp.in", "mlp.out", "resid_post")
LIKELIEST = 8


def walk(source: Source, prompt: str | None = None, *, position: int = -1) -> View:
    """Show the vector of one place at every stage, from its row of the embedding to the logits.

    Heads stand side by side. Stages that are narrower than the state, such as keys shared by several heads, end early;
    the wide middle of a feed-forward layer is left out.
    """
    reading = read(source, prompt, beginning=24)
    model, place = reading.specimen.gpt, reading.position(position)
    trace = reading.trace("*")
    names = ["embed.tok", "embed.pos", "blocks.0.resid_pre"]
    names += [f"blocks.{layer}.{name}" for layer in range(len(model.blocks)) for name in INSIDE]
    names = [name for name in (*names, "final") if name in trace.tensors]
    vectors = [_at(trace[name], place) for name in names]
    width = max(len(vector) for vector in vectors)
    padded = torch.stack([F.pad(vector, (0, width - len(vector)), value=math.nan) for vector in vectors])
    sizes = torch.stack([vector.square().mean().sqrt() for vector in vectors])
    probabilities = trace.logits[0, place].double().softmax(dim=-1).cpu()
    best = probabilities.topk(min(LIKELIEST, len(probabilities)))
    arrays = {
        "vector": ("stage channel", padded),
        "relative": ("stage channel", padded / sizes[:, None]),
        "size": ("stage", sizes),
        "formula": ("stage", [MEANINGS.get(_short(name), ("", ""))[1] for name in names]),
        "numbers": ("stage", [len(vector) for vector in vectors]),
        "probability": ("token", best.values),
    }
    stages = [_named(name) for name in names]
    begin, end = names.index("blocks.0.resid_pre"), len(names) - 2
    alike = F.cosine_similarity(vectors[begin], vectors[end], dim=0)
    said = reading.specimen.text(best.indices[:1])[0]
    caption = (
        f"{quoted(reading.pieces[place])} at {place} passes {count(len(names))} stages. Its state has a root mean "
        f"square of {sizes[begin]:.2f} when it enters the blocks and {sizes[end]:.2f} when it leaves them, and has "
        f"kept a cosine of {alike:.2f} with what it was. What comes of it is {quoted(said)} with "
        f"{percent(best.values[0], 1)}.{reading.note}"
    )
    pictures = [
        Picture("map", "the vector at each stage, divided by its size", ("relative",)),
        Picture("table", "how large it is, and what made it", ("size", "numbers", "formula")),
        Picture("bars", "the likeliest next tokens", ("probability",)),
    ]
    return view("walk", arrays, caption, pictures, {"stage": stages, "token": reading.specimen.text(best.indices)})


def _at(tensor: Tensor, place: int) -> Float[Tensor, " N"]:
    """Return one place's numbers; those of several heads side by side."""
    here = tensor[0, :, place] if tensor.ndim == 4 else tensor[0, place]
    return here.flatten().float().cpu()


def _short(name: str) -> str:
    return name.split(".", 2)[2] if name.startswith("blocks.") else name


def _named(name: str) -> str:
    return f"{name.split('.')[1]} {_short(name)}" if name.startswith("blocks.") else name
