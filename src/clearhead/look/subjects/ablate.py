"""What is lost when a part is switched off."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from clearhead.look.frame import view
from clearhead.look.interventions import weighted_heads
from clearhead.look.recording import trace
from clearhead.look.specimen import Source, Specimen, read, windows
from clearhead.model.tap import Tap
from clearhead.show.view import Picture, View

WINDOWS = 4


def ablate(source: Source, prompt: str | None = None) -> View:
    """Show by how much the loss rises when each head, and each feed-forward layer, adds nothing.

    What a head gathers is set to zero everywhere; all heads are switched off side by side in one batch for each window.
    """
    if prompt is None:
        specimen, rows = _of_run(source)
    else:
        reading = read(source, prompt, at_least=2)
        specimen, rows = reading.specimen, reading.tokens
    attention = specimen.attention(0)
    layers, heads = len(specimen.gpt.blocks), attention.num_heads
    whole = loss(specimen, rows, [])
    without = torch.stack([_without_each_head(specimen, row[None], layers, heads) for row in rows]).mean(dim=0)
    thoughts = torch.stack([loss(specimen, rows, [silenced(f"blocks.{layer}.mlp.out")]) for layer in range(layers)])
    nothing = loss(specimen, rows, [weighted_heads(torch.zeros(1, layers, heads))])
    rise = without - whole
    arrays = {
        "rise": ("layer head", rise),
        "rise_without_feed_forward": ("layer", thoughts - whole),
        "loss": ("setting", torch.stack([whole, nothing])),
    }
    layer, head = divmod(int(rise.argmax()), heads)
    idle = int((rise.abs() < 0.005).sum())
    caption = (
        f"On {rows.numel()} tokens the model costs {whole:.4f} nats. Switching off head {head} of layer {layer} costs "
        f"most, {rise.max():+.4f}; {idle} of {rise.numel()} heads change it by less than 0.005, and the least useful "
        f"changes it by {rise.min():+.4f}. With no head at all it is {nothing:.3f}. The costliest feed-forward layer "
        f"to lose is {int(thoughts.argmax())}, {float((thoughts - whole).max()):+.3f}."
    )
    labels = {"layer": [str(at) for at in range(layers)], "head": [str(at) for at in range(heads)]}
    pictures = [
        Picture("map", "rise of the loss without each head", ("rise",)),
        Picture("bars", "rise of the loss without each feed-forward layer", ("rise_without_feed_forward",)),
    ]
    return view("ablate", arrays, caption, pictures, labels | {"setting": ["whole", "no heads"]})


def silenced(name: str) -> Tap:
    """Return a tap under which one tensor is zero."""
    return lambda each, tensor: torch.zeros_like(tensor) if each == name else tensor


def loss(specimen: Specimen, rows: Int[Tensor, "B T"], edits: list[Tap]) -> Float[Tensor, ""]:
    """Return the mean cost of the tokens of some rows under interventions."""
    logits = trace(specimen.model, rows, edits=edits, names=("logits",)).logits
    return F.cross_entropy(logits[:, :-1].flatten(0, 1).double(), rows[:, 1:].flatten()).cpu()


def _without_each_head(specimen: Specimen, row: Int[Tensor, "1 T"], layers: int, heads: int) -> Float[Tensor, "L H"]:
    """Return the mean cost of one row with each head switched off."""
    number = layers * heads
    weights = 1.0 - torch.eye(number, device=row.device).view(number, layers, heads)
    logits = trace(specimen.model, row.expand(number, -1), ("logits",), [weighted_heads(weights)]).logits
    targets = row[0, 1:].expand(number, -1)
    nats = F.cross_entropy(logits[:, :-1].flatten(0, 1).double(), targets.flatten(), reduction="none")
    return nats.view(number, -1).mean(dim=1).view(layers, heads).cpu()


def _of_run(source: Source) -> tuple[Specimen, Int[Tensor, "B T"]]:
    reading = read(source)
    return reading.specimen, windows(reading.specimen, WINDOWS)
