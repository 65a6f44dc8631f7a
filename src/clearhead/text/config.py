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


@dataclass(frozen=True, kw_only=True, slots=True)
class SentencePieceConfig:
    """Pieces found by the library SentencePiece, with settings that lose nothing; trained on at most 64 MB.

    Args:
        algorithm: "unigram" takes the likeliest pieces, "bpe" merges the most frequent pairs.
        vocabulary_size: how many ids, from 260; without one it is chosen by the size of the text, 512 to 8,192.
    """

    kind: Literal["sentencepiece"] = "sentencepiece"
    algorithm: Literal["unigram", "bpe"] = "unigram"
    vocabulary_size: int | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class TiktokenConfig:
    """Byte pairs ranked by a file from elsewhere, merged by the library tiktoken.

    Args:
        name: an encoding that the library knows, such as "gpt2", read from its cache and never fetched.
        path: a file instead: `.tiktoken`, or GPT-2's `vocab.bpe` (also `merges.txt`) with its JSON beside it.
        pattern: the regular expression that splits text before pairs are merged; GPT-2's for a file that brings none.
    """

    kind: Literal["tiktoken"] = "tiktoken"
    name: str | None = None
    path: str | None = None
    pattern: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class HuggingFaceConfig:
    """A `tokenizer.json` in the form of Hugging Face.

    Args:
        path: the file.
    """

    kind: Literal["huggingface"] = "huggingface"
    path: str


@dataclass(frozen=True, kw_only=True, slots=True)
class SavedConfig:
    """A tokenizer that this program saved.

    Args:
        path: the folder that `clearhead tokens train` wrote, or the folder `tokenizer` of a run.
    """

    kind: Literal["saved"] = "saved"
    path: str


TokenizerConfig = (
    CharConfig
    | ByteConfig
    | WordConfig
    | BpeConfig
    | SentencePieceConfig
    | TiktokenConfig
    | HuggingFaceConfig
    | SavedConfig
)
