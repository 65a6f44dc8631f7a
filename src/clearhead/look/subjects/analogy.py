"""king - man + woman: arithmetic with token vectors, beside random words."""

from __future__ import annotations

import re

import torch
from jaxtyping import Float, Int
from torch import Tensor

from clearhead.core.errors import UserError
from clearhead.look.frame import view
from clearhead.look.specimen import Source, Specimen, quoted, specimen_of
from clearhead.look.vectors import cosines, token_vectors, used_ids
from clearhead.show.readable import percent
from clearhead.show.view import Picture, View

SHOWN = 10
RANDOM = 500
FORM = re.compile(r"(.+?)\s+-\s+(.+?)\s+\+\s+(.+)", re.DOTALL)


def analogy(source: Source, prompt: str | None = None, *, seed: int = 1) -> View:
    """Show which tokens lie nearest to a - b + c, and how near they would lie for random a, b, c.

    The three terms themselves are left out of the answers, as is the custom; without that, a or c would often win.
    Source: Mikolov et al. 2013.

    Args:
        prompt: three single tokens, such as "king - man + woman".
        seed: of the random triples.
    """
    specimen = specimen_of(source, writes=False)
    match = FORM.fullmatch((prompt or "").strip())
    if match is None:
        raise UserError('An analogy is asked for as three words, such as "king - man + woman".')
    terms = torch.tensor([single_token(specimen, term) for term in match.groups()])
    ids, vectors = used_ids(specimen, specimen.tokenizer.vocabulary_size), token_vectors(specimen)
    if len(ids) < 4:
        raise UserError("The vocabulary has too few tokens for an analogy.")
    scores = answers(vectors, ids, terms[None])[0]
    order = scores.argsort(descending=True)[: min(SHOWN, len(ids) - 3)]
    generator = torch.Generator().manual_seed(seed)
    triples = torch.stack([ids[torch.randperm(len(ids), generator=generator)[:3]] for _ in range(RANDOM)])
    by_chance = answers(vectors, ids, triples).amax(dim=1)
    best, names = scores[order[0]], specimen.text(ids[order])
    a, b, c = (quoted(text) for text in specimen.text(terms))
    arrays = {"cosine": ("answer", scores[order]), "random_best": ("triple", by_chance)}
    caption = (
        f"{a} - {b} + {c} is nearest to {quoted(names[0])} (cosine {best:.3f}). The best answers to {RANDOM} random "
        f"triples have {by_chance.mean():.3f} on average; {percent((by_chance >= best).double().mean())} of them are "
        f"at least as near, so this one "
        f"{'stands out' if float((by_chance >= best).double().mean()) < 0.05 else 'does not stand out'}."
    )
    pictures = [Picture("bars", "nearest to the sum", ("cosine",))]
    return view("analogy", arrays, caption, pictures, {"answer": names})


def answers(vectors: Float[Tensor, "V C"], ids: Int[Tensor, " N"], triples: Int[Tensor, "R 3"]) -> Float[Tensor, "R N"]:
    """Return the cosine of each id with a - b + c for each triple; the terms themselves have minus infinity."""
    a, b, c = (vectors[triples[:, at]] for at in range(3))
    found = cosines(a - b + c, vectors[ids])
    own = (ids == triples[:, :, None]).any(dim=1)
    return found.masked_fill(own, -torch.inf)


def single_token(specimen: Specimen, text: str) -> int:
    """Return the id of a word that is one token, with a space before it if it is so only then.

    Raises:
        UserError: it is several tokens either way.
    """
    for form in (text, f" {text}"):
        ids = specimen.tokenizer.encode(specimen.tokenizer.drop_unknown(form)[0]).tolist()
        if len(ids) == 1 and specimen.tokenizer.decode(ids) == form:
            return int(ids[0])
    raise UserError(
        f"{quoted(text)} is not one token for this model, so it has no vector; words are with --tokenizer word or bpe."
    )
