"""A model card: what an exported model is, what it was trained on, how good it is, how it is loaded."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from clearhead.core.events import read
from clearhead.core.words import counted
from clearhead.show.history import History, nats, number
from clearhead.show.readable import byte_size, count, duration
from clearhead.store.load import Loaded

LISTED_SOURCES = 12

TEMPLATE = """\
---
{front}---

# {name}

{what}

## Load it

{loading}

## Training text

{data}

## How good it is

{figures}

## Limits

It reads and writes {context} at once at most. It continues text in the manner of its training text; it was
not trained to answer, to be right or to be harmless, and it can repeat passages that it was trained on.

## How the export was checked

{parity}
"""


def card(loaded: Loaded, *, front: Mapping[str, Any], loading: str, parity: str) -> str:
    """Return the text of a model card in Markdown.

    Args:
        front: what stands in the head of the page for programs.
        loading: how the model is loaded.
        parity: what was compared with the run, and how far it was apart.
    """
    history = History(read(loaded.run.path))
    return TEMPLATE.format(
        front="".join(f"{name}: {json.dumps(value, ensure_ascii=False)}\n" for name, value in front.items()),
        name=loaded.run.name,
        what=_what(loaded, history),
        loading=loading,
        data=_data(loaded.run.data()),
        figures=_figures(loaded, history),
        context=counted(int(loaded.model.context_length), "token"),  # type: ignore[arg-type]
        parity=parity,
    )


def _what(loaded: Loaded, history: History) -> str:
    run, model = loaded.description, loaded.description["config"]["model"]
    shape = f"{counted(model['num_layers'], 'layer')}, {counted(model['num_heads'], 'head')}, width {model['width']}"
    ids = f'{counted(run["vocabulary_size"], "id")} of a tokenizer of kind "{run["tokenizer"]["kind"]}"'
    said = f"A language model of {count(run['parameters']['total'])} parameters ({shape}) over {ids}"
    if "imported" in run:
        return f"{said}. It was imported by Clearhead from a {run['imported']['model_type']} of transformers."
    seconds = history.seconds_at(loaded.step)
    time = f", which took {duration(seconds)}" if seconds else ""
    return f"{said}. Clearhead {run['versions']['clearhead']} trained it; this is step {count(loaded.step)}{time}."


def _data(data: Mapping[str, Any]) -> str:
    """Name the texts, without the folders they lay in."""
    sources = data["sources"]
    lines = [f"- {Path(str(source['name'])).name}, {byte_size(source['bytes'])}" for source in sources[:LISTED_SOURCES]]
    if len(sources) > LISTED_SOURCES:
        lines.append(f"- and {len(sources) - LISTED_SOURCES} more")
    licence = data.get("licence") or "not stated; find out before you pass the model on"
    listed = "\n".join(lines) or "Not known here: the model was imported."
    return f"{listed}\n\nLicence of the text: {licence}."


def _figures(loaded: Loaded, history: History) -> str:
    """Return the evaluation of this step, beside what it is compared with, as a table."""
    at_step = [event for event in history.evaluations() if event["step"] == loaded.step]
    if not at_step:
        return "Not measured; `clearhead eval` measures it on a text of your choice."
    result = at_step[-1]
    rule = "an estimate on a part of the validation text" if result.get("sampled") else "the whole validation text"
    rows = {"this model": result, **history.references()}
    cells = [f"| {name} | {nats(values):.4f} | {_bits(values)} |" for name, values in rows.items()]
    table = "\n".join(["| | nats per token | bits per byte |", "|---|---|---|", *cells])
    return f"On {rule} ({counted(result['tokens_scored'], 'token')} that it was not trained on):\n\n{table}"


def _bits(values: Mapping[str, Any]) -> str:
    bits = number(values.get("bits_per_byte"))
    return f"{bits:.4f}" if math.isfinite(bits) else ""
