"""Pieces of text by the library SentencePiece, with settings that lose nothing."""

from __future__ import annotations

import hashlib
import io
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from functools import lru_cache
from itertools import chain
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from jaxtyping import Int32

from clearhead.core.errors import UserError
from clearhead.text.bpe import read_companion, suited_vocabulary_size
from clearhead.text.config import SentencePieceConfig
from clearhead.text.tokenizer import Tokenizer, without_surrogates

LIBRARY_FILE = "sentencepiece.model"
SMALLEST_VOCABULARY = 260

# The library writes a space as this character and reads the character as a space.
_SPACE = "\u2581"
# In training it passes over texts with its own marks in them.
_RESERVED = re.compile(f"[\t\0\u2047\u2585{_SPACE}]+")
_LONGEST_RUN = 8192
# No piece has a space after another character, so encoding the segments one by one gives the ids of the whole.
_SEGMENTS = re.compile(rf"{_SPACE}+| {{0,{_LONGEST_RUN}}}[^ {_SPACE}]{{1,{_LONGEST_RUN}}}| {{1,{_LONGEST_RUN}}}")
_TRAINING_CHARACTERS = 4096

_REMEMBERED_SEGMENTS = 1 << 16
_LONGEST_REMEMBERED = 64


class SentencePieceTokenizer(Tokenizer):
    """The 256 bytes first, then the pieces that SentencePiece found, by likelihood or by merging pairs.

    Text is taken as it is: nothing is normalized, no space is put in front, white space is kept. What no piece spells
    is spelled in bytes. A piece may begin with spaces or be all spaces; none crosses from one word into the next, and
    tabs stand alone. A run of more than 8,192 characters without a space is cut there, which changes ids, never text.
    Source: Kudo and Richardson 2018; unigram: Kudo 2018, section 3.2; pairs: Sennrich et al. 2016. Departs: the
    library's id for unknown text, which bytes make needless, is left out, so ids are one less than the library's; the
    character U+2581, which the library takes for a space, is spelled in bytes.
    """

    kind = "sentencepiece"

    def __init__(self, model: bytes, *, end: bool) -> None:
        """Build the tokenizer from what the library's trainer wrote."""
        self._model = model
        self._library = _library().SentencePieceProcessor(model_proto=model)
        pieces = [self._library.id_to_piece(id_) for id_ in range(257, self._library.get_piece_size())]
        spelled = [bytes([value]) for value in range(256)]
        names = {value: f"<0x{value:02X}>" for value in range(256)}
        super().__init__([*spelled, *(p.replace(_SPACE, " ").encode() for p in pieces)], names=names, end=end)
        self._remembered = lru_cache(_REMEMBERED_SEGMENTS)(self._split)

    @classmethod
    def train(
        cls, texts: Iterable[str], config: SentencePieceConfig, *, training_bytes: int, end: bool
    ) -> SentencePieceTokenizer:
        """Return a tokenizer of at most `config.vocabulary_size` ids; fewer where the text has no more pieces.

        Raises:
            UserError: the vocabulary cannot hold the 256 bytes and a few more, or the library is missing.
        """
        size = suited_vocabulary_size(training_bytes) if config.vocabulary_size is None else config.vocabulary_size
        if size < SMALLEST_VOCABULARY:
            raise UserError(
                f"tokenizer.vocabulary_size is {size}, but sentencepiece needs at least {SMALLEST_VOCABULARY} ids: "
                "one for each byte and a few more."
            )
        blocks = list(chain.from_iterable(map(_training_blocks, texts)))
        # The library cuts line ends off the end of a block, and takes no empty ones.
        blocks = [block for block in _without_rare(blocks, (size - 256) // 2) if block.strip("\r\n")] or [" "]
        model = io.BytesIO()
        _library().SentencePieceTrainer.train(
            sentence_iterator=iter(blocks),
            model_writer=model,
            model_type=config.algorithm,
            vocab_size=size - int(end) + 1,
            character_coverage=1.0,
            required_chars=_SPACE,  # without it a space would come back as the three bytes of this character
            hard_vocab_limit=False,
            byte_fallback=True,
            normalization_rule_name="identity",
            add_dummy_prefix=False,
            remove_extra_whitespaces=False,
            allow_whitespace_only_pieces=True,
            max_sentence_length=4 * _TRAINING_CHARACTERS,
            unk_id=0,
            bos_id=-1,
            eos_id=-1,
            pad_id=-1,
            minloglevel=2,
        )
        return cls(model.getvalue(), end=end)

    @classmethod
    def load(cls, folder: Path, stored: Mapping[str, Any]) -> SentencePieceTokenizer:
        """Return the tokenizer of which `stored` is the checked description.

        Raises:
            DamagedFile: the library's file is missing or is not what was written.
        """
        return cls(read_companion(folder / LIBRARY_FILE, stored["library_sha256"]), end=stored["end"])

    def encode(self, text: str) -> Int32[np.ndarray, " N"]:
        """Return the ids of the likeliest, or of the merged, pieces."""
        segments = _SEGMENTS.findall(without_surrogates(text))
        ids = (
            self._remembered(segment) if len(segment) <= _LONGEST_REMEMBERED else self._split(segment)
            for segment in segments
        )
        return np.fromiter(chain.from_iterable(ids), dtype=np.int32)

    def save(self, folder: Path) -> None:
        """Write the tokenizer and, beside it, the library's own file."""
        super().save(folder)
        (folder / LIBRARY_FILE).write_bytes(self._model)

    def _split(self, segment: str) -> list[int]:
        if segment.startswith(_SPACE):
            return list(segment.encode())
        return [id_ - 1 for id_ in self._library.encode(segment)]

    def _content(self) -> dict[str, Any]:
        return {"library_sha256": hashlib.sha256(self._model).hexdigest(), "end": self.end is not None}


def _library() -> ModuleType:
    try:
        import sentencepiece
    except ImportError:
        raise UserError("This needs the library sentencepiece: pip install 'clearhead[spm]'.") from None
    library: ModuleType = sentencepiece
    return library


def _training_blocks(text: str) -> list[str]:
    """Return a text in pieces that the library's trainer takes: not too long, and without its own marks."""
    pieces = _RESERVED.split(without_surrogates(text))
    step = _TRAINING_CHARACTERS
    return [piece[start : start + step] for piece in pieces for start in range(0, len(piece), step)]


def _without_rare(blocks: list[str], most: int) -> list[str]:
    """Return the blocks cut where they have other than their `most` frequent characters, since each takes an id."""
    counts: Counter[str] = Counter()
    for block in blocks:
        counts.update(block)
    rare = {ord(character): "\t" for character, _ in counts.most_common()[max(1, most) :]}
    if not rare:
        return blocks
    return [piece for block in blocks for piece in block.translate(rare).split("\t")]
