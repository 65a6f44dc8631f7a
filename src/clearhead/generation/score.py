"""How well a model predicts a given text: the cost of each of its tokens."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Float64, Int, Int64
from torch import Tensor, nn

from clearhead.model.masks import Mask
from clearhead.text.batches import document_numbers

LOGITS_AT_ONCE = 2**23
TOKENS_AT_ONCE = 2**13
"""How many logits one forward pass that scores may give (32 MB of them), and how many tokens it may read."""


def token_nats(logits: Float[Tensor, "B T V"], targets: Int[Tensor, "B T"]) -> Float[Tensor, "B T"]:
    """Return the cost of each target, -ln of its probability."""
    rows = logits.flatten(0, 1).float()
    return F.cross_entropy(rows, targets.flatten().long(), reduction="none").view(targets.shape)


def logits_of(
    model: nn.Module,
    tokens: Int[Tensor, "B T"],
    documents: Int[Tensor, "B T"] | None = None,
    weights: Float[Tensor, "B T"] | None = None,
) -> Tensor:
    """Return a model's logits under its own mask, bound to the documents and weights of a batch.

    A module that has no mask reads tokens alone.
    """
    mask: Mask | None = getattr(model, "mask", None)
    logits: Tensor = model(tokens) if mask is None else model(tokens, mask=mask.bind(documents, weights))
    return logits


def windows_at_once(model: nn.Module, length: int) -> int:
    """Return how many windows of a length one forward pass may score, whatever memory there is."""
    vocabulary_size = int(getattr(model, "vocabulary_size", 256))
    return max(1, min(LOGITS_AT_ONCE // vocabulary_size, TOKENS_AT_ONCE) // length)


@torch.inference_mode()
def text_nats(
    model: nn.Module, ids: Int[np.ndarray, " N"], *, stride: int | None = None, end: int | None = None
) -> Float64[np.ndarray, " N-1"]:
    """Return the cost of every token of a text but the first.

    The text is read in windows of the context length that move on by `stride` targets; each window scores the targets
    that no earlier one did. With the context length as stride (the default) the windows do not overlap; a smaller one
    gives every target at least `context_length - stride` tokens to look back on, at a higher price.

    Args:
        end: the id that begins each document, where the model's mask keeps documents apart.
    """
    length = int(model.context_length)  # type: ignore[arg-type]
    stride = length if stride is None else stride
    assert 1 <= stride <= length
    tokens = torch.from_numpy(np.asarray(ids, dtype=np.int64)).to(next(model.parameters()).device)
    nats = np.zeros(max(0, len(ids) - 1))
    for starts in _window_starts(len(nats), length, stride, windows_at_once(model, length)):
        places = starts[:, None] + np.arange(min(length, len(nats) - starts[0]))
        documents = None if end is None else torch.from_numpy(document_numbers(ids[places], end)).to(tokens.device)
        logits = logits_of(model, tokens[places], documents)
        cost = token_nats(logits, tokens[places + 1]).double().cpu().numpy()
        scored_before = np.where(starts == 0, 0, starts + length - stride)
        fresh = places >= scored_before[:, None]
        nats[places[fresh]] = cost[fresh]
    return nats


def _window_starts(num_targets: int, length: int, stride: int, at_once: int) -> Iterator[Int64[np.ndarray, " W"]]:
    """Yield where windows begin, in groups of one length: the last window may be shorter than the others."""
    starts = np.arange(0, max(1, num_targets - length + stride), stride) if num_targets else np.arange(0)
    whole = starts[starts + length <= num_targets]
    for first in range(0, len(whole), at_once):
        yield whole[first : first + at_once]
    if len(whole) < len(starts):
        yield starts[len(whole) :]
