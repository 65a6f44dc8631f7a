"""From a run's text to what training reads: tokenizer, training tokens, validation tokens, and where they came from."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int32

from clearhead.core.config import to_dict
from clearhead.core.errors import UnknownCharacter, UserError
from clearhead.core.files import new_folder
from clearhead.core.words import counted
from clearhead.model.config import GptConfig, PerDocumentConfig
from clearhead.text import origin, shards
from clearhead.text.config import BpeConfig, CharConfig, SentencePieceConfig, TextConfig, TokenizerConfig
from clearhead.text.corpus import Corpus
from clearhead.text.ngrams import baselines
from clearhead.text.overlap import overlap
from clearhead.text.shards import Tokens
from clearhead.text.split import Split, split
from clearhead.text.tales import tales
from clearhead.text.tokenizer import Tokenizer, train_tokenizer

CHARACTERS_BELOW_BYTES = 4_000_000
"""Texts below this size are read as characters unless a tokenizer is named: its vocabulary is then used fully."""

BASELINE_BYTES = 8 * 2**20
"""The n-gram baselines are counted on at most so much of the training part."""

SHOWN_STRETCH = 200
"""Characters of an overlapping stretch that are kept to be shown."""


@dataclass(frozen=True, slots=True)
class Dataset:
    """A text, split and tokenized.

    Args:
        sources: data.json's content: what was read, its hashes, the split.
    """

    tokenizer: Tokenizer
    training: Tokens
    validation: Int32[np.ndarray, " N"]
    sources: dict[str, Any]

    @property
    def byte_lengths(self) -> Int32[np.ndarray, " V"] | None:
        """Bytes of each id, or None where the tokenizer loses text."""
        return self.tokenizer.byte_lengths if self.tokenizer.lossless else None

    def validation_source(self) -> Tokens:
        """Return the validation tokens as something that windows are gathered from."""
        return shards.in_memory(self.validation, self.tokenizer.vocabulary_size)

    def training_text(self) -> Iterator[str]:
        """Yield the training part's text, decoded from its tokens."""
        for start in range(0, len(self.training), 2**18):
            yield self.tokenizer.decode(self.training.read(start, min(start + 2**18, len(self.training))))


def choose_tokenizer(config: TokenizerConfig | None, num_bytes: int) -> tuple[TokenizerConfig, str]:
    """Return the tokenizer's settings, and a sentence on the choice where none was made."""
    if config is not None:
        return config, ""
    if num_bytes < CHARACTERS_BELOW_BYTES:
        return CharConfig(), "Tokenizer: characters, since the text is below 4 MB."
    return BpeConfig(), "Tokenizer: byte-pair encoding, since the text is 4 MB or more."


def shortened(config: TokenizerConfig, tokenizer: Tokenizer) -> str:
    """Return a sentence where a text has not enough in it for the vocabulary that was asked for, else nothing."""
    wanted = config.vocabulary_size if isinstance(config, BpeConfig | SentencePieceConfig) else None
    if wanted is None or tokenizer.vocabulary_size >= wanted:
        return ""
    return f"The text is short, so the vocabulary has {tokenizer.vocabulary_size} ids, not {wanted}."


def prepare(corpus: Corpus, config: TokenizerConfig, names: Sequence[str | Path], text: TextConfig) -> Dataset:
    """Split a text, train a tokenizer on the training part and encode both parts.

    Raises:
        UserError: a part is a single token, so there is nothing to predict in it; or a tokenizer that was saved
            earlier does not know a character of the text.
    """
    parts = split(corpus)
    tokenizer = train_tokenizer(
        config,
        parts.training_text,
        parts.validation_text,
        end=parts.has_documents,
        training_bytes=parts.training_bytes,
    )
    with knowing_every_character():
        validation = np.concatenate(list(shards.token_stream(tokenizer, parts.validation())))
        training = shards.cached(parts, tokenizer)
    if min(len(training), len(validation)) < 2:
        raise UserError(
            f'Under a tokenizer of kind "{tokenizer.kind}" the training part is {counted(len(training), "token")} and '
            f"the validation part {len(validation)}, and each needs at least 2; "
            "give a longer text, or shorter tokens with --tokenizer char."
        )
    sources = describe(corpus, parts, names, text, len(training), len(validation))
    tokenizer.unseen = shards.unseen_ids(training, tokenizer.vocabulary_size)
    sources["unseen_ids"] = shards.ranges_of(tokenizer.unseen)
    return Dataset(tokenizer, training, validation, sources)


@contextmanager
def knowing_every_character() -> Iterator[None]:
    """Say of a character that a tokenizer lacks which tokenizer that can be: one trained on the text lacks none.

    Raises:
        UserError: the block came upon such a character.
    """
    try:
        yield
    except UnknownCharacter as error:
        raise UserError(
            f"The text has the character {error.character}, which the saved tokenizer does not know; "
            "train one on this text, or one that spells such characters, with --tokenizer.unknown bytes."
        ) from error


