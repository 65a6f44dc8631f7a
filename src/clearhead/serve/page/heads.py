"""All heads of a model at once, as small pictures of what each place takes from each: a way in to one of them."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from clearhead.core.errors import UserError
from clearhead.look.specimen import read, specimen_of
from clearhead.model.attention import Attention, Mixer
from clearhead.model.encoder_decoder import EncoderDecoder
from clearhead.serve.page.pictures import png
from clearhead.show.page import escape
from clearhead.show.palette import Scale

if TYPE_CHECKING:
    from clearhead.store.load import Loaded

PLACES = 32


def grid(loaded: Loaded, prompt: str) -> str:
    """Return a row of small maps for each layer, one for each head; empty where the model has no heads.

    A click on one tells `layer,head` as its `data-i`. What they read is the prompt's end, or the beginning of the
    validation text.
    """
    mixers = mixers_of(loaded)
    kind = "cross" if isinstance(loaded.model, EncoderDecoder) else "attn"
    if not any(isinstance(mixer, Attention) for mixer in mixers):
        return ""
    try:
        trace = read(loaded, prompt or None, beginning=PLACES, writes=False).trace(f"blocks.*.{kind}.pattern")
    except UserError:  # the screen says it where the whole picture would be
        return ""
    rows = []
    for layer, mixer in enumerate(mixers):
        if isinstance(mixer, Attention):
            patterns = trace[f"blocks.{layer}.{kind}.pattern"][0, :, -PLACES:, -PLACES:].float().cpu().numpy()
            small = "".join(_head(pattern, layer, head) for head, pattern in enumerate(patterns))
            rows.append(f'<div class="small">layer {layer}</div><div class="heads">{small}</div>')
    return f'<div class="head-grid">{"".join(rows)}</div>'


def mixers_of(loaded: Loaded) -> Sequence[Mixer]:
    """Return what a model's positions gather by, layer by layer; nothing where they do not gather."""
    try:
        return specimen_of(loaded, writes=False).mixers
    except UserError:
        return ()


def _head(pattern: np.ndarray, layer: int, head: int) -> str:
    image = base64.b64encode(png(pattern, Scale.of(pattern.ravel()))).decode()
    name = escape(f"layer {layer}, head {head}")
    return (
        f'<button data-i="{layer},{head}" data-testid="head-{layer}-{head}" aria-label="{name}" title="{name}">'
        f'<img alt="" src="data:image/png;base64,{image}"></button>'
    )
