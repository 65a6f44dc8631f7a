"""How a model came to be: what it wrote, paid and looked at, step by step."""

from __future__ import annotations

from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor

from clearhead.core.errors import UserError
from clearhead.core.run import Run, Selection
from clearhead.generation.engine import Request, prompt_ids, write
from clearhead.look.frame import view
from clearhead.look.specimen import Source, Specimen, read, specimen_of, windows
from clearhead.look.subjects.ablate import loss
from clearhead.look.subjects.heads import head_scores, repeated
from clearhead.look.vectors import token_vectors
from clearhead.model.attention import Attention
from clearhead.model.transformer import GPT
from clearhead.show.readable import one_line
from clearhead.show.view import Picture, View
from clearhead.store.load import load_selection

STEPS = 12
WINDOWS = 4
WRITTEN = 80
KINDS = ("previous", "duplicate", "induction", "first", "even")


def diary(source: Source, prompt: str | None = None, *, seed: int = 1) -> View:
    """Show a run at up to 12 of its saved steps: the loss, a sample by the same luck, its heads, how far tokens moved.

    Heads are scored as in `heads`, on random tokens that are said twice; the strongest of each kind is drawn. A jump is
    a head being born.

    Args:
        prompt: what every sample begins with, and where attention is recorded.
        seed: of the samples and of the random tokens.
    """
    last = specimen_of(source)
    if last.loaded is None:
        raise UserError("A diary takes a run with saved steps, and this model comes from none.")
    steps = spread_out(last.loaded.run.steps(), STEPS)
    found = [_opened(last.loaded.run, step) for step in steps]
    has_heads = isinstance(last.model, GPT) and all(isinstance(mixer, Attention) for mixer in last.model.mixers)
    rows = windows(last, WINDOWS)
    losses = [float(loss(each, rows, [])) for each in found]
    texts = [_written(each, prompt, seed) for each in found]
    moved = _moved(found)
    arrays = {
        "loss": ("step", losses),
        "moved": ("step", moved),
        "written": ("step", [one_line(text, WRITTEN) for text in texts]),
    }
    pictures = [Picture("table", "what it wrote", ("loss", "moved", "written")), Picture("lines", "loss", ("loss",))]
    said = ""
    labels = {"step": [str(step) for step in steps], "kind": list(KINDS)}
    if has_heads:
        scores = torch.stack([_scores(each, seed) for each in found])
        strongest = scores.amax(dim=(2, 3))
        reading = replace(read(last, prompt, beginning=16))
        patterns = [replace(reading, specimen=each).trace("*.pattern").layers("attn.pattern") for each in found]
        arrays |= {
            "score": ("step kind layer head", scores),
            "pattern": ("step layer head query key", torch.stack([torch.cat(each) for each in patterns])),
            **{f"strongest_{kind}": ("step", strongest[:, at]) for at, kind in enumerate(KINDS)},
        }
        drawn = tuple(f"strongest_{kind}" for kind in KINDS[:3])
        pictures.append(Picture("lines", "the strongest head of each kind", drawn))
        labels |= {"query": reading.pieces, "key": reading.pieces}
        said = f" The strongest previous-token head went from {strongest[0, 0]:.2f} to {strongest[-1, 0]:.2f}."
    caption = (
        f"From step {steps[0]} to step {steps[-1]} the loss on {rows.numel()} validation tokens went from "
        f"{losses[0]:.3f} to {losses[-1]:.3f}, and the tokens' vectors moved by {moved[-1]:.2f} of their length.{said}"
    )
    return view("diary", arrays, caption, pictures, labels)


def spread_out(steps: list[int], at_most: int) -> list[int]:
    """Return at most so many of the steps, first and last among them, each about as many times the one before."""
    if len(steps) <= at_most:
        return steps
    low, high = max(1, steps[0]), steps[-1]
    wanted = [low * (high / low) ** (index / (at_most - 1)) for index in range(at_most)]
    return sorted({min(steps, key=lambda step: abs(step - want)) for want in wanted} | {steps[0], high})


def _opened(run: Run, step: int) -> Specimen:
    loaded = load_selection(Selection(run, step))
    return Specimen(loaded.model, loaded.tokenizer, loaded)


def _written(specimen: Specimen, prompt: str | None, seed: int) -> str:
    request = Request(prompt=prompt_ids(specimen.tokenizer, prompt or ""), num_tokens=WRITTEN, seed=seed)
    return (prompt or "") + write(specimen.model, specimen.tokenizer, request)[0]


def _scores(specimen: Specimen, seed: int) -> Float[Tensor, "N L H"]:
    scores = head_scores(specimen, repeated(specimen, seed))
    return torch.stack([scores[kind] for kind in KINDS])


def _moved(found: list[Specimen]) -> list[float]:
    """Return how far each step's token vectors are from the first ones, as a share of their length."""
    first = token_vectors(found[0])
    return [float((token_vectors(each) - first).norm() / first.norm()) for each in found]
