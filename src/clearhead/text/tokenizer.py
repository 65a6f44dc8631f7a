"""Text to ids and back: the interface, and tokenizers by characters, bytes and words.

Every kind follows the same rules. Ids stand for bytes, so decoding is joining; ids that spell no valid UTF-8 decode
to U+FFFD in text and exactly in bytes. A surrogate pair is read as the character it means and a lone surrogate, which
UTF-8 cannot hold, as U+FFFD. Specials are never made from text and decode to nothing; `<|end|>` is the last id, or the
end of text that a file from elsewhere brings.
"""

from __future__ import annotations

import codecs
import hashlib
import heapq
import json
import re
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import Any, ClassVar, Literal, SupportsIndex

import numpy as np
from jaxtyping import Int32, Integer, UInt8, UInt32

from clearhead.core.errors import DamagedFile, UnknownCharacter, UserError, newer_format
from clearhead.core.files import read_json, to_json
from clearhead.text.config import (
    BpeConfig,
    ByteConfig,
    CharConfig,
    SavedConfig,
    TokenizerConfig,
    WordConfig,
)

END = "<|end|>"
ENDS_ELSEWHERE = ("<|endoftext|>", "<|end_of_text|>", "<|begin_of_text|>", "</s>", "<eos>")
"""What other projects call the special between documents, the likeliest first."""

MARK = "<unk>"
FILE = "tokenizer.json"
FORMAT = 1

# Counting words or byte pairs in more text than this changes the vocabulary little and costs time and memory.
SAMPLE_BYTES = 64_000_000

Ids = Sequence[SupportsIndex] | Integer[np.ndarray, " N"]

_CodePoints = UInt8[np.ndarray, " N"] | UInt32[np.ndarray, " N"]

_BYTES = [bytes([value]) for value in range(256)]


class Stream:
    """Decodes ids one at a time and holds back a character until its last byte has come."""

    def __init__(self, token_bytes: Sequence[bytes]) -> None:
        self._token_bytes = token_bytes
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def push(self, token: int) -> str:
        """Take one id and return the text that is complete with it."""
        return self._decoder.decode(self._token_bytes[token])

    def flush(self) -> str:
        """Return what was held back, as U+FFFD: the text is over."""
        return self._decoder.decode(b"", final=True)


class Tokenizer(ABC):
    """Maps text to ids and ids to text.

    Attributes:
        kind: the name under which `load_tokenizer` finds the class.
        vocabulary_size: how many ids there are, specials included.
        specials: the ids that no text encodes to, by name.
        byte_lengths: how many bytes of UTF-8 each id stands for; 0 for specials and for the mark of unknown words.
        lossless: whether decoding gives back every text that can be encoded.
        unseen: the ids that a run's training text does not give: no model learned when to write them, so none is
            drawn. Whoever opens the run says so; at first there are none.
    """

    kind: ClassVar[str]

    def __init__(
        self,
        token_bytes: Sequence[bytes],
        *,
        names: Mapping[int, str],
        end: bool,
        specials: Mapping[str, int] = MappingProxyType({}),
    ) -> None:
        """Give each id its bytes.

        Args:
            names: how `token_text` shows ids whose bytes alone would mislead.
            end: whether there is an `<|end|>`: one of the `specials` that means it elsewhere, else one more id.
            specials: ids among `token_bytes`, of no bytes, that no text encodes to.
        """
        given = next((specials[name] for name in (END, *ENDS_ELSEWHERE) if name in specials), None)
        added = end and given is None
        self._token_bytes = [*token_bytes, *([b""] if added else [])]
        last = len(token_bytes) if given is None else given
        self.specials: Mapping[str, int] = {**specials, **({END: last} if end else {})}
        self._names = {**names, **{token: name for name, token in self.specials.items()}}
        self.vocabulary_size = len(self._token_bytes)
        self.byte_lengths: Int32[np.ndarray, " V"] = np.array([len(b) for b in self._token_bytes], dtype=np.int32)
        self.lossless = True
        self.unseen: Int32[np.ndarray, " N"] = np.empty(0, dtype=np.int32)

    @abstractmethod
    def encode(self, text: str) -> Int32[np.ndarray, " N"]:
        """Return the ids of a text; never a special, whatever the text says.

        Raises:
            UserError: the text has a character that this tokenizer refuses.
        """

    @abstractmethod
    def _content(self) -> dict[str, Any]:
        """Return what, besides the kind, makes this tokenizer what it is."""

    @property
    def end(self) -> int | None:
        """The id of `<|end|>`, which stands before and between documents; None without it."""
        return self.specials.get(END)

    @cached_property
    def fingerprint(self) -> str:
        """The SHA-256 of everything that decides the ids."""
        return _fingerprint(self._description())

    def decode_bytes(self, ids: Ids) -> bytes:
        """Return exactly the bytes that the ids stand for."""
        return b"".join(map(self._token_bytes.__getitem__, np.asarray(ids).tolist()))

    def decode(self, ids: Ids) -> str:
        """Return the text that the ids stand for, with U+FFFD where their bytes are not valid UTF-8."""
        return self.decode_bytes(ids).decode("utf-8", "replace")

    def stream(self) -> Stream:
        """Return a decoder for ids that arrive one at a time; its pieces joined equal `decode` of all the ids."""
        return Stream(self._token_bytes)

    def drop_unknown(self, text: str) -> tuple[str, int]:
        """Return the text without the characters that `encode` would refuse, and how many those were."""
        return text, 0

    def token_text(self, token: int) -> str:
        r"""Return an id in a visible form for tables: `␣` for a space, `\n`, `<0xE1>` for half a character."""
        if token in self._names:
            return self._names[token]
        return "".join(map(_visible, self._token_bytes[token].decode("utf-8", "surrogateescape")))

    def save(self, folder: Path) -> None:
        """Write the tokenizer as JSON into a folder; whoever calls makes that atomic."""
        folder.mkdir(parents=True, exist_ok=True)
        stored = {**self._description(), "fingerprint": self.fingerprint}
        (folder / FILE).write_bytes(to_json(stored).encode())

    def _description(self) -> dict[str, Any]:
        return {"format": FORMAT, "kind": self.kind, **self._content()}


