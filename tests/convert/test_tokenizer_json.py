"""A tokenizer.json that we write, and one that we read, give the same ids in the library that such files come from."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import tokenizers
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import models

from clearhead.convert.tokenizer_json import read_tokenizer, to_tokenizer_json
from clearhead.core.errors import UserError
from clearhead.text.bpe import BpeTokenizer
from clearhead.text.tokenizer import ByteTokenizer, CharTokenizer, Tokenizer, WordTokenizer

TEXT = "The cat's 12 eggs were new, she said.\nÀ la carte, 数 of them! So it sang.\n" * 9
KINDS: dict[str, Tokenizer] = {
    "char": CharTokenizer.train([TEXT], unknown="bytes", end=False),
    "char-with-documents": CharTokenizer.train([TEXT], unknown="bytes", end=True),
    "byte": ByteTokenizer(end=False),
    "byte-with-documents": ByteTokenizer(end=True),
    "bpe": BpeTokenizer.train([TEXT], vocabulary_size=300, end=False),
    "bpe-with-documents": BpeTokenizer.train([TEXT], vocabulary_size=300, end=True),
}
REFUSING = CharTokenizer.train([TEXT], unknown="refuse", end=True)


def library(tokenizer: Tokenizer) -> tokenizers.Tokenizer:
    """Return what the library makes of our file; the names of specials in a text are text."""
    found = tokenizers.Tokenizer.from_str(json.dumps(to_tokenizer_json(tokenizer)))
    found.encode_special_tokens = True
    return found


LIBRARY = {name: library(tokenizer) for name, tokenizer in KINDS.items()}
ANY_TEXT = st.one_of(st.text(max_size=30), st.lists(st.sampled_from(["The", " cat", "<|end|>", "  ", "数", "\n"])))


@pytest.mark.parametrize("name", list(KINDS))
@settings(max_examples=60, deadline=None)
@given(text=ANY_TEXT.map("".join).map(lambda text: text.encode(errors="replace").decode()))
def test_the_library_gives_the_same_ids_and_the_text_back(name: str, text: str) -> None:
    ids = LIBRARY[name].encode(text, add_special_tokens=False).ids
    assert ids == KINDS[name].encode(text).tolist()
    assert LIBRARY[name].decode(ids) == text


@pytest.mark.parametrize("name", list(KINDS))
def test_the_library_has_the_same_vocabulary(name: str) -> None:
    tokenizer = KINDS[name]
    assert LIBRARY[name].get_vocab_size(with_added_tokens=True) == tokenizer.vocabulary_size
    assert LIBRARY[name].token_to_id("<|end|>") == tokenizer.end
    if tokenizer.end is not None:
        assert LIBRARY[name].decode([tokenizer.end]) == ""


def test_a_character_that_we_refuse_is_refused_there() -> None:
    found = library(REFUSING)
    assert found.encode("The\n").ids == REFUSING.encode("The\n").tolist()
    with pytest.raises(Exception, match="not found in the vocabulary"):
        found.encode("The €")


def test_words_cannot_be_written() -> None:
    words = WordTokenizer.train([TEXT], vocabulary_size=20, unknown="bytes", end=False)
    with pytest.raises(UserError, match=r'kind "word" .* train with --tokenizer char, byte or bpe'):
        to_tokenizer_json(words)


# Reading.


def written(folder: Path, content: Any) -> Path:
    (folder / "tokenizer.json").write_text(json.dumps(content))
    return folder


@pytest.mark.parametrize("tokenizer", [*KINDS.values(), REFUSING], ids=[*KINDS, "refusing"])
def test_there_and_back_gives_the_same_ids(tokenizer: Tokenizer, tmp_path: Path) -> None:
    found = read_tokenizer(written(tmp_path, to_tokenizer_json(tokenizer)))
    assert found.vocabulary_size == tokenizer.vocabulary_size
    assert found.end == tokenizer.end
    for text in (TEXT, "", tokenizer.drop_unknown("x €<|end|>\t")[0]):
        assert found.encode(text).tolist() == tokenizer.encode(text).tolist()
        assert found.decode(tokenizer.encode(text)) == text
    assert to_tokenizer_json(found) == to_tokenizer_json(tokenizer)


def test_the_two_files_of_gpt2_are_read(tmp_path: Path) -> None:
    ours = BpeTokenizer.train([TEXT], vocabulary_size=300, end=False)
    model = json.loads(ours.library_json)["model"]
    (tmp_path / "vocab.json").write_text(json.dumps(model["vocab"] | {"<|endoftext|>": len(model["vocab"])}))
    pairs = [" ".join(pair) for pair in model["merges"]]
    (tmp_path / "merges.txt").write_text("\n".join(["#version: 0.2", *pairs, ""]), encoding="utf-8")
    found = read_tokenizer(tmp_path)
    text = "The cats said 数 <|endoftext|>\n"
    assert found.encode(text).tolist() == ours.encode(text).tolist()
    assert found.end == len(model["vocab"]) == found.vocabulary_size - 1


def test_what_is_no_tokenizer_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"neither tokenizer\.json nor vocab\.json and merges\.txt"):
        read_tokenizer(tmp_path)
    wordpiece = json.loads(tokenizers.Tokenizer(models.WordPiece({"a": 0}, unk_token="a")).to_str())
    for content in ({}, [], {"model": 3}, wordpiece):
        with pytest.raises(UserError, match=r"tokenizer\.json"):
            read_tokenizer(written(tmp_path, content))
