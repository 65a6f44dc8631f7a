"""Every tensor on the way, with its shape and its formula."""

from __future__ import annotations

import re

from clearhead.core.words import counted
from clearhead.look.frame import view
from clearhead.look.specimen import Source, read
from clearhead.show.readable import count
from clearhead.show.view import Picture, View

MEANINGS: dict[str, tuple[str, str]] = {
    "embed.tok": ("B T C", "a row of the embedding for each token"),
    "embed.pos": ("B T C", "what the position adds"),
    "resid_pre": ("B T C", "the state as it comes into the block"),
    "attn.in": ("B T C", "norm(state)"),
    "attn.q": ("B H T D", "queries: W_q x, cut into heads"),
    "attn.k": ("B K S D", "keys: W_k x, cut into heads"),
    "attn.v": ("B K S D", "values: W_v x, cut into heads"),
    "attn.scores_raw": ("B H T S", "q k^T"),
    "attn.scores_scaled": ("B H T S", "q k^T / sqrt(D)"),
    "attn.scores_masked": ("B H T S", "what may not be read at minus infinity"),
    "attn.pattern": ("B H T S", "softmax over S: rows sum to 1"),
    "attn.z": ("B H T D", "pattern v: what each head gathers"),
    "attn.out": ("B T C", "heads side by side, W_o"),
    "resid_mid": ("B T C", "state + attn.out"),
    "mlp.in": ("B T C", "norm(state); a convolution adds tokens just before"),
    "mlp.pre": ("B T F", "W_up x, or W_gate x"),
    "mlp.post": ("B T F", "the activation"),
    "mlp.out": ("B T C", "W_down x"),
    "resid_post": ("B T C", "state + mlp.out, on to the next block"),
    "final": ("B T C", "norm(state)"),
    "logits": ("B T V", "a score for each id"),
    "logits of a text": ("B V", "the mean over positions, and a score for each label"),
    "resid_cross": ("B T C", "state + what was gathered of the source"),
    "cross.q": ("B H T D", "queries of the target"),
    "cross.k": ("B K S D", "keys of the source"),
    "cross.v": ("B K S D", "values of the source"),
    "cross.scores_raw": ("B H T S", "q k^T, target against source"),
    "cross.scores_scaled": ("B H T S", "q k^T / sqrt(D)"),
    "cross.scores_masked": ("B H T S", "padding at minus infinity"),
    "cross.pattern": ("B H T S", "softmax over the source: rows sum to 1"),
    "cross.z": ("B H T D", "pattern v: what each head gathers of the source"),
}
"""Axes and meaning of what a tap shows, for blocks as they usually are."""

BLOCK = re.compile(r"(encoder\.)?blocks\.\d+")


def shapes(source: Source, prompt: str | None = None) -> View:
    """Show every tensor of one pass in order; of the blocks the first one, since the others are like it."""
    reading = read(source, prompt, beginning=24, writes=False)
    trace = reading.trace("*")
    blocks = {match[0] for match in map(BLOCK.match, trace.tensors) if match}
    later = tuple(f"{block}." for block in blocks if not block.endswith(".0"))
    seen = {name: tensor for name, tensor in trace.tensors.items() if not name.startswith(later)}
    plain = [_plain(name, tensor.ndim) for name, tensor in seen.items()]
    arrays = {
        "axes": ("place", [_axes(name, tensor.ndim) for name, tensor in zip(plain, seen.values(), strict=True)]),
        "sizes": ("place", [" x ".join(map(str, tensor.shape)) for tensor in seen.values()]),
        "numbers": ("place", [tensor.numel() for tensor in seen.values()]),
        "meaning": ("place", [MEANINGS.get(name, ("", ""))[1] for name in plain]),
    }
    every = sum(tensor.numel() for tensor in trace.tensors.values())
    square = ("scores_raw", "scores_scaled", "scores_masked", "pattern")
    squares = sum(tensor.numel() for name, tensor in trace.tensors.items() if name.endswith(square))
    repeated = f" Of {counted(len(blocks), 'block')} only the first is shown: the others are like it." if later else ""
    caption = (
        f"Reading {len(reading)} tokens makes {len(trace.tensors)} tensors of {count(every)} numbers; "
        f"{count(squares)} of these grow with the square of the length.{repeated}{reading.note}"
    )
    pictures = [Picture("table", "from tokens to logits", ("axes", "sizes", "numbers", "meaning"))]
    return view("shapes", arrays, caption, pictures, {"place": list(seen)})


def _plain(name: str, ndim: int) -> str:
    """Return the name under which `MEANINGS` has a place."""
    inner = name.removeprefix("encoder.").removeprefix("blocks.0.")
    return f"{inner} of a text" if inner == "logits" and ndim == 2 else inner


def _axes(name: str, ndim: int) -> str:
    axes = MEANINGS.get(name, ("", ""))[0]
    return axes if len(axes.split()) == ndim else ""
