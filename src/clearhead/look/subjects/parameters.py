"""Where the parameters are."""

from __future__ import annotations

import re
from collections.abc import Iterator

from torch import nn

from clearhead.look.frame import view
from clearhead.look.specimen import Source, specimen_of
from clearhead.show.readable import count, percent
from clearhead.show.view import Picture, View

PARTS = {
    "attention_norm": "norms",
    "feed_forward_norm": "norms",
    "cross_norm": "norms",
    "feed_forward": "feed-forward",
    "cross": "cross-attention",
}


def parameters(source: Source) -> View:
    """Show how the model is built, and every trained number by its part, with the spread of its values and its role."""
    specimen = specimen_of(source, writes=False)
    # Of an ensemble, all members count.
    model = specimen.model if specimen.loaded is None else specimen.loaded.model
    named = dict(model.named_parameters())
    roles = model.roles() if hasattr(model, "roles") else {}  # type: ignore[operator]
    by_part: dict[str, int] = {}
    for name, parameter in named.items():
        by_part[part_of(name)] = by_part.get(part_of(name), 0) + parameter.numel()
    built = list(drawing(model))
    arrays = {
        "made_of": ("step", [line for line, _ in built]),
        "trained": ("step", [number for _, number in built]),
        "parameters": ("part", list(by_part.values())),
        "share": ("part", [number / sum(by_part.values()) for number in by_part.values()]),
        "shape": ("name", [" x ".join(map(str, parameter.shape)) for parameter in named.values()]),
        "numbers": ("name", [parameter.numel() for parameter in named.values()]),
        "role": ("name", [roles.get(name, "") for name in named]),
        "deviation": ("name", [float(parameter.detach().float().std(correction=0)) for parameter in named.values()]),
    }
    total, kinds = sum(by_part.values()), by_kind(by_part)
    shares = ", ".join(f"{kind} {percent(number / total, 1)}" for kind, number in kinds.items())
    buffers = sum(buffer.numel() for buffer in model.buffers())
    caption = (
        f"{count(total)} parameters in {len(named)} tensors. All layers together: {shares}. {count(buffers)} further "
        "numbers are buffers: stored, but not trained."
    )
    pictures = [
        Picture("table", "as it is built, from the tokens to what comes out", ("made_of", "trained")),
        Picture("bars", "parameters by part", ("parameters",)),
        Picture("table", "tensor by tensor", ("shape", "numbers", "role", "deviation")),
    ]
    return view("parameters", arrays, caption, pictures, {"part": list(by_part), "name": list(named)})


def drawing(model: nn.Module) -> Iterator[tuple[str, int]]:
    """Yield a model's parts in their order, each with how many parameters it has; what stands inside is indented.

    Of parts that follow each other and have equally many parameters, such as blocks, the first is drawn.
    """
    for name, part in model.named_children():
        number, inside = size(part), part
        if isinstance(part, nn.ModuleList) and len({size(each) for each in part}) == 1:
            name, inside = f"{len(part)} times", part[0]
        if inside is not part or name in ("body", "encoder", "block"):
            yield f"{name.replace('_', ' ')}:", number
            yield from ((f"│ {line}", count_inside) for line, count_inside in drawing(inside))
        elif number or "norm" in name:
            yield f"{name.replace('_', ' ')} ({type(part).__name__})", number


def size(part: nn.Module) -> int:
    """Return how many parameters a part has."""
    return sum(parameter.numel() for parameter in part.parameters())


def part_of(name: str) -> str:
    """Return the part of a model that a parameter belongs to: for `blocks.0.attention.key.weight` layer 0 attention."""
    inside = re.match(r"(?:members\.\d+\.)?(encoder\.|body\.)?(?:blocks\.(\d+)\.(?:block\.)?)?(\w+)", name)
    assert inside is not None
    part = PARTS.get(inside[3], inside[3].replace("_", " "))
    layer = "" if inside[2] is None else f"layer {inside[2]} "
    return f"{'encoder ' if inside[1] == 'encoder.' else ''}{layer}{part}"


def by_kind(by_part: dict[str, int]) -> dict[str, int]:
    """Return parts of all layers together, the largest first."""
    found: dict[str, int] = {}
    for part, number in by_part.items():
        kind = re.sub(r"layer \d+ ", "", part)
        found[kind] = found.get(kind, 0) + number
    return dict(sorted(found.items(), key=lambda pair: -pair[1]))
