"""Our tokenizers as a `tokenizer.json` of Hugging Face, and such files as ours."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from clearhead.core.errors import UserError
from clearhead.core.files import read_json
from clearhead.text.adapters.huggingface import HuggingFaceTokenizer
from clearhead.text.bpe import BpeTokenizer, byte_alphabet
from clearhead.text.tokenizer import END, ENDS_ELSEWHERE, ByteTokenizer, CharTokenizer, Tokenizer

FILE = "tokenizer.json"
GPT2_FILES = ("vocab.json", "merges.txt")

BYTE_LEVEL = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True}
JOINED = {"type": "Fuse"}
JOINED_BYTES = {"type": "Sequence", "decoders": [{"type": "ByteFallback"}, JOINED]}
REFUSED = "<unknown>"
"""A name that no vocabulary by characters has: at an unknown character the library looks for it and raises."""


def to_tokenizer_json(tokenizer: Tokenizer) -> dict[str, Any]:
    """Return what a `tokenizer.json` holds that gives the same ids.

    A vocabulary by characters or bytes is byte-pair encoding that never merges. `<|end|>` is a special there too.

    Raises:
        UserError: the kind cannot be expressed there.
    """
    match tokenizer:
        case CharTokenizer():
            described = _by_characters(tokenizer)
        case ByteTokenizer():
            described = _whole(_model(byte_alphabet()), BYTE_LEVEL | {"use_regex": False}, BYTE_LEVEL)
        case BpeTokenizer() | HuggingFaceTokenizer():
            described = json.loads(tokenizer.library_json)
        case _:
            raise UserError(
                f'A tokenizer of kind "{tokenizer.kind}" cannot be written as a tokenizer.json; train with '
                "--tokenizer char, byte or bpe in order to export."
            )
    known = {added["id"] for added in described["added_tokens"]}
    if tokenizer.end is not None and tokenizer.end not in known:
        described["added_tokens"].append(_special(tokenizer.end, END))
    return described


def read_tokenizer(folder: Path) -> Tokenizer:
    """Return the tokenizer of a model's folder: `tokenizer.json`, or GPT-2's two files.

    Raises:
        UserError: there is none, or it is of no kind that is handled.
    """
    path = folder / FILE
    if path.is_file():
        described = read_json(path)
        if isinstance(described, dict) and described.get("decoder") in (JOINED, JOINED_BYTES):
            return _of_characters(described)
        return HuggingFaceTokenizer.read(path, end=_has_end(described))
    vocabulary, merges = (folder / name for name in GPT2_FILES)
    if not (vocabulary.is_file() and merges.is_file()):
        raise UserError(
            f"{folder} has neither {FILE} nor {' and '.join(GPT2_FILES)}, without which the model's ids mean nothing; "
            f"put its {FILE} there."
        )
    lines = merges.read_text(encoding="utf-8").split("\n")
    ids = read_json(vocabulary)
    pairs = [line for line in lines if line and not line.startswith("#version")]
    described = _whole(_model(ids, pairs), BYTE_LEVEL | {"use_regex": True}, BYTE_LEVEL)
    described["added_tokens"] = [_special(ids[name], name) for name in ENDS_ELSEWHERE if name in ids]
    return HuggingFaceTokenizer(json.dumps(described), end=_has_end(described))


def _has_end(described: Any) -> bool:
    """Say whether a file names a special that means the end of a document."""
    added = described.get("added_tokens", ()) if isinstance(described, dict) else ()
    return any(token.get("special") and token.get("content") in (END, *ENDS_ELSEWHERE) for token in added)


def _of_characters(described: Mapping[str, Any]) -> CharTokenizer:
    ids, spelled = described["model"]["vocab"], described["model"]["byte_fallback"]
    characters = "".join(sorted((token for token in ids if len(token) == 1), key=ids.__getitem__))
    return CharTokenizer(characters, unknown="bytes" if spelled else "refuse", end=_has_end(described))


def _by_characters(tokenizer: CharTokenizer) -> dict[str, Any]:
    ids = {character: id_ for id_, character in enumerate(tokenizer.characters)}
    if tokenizer.unknown == "refuse":
        return _whole(_model(ids) | {"unk_token": REFUSED}, None, JOINED)
    ids |= {f"<0x{value:02X}>": len(tokenizer.characters) + value for value in range(256)}
    return _whole(_model(ids) | {"byte_fallback": True}, None, JOINED_BYTES)


def _whole(model: dict[str, Any], pre_tokenizer: object, decoder: object) -> dict[str, Any]:
    rest = dict.fromkeys(["truncation", "padding", "normalizer", "post_processor"])
    ends = {"pre_tokenizer": pre_tokenizer, "decoder": decoder}
    return {"version": "1.0", "added_tokens": [], **rest, **ends, "model": model}


def _model(ids: Mapping[str, int], merges: list[str] | None = None) -> dict[str, Any]:
    return {
        "type": "BPE",
        "dropout": None,
        "unk_token": None,
        "continuing_subword_prefix": None,
        "end_of_word_suffix": None,
        "fuse_unk": False,
        "byte_fallback": False,
        "ignore_merges": False,
        "vocab": dict(ids),
        "merges": merges or [],
    }


def _special(id_: int, name: str) -> dict[str, Any]:
    flags = dict.fromkeys(["single_word", "lstrip", "rstrip", "normalized"], False)
    return {"id": id_, "content": name, **flags, "special": True}
