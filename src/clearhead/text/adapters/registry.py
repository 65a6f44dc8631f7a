"""The tokenizers that are not in `text/tokenizer.py`, by configuration and by what was stored.

Each library is imported when it is needed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from clearhead.core.errors import NewerFormat
from clearhead.text.config import HuggingFaceConfig, SentencePieceConfig, TiktokenConfig
from clearhead.text.tokenizer import FILE, Tokenizer

AdapterConfig = SentencePieceConfig | TiktokenConfig | HuggingFaceConfig


def build_adapter(config: AdapterConfig, sample: Iterable[str], *, training_bytes: int, end: bool) -> Tokenizer:
    """Return the tokenizer that a configuration asks for.

    Args:
        sample: the text to train on, for the kinds that are trained.

    Raises:
        UserError: the vocabulary is too small, or a file or a library is missing.
    """
    match config:
        case SentencePieceConfig():
            from clearhead.text.adapters.sentencepiece import SentencePieceTokenizer

            return SentencePieceTokenizer.train(sample, config, training_bytes=training_bytes, end=end)
        case TiktokenConfig():
            from clearhead.text.adapters.tiktoken import TiktokenTokenizer

            return TiktokenTokenizer.read(config, end=end)
        case HuggingFaceConfig():
            from clearhead.text.adapters.huggingface import HuggingFaceTokenizer

            return HuggingFaceTokenizer.read(Path(config.path), end=end)


def load_adapter(folder: Path, stored: Mapping[str, Any]) -> Tokenizer:
    """Return the tokenizer of which `stored` is the checked description.

    Raises:
        DamagedFile: a file beside it is missing or is not what was written.
        NewerFormat: its kind is not known here.
    """
    match stored["kind"]:
        case "sentencepiece":
            from clearhead.text.adapters.sentencepiece import SentencePieceTokenizer

            return SentencePieceTokenizer.load(folder, stored)
        case "tiktoken":
            from clearhead.text.adapters.tiktoken import TiktokenTokenizer

            return TiktokenTokenizer.load(folder, stored)
        case "huggingface":
            from clearhead.text.adapters.huggingface import HuggingFaceTokenizer

            return HuggingFaceTokenizer.load(folder, stored)
        case "compact":
            from clearhead.text.compact import CompactTokenizer

            return CompactTokenizer.load(folder, stored)
        case kind:
            raise NewerFormat(f'{folder / FILE} is of kind "{kind}", which this version lacks; use a newer clearhead.')
