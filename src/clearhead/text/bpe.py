"""Byte-pair encoding on bytes, by the `tokenizers` library."""

from __future__ import annotations

import contextlib
import hashlib
import math
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from functools import cache, lru_cache
from itertools import chain, pairwise
from pathlib import Path
from typing import Any

import numpy as np
import tokenizers
from jaxtyping import Int32
from tokenizers import decoders, models, pre_tokenizers, trainers

from clearhead.core.errors import DamagedFile, UserError
from clearhead.text.tokenizer import Tokenizer, without_surrogates

LIBRARY_FILE = "bpe.json"

_PARALLEL = "TOKENIZERS_PARALLELISM"
_USER_CHOSE_PARALLEL = _PARALLEL in os.environ
_PROCESS = os.getpid()

# Unicode's White_Space, spelled out because Python's \s holds four control characters more. The split pattern always
# divides before white space that follows something else, so encoding the segments one by one gives the same ids.
_SPACE = r"\t-\r \x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000"
# Longer runs are cut: the library's time grows faster than their length.
_LONGEST_RUN = 8192
_SEGMENTS = re.compile(rf"[{_SPACE}]{{0,{_LONGEST_RUN}}}[^{_SPACE}]{{1,{_LONGEST_RUN}}}|[{_SPACE}]{{1,{_LONGEST_RUN}}}")
_LONG_RUNS = re.compile(rf"[{_SPACE}]{{{_LONGEST_RUN}}}(?=[{_SPACE}])|[^{_SPACE}]{{{_LONGEST_RUN}}}(?=[^{_SPACE}])")
_TRAINING_BLOCKS = re.compile(rf"(?s:.){{1,4096}}(?=[{_SPACE}]|\Z)|(?s:.){{1,4096}}")

_REMEMBERED_SEGMENTS = 1 << 16
_LONGEST_REMEMBERED = 64


class BpeTokenizer(Tokenizer):
    """Byte-pair encoding: the 256 bytes first, then the pairs that were most frequent, merged in that order.

    Text is split by GPT-2's pattern and pairs are merged within a split only. A run of more than 8,192 characters
    without white space is cut there, which changes ids, never text.
    Source: Sennrich et al. 2016, section 3.2; on bytes: Radford et al. 2019, section 2.2. Departs: `<|end|>` is not in
    the library's vocabulary but the id after it, so that no text can spell it.
    """

    kind = "bpe"

    def __init__(self, library_json: str, *, end: bool) -> None:
        """Build the tokenizer from the JSON that the library wrote."""
        self.library_json = library_json
        self._library = tokenizers.Tokenizer.from_str(library_json)
        vocabulary = self._library.get_vocab()
        tokens = [spelled_bytes(token) for token in sorted(vocabulary, key=vocabulary.__getitem__)]
        super().__init__(tokens, names={}, end=end)
        # Most words of a text are among its frequent ones: remembering them makes encoding about five times as fast.
        self._remembered = lru_cache(_REMEMBERED_SEGMENTS)(self._merge)

    @classmethod
    def train(cls, texts: Iterable[str], *, vocabulary_size: int, end: bool) -> BpeTokenizer:
        """Return a tokenizer of at most `vocabulary_size` ids; fewer where no pair occurs twice any more.

        Args:
            vocabulary_size: `<|end|>` included, from 257.

        Raises:
            UserError: the vocabulary cannot hold the 256 bytes and one more.
        """
        if vocabulary_size < 257:
            raise UserError(
                f"tokenizer.vocabulary_size is {vocabulary_size}, but byte-pair encoding needs at least 257 ids: "
                "one for each byte and one more."
            )
        library = tokenizers.Tokenizer(models.BPE())
        library.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
        library.decoder = decoders.ByteLevel()
        trainer = trainers.BpeTrainer(
            vocab_size=vocabulary_size - int(end),
            min_frequency=2,
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        )
        blocks = (_TRAINING_BLOCKS.findall(without_surrogates(text)) for text in texts)
        with _all_cores():
            library.train_from_iterator(blocks, trainer)
        return cls(library.to_str(), end=end)

    @classmethod
    def load(cls, folder: Path, stored: Mapping[str, Any]) -> BpeTokenizer:
        """Return the tokenizer of which `stored` is the checked description.

        Raises:
            DamagedFile: the library's file is missing or is not what was written.
        """
        content = read_companion(folder / LIBRARY_FILE, stored["library_sha256"])
        return cls(content.decode(), end=stored["end"])

    def encode(self, text: str) -> Int32[np.ndarray, " N"]:
        """Return the ids of the merged byte pairs."""
        segments = _SEGMENTS.findall(without_surrogates(text))
        ids = (
            self._remembered(segment) if len(segment) <= _LONGEST_REMEMBERED else self._merge(segment)
            for segment in segments
        )
        return np.fromiter(chain.from_iterable(ids), dtype=np.int32)

    def save(self, folder: Path) -> None:
        """Write the tokenizer and, beside it, vocabulary and merges in the library's own JSON."""
        super().save(folder)
        (folder / LIBRARY_FILE).write_bytes(self.library_json.encode())

    def _merge(self, segment: str) -> list[int]:
        ids: list[int] = self._library.encode(segment, add_special_tokens=False).ids
        return ids

    def _content(self) -> dict[str, Any]:
        digest = hashlib.sha256(self.library_json.encode()).hexdigest()
        return {"library_sha256": digest, "end": self.end is not None}


