"""What comes next: the model's probabilities, what each filter leaves of them, and what is drawn."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace

import torch
from jaxtyping import Float64, Int
from torch import Tensor

from clearhead.core.errors import UserError
from clearhead.generation.sampling import Sampling, distribution, draw
from clearhead.look.frame import view
from clearhead.look.specimen import Source, quoted, read
from clearhead.show.readable import count, percent
from clearhead.show.view import Picture, View

SHOWN = 12


def next_token(
    source: Source,
    prompt: str | None = None,
    *,
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float = 1.0,
    min_p: float = 0.0,
    seed: int = 1,
    draws: int = 10_000,
) -> View:
    """Show the distribution of the token after a text, stage by stage, beside many draws from it.

    Arrays over `token` have the likeliest ones, those over `id` the whole vocabulary.

    Args:
        seed: of the draws.
        draws: how many tokens are drawn; each needs one uniform number, whose place among the cumulated probabilities
            decides (`luck_from` to `luck_to`).
    """
    if draws < 1:
        raise UserError(f"draws must be at least 1, not {draws}.")
    reading = read(source, prompt)
    tokenizer = reading.specimen.tokenizer
    never = torch.from_numpy(tokenizer.unseen).long()
    logits = reading.trace().logits[:, -1].cpu()
    sampling = Sampling(temperature=temperature, top_k=top_k, top_p=top_p, min_p=min_p)
    stages = {
        name: distribution(logits, reading.tokens.cpu(), each, never=never)[0] for name, each in _stages(sampling)
    }
    final = next(reversed(stages.values()))
    drawn = _draw_many(final, draws, seed)
    best = stages["model"].argsort(descending=True, stable=True)[:SHOWN]
    ends = final.cumsum(0).masked_fill(final == 0, math.nan)
    arrays = {
        "probability": ("token", stages["model"][best]),
        **{name: ("token", stage[best]) for name, stage in stages.items() if name != "model"},
        "drawn": ("token", drawn[best].double() / draws),
        "luck_from": ("token", (ends - final)[best]),
        "luck_to": ("token", ends[best]),
        "logit": ("token", logits[0, best]),
        "all_logits": ("id", logits[0]),
        "all_probabilities": ("id", final),
    }
    labels = {"token": reading.specimen.text(best), "id": reading.specimen.vocabulary()}
    filters = [name for name in stages if name != "model"]
    title = f"the {len(best)} likeliest tokens, and {count(draws)} draws"
    pictures = [
        Picture("bars", title, ("probability", *filters, "drawn")),
        Picture("table", "the uniform number that draws each token", ("luck_from", "luck_to")),
    ]
    caption = _caption(reading.pieces, labels["token"], stages, drawn, draws) + reading.note
    return view("next-token", arrays, caption, pictures, labels)


def _stages(sampling: Sampling) -> Iterator[tuple[str, Sampling]]:
    """Yield the filters as they come to work, one more each time; those that do nothing are passed over."""
    so_far = Sampling()
    yield "model", so_far
    for field in ("temperature", "top_k", "top_p", "min_p"):
        further = replace(so_far, **{field: getattr(sampling, field)})
        if further != so_far:
            yield field.replace("_", "-"), further
        so_far = further


def _draw_many(probabilities: Float64[Tensor, " V"], draws: int, seed: int) -> Int[Tensor, " V"]:
    """Return how often each token comes in so many draws."""
    uniforms = torch.rand(draws, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return draw(probabilities.expand(draws, -1), uniforms).bincount(minlength=len(probabilities))


def _caption(
    pieces: list[str],
    best: list[str],
    stages: dict[str, Float64[Tensor, " V"]],
    drawn: Int[Tensor, " V"],
    draws: int,
) -> str:
    model, final = stages["model"], next(reversed(stages.values()))
    entropy = 0.0 - float((model * model.clamp(min=1e-300).log()).sum())
    said = (
        f"After {quoted(''.join(pieces[-12:]))} the model expects {quoted(best[0])} with {percent(model.max(), 1)}. "
        f"It is as undecided as among {torch.tensor(entropy).exp():.1f} equally likely tokens ({entropy:.2f} nats)."
    )
    if len(stages) > 1:
        left = final > 0
        said += (
            f" The filters leave {int(left.sum())} of {len(final)} tokens, which held {percent(model[left].sum(), 1)}."
        )
    first = int(final.argmax())
    low, share = float(final[:first].sum()), float(final[first])
    return said + (
        f" Of {count(draws)} draws {percent(drawn[first] / draws, 1)} gave the likeliest, and {percent(share, 1)} were "
        f"to be expected. It comes where the uniform number, the luck of a draw, lies between {low:.3f} and "
        f"{low + share:.3f}."
    )
