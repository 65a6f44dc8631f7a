"""Every tensor on the way, with its shape and its formula."""

from __future__ import annotations

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
    "attn.scores_masked": ("B H T S", "the future at minus infinity"),
    "attn.pattern": ("B H T S", "softmax over S: rows sum to 1"),
    "attn.z": ("B H T D", "pattern v: what each head gathers"),
    "attn.out": ("B T C", "heads side by side, W_o"),
    "resid_mid": ("B T C", "state + attn.out"),
    "mlp.in": ("B T C", "norm(state), with the tokens just before"),
    "mlp.pre": ("B T F", "W_up x, or W_gate x"),
    "mlp.post": ("B T F", "the activation"),
    "mlp.out": ("B T C", "W_down x"),
    "resid_post": ("B T C", "state + mlp.out, on to the next block"),
    "final": ("B T C", "norm(state)"),
    "logits": ("B T V", "a score for each id"),
}
"""Axes and meaning of what a tap shows, for blocks as they usually are."""


def shapes(source: Source, prompt: str | None = None) -> View:
    """Show every tensor of one pass in order; of the blocks the first one, since the others are like it."""
    reading = read(source, prompt, beginning=24)
    trace = reading.trace("*")
    seen = {name: tensor for name, tensor in trace.tensors.items() if not name.startswith("blocks.") or _first(name)}
    plain = [name.removeprefix("blocks.0.") for name in seen]
    arrays = {
        "axes": ("place", [_axes(name, tensor.ndim) for name, tensor in zip(plain, seen.values(), strict=True)]),
        "sizes": ("place", [" x ".join(map(str, tensor.shape)) for tensor in seen.values()]),
        "numbers": ("place", [tensor.numel() for tensor in seen.values()]),
        "meaning": ("place", [MEANINGS.get(name, ("", ""))[1] for name in plain]),
    }
    every = sum(tensor.numel() for tensor in trace.tensors.values())
    square = ("scores_raw", "scores_scaled", "scores_masked", "pattern")
    squares = sum(tensor.numel() for name, tensor in trace.tensors.items() if name.endswith(square))
    blocks = len({name.split(".")[1] for name in trace.tensors if name.startswith("blocks.")})
    repeated = f" The blocks, of which the first is shown, are {blocks}." if blocks else ""
    caption = (
        f"Reading {len(reading)} tokens makes {len(trace.tensors)} tensors of {count(every)} numbers; "
        f"{count(squares)} of these grow with the square of the length.{repeated}{reading.note}"
    )
    pictures = [Picture("table", "from tokens to logits", ("axes", "sizes", "numbers", "meaning"))]
    return view("shapes", arrays, caption, pictures, {"place": list(seen)})


def _first(name: str) -> bool:
    return name.startswith("blocks.0.")


def _axes(name: str, ndim: int) -> str:
    axes = MEANINGS.get(name, ("", ""))[0]
    return axes if len(axes.split()) == ndim else ""