def suited_vocabulary_size(training_bytes: int) -> int:
    """Return how many ids suit a text: 512 for each square root of a megabyte, as a power of two from 512 to 8,192.

    So 512 below 4 MB, 1,024 from there, 2,048 from 16 MB, 4,096 from 64 MB and 8,192 from 256 MB.
    """
    megabytes = max(1, training_bytes // 1_000_000)
    doublings = math.isqrt(megabytes).bit_length() - 1
    return min(8192, 512 << doublings)


def read_companion(path: Path, digest: str) -> bytes:
    """Return the bytes of a file that a tokenizer was saved with.

    Raises:
        DamagedFile: it is missing or its SHA-256 is another.
    """
    if not path.is_file():
        raise DamagedFile(f"{path} is missing.")
    content = path.read_bytes()
    if hashlib.sha256(content).hexdigest() != digest:
        raise DamagedFile(f"{path} is not what was written: its SHA-256 differs from the tokenizer's.")
    return content


@cache
def byte_alphabet() -> dict[str, int]:
    """Return the byte that each character of GPT-2's files stands for: its own if visible, others from U+0100 on."""
    visible = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    hidden = [byte for byte in range(256) if byte not in visible]
    return {chr(byte): byte for byte in visible} | {chr(0x100 + place): byte for place, byte in enumerate(hidden)}


def spelled_bytes(token: str) -> bytes:
    """Return the bytes of a token as GPT-2's files and the library's JSON spell it."""
    value = byte_alphabet()
    return bytes(value[character] for character in token)


def cut_long_runs(text: str) -> list[str]:
    """Return the text in pieces without runs of over 8,192 characters with, or without, white space.

    Libraries take time that grows faster than the length of such a run, or overflow the stack.
    """
    cuts = [0, *(run.end() for run in _LONG_RUNS.finditer(text)), len(text)]
    return [text[start:end] for start, end in pairwise(cuts)]


@contextlib.contextmanager
def _all_cores() -> Iterator[None]:
    """Let the library use every core inside the block and one after it, unless the user's environment decides.

    The library's threads do not live on in a forked process: one that still counted on them would hang, and without
    a decision the library warns about it on standard error.
    """
    if _USER_CHOSE_PARALLEL or os.getpid() != _PROCESS:
        yield
        return
    os.environ[_PARALLEL] = "true"
    try:
        yield
    finally:
        os.environ[_PARALLEL] = "false"
