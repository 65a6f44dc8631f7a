"""Who decides what a dimension means: single channels against whole vectors, and against chance."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from clearhead.core.errors import UserError
from clearhead.look.classes import classes
from clearhead.look.frame import view
from clearhead.look.specimen import Source, Specimen, quoted, require_index, specimen_of
from clearhead.look.vectors import neighbours, ranked_above, readable, token_vectors, used_ids
from clearhead.show.readable import percent
from clearhead.show.view import Picture, View

SHUFFLES = 20
FEWEST = 4
SHOWN = 8
NEAREST = 5


def dimensions(source: Source, *, dimension: int | None = None, other: str | None = None, seed: int = 1) -> View:
    """Show what single dimensions of the embedding tell of plain classes, and what the whole vector tells.

    For each class: how well the best single dimension ranks its members (the chance that a member comes before another
    token, either way round), the best of as many random directions, a linear probe on all dimensions, each token ranked
    by a probe that has not seen it, and the same probe with the classes shuffled. Training fixes the space and not its
    axes: with `other`, a run with another seed, dimensions are matched by correlation, and neighbours compared.

    Args:
        dimension: whose tokens are listed, instead of the one that tells most.
        other: another run with the same vocabulary.
        seed: of the random directions and shuffles.
    """
    specimen = specimen_of(source, writes=False)
    ids = used_ids(specimen, specimen.tokenizer.vocabulary_size)
    vectors, names = token_vectors(specimen)[ids], specimen.text(ids)
    every_class = classes(specimen)
    kinds = [every_class[int(id_)] for id_ in ids]
    members = _members(kinds)
    if not members:
        raise UserError(f"No class has {FEWEST} tokens with others beside it, so there is nothing to tell apart.")
    generator = torch.Generator().manual_seed(seed)
    turned = vectors @ torch.randn(vectors.size(1), vectors.size(1), generator=generator, dtype=vectors.dtype)
    single = torch.stack([_best_single(vectors, belongs) for belongs in members.values()])
    random = torch.stack([_best_single(turned, belongs) for belongs in members.values()]).amax(dim=1)
    probes = [readable(vectors, belongs) for belongs in members.values()]
    shuffled = [_shuffled(vectors, belongs, generator) for belongs in members.values()]
    teller = int(single.amax(dim=0).argmax())
    chosen = teller if dimension is None else require_index("dimension", dimension, vectors.size(1))
    order = vectors[:, chosen].argsort(descending=True)
    ends = torch.cat((order[:SHOWN], order[-SHOWN:]))
    best = single.amax(dim=1)
    arrays = {
        "best_dimension": ("class", best),
        "best_random_direction": ("class", random),
        "probe": ("class", probes),
        "probe_shuffled": ("class", shuffled),
        "which": ("class", single.argmax(dim=1)),
        "tokens": ("class", [int(belongs.sum()) for belongs in members.values()]),
        "by_dimension": ("class dimension", single),
        "value": ("token", vectors[ends, chosen]),
    }
    at = int(torch.tensor(probes).argmax())
    label = list(members)[at]
    caption = (
        f"Of {len(members)} classes, {label} is told best: a probe on all {vectors.size(1)} dimensions ranks a member "
        f"first with {percent(probes[at])}, shuffled {percent(shuffled[at])}; its best single dimension "
        f"({int(single[at].argmax())}) with {percent(best[at])}, the best of as many random directions with "
        f"{percent(random[at])}. At the ends of dimension {chosen} stand "
        f"{_listed(names, order[:3])} and {_listed(names, order[-3:])}.{_compared(specimen, other)}"
    )
    columns = ("probe", "probe_shuffled", "best_dimension", "best_random_direction", "which", "tokens")
    pictures = [
        Picture("table", "how well each class is told: 0.5 is chance", columns),
        Picture("bars", f"the ends of dimension {chosen}", ("value",)),
    ]
    labels = {"class": list(members), "token": [names[int(place)] for place in ends]}
    return view("dimensions", arrays, caption, pictures, labels)


def _listed(names: list[str], places: Int[Tensor, " N"]) -> str:
    return ", ".join(quoted(names[int(place)]) for place in places)


def _members(kinds: list[str]) -> dict[str, Bool[Tensor, " N"]]:
    """Return who belongs to each class that has enough members and enough others."""
    found = {kind: torch.tensor([each == kind for each in kinds]) for kind in sorted(set(kinds))}
    return {kind: each for kind, each in found.items() if FEWEST <= int(each.sum()) <= len(kinds) - FEWEST}


def _best_single(vectors: Float[Tensor, "N C"], belongs: Bool[Tensor, " N"]) -> Float[Tensor, " C"]:
    """Return for each dimension how well it alone ranks the members, whichever way round."""
    ranked = [ranked_above(column[belongs], column[~belongs]) for column in vectors.T]
    return torch.tensor([max(each, 1 - each) for each in ranked], dtype=torch.float64)


def _shuffled(vectors: Float[Tensor, "N C"], belongs: Bool[Tensor, " N"], generator: torch.Generator) -> float:
    """Return the probe's mean success on classes whose members were drawn at random."""
    tries = [readable(vectors, belongs[torch.randperm(len(belongs), generator=generator)]) for _ in range(SHUFFLES)]
    return sum(tries) / len(tries)


def _compared(specimen: Specimen, other: str | None) -> str:
    """Return a sentence on a run with another seed: are its dimensions the same, and its neighbours?"""
    if other is None:
        return ""
    second = specimen_of(other, writes=False)
    if second.tokenizer.fingerprint != specimen.tokenizer.fingerprint:
        raise UserError(f"{other} has another vocabulary, so its vectors cannot be compared token by token.")
    ids = used_ids(specimen, specimen.tokenizer.vocabulary_size)
    mine, theirs = token_vectors(specimen)[ids], token_vectors(second)[ids]
    return f" Beside {other}: {same_axes_and_neighbours(mine, theirs)}"


def same_axes_and_neighbours(mine: Float[Tensor, "N C"], theirs: Float[Tensor, "N E"]) -> str:
    """Return in a sentence how alike two embeddings' dimensions are, and how alike their neighbours."""
    together = torch.corrcoef(torch.cat((mine, theirs), dim=1).T)
    matched = together[: mine.size(1), mine.size(1) :].abs().amax(dim=1).mean()
    near, far = neighbours(mine, NEAREST)[1], neighbours(theirs, NEAREST)[1]
    shared = torch.stack([torch.isin(a, b).double().mean() for a, b in zip(near, far, strict=True)]).mean()
    chance = near.size(1) / (len(mine) - 1)
    return (
        f"a dimension's best match there correlates by {matched:.2f} on average, and {percent(shared)} of the "
        f"{near.size(1)} nearest neighbours are the same, where chance gives {percent(chance)}."
    )
