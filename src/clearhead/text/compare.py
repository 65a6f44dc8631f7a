"""One text under many tokenizers: what each makes of it, and what its vocabulary costs a model."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from clearhead.core.errors import UnknownCharacter, UserError
from clearhead.text.config import (
    BpeConfig,
    ByteConfig,
    CharConfig,
    HuggingFaceConfig,
    SavedConfig,
    SentencePieceConfig,
    TiktokenConfig,
    TokenizerConfig,
    WordConfig,
)
from clearhead.text.tokenizer import Tokenizer, train_tokenizer

PAIR_SIZES = (512, 1024, 2048, 4096)
PIECE_SIZE = 1024
SHOWN_PIECES = 60


@dataclass(frozen=True, kw_only=True, slots=True)
class Shape:
    """The model that a vocabulary is weighed against.

    Args:
        tied_head: embedding and head are one matrix.
    """

    num_layers: int
    width: int
    context_length: int
    tied_head: bool

    def embedding_share(self, vocabulary_size: int) -> float:
        """Return the part of the parameters that grows with the vocabulary; a block has about 12 C^2 of the others."""
        growing = vocabulary_size * self.width * (1 if self.tied_head else 2)
        return growing / (growing + 12 * self.num_layers * self.width**2)


@dataclass(frozen=True, kw_only=True, slots=True)
class Compared:
    """What one tokenizer makes of a text.

    Args:
        unused: ids that the text does not give.
        embedding_share: see `Shape`.
        characters_in_context: of this text, on average, that a model sees at once.
        seconds: to train the tokenizer, or to read it, and to encode the text.
        pieces: the first line in visible form.
    """

    name: str
    vocabulary_size: int
    tokens: int
    bytes_per_token: float
    unused: int
    embedding_share: float
    characters_in_context: float
    seconds: float
    lossless: bool
    pieces: tuple[str, ...]


def compare(text: str, others: Sequence[str], shape: Shape) -> Iterator[Compared]:
    """Yield what each tokenizer at hand makes of a text, those of our own trained on it; equal ones once.

    Args:
        others: paths of further tokenizers: a `tokenizer.json`, a file of ranks, a folder that this program saved.

    Raises:
        UserError: the text is empty, or one of the others cannot be read.
    """
    if not text:
        raise UserError("There is no text to compare tokenizers on; name a file with some text in it.")
    seen: set[str] = set()
    for name, config in at_hand(others):
        start = time.perf_counter()
        tokenizer = make(config, text)
        if tokenizer.fingerprint in seen:
            continue
        seen.add(tokenizer.fingerprint)
        try:
            yield weigh(name, tokenizer, text, shape, start)
        except UnknownCharacter as error:
            raise UserError(
                f"The text has the character {error.character}, which {name} does not know; leave --also {name} away."
            ) from error


def at_hand(others: Sequence[str]) -> Iterator[tuple[str, TokenizerConfig]]:
    """Yield the tokenizers that can be made without a network: our own, those of installed libraries, the others."""
    yield from (("char", CharConfig()), ("byte", ByteConfig()), ("word", WordConfig()))
    yield from ((f"bpe {size}", BpeConfig(vocabulary_size=size)) for size in PAIR_SIZES)
    if find_spec("sentencepiece"):
        yield "unigram", SentencePieceConfig(algorithm="unigram", vocabulary_size=PIECE_SIZE)
        yield "sentencepiece bpe", SentencePieceConfig(algorithm="bpe", vocabulary_size=PIECE_SIZE)
    if find_spec("tiktoken"):
        from clearhead.text.adapters.tiktoken import cached_names

        yield from ((name, TiktokenConfig(name=name)) for name in cached_names())
    yield from ((Path(path).name, stored_at(Path(path))) for path in others)


def stored_at(path: Path) -> TokenizerConfig:
    """Return how the tokenizer at a path is read."""
    if path.is_dir():
        return SavedConfig(path=str(path))
    return HuggingFaceConfig(path=str(path)) if path.suffix == ".json" else TiktokenConfig(path=str(path))


def make(config: TokenizerConfig, text: str) -> Tokenizer:
    """Return the tokenizer of a configuration, trained on one text where it is trained."""
    return train_tokenizer(config, lambda: iter([text]), lambda: iter([]), end=False, training_bytes=len(text.encode()))


def weigh(name: str, tokenizer: Tokenizer, text: str, shape: Shape, start: float) -> Compared:
    """Return what a tokenizer makes of a text.

    Args:
        start: when its making began, by `time.perf_counter`.
    """
    ids = tokenizer.encode(text)
    seconds = time.perf_counter() - start
    line = tokenizer.encode(next(filter(str.strip, text.splitlines()), text)[: 4 * SHOWN_PIECES])
    return Compared(
        name=name,
        vocabulary_size=tokenizer.vocabulary_size,
        tokens=len(ids),
        bytes_per_token=len(text.encode()) / len(ids),
        unused=tokenizer.vocabulary_size - len(np.unique(ids)),
        embedding_share=shape.embedding_share(tokenizer.vocabulary_size),
        characters_in_context=shape.context_length * len(text) / len(ids),
        seconds=seconds,
        lossless=tokenizer.decode(ids) == text,
        pieces=tuple(map(tokenizer.token_text, line[:SHOWN_PIECES].tolist())),
    )
