"""A head in words: what it looks for, what it contains, what it communicates."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor

from clearhead.core.errors import UserError
from clearhead.look.classes import classes, means_by_class
from clearhead.look.frame import view
from clearhead.look.recording import trace
from clearhead.look.specimen import Reading, Source, Specimen, quoted, read, require_index, windows
from clearhead.show.readable import visible
from clearhead.show.view import Picture, View

SHOWN = 8
CONTEXTS = 16
AT_ONCE = 256
BEFORE = 12


def head_card(source: Source, prompt: str | None = None, *, layer: int = 0, head: int = 0, position: int = -1) -> View:
    """Show the query, key and value of one head at one place as tokens.

    What am I looking for: the fit of its query with the key that each token of the vocabulary has at the place before.
    What do I contain: the fit of its key with the query that each token has at the place after. Both are exact in layer
    0, where a key depends on the token and its place alone; in deeper layers places of other texts stand in for the
    vocabulary, each named by its token and what stood before it. What will I communicate: how the value, read out
    alone through output projection and head, raises and lowers the next tokens of a place that takes all of it.
    Source: Elhage et al. 2021 (query-key and output-value circuits).
    """
    reading = read(source, prompt, beginning=24, at_least=2)
    specimen, place = reading.specimen, reading.position(position)
    mixer = specimen.attention(layer)
    layer, head = layer % len(specimen.gpt.blocks), require_index("head", head, mixer.num_heads)
    shared = head * mixer.num_kv_heads // mixer.num_heads
    seen = reading.trace("*")
    q, k = seen[f"blocks.{layer}.attn.q"][0, head, place], seen[f"blocks.{layer}.attn.k"][0, shared, place]
    if layer == 0:
        names, keys, queries = _of_vocabulary(reading, place, head, shared)
        kinds = classes(specimen)
    else:
        names, kinds, keys, queries = _of_contexts(reading, layer, head, shared)
    wanted = (keys @ q * mixer.head_width**-0.5).double().cpu()
    asked_by = (queries @ k * mixer.head_width**-0.5).double().cpu()
    said = _said(reading, seen[f"blocks.{layer}.attn.v"][0, shared, place], layer, head, seen["final.scale"][0, place])
    by_class = means_by_class(wanted, kinds), means_by_class(asked_by, kinds)
    arrays = {
        "looks_for": ("candidate", wanted),
        "looked_for_by": ("candidate", asked_by),
        "says": ("id", said),
        "looks_for_mean": ("kind", list(by_class[0].values())),
        "looked_for_by_mean": ("kind", [by_class[1][kind] for kind in by_class[0]]),
        **_columns(names, wanted, asked_by, specimen.vocabulary(), said),
    }
    most, least = (max(by_class[0], key=by_class[0].__getitem__), min(by_class[0], key=by_class[0].__getitem__))
    raised = specimen.text([int(said.argmax())])[0]
    exact = "exactly" if layer == 0 else f"among {len(names)} places of other texts"
    caption = (
        f"{quoted(reading.pieces[place])} at {place}, in head {head} of layer {layer}, looks most for "
        f"{quoted(names[int(wanted.argmax())])} and, by class, for {most} ({by_class[0][most]:+.2f}) more than for "
        f"{least} ({by_class[0][least]:+.2f}), {exact}. Whoever takes all of it hears most of all {quoted(raised)} "
        f"({float(said.max()):+.2f} logits above the mean).{reading.note}"
    )
    columns = ("looking_for", "fit", "asked_for_by", "fit_of_key", "raises", "by", "lowers", "by_less")
    pictures = [
        Picture("table", "most of each", columns),
        Picture("bars", "what it looks for, by class: mean scaled score", ("looks_for_mean", "looked_for_by_mean")),
    ]
    labels = {"candidate": names, "id": specimen.vocabulary(), "kind": list(by_class[0])}
    return view("head-card", arrays, caption, pictures, labels)


def _columns(
    names: Sequence[str],
    wanted: Float[Tensor, " N"],
    asked_by: Float[Tensor, " N"],
    vocabulary: Sequence[str],
    said: Float[Tensor, " V"],
) -> dict[str, tuple[str, object]]:
    """Return the table's columns: the first of each ranking with their numbers."""
    number = min(SHOWN, len(names), len(vocabulary))
    found: dict[str, tuple[str, object]] = {}
    rankings = [
        ("looking_for", "fit", names, wanted),
        ("asked_for_by", "fit_of_key", names, asked_by),
        ("raises", "by", vocabulary, said),
        ("lowers", "by_less", vocabulary, -said),
    ]
    for title, amount, texts, values in rankings:
        best = values.argsort(descending=True, stable=True)[:number]
        found[title] = ("rank", [visible(texts[int(at)]) for at in best])
        found[amount] = ("rank", -values[best] if amount == "by_less" else values[best])
    return found


