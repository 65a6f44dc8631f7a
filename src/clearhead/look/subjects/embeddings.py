"""Which tokens are alike to the model."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor

from clearhead.core.errors import UserError
from clearhead.look.classes import classes
from clearhead.look.frame import view
from clearhead.look.specimen import Source, Specimen, quoted, specimen_of
from clearhead.look.subjects.why import one_id
from clearhead.look.vectors import (
    NEAR,
    cosines,
    counted_vectors,
    neighbours,
    principal,
    random_vectors,
    token_vectors,
    used_ids,
)
from clearhead.show.readable import percent, visible
from clearhead.show.view import Picture, View

SHOWN = 256
LISTED = 24
NEAREST = 4


def embeddings(source: Source, *, token: str | None = None, seed: int = 1) -> View:
    """Show the embedding as a map and as neighbours, beside what random vectors and counting alone would give.

    What is counted is which tokens of the validation part stand near each other (`counted_vectors`): the cheap way to
    vectors, which Word2Vec and GloVe are relatives of. The map keeps the two directions of largest spread (principal
    components), and says how much they hold.

    Args:
        token: whose neighbours are listed, instead of those of the commonest tokens.
        seed: of the random vectors.
    """
    specimen = specimen_of(source, writes=False)
    ids = used_ids(specimen, SHOWN)
    vectors, names = token_vectors(specimen)[ids], specimen.text(ids)
    every_class = classes(specimen)
    kinds = [every_class[int(id_)] for id_ in ids]
    alike, nearest = neighbours(vectors, NEAREST)
    control, by_chance = neighbours(random_vectors(vectors, seed), 1)
    points, held = principal(vectors)
    listed = list(range(min(LISTED, len(ids))))
    texts = [_listed(names, *row) for row in zip(nearest.tolist(), alike.tolist(), strict=True)]
    arrays = {
        "point": ("shown axis", points),
        "class": ("shown", kinds),
        "cosine": ("shown rank", alike),
        "neighbour": ("shown rank", [[names[other] for other in row] for row in nearest.tolist()]),
        "listed_neighbour": ("listed nearest", [texts[at] for at in listed]),
        "random_cosine": ("shown", control[:, 0]),
    }
    ranks = [f"number {at + 1}" for at in range(alike.size(1))]
    labels = {"shown": names, "listed": [names[at] for at in listed], "nearest": ranks}
    pictures = [
        Picture("scatter", f"the map: two directions with {100 * held.sum():.0f} % of the spread", ("point", "class")),
        Picture("table", "nearest neighbours, with their cosines", ("listed_neighbour",)),
    ]
    counted = _counted(specimen, ids, vectors.size(1))
    if counted is not None:
        by_counts, values = neighbours(counted, NEAREST)[::-1]
        texts = [_listed(names, *row) for row in zip(by_counts.tolist(), values.tolist(), strict=True)]
        arrays["counted_neighbour"] = ("listed nearest", [texts[at] for at in listed])
        pictures.append(Picture("table", "nearest by counting alone what stands near what", ("counted_neighbour",)))
    if token is not None:
        chosen = token_vectors(specimen)[one_id(specimen, token)]
        of_token = cosines(chosen[None], vectors)[0]
        order = of_token.argsort(descending=True)[1 : 1 + 2 * NEAREST]
        arrays["cosine_with_token"] = ("like", of_token[order])
        labels["like"] = [names[int(at)] for at in order]
        pictures[1] = Picture("bars", f"most like {quoted(token)}", ("cosine_with_token",))
    share = "" if counted is None else f" and {percent(same_class(kinds, by_counts))} by counts"
    caption = (
        f"{_twins(names, nearest)}"
        f"{percent(same_class(kinds, nearest))} of {len(ids)} tokens have a nearest neighbour of their own class, "
        f"against {percent(same_class(kinds, by_chance))} among random vectors{share}. "
        f"The mean cosine with the nearest is {alike[:, 0].mean():.2f}, at random {control.mean():.2f}. "
        f"Most alike are {_closest(names, alike, nearest)}."
    )
    return view("embeddings", arrays, caption, pictures, labels)


def _counted(specimen: Specimen, ids: Int[Tensor, " N"], width: int) -> Float[Tensor, "N P"] | None:
    """Return the ids' vectors by counting in the validation part; None where there is none, or it is too short."""
    try:
        text = torch.from_numpy(specimen.validation())
    except UserError:
        return None
    return counted_vectors(text, ids, width) if len(text) > NEAR else None


def _listed(names: list[str], places: list[int], values: list[float]) -> list[str]:
    return [f"{visible(names[place])} {cosine:.2f}" for place, cosine in zip(places, values, strict=True)]


def same_class(kinds: list[str], nearest: Int[Tensor, "N R"]) -> float:
    """Return the share of tokens whose nearest neighbour is of their own class."""
    return sum(kinds[int(other)] == kind for kind, other in zip(kinds, nearest[:, 0], strict=True)) / len(kinds)


def _twins(names: list[str], nearest: Int[Tensor, "N R"]) -> str:
    """Return in a sentence how often a token's nearest neighbour is the same word in other letter case or spacing."""
    plain = [name.strip().casefold() for name in names]
    paired = [at for at, name in enumerate(plain) if name.isalpha() and plain.count(name) > 1]
    if not paired:
        return ""
    met = sum(plain[int(nearest[at, 0])] == plain[at] for at in paired)
    chance = sum(plain.count(plain[at]) - 1 for at in paired) / len(paired) / (len(names) - 1)
    return (
        f"Of {len(paired)} tokens that differ from another by letter case or a space, {met} have that one as nearest "
        f"neighbour; chance gives {percent(chance)}. "
    )


def _closest(names: list[str], alike: Float[Tensor, "N R"], nearest: Int[Tensor, "N R"]) -> str:
    first = int(alike[:, 0].argmax())
    return f"{quoted(names[first])} and {quoted(names[int(nearest[first, 0])])} ({alike[first, 0]:.2f})"
