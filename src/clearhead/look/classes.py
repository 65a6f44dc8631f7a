"""Plain classes of tokens: vowels, consonants, digits and so on, by which a model's numbers are grouped."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence

from jaxtyping import Float
from torch import Tensor

from clearhead.look.specimen import Specimen

VOWELS = frozenset("aeiou")


def class_of(text: str, *, special: bool = False) -> str:
    """Return the class of one token.

    Letters lose their accents first. `word start` is a piece of several letters behind a space, `word part` one
    without, `mixed` whatever is none of these.
    """
    if special or not text:
        return "special"
    if text.isspace():
        return "white space"
    if text.strip().isdigit():
        return "digit"
    if len(text) > 1:
        letters = text.strip()
        if not letters.isalpha():
            return "mixed" if any(map(str.isalnum, letters)) else "punctuation"
        return "word start" if text[0] == " " else "word part"
    return _class_of_character(text)


def _class_of_character(character: str) -> str:
    plain = unicodedata.normalize("NFD", character)[0]
    if plain.isalpha():
        if plain.isupper():
            return "capital"
        return "vowel" if plain in VOWELS else "consonant"
    return "punctuation" if unicodedata.category(plain)[0] in "PS" else "mixed"


def classes(specimen: Specimen) -> list[str]:
    """Return the class of every id of a vocabulary."""
    specials = set(specimen.tokenizer.specials.values())
    return [class_of(text, special=id_ in specials) for id_, text in enumerate(specimen.vocabulary())]


def means_by_class(values: Float[Tensor, " V"], names: Sequence[str]) -> dict[str, float]:
    """Return the mean of the values of each class, the largest first."""
    found = {name: values[[at for at, each in enumerate(names) if each == name]].mean() for name in set(names)}
    return dict(sorted(((name, float(mean)) for name, mean in found.items()), key=lambda pair: -pair[1]))
