"""Geometry of token vectors: likeness, maps, neighbours, and how well a class can be read off them."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from clearhead.core.errors import UserError
from clearhead.look.specimen import Specimen

NEAR = 4
"""How many tokens apart two are counted as near each other."""

RIDGE = 1.0
"""Weight of the ridge penalty, where vectors have unit deviation."""


def token_vectors(specimen: Specimen) -> Float[Tensor, "V C"]:
    """Return a model's row for each id: its embedding, or the table of a bigram.

    Raises:
        UserError: a module of the user's own has none under these names.
    """
    # An encoder has a GPT's stack inside.
    model = getattr(specimen.model, "body", specimen.model)
    for name in ("embedding", "table"):
        found = getattr(model, name, None)
        if isinstance(found, nn.Module) and isinstance(getattr(found, "weight", None), Tensor):
            weight: Tensor = found.weight  # type: ignore[assignment]
            return weight.detach().double().cpu()
    raise UserError(f"{specimen.kind} has no embedding: a module named embedding or table with a weight.")


def used_ids(specimen: Specimen, at_most: int) -> Int[Tensor, " N"]:
    """Return the ids that texts give, the commonest of the validation part first, without specials."""
    tokenizer = specimen.tokenizer
    left_out = {*tokenizer.specials.values(), *tokenizer.unseen.tolist()}
    ids = [id_ for id_ in range(tokenizer.vocabulary_size) if id_ not in left_out]
    try:
        counts = torch.bincount(torch.from_numpy(specimen.validation()), minlength=tokenizer.vocabulary_size)
    except UserError:
        return torch.tensor(ids[:at_most])
    if specimen.rows():  # such runs do not note which ids their training rows lack
        ids = [id_ for id_ in ids if counts[id_]]
    return torch.tensor(sorted(ids, key=lambda id_: -int(counts[id_]))[:at_most])


def cosines(left: Float[Tensor, "N C"], right: Float[Tensor, "M C"]) -> Float[Tensor, "N M"]:
    """Return the cosine of each vector with each other; 0 where one has no length."""
    return F.normalize(left, dim=-1) @ F.normalize(right, dim=-1).T


def neighbours(vectors: Float[Tensor, "N C"], number: int) -> tuple[Float[Tensor, "N R"], Int[Tensor, "N R"]]:
    """Return the most alike others of each vector: their cosines and their places."""
    alike = cosines(vectors, vectors).fill_diagonal_(-torch.inf)
    best = alike.topk(min(number, len(vectors) - 1), dim=-1)
    return best.values, best.indices


def principal(vectors: Float[Tensor, "N C"], number: int = 2) -> tuple[Float[Tensor, "N P"], Float[Tensor, " P"]]:
    """Return the coordinates along the directions of largest spread, and the share of the spread that each has.

    The sign of a direction is arbitrary; here its largest coordinate is positive.
    """
    centred = vectors - vectors.mean(dim=0)
    u, s, _ = torch.linalg.svd(centred, full_matrices=False)
    points = (u * s)[:, :number]
    signs = points.gather(0, points.abs().argmax(dim=0)[None]).sign()
    return points * signs, s[:number].square() / s.square().sum()


def random_vectors(like: Float[Tensor, "N C"], seed: int) -> Float[Tensor, "N C"]:
    """Return normal vectors of the same number and size: what an embedding is before training."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(like.shape, generator=generator, dtype=like.dtype) * like.square().mean().sqrt()


def counted_vectors(text: Int[Tensor, " T"], ids: Int[Tensor, " N"], width: int) -> Float[Tensor, "N P"]:
    """Return vectors of some ids that come from counting alone: how much more often than by chance two are near.

    PPMI = max(0, ln(n_ij n / (n_i n_j))) over pairs at most four tokens apart, U sqrt(S) of its singular value
    decomposition. Source: Levy and Goldberg 2014, section 4; Levy et al. 2015, section 3.3 for the root. Departs: the
    contexts are the same ids, not all of them.
    """
    number = len(ids)
    place = torch.full((int(max(text.max(), ids.max())) + 1,), number)
    place[ids] = torch.arange(number)
    places = place[text]  # `number` stands for all other ids
    pairs = torch.cat([places[:-apart] * (number + 1) + places[apart:] for apart in range(1, NEAR + 1)])
    one_way = torch.bincount(pairs, minlength=(number + 1) ** 2).view(number + 1, -1)[:number, :number].double()
    counts = one_way + one_way.T
    by_chance = counts.sum(dim=1, keepdim=True) * counts.sum(dim=0) / counts.sum()
    association = (counts / by_chance).nan_to_num().clamp(min=1.0).log()
    u, s, _ = torch.linalg.svd(association)
    counted: Tensor = u[:, :width] * s[:width].sqrt()
    return counted


def readable(vectors: Float[Tensor, "N C"], belongs: Bool[Tensor, " N"]) -> float:
    """Return how well a linear probe tells a class: the chance that a member is ranked above another token.

    Each token is ranked by a ridge regression on all others, in closed form: (Hy - h y) / (1 - h) with the diagonal h
    of H = X (X^T X + r)^-1 X^T. 0.5 is no better than chance.
    """
    x = (vectors - vectors.mean(dim=0)) / vectors.std(dim=0).clamp(min=1e-12)
    x = torch.cat((x, torch.ones(len(x), 1, dtype=x.dtype)), dim=1)
    gram = x.T @ x + RIDGE * x.size(1) * torch.eye(x.size(1), dtype=x.dtype)
    hat = x @ torch.linalg.solve(gram, x.T)
    y, h = belongs.to(x.dtype), hat.diagonal()
    left_out = (hat @ y - h * y) / (1 - h)
    return ranked_above(left_out[belongs], left_out[~belongs])


def ranked_above(members: Float[Tensor, " N"], others: Float[Tensor, " M"]) -> float:
    """Return the chance that a member's value is above another's, ties counted half (the area under the ROC curve)."""
    above = (members[:, None] > others).double() + 0.5 * (members[:, None] == others).double()
    return float(above.mean())
