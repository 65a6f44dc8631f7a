"""One head at work: affinities, scaling, mask and softmax."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor

from clearhead.look.frame import view
from clearhead.look.specimen import Source, quoted, read, require_index
from clearhead.show.readable import percent
from clearhead.show.view import Picture, View

BEGINNING = 24


def attention(source: Source, prompt: str | None = None, *, layer: int = 0, head: int = 0) -> View:
    """Show how one head comes to its weights: q k^T, divided by sqrt(D), masked, through softmax.

    `entropy` says how spread out each row is: 0 nats where all comes from one place, ln n where evenly from n.
    """
    reading = read(source, prompt, beginning=BEGINNING)
    mixer = reading.specimen.attention(layer)
    head = require_index("head", head, mixer.num_heads)
    layer = layer % len(reading.specimen.gpt.mixers)
    trace = reading.trace("blocks.*.attn.*")
    stages = {
        stage: trace[f"blocks.{layer}.attn.{stage}"][0, head].double().cpu()
        for stage in ("scores_raw", "scores_scaled", "scores_masked", "pattern")
    }
    pattern = stages["pattern"]
    spread = entropy(pattern)
    arrays = {name: ("query key", stage) for name, stage in stages.items()} | {
        "allowed": ("query key", stages["scores_masked"].isfinite()),
        "entropy": ("query", spread),
        "query_vector": ("query channel", trace[f"blocks.{layer}.attn.q"][0, head]),
        "key_vector": ("key channel", trace[f"blocks.{layer}.attn.k"][0, head * mixer.num_kv_heads // mixer.num_heads]),
    }
    pictures = [
        Picture("map", "pattern: what each query takes from each key, rows sum to 1", ("pattern", "allowed")),
        Picture("map", "scores_raw: q·k, how well they fit", ("scores_raw",)),
        Picture("map", f"scores_masked: divided by √{mixer.head_width}, the future taken out", ("scores_masked",)),
        Picture("bars", "entropy of each row in nats", ("entropy",)),
    ]
    labels = {"query": reading.pieces, "key": reading.pieces}
    caption = f"Head {head} of layer {layer} {_habits(pattern)} {_strongest(pattern, reading.pieces)}{reading.note}"
    return view("attention", arrays, caption, pictures, labels)


def entropy(weights: Float[Tensor, "*rows S"]) -> Float[Tensor, "*rows"]:
    """Return the entropy of each row in nats."""
    spread: Tensor = torch.special.entr(weights).sum(dim=-1)
    return spread


def _habits(pattern: Float[Tensor, "T T"]) -> str:
    rows = len(pattern)
    before = float(pattern.diagonal(-1).mean()) if rows > 1 else 0.0
    spread = float(entropy(pattern).mean())
    first = float(pattern[1:, 0].mean()) if rows > 1 else 1.0
    even = sum(math.log(place + 1) for place in range(rows)) / rows
    return (
        f"takes on average {percent(pattern.diagonal().mean())} from the place itself, {percent(before)} from the one "
        f"before and {percent(first)} from the first. Its rows have {spread:.2f} nats of entropy; even ones would have "
        f"{even:.2f}."
    )


def _strongest(pattern: Float[Tensor, "T T"], pieces: list[str]) -> str:
    far = pattern.tril(-2)
    if not bool(far.any()):
        return ""
    query, key = divmod(int(far.argmax()), len(pattern))
    return (
        f"The strongest look back beyond the neighbour: {quoted(pieces[query])} at {query} takes "
        f"{percent(pattern[query, key])} from {quoted(pieces[key])} at {key}."
    )