class ByteTokenizer(Tokenizer):
    """One id for each byte value: the id is the byte."""

    kind = "byte"

    def __init__(self, *, end: bool) -> None:
        super().__init__(_BYTES, names={}, end=end)

    def encode(self, text: str) -> Int32[np.ndarray, " N"]:
        """Return the bytes of the text's UTF-8."""
        return np.frombuffer(_utf8(text), np.uint8).astype(np.int32)

    def _content(self) -> dict[str, Any]:
        return {"end": self.end is not None}


class CharTokenizer(Tokenizer):
    """One id for each character of the training part, in the order of their code points.

    With `unknown="bytes"` 256 ids follow, in which every other character is spelled as UTF-8; with "refuse" any other
    character is an error that names it.
    """

    kind = "char"
    # A block's code points stay in the processor's cache, and all ids are written once, where they stay.
    _BLOCK_CHARACTERS = 1 << 16

    def __init__(self, characters: str, *, unknown: Literal["bytes", "refuse"], end: bool) -> None:
        spelled = _BYTES if unknown == "bytes" else []
        entries = [character.encode() for character in characters]
        self._first_byte = len(entries)
        super().__init__([*entries, *spelled], names=_byte_names(self._first_byte, spelled), end=end)
        self.characters = characters
        self.unknown = unknown
        self._table = _id_table(characters)

    @classmethod
    def train(cls, texts: Iterable[str], *, unknown: Literal["bytes", "refuse"], end: bool) -> CharTokenizer:
        """Return the tokenizer that holds exactly the characters of the texts."""
        return cls(characters_of(texts), unknown=unknown, end=end)

    def encode(self, text: str) -> Int32[np.ndarray, " N"]:
        """Return one id a character, or the bytes of one that is unknown.

        Raises:
            UnknownCharacter: names the first one, if those are refused.
        """
        ids = self._look_up(text)
        return ids if ids.min(initial=0) >= 0 else self._spell_unknown(without_surrogates(text))

    def drop_unknown(self, text: str) -> tuple[str, int]:
        """Return the text without the characters that `encode` would refuse, and how many those were."""
        text = without_surrogates(text)
        if self.unknown == "bytes":
            return text, 0
        kept = _text_of(_code_points(text)[self._look_up(text) >= 0])
        return kept, len(text) - len(kept)

    def _look_up(self, text: str) -> Int32[np.ndarray, " N"]:
        """Return one id a character, -1 for an unknown one."""
        ids = np.empty(len(text), np.int32)
        for start in range(0, len(text), self._BLOCK_CHARACTERS):
            codes = _code_points(text[start : start + self._BLOCK_CHARACTERS])
            # "clip" sends every character above the table to its last entry, which is unknown.
            self._table.take(codes, mode="clip", out=ids[start : start + len(codes)])
        return ids

    def _spell_unknown(self, text: str) -> Int32[np.ndarray, " N"]:
        ids = self._look_up(text)
        unknown = np.flatnonzero(ids < 0)
        if not unknown.size:
            return ids
        if self.unknown == "refuse":
            raise UnknownCharacter(_named(text[unknown[0]]))
        others = _code_points(text)[unknown]
        spelled = np.frombuffer(_text_of(others).encode(), np.uint8)
        more_bytes = (others >= 0x80).astype(np.int64) + (others >= 0x800) + (others >= 0x10000)
        ids = np.insert(ids, np.repeat(unknown, more_bytes), -1)
        ids[ids < 0] = self._first_byte + spelled.astype(np.int32)
        return ids

    def _content(self) -> dict[str, Any]:
        return {"characters": self.characters, "unknown": self.unknown, "end": self.end is not None}


