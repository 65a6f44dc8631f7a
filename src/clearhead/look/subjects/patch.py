"""Where a difference between two texts is kept: carry one text's states into the other."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from clearhead.core.errors import UserError
from clearhead.look.frame import view
from clearhead.look.interventions import replaced
from clearhead.look.recording import Trace, trace
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
    blocks = range(len(clean.specimen.gpt.blocks))
    right, wrong = clean.trace("*"), corrupt.trace("*")
    change = right.logits[0, -1] - wrong.logits[0, -1]
    pair = int(change.argmax()), int(change.argmin())
    ends = [difference(each, *pair)[0] for each in (wrong, right)]

    def recovered(name: str, where: Bool[Tensor, "R T"]) -> Float[Tensor, " R"]:
        """Return the share that comes back in each row with its places taken over."""
        rows = corrupt.tokens.expand(len(where), -1)
        mixed = trace(right.model, rows, ("logits",), [replaced({name: right[name]}, where)])
        return (difference(mixed, *pair) - ends[0]) / (ends[1] - ends[0])

    each = torch.eye(len(clean), dtype=torch.bool, device=clean.tokens.device)
    depths = [*(f"blocks.{layer}.resid_pre" for layer in blocks), f"blocks.{len(blocks) - 1}.resid_post"]
    by_state = torch.stack([recovered(name, each) for name in depths])
    parts = [part for part in ("attn.out", "mlp.out") if f"blocks.0.{part}" in right.tensors]
    by_part = [
        [recovered(f"blocks.{layer}.{part}", each.any(dim=0, keepdim=True))[0] for part in parts] for layer in blocks
    ]
    arrays = {
        "recovered": ("depth position", by_state),
        "recovered_by_part": ("layer part", torch.tensor(by_part)),
        "difference": ("text", torch.stack(ends)),
    }
    named = ["embedding", *(f"layer {layer}" for layer in blocks)]
    pieces = [a if a == b else f"{a}/{b}" for a, b in zip(clean.pieces, corrupt.pieces, strict=True)]
    labels = {"depth": named, "position": pieces, "part": parts, "text": ["other", "prompt"]}
    pictures = [
        Picture("map", "share of the difference that one state brings back", ("recovered",)),
        Picture("map", "share that a whole layer's part brings back", ("recovered_by_part",)),
    ]
    first, second = map(quoted, clean.specimen.text(pair))
    caption = (
        f"After the prompt the logit of {first} is {ends[1]:+.2f} above that of {second}, after the other text "
        f"{ends[0]:+.2f}.{_kept(by_state, named, clean.pieces)}{clean.note}"
    )
    return view("patch", arrays, caption, pictures, labels)


def difference(seen: Trace, up: int, down: int) -> Float[Tensor, " B"]:
    """Return for each row by how much the last logit of one token is above that of another."""
    last = seen.logits[:, -1].double().cpu()
    return last[:, up] - last[:, down]


def _kept(by_state: Float[Tensor, "N T"], named: list[str], pieces: list[str]) -> str:
    """Return where, between embedding and end, one state holds most of the difference."""
    inner = by_state[1:-1]
    if not len(inner):
        return ""
    depth, place = divmod(int(inner.argmax()), len(pieces))
    return (
        f" Between embedding and end it is best kept after {named[depth + 1]} at {place}, {quoted(pieces[place])}: "
        f"that state alone brings back {percent(inner.max())}."
    )


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