def train_saved_tokenizer(
    names: Sequence[str | Path], config: TokenizerConfig | None, text: TextConfig, folder: Path
) -> Tokenizer:
    """Train a tokenizer as a run on these texts would, and save it in a new folder.

    Raises:
        UserError: the folder exists already, or the vocabulary is too small.
    """
    corpus = origin.read_texts(names, text)
    parts = split(corpus)
    tokenizer = train_tokenizer(
        choose_tokenizer(config, corpus.utf8_bytes)[0],
        parts.training_text,
        parts.validation_text,
        end=parts.has_documents,
        training_bytes=parts.training_bytes,
    )
    with new_folder(folder) as temporary:
        tokenizer.save(temporary)
    return tokenizer


def describe(
    corpus: Corpus, parts: Split, names: Sequence[str | Path], text: TextConfig, *num_tokens: int
) -> dict[str, Any]:
    """Return what data.json says of a text."""
    return {
        "names": [name if name == "-" else str(Path(name).absolute()) for name in map(str, names)],
        "text": to_dict(text),
        "fingerprint": corpus.fingerprint,
        "documents": corpus.documents,
        "characters": corpus.characters,
        "utf8_bytes": corpus.utf8_bytes,
        "sources": [asdict(source) for source in corpus.sources],
        "split": {
            "description": parts.description,
            "training_characters": parts.training_characters,
            "training_bytes": parts.training_bytes,
            "training_tokens": num_tokens[0],
            "validation_characters": parts.validation_characters,
            "validation_bytes": parts.validation_bytes,
            "validation_tokens": num_tokens[1],
        },
        "licence": None if names else "MIT",
    }


def reopen(tokenizer: Tokenizer, validation: Int32[np.ndarray, " N"], sources: dict[str, Any], run: Path) -> Dataset:
    """Bring a run's text back: its tokens from the cache, or made again from the files.

    Raises:
        UserError: the files are gone or are not what the run was trained on.
    """
    corpus = origin.reopen(sources, run)
    return Dataset(tokenizer, shards.cached(split(corpus), tokenizer), validation, sources)


def document_end(model: object, tokenizer: Tokenizer) -> int | None:
    """Return the id that begins each document, where the model of this config keeps documents apart; else None.

    Raises:
        UserError: there are no documents.
    """
    if not (isinstance(model, GptConfig) and isinstance(model.mask, PerDocumentConfig)):
        return None
    if tokenizer.end is None:
        raise UserError(
            "model.mask.kind = per_document keeps documents apart, and this text is a single one; "
            "give several files or rows, or train with --model.mask.kind causal."
        )
    return tokenizer.end


def measure_baselines(data: Dataset) -> dict[str, dict[str, float | None]]:
    """Return what n-gram models, counted on the training part, score on the validation part."""
    per_token = max(1.0, data.sources["split"]["training_bytes"] / len(data.training))
    count = min(len(data.training), int(BASELINE_BYTES / per_token))
    counted = data.training.read(0, count)
    found = baselines(counted, data.validation, data.tokenizer.vocabulary_size, data.byte_lengths)
    return {
        model.name: {"nats_per_token": model.nats_per_token, "bits_per_byte": model.bits_per_byte} for model in found
    }


def measure_overlap(data: Dataset) -> dict[str, Any]:
    """Return how much of the validation text stands in the training text too."""
    found = overlap(data.training_text(), iter([data.tokenizer.decode(data.validation)]))
    return {
        "share": found.share,
        "characters": found.characters,
        "longest": [stretch[:SHOWN_STRETCH] for stretch in found.longest],
    }


def measure_floor(data: Dataset, context_length: int) -> dict[str, float] | None:
    """Return the exact entropy of the validation part where the text is the built-in tales, else None.

    It holds for a reader who has seen the whole story so far; `beyond_window` is the share of targets whose story
    begins before the window that the evaluation rule reads them in.
    """
    if data.sources["names"]:
        return None
    bits = {tale.text: tale.bits for tale in tales(origin.TALES_BYTES, origin.TALES_SEED)}
    end = data.tokenizer.end
    ends = np.flatnonzero(data.validation == end)
    texts = [data.tokenizer.decode(part) for part in np.split(data.validation, ends) if len(part) > 1]
    total_bits = sum(bits[text] for text in texts)
    num_bytes = sum(len(text.encode()) for text in texts)
    targets = np.arange(1, len(data.validation))
    story_starts = ends[np.searchsorted(ends, targets, side="left") - 1]
    window_starts = (targets - 1) // context_length * context_length
    return {
        "bits_per_byte": total_bits / num_bytes,
        "nats_per_token": total_bits * math.log(2) / len(targets),
        "beyond_window": float((story_starts < window_starts).mean()),
    }
