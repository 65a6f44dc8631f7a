"""A tokenizer with fewer ids: those that a training text does not need are left out."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int32

from clearhead.core.errors import UserError
from clearhead.text.tokenizer import END, Tokenizer, load_tokenizer

INNER_FOLDER = "whole"


class CompactTokenizer(Tokenizer):
    """Another tokenizer of which only some ids are left, renumbered in their order.

    Text is encoded by the whole tokenizer; what it gives that is not left is spelled in the ids of its bytes. So any
    text can still be written, and a text whose ids are all left has the same tokens as before.
    """

    kind = "compact"

    def __init__(self, whole: Tokenizer, kept: Int32[np.ndarray, " N"], *, end: bool) -> None:
        """Build the tokenizer.

        Args:
            kept: the ids of `whole` that are left, ascending; one for each byte is among them.
        """
        self._whole, self.kept = whole, kept
        self._table = np.full(whole.vocabulary_size, -1, dtype=np.int32)
        self._table[kept] = np.arange(len(kept), dtype=np.int32)
        self._bytes = self._table[ids_of_bytes(whole)]
        left = {name: int(self._table[id_]) for name, id_ in whole.specials.items()}
        specials = {name: id_ for name, id_ in left.items() if id_ >= 0 and (end or name != END)}
        names = {new: whole.token_text(old) for new, old in enumerate(kept.tolist())}
        super().__init__([whole.decode_bytes([old]) for old in kept], names=names, end=end, specials=specials)
        self.byte_lengths[: len(kept)] = whole.byte_lengths[kept]
        self.lossless = whole.lossless

    @classmethod
    def load(cls, folder: Path, stored: Mapping[str, Any]) -> CompactTokenizer:
        """Return the tokenizer of which `stored` is the checked description.

        Raises:
            DamagedFile: a file of the whole tokenizer is missing or is not what was written.
        """
        whole = load_tokenizer(folder / INNER_FOLDER)
        return cls(whole, np.array(stored["kept"], dtype=np.int32), end=stored["end"])

    def encode(self, text: str) -> Int32[np.ndarray, " N"]:
        """Return the new ids of the whole tokenizer's, and the bytes of those that were left out."""
        return self.renumbered(self._whole.encode(text))

    def renumbered(self, old: Int32[np.ndarray, " N"]) -> Int32[np.ndarray, " _"]:
        """Return the new ids of ids of the whole tokenizer, and the bytes of those that were left out."""
        new: Int32[np.ndarray, " _"] = self._table[old]
        if not (new < 0).any():
            return new
        pieces = ([n] if n >= 0 else self._spelled(o) for n, o in zip(new.tolist(), old.tolist(), strict=True))
        return np.fromiter(chain.from_iterable(pieces), dtype=np.int32)

    def drop_unknown(self, text: str) -> tuple[str, int]:
        """Return the text without the characters that `encode` would refuse, and how many those were."""
        return self._whole.drop_unknown(text)

    def save(self, folder: Path) -> None:
        """Write the tokenizer and, in a folder inside, the whole one."""
        super().save(folder)
        self._whole.save(folder / INNER_FOLDER)

    def _spelled(self, old: int) -> list[int]:
        return [int(self._bytes[value]) for value in self._whole.decode_bytes([old])]

    def _content(self) -> dict[str, Any]:
        return {"whole": self._whole.fingerprint, "kept": self.kept.tolist(), "end": self.end is not None}


def compact(whole: Tokenizer) -> CompactTokenizer:
    """Return the tokenizer without the ids that its run's training text does not give (`unseen`).

    What stays besides: one id for each byte, so that any text can be written, and `<|end|>`.

    Raises:
        UserError: nothing is left over, or bytes have no ids.
    """
    needed = np.ones(whole.vocabulary_size, dtype=np.bool_)
    needed[whole.unseen] = False
    needed[ids_of_bytes(whole)] = True
    if whole.end is not None:
        needed[whole.end] = True
    if needed.all():
        raise UserError("Every id of this run is used or stands for a byte, so there is nothing to leave out.")
    return CompactTokenizer(whole, np.flatnonzero(needed).astype(np.int32), end=whole.end is not None)


def ids_of_bytes(tokenizer: Tokenizer) -> Int32[np.ndarray, " 256"]:
    """Return the first id of each single byte.

    Raises:
        UserError: some bytes have none.
    """
    singles = np.flatnonzero(tokenizer.byte_lengths == 1).tolist()
    found = {tokenizer.decode_bytes([id_])[0]: id_ for id_ in reversed(singles)}
    if len(found) < 256:
        raise UserError(
            f'A tokenizer of kind "{tokenizer.kind}" without an id for each byte cannot be made smaller: '
            "what is left out could not be written in any other way."
        )
    return np.array([found[value] for value in range(256)], dtype=np.int32)
