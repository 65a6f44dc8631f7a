"""One head at work: affinities, scaling, mask and softmax."""

from __future__ import annotations

import math

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from clearhead.look.frame import view
from clearhead.look.recording import Trace
from clearhead.look.specimen import Reading, Source, quoted, read, require_index
from clearhead.model.encoder_decoder import EncoderDecoder
from clearhead.show.readable import percent
from clearhead.show.view import Picture, View

BEGINNING = 24
SHOWN = 4


def attention(source: Source, prompt: str | None = None, *, layer: int = 0, head: int = 0) -> View:
    """Show how one head comes to its weights: q k^T, divided by sqrt(D), masked, through softmax.

    `entropy` says how spread out each row is: 0 nats where all comes from one place, ln n where evenly from n. An
    encoder's heads look in both directions. Of an encoder-decoder this is what the target that it writes gathers of
    the source: `alignment` is the mean of all its heads. Source: Bahdanau et al. 2015, figure 3, for that map.
    """
    reading = read(source, prompt, beginning=BEGINNING, writes=False)
    mixer = reading.specimen.attention(layer)
    layer, head = layer % len(reading.specimen.mixers), require_index("head", head, mixer.num_heads)
    crosses = isinstance(reading.specimen.model, EncoderDecoder)
    kind = "cross" if crosses else "attn"
    trace = reading.trace(f"blocks.*.{kind}.*")
    place = f"blocks.{layer}.{kind}"
    stages = {
        stage: trace[f"{place}.{stage}"][0, head].double().cpu()
        for stage in ("scores_raw", "scores_scaled", "scores_masked", "pattern")
    }
    pattern, allowed = stages["pattern"], stages["scores_masked"].isfinite()
    arrays = {name: ("query key", stage) for name, stage in stages.items()} | {
        "allowed": ("query key", allowed),
        "entropy": ("query", entropy(pattern)),
        "query_vector": ("query channel", trace[f"{place}.q"][0, head]),
        "key_vector": ("key channel", trace[f"{place}.k"][0, head * mixer.num_kv_heads // mixer.num_heads]),
    }
    masked = "nothing is hidden" if bool(allowed.all()) else "the future taken out"
    pictures = [
        Picture("map", "pattern: what each query takes from each key, rows sum to 1", ("pattern", "allowed")),
        Picture("map", "scores_raw: q·k, how well they fit", ("scores_raw",)),
        Picture("map", f"scores_masked: divided by √{mixer.head_width}, {masked}", ("scores_masked",)),
        Picture("bars", "entropy of each row in nats", ("entropy",)),
    ]
    name = f"Head {head} of layer {layer}"
    if crosses:
        return _alignment(reading, trace, name, arrays, pictures)
    labels = {"query": reading.pieces, "key": reading.pieces}
    caption = f"{name} {_habits(pattern, allowed)}{_strongest(pattern, reading.pieces)}{reading.note}"
    return view("attention", arrays, caption, pictures, labels)


def entropy(weights: Float[Tensor, "*rows S"]) -> Float[Tensor, "*rows"]:
    """Return the entropy of each row in nats."""
    spread: Tensor = torch.special.entr(weights).sum(dim=-1)
    return spread


def _habits(pattern: Float[Tensor, "T T"], allowed: Bool[Tensor, "T T"]) -> str:
    shares = [f"{percent(pattern.diagonal().mean())} from the place itself"]
    if len(pattern) > 1:
        shares.append(f"{percent(pattern.diagonal(-1).mean())} from the one before")
        after = pattern.diagonal(1).mean()
        last = f"{percent(after)} from the one after" if after else f"{percent(pattern[1:, 0].mean())} from the first"
        shares.append(last)
    said = " and ".join([", ".join(shares[:-1]), shares[-1]] if len(shares) > 1 else shares)
    return (
        f"takes on average {said}. Its rows have {entropy(pattern).mean():.2f} nats of entropy; even ones would have "
        f"{allowed.sum(dim=1).double().log().mean():.2f}."
    )


def _strongest(pattern: Float[Tensor, "T T"], pieces: list[str]) -> str:
    far = pattern.tril(-2) + pattern.triu(2)
    if not bool(far.any()):
        return ""
    query, key = divmod(int(far.argmax()), len(pattern))
    return (
        f" The strongest look beyond a neighbour: {quoted(pieces[query])} at {query} takes "
        f"{percent(pattern[query, key])} from {quoted(pieces[key])} at {key}."
    )


def _alignment(
    reading: Reading, trace: Trace, name: str, arrays: dict[str, tuple[str, Tensor]], pictures: list[Picture]
) -> View:
    """Return the view of an encoder-decoder: what is written (queries) against what is read (keys)."""
    every = torch.stack([trace[f"blocks.{at}.cross.pattern"][0] for at in range(len(reading.specimen.mixers))])
    mean = every.double().mean(dim=(0, 1)).cpu()
    arrays = {"alignment": ("query key", mean), **arrays}
    pictures = [
        Picture("map", "alignment: written (down) by read (across), the mean of all heads", ("alignment",)),
        *pictures,
    ]
    labels = {"query": reading.specimen.text(reading.written[0]), "key": reading.pieces}
    best = mean.max(dim=1)
    strongest = best.values.argsort(descending=True, stable=True)[:SHOWN]
    written, read_at = labels["query"], [reading.pieces[int(place)] for place in best.indices]
    looks = ", ".join(
        f"{quoted(written[row])} at {quoted(read_at[row])} ({percent(best.values[row])})"
        for row in sorted(strongest.tolist())
    )
    caption = (
        f"{len(reading)} tokens were read and {len(mean)} written. By the mean of all heads these look most "
        f"clearly: {looks}; evenly it would be {percent(1 / len(reading))}. {name} has "
        f"{entropy(arrays['pattern'][1]).mean():.2f} nats of entropy a row, even ones {math.log(len(reading)):.2f}."
        f"{reading.note}"
    )
    return view("attention", arrays, caption, pictures, labels)
