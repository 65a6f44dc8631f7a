"""A text as the model's tokens."""

from __future__ import annotations

from collections import Counter

import numpy as np

from clearhead.core.errors import UserError
from clearhead.look.classes import class_of
from clearhead.look.frame import view
from clearhead.look.specimen import Source, read
from clearhead.show.readable import count, percent, visible
from clearhead.show.view import Picture, View

SHOWN = 12


def tokens(source: Source, prompt: str | None = None) -> View:
    """Show into which tokens a text falls, their ids, and how much of the model the vocabulary takes.

    Where the run has a validation part, tokens are tinted by their share of it, else by their length in bytes.
    """
    reading = read(source, prompt, whole=prompt is not None, writes=False)
    specimen, tokenizer = reading.specimen, reading.specimen.tokenizer
    ids = reading.tokens[0].cpu().numpy()
    lengths = tokenizer.byte_lengths[ids]
    try:
        shares = np.bincount(specimen.validation(), minlength=tokenizer.vocabulary_size) / len(specimen.validation())
    except UserError:
        shares = None
    tint = lengths.astype(float) if shares is None else shares[ids]
    common = [id_ for id_, _ in Counter(ids.tolist()).most_common(SHOWN)]
    text = tokenizer.decode(ids)
    specials = set(tokenizer.specials.values())
    names = specimen.text(common)
    arrays = {
        "tint": ("token", tint),
        "id": ("token", ids),
        "bytes": ("token", lengths),
        "ids": ("common", common),
        "times": ("common", [int((ids == id_).sum()) for id_ in common]),
        "class": ("common", [class_of(name, special=id_ in specials) for id_, name in zip(common, names, strict=True)]),
    }
    sizes = {name: parameter.numel() for name, parameter in specimen.model.named_parameters()}
    width = sum(size for name, size in sizes.items() if name.endswith(("embedding.weight", "table.weight")))
    total = sum(sizes.values())
    per_token = len(text) / max(1, int((lengths > 0).sum()))
    caption = (
        f"{count(len(text))} characters, {count(len(text.encode()))} bytes, are {count(len(ids))} tokens of kind "
        f"{tokenizer.kind}, {len(set(ids.tolist()))} different ones of {count(tokenizer.vocabulary_size)}. A token has "
        f"{per_token:.2f} characters here, so a context of {specimen.context_length} tokens covers about "
        f"{count(per_token * specimen.context_length)}. Tables with a row for each id hold {count(width)} of "
        f"{count(total)} parameters ({percent(width / total, 1)}).{reading.note}"
    )
    by = "length in bytes" if shares is None else "share of the validation text"
    pictures = [
        Picture("chips", f"tokens, tinted by their {by}", ("tint",)),
        Picture("table", "the commonest here", ("ids", "times", "class")),
    ]
    return view("tokens", arrays, caption, pictures, {"token": reading.pieces, "common": [visible(n) for n in names]})
