"""How well a model predicts a given text: the cost of each of its tokens."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Float64, Int
from torch import Tensor, nn


def token_nats(logits: Float[Tensor, "B T V"], targets: Int[Tensor, "B T"]) -> Float[Tensor, "B T"]:
    """Return the cost of each target, -ln of its probability."""
    rows = logits.flatten(0, 1).float()
    return F.cross_entropy(rows, targets.flatten().long(), reduction="none").view(targets.shape)


@torch.inference_mode()
def text_nats(
    model: nn.Module, ids: Int[np.ndarray, " N"], *, stride: int | None = None
) -> Float64[np.ndarray, " N-1"]:
    """Return the cost of every token of a text but the first.

    The text is read in windows of the context length that move on by `stride` targets; each window scores the targets
    that no earlier one did. With the context length as stride (the default) the windows do not overlap; a smaller one
    gives every target at least `context_length - stride` tokens to look back on, at a higher price.
    """
    length = int(model.context_length)  # type: ignore[arg-type]
    stride = length if stride is None else stride
    assert 1 <= stride <= length
    device = next(model.parameters()).device
    tokens = torch.from_numpy(np.asarray(ids, dtype=np.int64)).to(device)
    nats = np.zeros(max(0, len(ids) - 1))
    scored = 0
    while scored < len(nats):
        end = min(len(nats), max(length, scored + stride))
        start = max(0, end - length)
        cost = token_nats(model(tokens[None, start:end]), tokens[None, start + 1 : end + 1])[0]
        nats[scored:end] = cost[scored - start :].double().cpu().numpy()
        scored = end
    return nats