class WordTokenizer(Tokenizer):
    """One id for each of the most frequent words; other words are spelled in bytes or become `<unk>`.

    A word is a run of letters, digits and underscores, or one punctuation mark, either with the single space before
    it; other white space forms words of its own. Joined, the words are the text.
    """

    kind = "word"
    # Combining accents are added because \w lacks them, and decomposed Vietnamese would fall apart.
    _WORDS = re.compile(r" ?[\w\u0300-\u036f]+| ?[^\w\s\u0300-\u036f]|\s+(?= \S)|\s+")

    def __init__(self, words: Sequence[str], *, unknown: Literal["bytes", "mark"], end: bool) -> None:
        first = len(words)
        spelled = _BYTES if unknown == "bytes" else []
        mark = [MARK.encode()] if unknown == "mark" else []
        names = _byte_names(first, spelled) or {first: MARK}
        super().__init__([*(word.encode() for word in words), *spelled, *mark], names=names, end=end)
        self.words = tuple(words)
        self.unknown = unknown
        self._ids = {word: token for token, word in enumerate(words)}
        self._first_byte = first
        self._mark = first if unknown == "mark" else None
        if unknown == "mark":
            self.byte_lengths[first] = 0
            self.lossless = False

    @classmethod
    def train(
        cls, texts: Iterable[str], *, vocabulary_size: int, unknown: Literal["bytes", "mark"], end: bool
    ) -> WordTokenizer:
        """Return the tokenizer that holds the most frequent words of the texts, at most `vocabulary_size`.

        Words as frequent as each other are taken in the order of their code points.
        """
        counts: Counter[str] = Counter()
        for text in texts:
            counts.update(cls._WORDS.findall(without_surrogates(text)))
        words = heapq.nsmallest(vocabulary_size, counts, key=lambda word: (-counts[word], word))
        return cls(words, unknown=unknown, end=end)

    def encode(self, text: str) -> Int32[np.ndarray, " N"]:
        """Return one id a known word, and the bytes or the mark of any other."""
        ids: list[int] = []
        for word in self._WORDS.findall(without_surrogates(text)):
            token = self._ids.get(word, self._mark)
            if token is None:
                ids += [self._first_byte + value for value in word.encode()]
            else:
                ids.append(token)
        return np.array(ids, dtype=np.int32)

    def _content(self) -> dict[str, Any]:
        return {"words": list(self.words), "unknown": self.unknown, "end": self.end is not None}


def train_tokenizer(
    config: TokenizerConfig,
    split_training: Callable[[], Iterator[str]],
    validation: Callable[[], Iterator[str]],
    *,
    end: bool,
    training_bytes: int,
) -> Tokenizer:
    """Return the tokenizer that a configuration asks for, trained on the training part alone.

    Characters are collected from all of it; words and byte pairs are counted on at most 64 MB, in pieces spread evenly
    over it. The validation part only decides whether a tokenizer by characters needs a way to write others.

    Raises:
        UserError: unknown characters are to be refused and the validation part has one, the vocabulary is too small,
            or a file or a library is missing.
    """
    match config:
        case CharConfig():
            return _train_characters(config, split_training(), validation(), end=end)
        case ByteConfig():
            return ByteTokenizer(end=end)
        case WordConfig():
            return WordTokenizer.train(
                spread(split_training(), training_bytes, SAMPLE_BYTES),
                vocabulary_size=config.vocabulary_size,
                unknown=config.unknown,
                end=end,
            )
        case BpeConfig():
            from clearhead.text.bpe import BpeTokenizer, suited_vocabulary_size

            size = config.vocabulary_size
            return BpeTokenizer.train(
                spread(split_training(), training_bytes, SAMPLE_BYTES),
                vocabulary_size=suited_vocabulary_size(training_bytes) if size is None else size,
                end=end,
            )
        case SavedConfig():
            return load_tokenizer(Path(config.path), end=end)
        case _:
            from clearhead.text.adapters.registry import build_adapter

            sample = spread(split_training(), training_bytes, SAMPLE_BYTES)
            return build_adapter(config, sample, training_bytes=training_bytes, end=end)


