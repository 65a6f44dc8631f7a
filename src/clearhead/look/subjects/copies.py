"""Where a sample repeats the training text, and from where."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from clearhead.core.errors import UserError
from clearhead.core.words import counted
from clearhead.generation.engine import Request, prompt_ids, write
from clearhead.look.frame import view
from clearhead.look.specimen import Source, quoted, specimen_of
from clearhead.show.readable import count, one_line, percent
from clearhead.show.view import Picture, View
from clearhead.text.origin import training_text
from clearhead.text.overlap import Copy
from clearhead.text.overlap import copies as find_copies

SHORTEST = 30
AROUND = 40
SHOWN = 8
EXCERPT = 100


def copies(source: Source, prompt: str | None = None, *, num_tokens: int = 600, seed: int = 1) -> View:
    """Write a text, and show which stretches of it stand in the training text, how long they are, and whence.

    Case and white space are folded; stretches below 30 characters do not count. Long ones are memory, not invention.

    Args:
        seed: of the sample.
    """
    specimen = specimen_of(source)
    if specimen.loaded is None:
        raise UserError("Copies are looked for in the training text, and this model comes without one.")
    origin = specimen.loaded.run.data(), specimen.loaded.run.path
    request = Request(prompt=prompt_ids(specimen.tokenizer, prompt or ""), num_tokens=num_tokens, seed=seed)
    sample = (prompt or "") + write(specimen.model, specimen.tokenizer, request)[0]
    found = find_copies(training_text(*origin), sample, SHORTEST)
    lengths = np.full(len(sample), np.nan)
    for copy in found:
        here = slice(copy.start, copy.start + copy.length)
        lengths[here] = np.fmax(lengths[here], copy.length)
    longest = sorted(found, key=lambda copy: -copy.length)[:SHOWN]
    sources = excerpts(training_text(*origin), longest)
    arrays = {
        "inside_copy": ("character", lengths),
        "length": ("copy", [copy.length for copy in longest] or np.zeros(0, int)),
        "begins": ("copy", [copy.start for copy in longest] or np.zeros(0, int)),
        "in_training_text": ("copy", [copy.source_offset for copy in longest] or np.zeros(0, int)),
        "words": ("copy", [one_line(sample[copy.start : copy.start + copy.length], EXCERPT) for copy in longest]),
        "source": ("copy", [one_line(text, 2 * EXCERPT) for text in sources]),
    }
    share = np.isfinite(lengths).mean() if len(lengths) else 0.0
    longest_said = (
        f" The longest has {longest[0].length}, "
        f"{quoted(one_line(sample[longest[0].start :][: longest[0].length], 60))}, and comes from character "
        f"{count(longest[0].source_offset)} of the training text."
        if longest
        else ""
    )
    caption = (
        f"Of {count(len(sample))} characters {percent(share)} lie inside {counted(len(found), 'passage')} "
        f"of {SHORTEST} characters or more that the training text has too.{longest_said}"
        if found
        else f"No passage of {SHORTEST} characters or more of the {count(len(sample))} stands in the training text: "
        "nothing of this sample was learned by heart."
    )
    pictures = [Picture("chips", "the sample, by the length of the copy that a character lies in", ("inside_copy",))]
    if longest:
        pictures.append(Picture("table", "the longest", ("length", "begins", "in_training_text", "words", "source")))
    return view("copies", arrays, caption, pictures, {"character": list(sample)})


def excerpts(pieces: Iterable[str], wanted: Sequence[Copy]) -> list[str]:
    """Return each copy as the training text has it, with a little of what stands around it, in one pass."""
    found = [""] * len(wanted)
    start = 0
    for piece in pieces:
        for number, copy in enumerate(wanted):
            first, last = copy.source_offset - AROUND, copy.source_offset + copy.length + AROUND
            found[number] += piece[max(0, first - start) : max(0, last - start)]
        start += len(piece)
    return found
