"""One dial from the averaging trick over the trained model to unscaled attention."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from jaxtyping import Float64, Int
from torch import Tensor

from clearhead.look.frame import view
from clearhead.look.interventions import sharpened
from clearhead.look.recording import trace
from clearhead.look.specimen import Source, read, windows
from clearhead.look.subjects.attention import entropy
from clearhead.show.readable import percent
from clearhead.show.view import Picture, View

ALPHAS = (0.0, 0.125, 0.25, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 4.0)
WINDOWS = 8


def sharpness(source: Source, prompt: str | None = None) -> View:
    """Show what the model loses when the scores before softmax are multiplied by alpha, in all layers at once.

    0 is the even mean of all that may be read: the averaging trick, a bag of words. 1 is the model. sqrt(D) undoes the
    division by sqrt(D), as if scores were never scaled. Entropy is a share of the largest, so 1 is even.
    """
    specimen = read(source, prompt if prompt is not None else "").specimen
    width = specimen.attention(0).head_width
    tokens = windows(specimen, WINDOWS) if prompt is None else read(source, prompt, at_least=3).tokens
    alphas = sorted({*ALPHAS, math.sqrt(width)})
    measured = [_measure(specimen.model, tokens, alpha) for alpha in alphas]
    losses, evenness = (torch.stack(values) for values in zip(*measured, strict=True))
    now, zero, unscaled = (alphas.index(alpha) for alpha in (1.0, 0.0, math.sqrt(width)))
    best = int(losses.argmin())
    gap = _ways_to_average(specimen.model, tokens[:1])
    arrays = {
        "loss": ("alpha", losses),
        "evenness": ("alpha", evenness.mean(dim=1)),
        "evenness_by_layer": ("alpha layer", evenness),
        "alpha_value": ("alpha", alphas),
        "score_deviation": ("layer", _score_deviation(specimen.model, tokens)),
    }
    caption = (
        f"On {tokens.numel()} tokens the model costs {losses[now]:.3f} nats. With even weights (alpha 0) it costs "
        f"{losses[zero]:.3f}, unscaled (alpha √{width} = {math.sqrt(width):.2f}) {losses[unscaled]:.3f}; of those "
        f"tried, alpha {alphas[best]:g} is best with {losses[best]:.3f}. Its rows have "
        f"{percent(evenness[now].mean())} of the largest entropy. At alpha 0 softmax, a loop over means and tril @ x "
        f"differ by at most {gap:.1g}."
    )
    labels = {"alpha": [f"{alpha:.3g}" for alpha in alphas]}
    return view("sharpness", arrays, caption, [Picture("bars", "what alpha does", ("loss", "evenness"))], labels)


def _measure(
    model: torch.nn.Module, tokens: Int[Tensor, "B T"], alpha: float
) -> tuple[Float64[Tensor, ""], Float64[Tensor, " L"]]:
    """Return the loss, and by layer the mean entropy of a row as a share of the largest."""
    seen = trace(model, tokens, ("blocks.*.attn.pattern",), edits=[sharpened(alpha)])
    loss = F.cross_entropy(seen.logits[:, :-1].flatten(0, 1).double(), tokens[:, 1:].flatten())
    room = torch.arange(2, tokens.size(1) + 1, dtype=torch.float64, device=tokens.device).log()
    patterns = torch.stack(seen.layers("attn.pattern")).double()
    return loss.cpu(), (entropy(patterns)[..., 1:] / room).mean(dim=(1, 2, 3)).cpu()


def _score_deviation(model: torch.nn.Module, tokens: Int[Tensor, "B T"]) -> Float64[Tensor, " L"]:
    """Return the standard deviation of each layer's scores that count."""
    seen = trace(model, tokens, ("blocks.*.attn.scores_masked",))
    return torch.stack([scores[scores.isfinite()].double().std() for scores in seen.layers("attn.scores_masked")]).cpu()


def _ways_to_average(model: torch.nn.Module, tokens: Int[Tensor, "1 T"]) -> float:
    """Return how far three ways to average values apart are: softmax of zeros, a loop, and a triangular matrix."""
    seen = trace(model, tokens, ("blocks.0.attn.v", "blocks.0.attn.z"), edits=[sharpened(0.0)])
    v, by_softmax = seen["blocks.0.attn.v"].double(), seen["blocks.0.attn.z"].double()
    v = v.repeat_interleave(by_softmax.size(1) // v.size(1), dim=1)
    by_loop = torch.stack([v[:, :, : place + 1].mean(dim=2) for place in range(v.size(2))], dim=2)
    triangle = torch.ones(v.size(2), v.size(2), dtype=v.dtype, device=v.device).tril()
    by_matrix = (triangle / triangle.sum(dim=1, keepdim=True)) @ v
    return float(max((by_softmax - by_loop).abs().max(), (by_matrix - by_loop).abs().max()))