def load_tokenizer(folder: Path, *, end: bool | None = None) -> Tokenizer:
    """Return the tokenizer that was saved in a folder.

    Args:
        end: whether it has an `<|end|>`; None leaves that as it was saved.

    Raises:
        DamagedFile: a file is missing or is not what was written.
        NewerFormat: the file comes from a newer version of the program.
    """
    path = folder / FILE
    stored = read_json(path)
    if not isinstance(stored, dict) or not isinstance(stored.get("format"), int):
        raise DamagedFile(f"{path} is not a tokenizer.")
    if stored["format"] > FORMAT:
        raise newer_format(path, stored["format"], FORMAT)
    if stored.pop("fingerprint", None) != _fingerprint(stored):
        raise DamagedFile(f"{path} is not what was written: its fingerprint does not fit its content.")
    if end is not None:
        stored["end"] = end
    try:
        return _rebuild(folder, stored)
    except (KeyError, TypeError, AttributeError, ValueError):
        raise DamagedFile(f"{path} does not hold what its kind of tokenizer asks for.") from None


def _rebuild(folder: Path, stored: dict[str, Any]) -> Tokenizer:
    match stored["kind"]:
        case "char":
            return CharTokenizer(stored["characters"], unknown=stored["unknown"], end=stored["end"])
        case "byte":
            return ByteTokenizer(end=stored["end"])
        case "word":
            return WordTokenizer(stored["words"], unknown=stored["unknown"], end=stored["end"])
        case "bpe":
            from clearhead.text.bpe import BpeTokenizer

            return BpeTokenizer.load(folder, stored)
        case _:
            from clearhead.text.adapters.registry import load_adapter

            return load_adapter(folder, stored)


def characters_of(texts: Iterable[str]) -> str:
    """Return the different characters of the texts in the order of their code points, in one pass."""
    seen = np.zeros(0x110000, dtype=np.bool_)
    for text in texts:
        seen[_code_points(without_surrogates(text))] = True
    return "".join(map(chr, np.flatnonzero(seen).tolist()))


def spread(texts: Iterable[str], total_bytes: int, limit_bytes: int) -> Iterator[str]:
    """Yield texts spread evenly over all of them, whole ones and at most `limit_bytes` in all."""
    share = min(1.0, limit_bytes / max(1, total_bytes))
    seen = kept = 0
    for text in texts:
        size = len(_utf8(text))
        seen += size
        if kept + size <= share * seen:
            kept += size
            yield text


def _train_characters(
    config: CharConfig, training: Iterable[str], validation: Iterable[str], *, end: bool
) -> CharTokenizer:
    characters = characters_of(training)
    lacking = sorted(set(characters_of(validation)) - set(characters))
    if config.unknown == "refuse" and lacking:
        raise UserError(
            f"The validation part has the character {_named(lacking[0])}, which the training part does not have; "
            "--tokenizer.unknown bytes keeps it."
        )
    spelled = config.unknown == "bytes" or (config.unknown == "auto" and (len(characters) > 256 or bool(lacking)))
    return CharTokenizer(characters, unknown="bytes" if spelled else "refuse", end=end)


def _id_table(characters: str) -> Int32[np.ndarray, " size"]:
    """Return the id of each code point, -1 for unknown ones; the last entry is always unknown."""
    codes = [ord(character) for character in characters]
    table = np.full(max(codes, default=-1) + 2, -1, dtype=np.int32)
    table[codes] = np.arange(len(codes), dtype=np.int32)
    return table


def _code_points(text: str) -> _CodePoints:
    if text.isascii():
        return np.frombuffer(text.encode("ascii"), np.uint8)
    return np.frombuffer(text.encode("utf-32-le", "surrogatepass"), "<u4")


def _text_of(codes: _CodePoints) -> str:
    return codes.astype("<u4").tobytes().decode("utf-32-le")


def _utf8(text: str) -> bytes:
    try:
        return text.encode()
    except UnicodeEncodeError:
        return without_surrogates(text).encode()


def without_surrogates(text: str) -> str:
    """Return the text with surrogate pairs joined and lone surrogates as U+FFFD."""
    if text.isascii():
        return text
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return text


def _byte_names(first: int, spelled: Sequence[bytes]) -> dict[int, str]:
    return {first + offset: f"<0x{value[0]:02X}>" for offset, value in enumerate(spelled)}


def _visible(character: str) -> str:
    code = ord(character)
    if 0xDC80 <= code <= 0xDCFF:  # where "surrogateescape" keeps a byte that is not valid UTF-8
        return f"<0x{code - 0xDC00:02X}>"
    if character == " ":
        return "␣"
    if character == "\\" or not character.isprintable():
        return character.encode("unicode_escape").decode()
    return character


def _named(character: str) -> str:
    return f"{character!r} (U+{ord(character):04X})"


def _fingerprint(description: Mapping[str, Any]) -> str:
    canonical = json.dumps(description, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()
