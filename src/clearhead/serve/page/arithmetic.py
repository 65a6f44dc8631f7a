"""What a selected cell holds and how its number comes about, written out with the numbers themselves."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float

from clearhead.serve.page.pictures import plain
from clearhead.show.page import escape
from clearhead.show.readable import label
from clearhead.show.view import Panel, View

TERMS = 3
"""How many terms of a sum are written out."""


@dataclass(frozen=True, slots=True)
class Cell:
    """A place in one of the pictures."""

    picture: int
    row: int
    column: int


def cell_in_words(view: View, panel: Panel, cell: Cell) -> str:
    """Return what all arrays of a view hold at a cell of one of its pictures, as HTML."""
    at = dict(zip(panel.axes, (cell.row, cell.column), strict=False))
    names = dict(zip(panel.axes, panel.labels, strict=False))
    said = [f"<dt>{plain(axis)} {place}</dt><dd>{_named(names[axis], place)}</dd>" for axis, place in at.items()]
    here = values_at(view, at)
    said += [f"<dt>{escape(plain(name))}</dt><dd>{_number(value)}</dd>" for name, value in here.items()]
    steps = "<br>".join((*product(view, at), *choice(view, at), *cost(here), *ledger(view, at)))
    return f'<dl class="cell">{"".join(said)}</dl><p class="small numbers sum">{steps}</p>'


def values_at(view: View, at: dict[str, int]) -> dict[str, Any]:
    """Return the numbers and texts of all arrays that have no other axes than a cell's."""
    found = {}
    for name, array in view.arrays.items():
        axes = view.axes[name]
        if set(axes) <= set(at) and all(at[axis] < size for axis, size in zip(axes, array.shape, strict=True)):
            found[name] = array[tuple(at[axis] for axis in axes)]
    return found


def product(view: View, at: dict[str, int]) -> Iterator[str]:
    """Write out a query times a key, its scaling, and its share of the row's softmax."""
    arrays = view.arrays
    if not {"query", "key"} <= at.keys() or not {"query_vector", "key_vector", "scores_masked"} <= arrays.keys():
        return
    i, j = at["query"], at["key"]
    q, k = arrays["query_vector"][i].astype(float), arrays["key_vector"][j].astype(float)
    shown = " + ".join(f"({a:.2f})({b:.2f})" for a, b in zip(q[:TERMS], k[:TERMS], strict=True))
    yield f"q{i} · k{j} = {shown} + … ({len(q)} terms) = {float(q @ k):.3f}"
    yield f"÷ √{len(q)} = {arrays['scores_scaled'][i, j]:.3f}"
    if not np.isfinite(arrays["scores_masked"][i, j]):
        yield f"{j} comes after {i}: the mask makes it −∞, and e^−∞ = 0"
    else:
        yield from softmax(arrays["scores_masked"][i].astype(float), j, "the row")


def choice(view: View, at: dict[str, int]) -> Iterator[str]:
    """Write out the softmax that a probability comes from, where a view has all the logits beside it."""
    arrays = view.arrays
    if "logits" in arrays and view.axes["logits"] == (*at, "id"):
        logits = arrays["logits"][tuple(at.values())].astype(float)
        yield from softmax(logits, int(logits.argmax()), f"all {len(logits)} tokens")
    elif tuple(at) == ("token",) and {"logit", "all_logits"} <= arrays.keys():
        logits = arrays["all_logits"].astype(float)
        closest = int(np.abs(logits - float(arrays["logit"][at["token"]])).argmin())
        yield from softmax(logits, closest, f"all {len(logits)} tokens")


def softmax(scores: Float[np.ndarray, " N"], place: int, among: str) -> Iterator[str]:
    """Write out one share of a softmax, its scores taken from the largest."""
    high = float(scores.max())
    raised = np.exp(scores - high)
    yield f"largest score of {among}: {high:.3f}"
    yield (
        f"softmax: e^({scores[place]:.3f} − {high:.3f}) ÷ Σ = {raised[place]:.4f} ÷ {raised.sum():.4f} "
        f"= {raised[place] / raised.sum():.4f}"
    )


def cost(here: dict[str, Any]) -> Iterator[str]:
    """Write out what a token costs: minus the logarithm of its probability."""
    nats = here.get("nats", here.get("cost"))
    if nats is not None and np.isfinite(nats):
        yield f"−ln {np.exp(-float(nats)):.4f} = {float(nats):.3f} nats = {float(nats) / np.log(2):.3f} bits"


def ledger(view: View, at: dict[str, int]) -> Iterator[str]:
    """Write out how the parts of a difference add up to it."""
    if tuple(at) == ("ledger",) and "contribution" in view.arrays:
        *parts, whole = (float(each) for each in view.arrays["contribution"])
        shown = " ".join(f"{part:+.3f}" for part in parts[:TERMS])
        yield f"{shown} … ({len(parts)} rows) = {sum(parts):+.3f}; the last row says {whole:+.3f}"


def _named(names: Any, place: int) -> str:
    return escape(label(names[place])) if names is not None and place < len(names) else ""


def _number(value: Any) -> str:
    if isinstance(value, np.bool_):
        return "yes" if value else "no"
    return f"{value:.4f}" if isinstance(value, np.floating) else escape(str(value))
