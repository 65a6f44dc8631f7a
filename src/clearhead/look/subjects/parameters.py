"""Where the parameters are."""

from __future__ import annotations

import re

from clearhead.look.frame import view
from clearhead.look.specimen import Source, specimen_of
from clearhead.show.readable import count, percent
from clearhead.show.view import Picture, View

PARTS = {"attention_norm": "norms", "feed_forward_norm": "norms", "feed_forward": "feed-forward"}


def parameters(source: Source) -> View:
    """Show every trained number by the part it belongs to, with the spread of its values and its role."""
    specimen = specimen_of(source)
    named = dict(specimen.model.named_parameters())
    roles = specimen.model.roles() if hasattr(specimen.model, "roles") else {}  # type: ignore[operator]
    by_part: dict[str, int] = {}
    for name, parameter in named.items():
        by_part[part_of(name)] = by_part.get(part_of(name), 0) + parameter.numel()
    arrays = {
        "parameters": ("part", list(by_part.values())),
        "share": ("part", [number / sum(by_part.values()) for number in by_part.values()]),
        "shape": ("name", [" x ".join(map(str, parameter.shape)) for parameter in named.values()]),
        "numbers": ("name", [parameter.numel() for parameter in named.values()]),
        "role": ("name", [roles.get(name, "") for name in named]),
        "deviation": ("name", [float(parameter.detach().float().std(correction=0)) for parameter in named.values()]),
    }
    total, largest = sum(by_part.values()), max(by_part, key=lambda part: by_part[part])
    buffers = sum(buffer.numel() for buffer in specimen.model.buffers())
    caption = (
        f"{count(total)} parameters in {len(named)} tensors; {largest} has most of them, "
        f"{percent(by_part[largest] / total)}. {count(buffers)} further numbers are buffers: stored, but not trained."
    )
    pictures = [
        Picture("bars", "parameters by part", ("parameters", "share")),
        Picture("table", "tensor by tensor", ("shape", "numbers", "role", "deviation")),
    ]
    return view("parameters", arrays, caption, pictures, {"part": list(by_part), "name": list(named)})


def part_of(name: str) -> str:
    """Return the part of a model that a parameter belongs to: `layer 0 attention` for "
    f"`blocks.0.attention.key.weight`."""
    inside = re.match(r"blocks\.(\d+)\.(\w+)", name)
    if inside:
        return f"layer {inside[1]} {PARTS.get(inside[2], inside[2])}"
    return name.split(".", maxsplit=1)[0].replace("_", " ")
