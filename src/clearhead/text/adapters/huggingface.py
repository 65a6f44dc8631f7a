"""A `tokenizer.json` in the form of Hugging Face, read by the library `tokenizers`."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import tokenizers
from jaxtyping import Int32

from clearhead.core.errors import UserError
from clearhead.text.bpe import byte_alphabet, cut_long_runs, read_companion, spelled_bytes
from clearhead.text.tokenizer import Tokenizer, without_surrogates

LIBRARY_FILE = "huggingface.json"

_BYTE = re.compile(r"<0x([0-9A-F]{2})>")
_SPACE = "\u2581"


class HuggingFaceTokenizer(Tokenizer):
    """What a `tokenizer.json` describes: the same ids as its library gives, without those that it puts around a text.

    Two families are read, those whose tokens spell bytes by GPT-2's alphabet and those that write a space as U+2581.
    It counts as lossless only in the first, where nothing is normalized or put in front. There a run of more than
    8,192 characters with, or without, white space is cut, which changes ids, never text.
    """

    kind = "huggingface"

    def __init__(self, library_json: str, *, end: bool) -> None:
        """Build the tokenizer from the content of the file.

        Raises:
            UserError: the file's tokens belong to neither family.
        """
        self.library_json = library_json
        self._library = tokenizers.Tokenizer.from_str(library_json)
        self._library.no_truncation()
        self._library.no_padding()
        self._library.encode_special_tokens = True
        described = json.loads(library_json)
        kinds = {part["type"] for part in _parts(described["decoder"])}
        self._spells_bytes = "ByteLevel" in kinds
        if not self._spells_bytes and not kinds & {"Metaspace", "Replace"}:
            raise UserError(
                f"A tokenizer.json with the decoder {', '.join(sorted(kinds)) or 'none'} is not handled; those of "
                "byte-level and of SentencePiece models are."
            )
        added = self._library.get_added_tokens_decoder()
        specials = {token.content: id_ for id_, token in added.items() if token.special}
        super().__init__(self._bytes_of_tokens(added, set(specials.values())), names={}, end=end, specials=specials)
        self.lossless = self._spells_bytes and self._keeps_text(described, added)

    @classmethod
    def read(cls, path: Path, *, end: bool) -> HuggingFaceTokenizer:
        """Return the tokenizer of a file.

        Raises:
            UserError: it cannot be read, or it is none that is handled.
        """
        try:
            return cls(path.read_text(encoding="utf-8"), end=end)
        except OSError as error:
            raise UserError(f'Cannot read "{path}": {error.strerror}.') from None
        except UserError:
            raise
        except Exception as error:  # the library raises nothing narrower
            raise UserError(f'"{path}" is not a tokenizer.json ({str(error)[:80]}).') from None

    @classmethod
    def load(cls, folder: Path, stored: Mapping[str, Any]) -> HuggingFaceTokenizer:
        """Return the tokenizer of which `stored` is the checked description.

        Raises:
            DamagedFile: the library's file is missing or is not what was written.
        """
        return cls(read_companion(folder / LIBRARY_FILE, stored["library_sha256"]).decode(), end=stored["end"])

    def encode(self, text: str) -> Int32[np.ndarray, " N"]:
        """Return the ids that the library gives."""
        text = without_surrogates(text)
        pieces = cut_long_runs(text) if self._spells_bytes else [text]
        ids = (self._library.encode(piece, add_special_tokens=False).ids for piece in pieces)
        return np.fromiter(chain.from_iterable(ids), dtype=np.int32)

    def save(self, folder: Path) -> None:
        """Write the tokenizer and, beside it, the file it was read from."""
        super().save(folder)
        (folder / LIBRARY_FILE).write_bytes(self.library_json.encode())

    def _bytes_of_tokens(self, added: Mapping[int, Any], specials: set[int]) -> list[bytes]:
        vocabulary: dict[str, int] = self._library.get_vocab(with_added_tokens=True)
        found = [b""] * (max(vocabulary.values()) + 1)
        for token, id_ in vocabulary.items():
            if id_ in added:
                found[id_] = b"" if id_ in specials else token.encode()
            elif self._spells_bytes:
                found[id_] = spelled_bytes(token)
            else:
                byte = _BYTE.fullmatch(token)
                found[id_] = bytes([int(byte[1], 16)]) if byte else token.replace(_SPACE, " ").encode()
        return found

    def _keeps_text(self, described: Mapping[str, Any], added: Mapping[int, Any]) -> bool:
        in_front = any(part.get("add_prefix_space") for part in _parts(described["pre_tokenizer"]))
        widened = any(token.lstrip or token.rstrip for token in added.values() if not token.special)
        every_byte = set(byte_alphabet()) <= set(described["model"]["vocab"])
        return not (described["normalizer"] or in_front or widened) and every_byte

    def _content(self) -> dict[str, Any]:
        return {
            "library_sha256": hashlib.sha256(self.library_json.encode()).hexdigest(),
            "end": self.end is not None,
        }


def _parts(described: Mapping[str, Any] | None) -> Iterator[Mapping[str, Any]]:
    """Yield a step of the file, or the steps that it is a sequence of."""
    if described is None:
        return
    inner = described.get("decoders", described.get("pretokenizers"))
    if inner is None:
        yield described
    else:
        for part in inner:
            yield from _parts(part)