def _of_vocabulary(
    reading: Reading, place: int, head: int, shared: int
) -> tuple[list[str], Float[Tensor, "V D"], Float[Tensor, "V D"]]:
    """Return layer 0's keys of every token at the place before, and its queries at the place after, where there are."""
    specimen = reading.specimen
    length = min(place + 2, specimen.context_length)
    number = specimen.tokenizer.vocabulary_size
    keys, queries = [], []
    for first in range(0, number, AT_ONCE):
        part = torch.arange(first, min(first + AT_ONCE, number), device=reading.tokens.device)
        seen = trace(specimen.model, part[:, None].expand(-1, length), ("blocks.0.attn.[qk]",))
        keys.append(seen["blocks.0.attn.k"][:, shared, max(0, place - 1)])
        queries.append(seen["blocks.0.attn.q"][:, head, length - 1])
    return specimen.vocabulary(), torch.cat(keys), torch.cat(queries)


def _of_contexts(
    reading: Reading, layer: int, head: int, shared: int
) -> tuple[list[str], list[str], Float[Tensor, "N D"], Float[Tensor, "N D"]]:
    """Return names, classes, keys and queries of the places of other texts, or of this one where there are none."""
    specimen = reading.specimen
    rows = _rows(specimen, reading.tokens)
    seen = trace(specimen.model, rows, (f"blocks.{layer}.attn.[qk]",))
    kinds = classes(specimen)
    names, found = [], []
    for row in rows.tolist():
        pieces = specimen.text(row)
        names += [f"{''.join(pieces[max(0, at - BEFORE) : at])}[{pieces[at]}]" for at in range(len(pieces))]
        found += [kinds[id_] for id_ in row]
    keys, queries = seen[f"blocks.{layer}.attn.k"][:, shared], seen[f"blocks.{layer}.attn.q"][:, head]
    return names, found, keys.flatten(0, 1), queries.flatten(0, 1)


def _rows(specimen: Specimen, tokens: Int[Tensor, "1 T"]) -> Int[Tensor, "B T"]:
    try:
        return windows(specimen, CONTEXTS)
    except UserError:
        return tokens


@torch.no_grad()
def _said(
    reading: Reading, v: Float[Tensor, " D"], layer: int, head: int, scale: Float[Tensor, " 1"]
) -> Float[Tensor, " V"]:
    """Return by how much a value alone moves each logit against the mean, with the final norm's scale held fixed."""
    model, mixer = reading.specimen.gpt, reading.specimen.attention(layer)
    alone = torch.zeros(mixer.num_heads, mixer.head_width, device=v.device, dtype=v.dtype)
    alone[head] = v
    added = mixer.output(alone.flatten()) - mixer.output(torch.zeros_like(alone).flatten())
    gain = getattr(model.final_norm, "weight", None)
    moved: Tensor = model.unembedding(added / scale * (1.0 if gain is None else gain)).double().cpu()
    return moved - moved.mean()
