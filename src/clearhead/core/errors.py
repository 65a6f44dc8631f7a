"""What can go wrong because of a user's input, and how it is told."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from pathlib import Path


class UserError(Exception):
    """A mistake that the user can mend: one sentence that says what is wrong, where, and what to type instead.

    The command line prints the sentence and exits with code 2; nothing else is caught there.
    """


class DamagedFile(UserError):
    """A stored file is not what was written: a hash, a length or a format does not fit."""

    def with_advice(self, advice: str) -> DamagedFile:
        """Return the same sentence, continued by what can be done."""
        return DamagedFile(f"{str(self).removesuffix('.')}; {advice}.")


class BrokenModel(UserError):
    """A model computes numbers that are not finite."""


class CannotWrite(UserError):
    """The system takes no more: a full disk, a folder that may not be written to."""


class NewerFormat(UserError):
    """A stored file was written by a newer version of the program than this one."""


def newer_format(path: Path, number: int, known: int) -> NewerFormat:
    """Return the sentence about a stored file whose format this version does not know yet."""
    return NewerFormat(
        f"{path} was written by a newer version of clearhead: it has format {number}, and this one reads up to "
        f"{known}; update clearhead (pip install --upgrade clearhead)."
    )


class UnknownCharacter(UserError):
    """A tokenizer has no id for a character of a text.

    Args:
        character: as it is named in sentences.
    """

    def __init__(self, character: str) -> None:
        super().__init__(
            f"The text has the character {character}, which the training text does not have; "
            "leave it out, or let --unknown drop do so."
        )
        self.character = character


OUT_OF_MEMORY = ("allocate memory", "out of memory", "not enough memory")
"""What torch's errors say on its several devices when memory runs out."""


CLOSE = 0.65
"""Twice the letters that two names share in order, over those of both: 0.8 of "trian" and "train"."""


def is_out_of_memory(error: BaseException) -> bool:
    """Say whether an error means that the memory of the machine or of a device ran out."""
    if isinstance(error, RuntimeError):
        return any(words in str(error) for words in OUT_OF_MEMORY)
    return isinstance(error, MemoryError)


def nearest(name: str, valid: Iterable[str]) -> str:
    """Return ' Did you mean "x"?' for the valid name most like `name`, or an empty string."""
    match = closest(name, valid)
    return "" if match is None else f' Did you mean "{match}"?'


def closest(name: str, valid: Iterable[str]) -> str | None:
    """Return the valid name most like `name`: one is how the other begins, or most of their letters agree."""
    names = list(valid)
    begun = [each for each in names if min(len(name), len(each)) > 2 and is_beginning(name, each)]
    if begun:
        return min(begun, key=lambda each: abs(len(each) - len(name)))
    return next(iter(difflib.get_close_matches(name, names, n=1, cutoff=CLOSE)), None)


def is_beginning(one: str, other: str) -> bool:
    """Say whether one of two names is how the other begins."""
    return one.startswith(other) or other.startswith(one)
