"""What each head is like: tags with scores."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, Shaped
from torch import Tensor

from clearhead.look.frame import view
from clearhead.look.recording import trace
from clearhead.look.specimen import Source, Specimen, read, specimen_of, windows
from clearhead.look.subjects.attention import entropy
from clearhead.model.encoder import Encoder
from clearhead.model.masks import Mask
from clearhead.show.view import Picture, View

BEGINNING = 24
REPEATED = 24
ROWS = 8
ON_REPEATED = ("duplicate", "induction")
CLEAR, EVEN = 0.4, 0.9
"""From which score on a head is called so: a mean weight, and a share of the largest entropy."""


def heads(source: Source, prompt: str | None = None, *, seed: int = 1) -> View:
    """Show for every head how much of its weight lies where known kinds of heads look.

    On the text: previous (the token before), first (the first place), itself, and even, the entropy of its rows as a
    share of the largest; where a later token may be read, also next (the token after). On random tokens that are said
    twice, so that nothing but looking back can be of use: duplicate (the same token, earlier) and induction (what
    followed it then). `repeated_score` has all on the latter.
    Source: Elhage et al. 2021; Olsson et al. 2022, for the kinds and the repeated random tokens.

    Args:
        seed: of the random tokens.
    """
    specimen = specimen_of(source, writes=False)
    reads_rows = isinstance(specimen.model, Encoder)
    reading = read(specimen, prompt, beginning=BEGINNING, at_least=2, writes=not reads_rows)
    specimen.attention(0)
    tokens = reading.tokens if prompt is not None or reads_rows else windows(specimen, ROWS)
    twice = repeated(specimen, seed)
    on_repeated, repeated_chance = head_scores(specimen, twice), by_even_weights(allowed_by(specimen, twice))
    scores = head_scores(specimen, tokens) | {kind: on_repeated[kind] for kind in ON_REPEATED}
    chance = by_even_weights(allowed_by(specimen, tokens)) | {kind: repeated_chance[kind] for kind in ON_REPEATED}
    tags = tags_of(scores)
    names = [f"layer {layer} head {head}" for layer, head in np.ndindex(*tags.shape)]
    together = torch.stack(list(scores.values()))
    on_text = reading.trace("blocks.*.attn.pattern").layers("attn.pattern")
    arrays = {
        "score": ("kind layer head", together),
        "score_of_even_weights": ("kind", [float(chance[kind]) for kind in scores]),
        "repeated_score": ("kind layer head", torch.stack([on_repeated[kind] for kind in scores])),
        "tag": ("which", tags.ravel()),
        "by_head": ("which kind", together.flatten(1).T),
        "pattern": ("layer head query key", torch.stack([pattern[0] for pattern in on_text])),
    }
    labels = {"kind": list(scores), "which": names, "query": reading.pieces, "key": reading.pieces}
    caption = _caption(scores, chance, tags.ravel().tolist(), names) + reading.note
    return view("heads", arrays, caption, [Picture("table", "mean weights by kind", ("by_head", "tag"))], labels)


def _caption(
    scores: dict[str, Float[Tensor, "L H"]], chance: dict[str, Float[Tensor, "1 1"]], tags: list[str], names: list[str]
) -> str:
    tagged = [f"{name} ({tag})" for name, tag in zip(names, tags, strict=True) if tag]
    strongest = []
    for kind in (kind for kind in ("previous", "next", "first", "itself", *ON_REPEATED) if kind in scores):
        best = int(scores[kind].argmax())
        strongest.append(f"{kind} {scores[kind].flatten()[best]:.2f} in {names[best]} ({float(chance[kind]):.2f})")
    clear = f"{len(tagged)} of {len(names)} heads have a clear habit{': ' if tagged else ''}{', '.join(tagged)}."
    return (
        f"{clear} Clear is a mean weight of at least {CLEAR}, or {EVEN} of the largest entropy. "
        f"Strongest of each kind, with what even weights would give: {', '.join(strongest)}."
    )


def repeated(specimen: Specimen, seed: int) -> Int[Tensor, "B T"]:
    """Return rows of random tokens, each said twice, without specials and tokens that no text gave."""
    tokenizer = specimen.tokenizer
    usable = np.setdiff1d(np.arange(tokenizer.vocabulary_size), [*tokenizer.specials.values(), *tokenizer.unseen])
    half = max(1, min(REPEATED, specimen.context_length // 2))
    chosen = torch.randint(len(usable), (ROWS, half), generator=torch.Generator().manual_seed(seed))
    once = torch.from_numpy(usable)[chosen]
    return torch.cat((once, once), dim=1).to(next(specimen.model.parameters()).device)


def head_scores(specimen: Specimen, tokens: Int[Tensor, "B T"]) -> dict[str, Float[Tensor, "L H"]]:
    """Return, by kind, how much weight each head puts there on average."""
    recorded = trace(specimen.model, tokens, ("blocks.*.attn.pattern",)).layers("attn.pattern")
    return scores_of(torch.stack(recorded).double().cpu(), allowed_by(specimen, tokens))


def allowed_by(specimen: Specimen, tokens: Int[Tensor, "B T"]) -> Bool[Tensor, "T T"]:
    """Return which places may be read from which."""
    length, mask = tokens.size(1), specimen.model.mask
    assert isinstance(mask, Mask)
    dense = mask.dense(length, length, torch.device("cpu"))
    return torch.ones(length, length, dtype=torch.bool) if dense is None else dense[0, 0]


def by_even_weights(allowed: Bool[Tensor, "T T"]) -> dict[str, Float[Tensor, "1 1"]]:
    """Return the scores of a head that takes the same from every place it may read."""
    even = allowed.double()
    return scores_of((even / even.sum(dim=1, keepdim=True))[None, None, None], allowed)


def scores_of(patterns: Float[Tensor, "L B H T T"], allowed: Bool[Tensor, "T T"]) -> dict[str, Float[Tensor, "L H"]]:
    """Return, by kind, how much weight lies there on average."""
    half = patterns.size(-1) // 2
    room = allowed.sum(dim=1)
    choose = room > 1

    def behind(distance: int, skipped: int = 0) -> Float[Tensor, "L H"]:
        """Return the mean weight so many places back, or ahead by a negative number, without the first few."""
        mean: Tensor = patterns.diagonal(-distance, -2, -1)[..., skipped:].mean(dim=(1, -1))
        return mean

    return {
        "previous": behind(1),
        **({"next": behind(-1)} if bool(allowed.triu(1).any()) else {}),
        "duplicate": behind(half),
        "induction": behind(half - 1, skipped=1) if half > 1 else torch.zeros(patterns.size(0), patterns.size(2)),
        "first": patterns[..., 1:, 0].mean(dim=(1, -1)),
        "itself": behind(0),
        "even": (entropy(patterns)[..., choose] / room[choose].log()).mean(dim=(1, -1)),
    }


def tags_of(scores: dict[str, Float[Tensor, "L H"]]) -> Shaped[np.ndarray, "L H"]:
    """Return the kind of each head: the largest score that is clear, or nothing."""
    kinds = list(scores)
    marks = torch.stack([scores[kind] if kind != "even" else scores[kind] * CLEAR / EVEN for kind in kinds])
    best = marks.max(dim=0)
    return np.where(best.values.numpy() >= CLEAR, np.array(kinds)[best.indices.numpy()], "")
