"""What can be set about texts and tokenizers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, kw_only=True, slots=True)
class TextConfig:
    """How texts are read.

    Args:
        field: the key of a JSONL row that holds its text.
        encoding: the name of the files' encoding; without one it is detected for each file.
        normalize: steps applied to every text and every prompt: "lf" (line ends become LF), "nfc" (Unicode NFC).
    """

    field: str = "text"
    encoding: str | None = None
    normalize: tuple[Literal["lf", "nfc"], ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class CharConfig:
    """One id for each character of the training part.

    Args:
        unknown: what other characters become: "bytes" (256 more ids, lossless), "refuse" (an error that names the
            character), or "auto": bytes where the training part has over 256 different characters or the
            validation part has one that it lacks, else refuse.
    """

    kind: Literal["char"] = "char"
    unknown: Literal["auto", "bytes", "refuse"] = "auto"


@dataclass(frozen=True, kw_only=True, slots=True)
class ByteConfig:
    """One id for each of the 256 byte values."""

    kind: Literal["byte"] = "byte"


@dataclass(frozen=True, kw_only=True, slots=True)
class WordConfig:
    """One id for each frequent word.

    Args:
        vocabulary_size: at most so many words are kept, the most frequent first.
        unknown: other words are spelled in "bytes" (lossless) or become one "mark", `<unk>`.
    """

    kind: Literal["word"] = "word"
    vocabulary_size: int = 8192
    unknown: Literal["bytes", "mark"] = "bytes"


@dataclass(frozen=True, kw_only=True, slots=True)
class BpeConfig:
    """Byte-pair encoding on bytes, trained on the training part (at most 64 MB of it).

    Args:
        vocabulary_size: how many ids, from 257; without one it is chosen by the size of the text, 512 to 8,192.
    """

    kind: Literal["bpe"] = "bpe"
    vocabulary_size: int | None = None


TokenizerConfig = CharConfig | ByteConfig | WordConfig | BpeConfig
