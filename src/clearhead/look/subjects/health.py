"""Notes on a model's health, each with its evidence."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch

from clearhead.core.errors import UserError
from clearhead.core.events import read as read_events
from clearhead.look.frame import view
from clearhead.look.recording import Trace, trace
from clearhead.look.specimen import Source, Specimen, read, specimen_of, windows
from clearhead.look.subjects.heads import head_scores
from clearhead.look.subjects.loss_by_position import loss_by_position, useful_context
from clearhead.model.attention import Attention
from clearhead.model.transformer import GPT
from clearhead.show.readable import count
from clearhead.show.view import Picture, View

WINDOWS = 8
OFF_START = 0.1
SATURATED, ALIKE, ALL_EVEN = 0.99, 0.95, 0.97
GAP = 0.1


@dataclass(frozen=True, slots=True)
class Note:
    """One finding.

    Args:
        fine: whether nothing needs a look.
        evidence: the numbers that it rests on.
    """

    check: str
    fine: bool
    evidence: str


def health(source: Source, prompt: str | None = None) -> View:
    """Show what is well with a model and what deserves a look: its start, its heads, its units, its vocabulary.

    Measured on windows of the validation part, or on the prompt.
    """
    specimen = specimen_of(source)
    rows = windows(specimen, WINDOWS) if prompt is None else read(source, prompt, at_least=3).tokens
    seen = trace(specimen.model, rows)
    notes = [*_parameters(specimen), *_history(specimen), *_vocabulary(specimen)]
    if isinstance(specimen.model, GPT):
        notes += [*_units(seen), *_heads(specimen, seen)]
    notes += _context(source, specimen, prompt)
    odd = [note for note in notes if not note.fine]
    arrays = {
        "verdict": ("check", ["fine" if note.fine else "look" for note in notes]),
        "evidence": ("check", [note.evidence for note in notes]),
    }
    caption = f"{len(notes) - len(odd)} of {len(notes)} checks are fine." + "".join(
        f" Look at {note.check}: {note.evidence}." for note in odd
    )
    pictures = [Picture("table", "what was checked", ("verdict", "evidence"))]
    return view("health", arrays, caption, pictures, {"check": [note.check for note in notes]})


def _parameters(specimen: Specimen) -> Iterator[Note]:
    parameters = list(specimen.model.parameters())
    broken = sum(int((~parameter.isfinite()).sum()) for parameter in parameters)
    total = sum(parameter.numel() for parameter in parameters)
    yield Note("finite weights", broken == 0, f"{count(broken)} of {count(total)} are not finite")


def _history(specimen: Specimen) -> Iterator[Note]:
    """Yield what the run's events say: how it began, what was skipped, how far apart the parts are at the end."""
    if specimen.loaded is None:
        return
    lines = read_events(specimen.loaded.run.path)
    start: dict[str, Any] = next((line["values"] for line in lines if line.get("name") == "preflight"), {})
    if start.get("initial_loss") is not None:
        first, even = float(start["initial_loss"]), float(start["log_vocabulary"])
        yield Note("first loss", abs(first - even) < OFF_START * even, f"{first:.3f}; ln V is {even:.3f}")
    last = {line["split"]: line["nats_per_token"] for line in lines if line["event"] == "evaluated" and line["sampled"]}
    if "train" in last and "validation" in last:
        gap = last["validation"] - last["train"]
        said = f"validation {last['validation']:.3f}, training {last['train']:.3f} at the last evaluation"
        yield Note("overfitting", gap < GAP * last["validation"], said)
    warned = [line["code"] for line in lines if line["event"] == "warned"]
    yield Note("warnings", not warned, f"{len(warned)}{': ' if warned else ''}{', '.join(sorted(set(warned)))}")


def _vocabulary(specimen: Specimen) -> Iterator[Note]:
    unseen, size = len(specimen.tokenizer.unseen), specimen.tokenizer.vocabulary_size
    yield Note("vocabulary", unseen < size / 20, f"{count(unseen)} of {count(size)} ids are not in the training text")


def _units(seen: Trace) -> Iterator[Note]:
    """Yield how many hidden units of the feed-forward layers never answer."""
    posts = [tensor.flatten(0, 1) for name, tensor in seen.tensors.items() if name.endswith("mlp.post")]
    if posts:
        units = torch.cat([post.abs().amax(dim=0) for post in posts])
        dead = int((units < 1e-6).sum())
        said = f"{count(dead)} of {count(len(units))} feed-forward units answer nothing"
        yield Note("dead units", dead < len(units) / 20, said)


def _heads(specimen: Specimen, seen: Trace) -> Iterator[Note]:
    """Yield whether weights are saturated, even, or the same in two heads of a layer."""
    if not all(isinstance(mixer, Attention) for mixer in specimen.gpt.mixers):
        return
    patterns = torch.stack(seen.layers("attn.pattern")).double()
    saturated = patterns[..., 2:, :].amax(dim=-1) > SATURATED
    stuck = int((saturated.double().mean(dim=(1, 3)) > 0.5).sum())
    number = patterns.size(0) * patterns.size(2)
    yield Note("saturated heads", stuck == 0, f"{stuck} of {number} give one place over 0.99 in most of their rows")
    even = int((head_scores(specimen, seen.tokens)["even"] > ALL_EVEN).sum())
    yield Note("even heads", even == 0, f"{even} of {number} have over {ALL_EVEN} of the largest entropy")
    flat = torch.nn.functional.normalize(patterns.transpose(1, 2).flatten(2), dim=-1)
    alike = (flat @ flat.mT).triu(1)
    twins = int((alike > ALIKE).sum())
    said = f"{twins} pairs of a layer have weights with a cosine above {ALIKE}, the most alike {float(alike.max()):.2f}"
    yield Note("heads that double", twins == 0, said)


def _context(source: Source, specimen: Specimen, prompt: str | None) -> list[Note]:
    """Return whether the context is longer than helps, where there is text enough to say so."""
    try:
        nats = loss_by_position(source, prompt).nats
    except UserError:
        return []
    enough = useful_context(nats)
    said = f"from {enough} of {specimen.context_length} tokens on, reading more brings under 0.01 nats"
    return [Note("context", enough > specimen.context_length / 8, said)]
