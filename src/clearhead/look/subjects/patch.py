"""Where a difference between two texts is kept: carry one text's states into the other."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from clearhead.core.errors import UserError
from clearhead.look.frame import view
from clearhead.look.interventions import replaced
from clearhead.look.recording import Trace
from clearhead.look.specimen import Reading, Source, quoted, read
from clearhead.show.readable import percent
from clearhead.show.view import Picture, View


def patch(source: Source, prompt: str | None = None, *, other: str | None = None) -> View:
    """Show how much of the difference between two texts comes back when one state, or one head, is taken over.

    The model reads `other`, but at one depth and place its state is that of `prompt`. What is measured is the
    difference of the logits of two next tokens, the one that `prompt` favours most against `other`, and the reverse: 0
    is as after `other`, 1 as after `prompt`. Source: Vig et al. 2020; Meng et al. 2022, section 2 (causal tracing).

    Raises:
        UserError: there is no other text, or it has another number of tokens.
    """
    clean, corrupt = _two_readings(source, prompt, other)
    model, length = clean.specimen.gpt, len(clean)
    right, wrong = clean.trace("*"), corrupt.trace("*")
    change = right.logits[0, -1] - wrong.logits[0, -1]
    up, down = int(change.argmax()), int(change.argmin())
    ends = [difference(each, up, down) for each in (wrong, right)]
    depths = [f"blocks.{layer}.resid_pre" for layer in range(len(model.blocks))]
    depths.append(f"blocks.{len(model.blocks) - 1}.resid_post")

    def recovered(edit: dict[str, Tensor], positions: list[int] | None) -> float:
        mixed = corrupt.trace("logits", edits=[replaced(edit, positions)])
        return (difference(mixed, up, down) - ends[0]) / (ends[1] - ends[0])

    by_state = [[recovered({name: right[name]}, [place]) for place in range(length)] for name in depths]
    names = ["attn.out", "mlp.out"]
    by_part = [
        [recovered({f"blocks.{layer}.{name}": right[f"blocks.{layer}.{name}"]}, None) for name in names]
        for layer in range(len(model.blocks))
        if f"blocks.{layer}.mlp.out" in right.tensors
    ]
    arrays = {
        "recovered": ("depth position", by_state),
        "recovered_by_part": ("layer part", by_part or torch.zeros(0, 2)),
        "difference": ("text", ends),
    }
    texts = clean.specimen.text([up, down])
    kept = torch.tensor(by_state[1:-1] or by_state)
    layer, place = divmod(int(kept.argmax()), length)
    named = ["embedding", *(f"layer {layer}" for layer in range(len(model.blocks)))]
    caption = (
        f"After the prompt the logit of {quoted(texts[0])} is {ends[1]:+.2f} above that of {quoted(texts[1])}, after "
        f"the other text {ends[0]:+.2f}. Between embedding and end the difference is best kept after "
        f"{named[layer + 1] if len(by_state) > 2 else named[layer]} at {place}, {quoted(clean.pieces[place])}: its "
        f"state alone brings back {percent(float(kept.max()))}.{clean.note}"
    )
    pictures = [
        Picture("map", "share of the difference that one state brings back", ("recovered",)),
        *([Picture("map", "share that a whole layer's part brings back", ("recovered_by_part",))] if by_part else []),
    ]
    pieces = [a if a == b else f"{a}/{b}" for a, b in zip(clean.pieces, corrupt.pieces, strict=True)]
    labels = {"depth": named, "position": pieces, "part": ["attention", "feed-forward"], "text": ["other", "prompt"]}
    return view("patch", arrays, caption, pictures, labels)


def difference(seen: Trace, up: int, down: int) -> float:
    """Return by how much the last logit of one token is above that of another."""
    last: Float[Tensor, " V"] = seen.logits[0, -1].double()
    return float(last[up] - last[down])


def _two_readings(source: Source, prompt: str | None, other: str | None) -> tuple[Reading, Reading]:
    if prompt is None or other is None:
        raise UserError('Patching takes two texts: clearhead look patch last "Tom is a" --other "Ann is a".')
    clean = read(source, prompt)
    corrupt = read(clean.specimen, other)
    if len(clean) != len(corrupt):
        raise UserError(f"The texts need as many tokens as each other, and have {len(clean)} and {len(corrupt)}.")
    if torch.equal(clean.tokens, corrupt.tokens):
        raise UserError("The two texts are the same, so there is no difference to carry over.")
    return clean, corrupt
