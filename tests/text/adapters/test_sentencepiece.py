from __future__ import annotations

import sys
from typing import Literal

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clearhead.core.errors import UserError
from clearhead.text.adapters.sentencepiece import SentencePieceTokenizer
from clearhead.text.config import SentencePieceConfig
from clearhead.text.tales import tales

TEXT = "\n\n".join(tale.text for tale in tales(10_000, seed=1))
WORDS = ["cat", " the", "  ", "dog", "\n", "\n\n", "!", "năm ", "7", " mat."]


def trained(
    text: str, *, size: int | None = 397, algorithm: Literal["unigram", "bpe"] = "unigram", end: bool = False
) -> SentencePieceTokenizer:
    config = SentencePieceConfig(algorithm=algorithm, vocabulary_size=size)
    return SentencePieceTokenizer.train([text], config, training_bytes=len(text.encode()), end=end)


BOTH = {"unigram": trained(TEXT), "bpe": trained(TEXT, algorithm="bpe")}


@pytest.mark.parametrize("algorithm", BOTH)
@settings(max_examples=200, deadline=None)
@given(text=st.lists(st.sampled_from(WORDS) | st.text("a the\nữ", max_size=5), max_size=13).map("".join))
def test_segments_give_the_ids_of_the_whole(algorithm: str, text: str) -> None:
    tokenizer = BOTH[algorithm]
    assert (tokenizer.encode(text) + 1).tolist() == tokenizer._library.encode(text)


@pytest.mark.parametrize("algorithm", BOTH)
def test_bytes_come_first_then_pieces(algorithm: str) -> None:
    tokenizer = BOTH[algorithm]
    assert tokenizer.vocabulary_size == 397
    assert tokenizer.decode_bytes(range(256)) == bytes(range(256))
    assert len({tokenizer.decode_bytes([token]) for token in range(256, 397)}) == 141
    assert any(tokenizer.decode([token]).startswith(" ") for token in range(256, 397))
    assert any("\n" in tokenizer.decode([token]) for token in range(256, 397))


@pytest.mark.parametrize("algorithm", BOTH)
def test_what_the_library_reads_as_its_own_marks_is_ordinary_text(algorithm: str) -> None:
    tokenizer = BOTH[algorithm]
    for text in ("\u2581", "a\u2581\u2581 b", " \u2581", "<0x0A>", "<unk>", "<s>", "\t", "\u2047\u2585"):
        assert tokenizer.decode(tokenizer.encode(text)) == text
    assert tokenizer.encode("\u2581").tolist() == list("\u2581".encode())


def test_a_text_full_of_tabs_is_learned_from() -> None:
    assert len(trained("the\tcat\tsat\n" * 53, algorithm="bpe").encode("the")) == 1


@pytest.mark.parametrize("algorithm", ["unigram", "bpe"])
@pytest.mark.parametrize("text", ["", "a", "aaaa", "xyz ", "\t", "\u2581", "\n"])
def test_small_texts_shorten_the_vocabulary(algorithm: Literal["unigram", "bpe"], text: str) -> None:
    tokenizer = trained(text, size=8192, algorithm=algorithm, end=True)
    assert 257 <= tokenizer.vocabulary_size <= 270
    assert tokenizer.decode(tokenizer.encode("chữ  x\n")) == "chữ  x\n"


@pytest.mark.parametrize("algorithm", ["unigram", "bpe"])
@pytest.mark.parametrize(
    "text", ["abcabc" * 7, "天地玄黄宇宙洪荒" * 307 + " ", "".join(map(chr, range(0x4E00, 0x5200))) + " "]
)
def test_spaces_come_back_though_the_training_text_hardly_has_one(
    algorithm: Literal["unigram", "bpe"], text: str
) -> None:
    tokenizer = trained(text, algorithm=algorithm)
    assert tokenizer.decode(tokenizer.encode("a  b 天 ")) == "a  b 天 "


def test_many_characters_fit_a_small_vocabulary() -> None:
    text = "".join(map(chr, range(0x4E00, 0x5200))) + "一" * 307
    tokenizer = trained(text, size=331)
    assert tokenizer.vocabulary_size <= 331
    assert tokenizer.decode(tokenizer.encode(text)) == text
    assert len(tokenizer.encode("一")) == 1


@pytest.mark.parametrize("size", [259, 0, -3])
def test_a_vocabulary_without_room_is_refused(size: int) -> None:
    with pytest.raises(UserError, match=f"is {size}, but .* at least 260"):
        trained(TEXT, size=size)


def test_the_smallest_vocabulary_can_be_trained() -> None:
    assert trained(TEXT, size=260, algorithm="bpe", end=True).vocabulary_size == 260


@pytest.mark.parametrize("algorithm", ["unigram", "bpe"])
def test_training_twice_gives_the_same(algorithm: Literal["unigram", "bpe"]) -> None:
    assert trained(TEXT, algorithm=algorithm).fingerprint == BOTH[algorithm].fingerprint


def test_unigram_takes_the_likeliest_pieces() -> None:
    """Viterbi by hand over the library's own scores."""
    tokenizer = BOTH["unigram"]
    library = tokenizer._library
    score = {library.id_to_piece(i): library.get_score(i) for i in range(257, library.get_piece_size())}
    word = "\u2581the\u2581garden.\n\n"
    best: list[tuple[float, list[str]]] = [(0.0, [])]
    for stop in range(1, len(word) + 1):
        ways = [(best[start], word[start:stop]) for start in range(stop) if word[start:stop] in score]
        best.append(max(((total + score[piece], [*path, piece]) for (total, path), piece in ways), key=lambda w: w[0]))
    pieces = [tokenizer.decode([token]) for token in tokenizer.encode(word.replace("\u2581", " "))]
    assert pieces == [piece.replace("\u2581", " ") for piece in best[-1][1]]


def test_long_runs_are_cut_and_come_back() -> None:
    run = "".join(np.random.default_rng(5).choice(list("ACGT"), size=20_011))
    assert BOTH["bpe"].decode(BOTH["bpe"].encode(run)) == run


def test_without_the_library_one_sentence_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sentencepiece", None)
    with pytest.raises(UserError, match=r"pip install 'clearhead\[spm\]'"):
        trained(TEXT)
