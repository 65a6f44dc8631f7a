from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clearhead.core.errors import UserError
from clearhead.text.bpe import BpeTokenizer
from clearhead.text.compact import CompactTokenizer, compact
from clearhead.text.tokenizer import END, ByteTokenizer, CharTokenizer, Tokenizer, WordTokenizer, load_tokenizer

TEXT = "The cat sat on the mat.\n\nThe dog's seen it all; trăm năm.\n" * 7
USED = "The cat sat on the mat.\n"


def whole_of(kind: str, *, end: bool = True) -> Tokenizer:
    made: dict[str, Tokenizer] = {
        "bpe": BpeTokenizer.train([TEXT], vocabulary_size=311, end=end),
        "char": CharTokenizer.train([TEXT], unknown="bytes", end=end),
        "word": WordTokenizer.train([TEXT], vocabulary_size=23, unknown="bytes", end=end),
    }
    tokenizer = made[kind]
    seen = {*tokenizer.encode(USED).tolist(), tokenizer.end}
    tokenizer.unseen = np.array([i for i in range(tokenizer.vocabulary_size) if i not in seen], dtype=np.int32)
    return tokenizer


WHOLE = {kind: whole_of(kind) for kind in ("bpe", "char", "word")}
COMPACT = {kind: compact(tokenizer) for kind, tokenizer in WHOLE.items()}
every_kind = pytest.mark.parametrize("kind", WHOLE)


@every_kind
@settings(max_examples=150, deadline=None)
@given(text=st.text(max_size=13) | st.sampled_from([TEXT, END, "<|unseen|>", "năm dog 😀"]))
def test_any_text_can_still_be_written(kind: str, text: str) -> None:
    tokenizer = COMPACT[kind]
    ids = tokenizer.encode(text)
    assert tokenizer.decode(ids) == text
    assert tokenizer.byte_lengths[ids].sum() == len(text.encode())
    assert tokenizer.end not in ids


@every_kind
def test_a_text_whose_ids_are_left_has_the_same_tokens(kind: str) -> None:
    whole, tokenizer = WHOLE[kind], COMPACT[kind]
    assert tokenizer.vocabulary_size < whole.vocabulary_size
    assert tokenizer.kept[tokenizer.encode(USED)].tolist() == whole.encode(USED).tolist()
    assert tokenizer.kept[tokenizer.end] == whole.end
    for new, old in enumerate(tokenizer.kept.tolist()):
        assert tokenizer.token_text(new) == whole.token_text(old)


def test_what_stays_is_used_a_byte_or_the_end() -> None:
    whole, tokenizer = WHOLE["bpe"], COMPACT["bpe"]
    assert set(tokenizer.kept.tolist()) == {*range(256), *whole.encode(USED).tolist(), whole.end}


@every_kind
def test_it_is_saved_with_the_whole_one(kind: str, tmp_path: Path) -> None:
    tokenizer = COMPACT[kind]
    tokenizer.save(tmp_path)
    back = load_tokenizer(tmp_path)
    assert isinstance(back, CompactTokenizer)
    assert back.fingerprint == tokenizer.fingerprint
    assert back.encode(TEXT).tolist() == tokenizer.encode(TEXT).tolist()
    assert load_tokenizer(tmp_path, end=False).end is None


def test_there_must_be_something_to_leave_out_and_bytes_to_write_it_in() -> None:
    with pytest.raises(UserError, match="nothing to leave out"):
        compact(ByteTokenizer(end=True))
    with pytest.raises(UserError, match='kind "char" without an id for each byte'):
        compact(CharTokenizer("abc", unknown="refuse", end=False))
