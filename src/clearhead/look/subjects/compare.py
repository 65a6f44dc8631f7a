"""Two models on the same text."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from jaxtyping import Float64

from clearhead.core.errors import UserError
from clearhead.generation.score import text_nats
from clearhead.look.frame import view
from clearhead.look.specimen import Source, Specimen, quoted, read, specimen_of
from clearhead.look.subjects.parameters import part_of
from clearhead.show.view import Picture, View


def compare(source: Source, prompt: str | None = None, *, other: str | Source | None = None) -> View:
    """Show for each character of a text which of two models it costs less, and in which parts their weights differ.

    The cost of a token is shared evenly by its bytes, and bits are counted a character, so models with different
    tokenizers can be compared. Below 0 the other model is better.

    Args:
        other: another run, or another step of the same one, such as last@1.
    """
    if other is None:
        raise UserError("Comparing takes two models: clearhead look compare last --other last@1.")
    one, two = specimen_of(source), specimen_of(other)
    text = "".join(read(one, prompt).pieces) if prompt is None else prompt
    if prompt is None and one.tokenizer.end is not None:
        text = text.replace(one.tokenizer.token_text(one.tokenizer.end), "")
    mine, theirs = character_bits(one, text), character_bits(two, text)
    difference = theirs - mine
    both = np.isfinite(difference)
    if not both.any():
        raise UserError("The text is too short to be compared; give a longer one.")
    arrays: dict[str, tuple[str, Any]] = {
        "difference": ("character", difference),
        "bits": ("character", mine),
        "bits_of_other": ("character", theirs),
        "mean": ("model", [mine[both].mean(), theirs[both].mean()]),
    }
    names = [_name(one, "this"), _name(two, "other")]
    pictures = [
        Picture("chips", "bits that a character costs the other model more (orange) or less (blue)", ("difference",)),
        Picture("bars", "bits a character", ("mean",)),
    ]
    distances = weight_distances(one, two)
    if distances:
        arrays["distance"] = ("part", list(distances.values()))
        pictures.append(Picture("bars", "how far weights are apart, in shares of their size", ("distance",)))
    ahead, behind = int(np.nanargmax(difference)), int(np.nanargmin(difference))
    caption = (
        f"On {int(both.sum())} characters {names[0]} pays {mine[both].mean():.3f} bits each and {names[1]} "
        f"{theirs[both].mean():.3f}; {names[0]} is cheaper on {int((difference[both] > 0).sum())} of them. It is most "
        f"ahead at {quoted(text[max(0, ahead - 8) : ahead + 1])} ({difference[ahead]:.2f} bits), most behind at "
        f"{quoted(text[max(0, behind - 8) : behind + 1])} ({difference[behind]:.2f})."
    )
    labels = {"character": list(text), "model": names, "part": list(distances)}
    return view("compare", arrays, caption, pictures, labels)


def character_bits(specimen: Specimen, text: str) -> Float64[np.ndarray, " N"]:
    """Return what each character of a text costs in bits; what nothing stands before has no number.

    Raises:
        UserError: the text has a character that the tokenizer refuses.
    """
    tokenizer = specimen.tokenizer
    before = [] if tokenizer.end is None else [tokenizer.end]
    ids = np.array([*before, *tokenizer.encode(text)], dtype=np.int32)
    if len(ids) < 2 or tokenizer.decode(ids) != text:
        raise UserError("The text is too short to be compared, or its tokens do not give it back.")
    nats = np.concatenate(([math.nan], text_nats(specimen.model, ids, end=specimen.document_end)))
    lengths = tokenizer.byte_lengths[ids]
    by_byte = np.repeat(nats / np.maximum(1, lengths), lengths) / math.log(2)
    ends = np.cumsum([len(character.encode()) for character in text])
    return np.array([part.sum() for part in np.split(by_byte, ends[:-1])])


def weight_distances(one: Specimen, two: Specimen) -> dict[str, float]:
    """Return by part how far two models' weights are apart, divided by the first's size; nothing if shapes differ."""
    mine, theirs = dict(one.model.named_parameters()), dict(two.model.named_parameters())
    if {name: each.shape for name, each in mine.items()} != {name: each.shape for name, each in theirs.items()}:
        return {}
    apart: dict[str, float] = {}
    size: dict[str, float] = {}
    for name, parameter in mine.items():
        part = part_of(name)
        apart[part] = apart.get(part, 0.0) + float((parameter - theirs[name]).detach().square().sum())
        size[part] = size.get(part, 0.0) + float(parameter.detach().square().sum())
    return {part: math.sqrt(apart[part] / size[part]) if size[part] else 0.0 for part in apart}


def _name(specimen: Specimen, otherwise: str) -> str:
    return otherwise if specimen.loaded is None else f"{specimen.loaded.run.name}@{specimen.loaded.step}"
