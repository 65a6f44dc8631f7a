from __future__ import annotations

import functools
import hashlib
import json
import re
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from clearhead.core.errors import DamagedFile, NewerFormat, UserError
from clearhead.text.adapters.huggingface import HuggingFaceTokenizer
from clearhead.text.adapters.sentencepiece import SentencePieceTokenizer
from clearhead.text.adapters.tiktoken import GPT2_PATTERN, TiktokenTokenizer
from clearhead.text.bpe import BpeTokenizer
from clearhead.text.compact import CompactTokenizer
from clearhead.text.config import (
    BpeConfig,
    ByteConfig,
    CharConfig,
    SavedConfig,
    SentencePieceConfig,
    TokenizerConfig,
    WordConfig,
)
from clearhead.text.tokenizer import (
    END,
    ByteTokenizer,
    CharTokenizer,
    Tokenizer,
    WordTokenizer,
    characters_of,
    load_tokenizer,
    spread,
    train_tokenizer,
)

ENGLISH = "The cat sat on the mat.\n\nThe dog, who had\tseen it all, sat on the cat; <b>it's</b> 17 days ago.\n" * 7
VIETNAMESE = "Trăm năm trong cõi người ta, chữ tài chữ mệnh khéo là ghét nhau.\n"
EMOJI = "a 😀 family 👨‍👩‍👧 and a flag 🇻🇳"
TEXTS = [ENGLISH, VIETNAMESE]

BPE = BpeTokenizer.train(TEXTS, vocabulary_size=311, end=True)
RANKS = {BPE.decode_bytes([token]): token for token in range(BPE.vocabulary_size - 1)}
UNIGRAM, PAIRS = (SentencePieceConfig(algorithm=algorithm, vocabulary_size=313) for algorithm in ("unigram", "bpe"))
KEPT = np.unique([*range(256), *BPE.encode(ENGLISH), BPE.vocabulary_size - 1]).astype(np.int32)

LOSSLESS: dict[str, Tokenizer] = {
    "byte": ByteTokenizer(end=True),
    "char": CharTokenizer.train(TEXTS, unknown="bytes", end=True),
    "word": WordTokenizer.train(TEXTS, vocabulary_size=31, unknown="bytes", end=True),
    "bpe": BPE,
    "sentencepiece": SentencePieceTokenizer.train(TEXTS, UNIGRAM, training_bytes=1, end=True),
    "sentencepiece bpe": SentencePieceTokenizer.train(TEXTS, PAIRS, training_bytes=1, end=True),
    "tiktoken": TiktokenTokenizer(RANKS, pattern=GPT2_PATTERN, specials={}, end=True),
    "huggingface": HuggingFaceTokenizer(BPE.library_json, end=True),
    "compact": CompactTokenizer(BPE, KEPT, end=True),
}
REFUSING = CharTokenizer.train([ENGLISH], unknown="refuse", end=True)
MARKING = WordTokenizer.train([ENGLISH], vocabulary_size=11, unknown="mark", end=True)
ALL = {**LOSSLESS, "char refuse": REFUSING, "word mark": MARKING}

every_kind = pytest.mark.parametrize("kind", LOSSLESS)
every_whole_kind = pytest.mark.parametrize("kind", [kind for kind in LOSSLESS if kind != "compact"])
a_few = settings(max_examples=120, deadline=None)
a_lot = settings(max_examples=20_000, deadline=None, suppress_health_check=[HealthCheck.too_slow])

FRAGMENTS = st.sampled_from(
    [
        ENGLISH[:61],
        VIETNAMESE,
        EMOJI,
        END,
        "<unk>",
        "\r\n",
        "  ",
        "\x00",
        "\x1c",
        "\ufeff",
        "e\u0301",
        "\u2581",
        "<0x0A>",
    ]
)
PLAIN_TEXT = st.lists(st.text(max_size=13) | FRAGMENTS, max_size=7).map("".join)
ANY_TEXT = st.text(st.characters(exclude_categories=()) | st.characters(categories=["Cs"]), max_size=31)


def mended(text: str) -> str:
    """The surrogate rule a second way: pairs by arithmetic, then what is left over."""

    def join(pair: re.Match[str]) -> str:
        high, low = pair[0]
        return chr(0x10000 + (ord(high) - 0xD800) * 0x400 + ord(low) - 0xDC00)

    return re.sub("[\ud800-\udfff]", "\ufffd", re.sub("[\ud800-\udbff][\udc00-\udfff]", join, text))


def check_lossless(tokenizer: Tokenizer, text: str) -> None:
    ids = tokenizer.encode(text)
    expected = mended(text)
    assert ids.dtype == np.int32
    assert tokenizer.decode(ids) == expected
    assert tokenizer.decode_bytes(ids) == expected.encode()
    assert tokenizer.byte_lengths[ids].sum() == len(expected.encode())
    assert not set(ids.tolist()) & set(tokenizer.specials.values())


def check_streaming(pieces: Sequence[str], whole: str) -> None:
    assert "".join(pieces) == whole


def streamed(tokenizer: Tokenizer, ids: Sequence[int]) -> list[str]:
    stream = tokenizer.stream()
    return [*(stream.push(token) for token in ids), stream.flush()]


# --- laws that every kind keeps


@every_kind
@a_few
@given(text=PLAIN_TEXT | ANY_TEXT)
def test_decoding_gives_back_any_text(kind: str, text: str) -> None:
    check_lossless(LOSSLESS[kind], text)


@pytest.mark.slow
@every_kind
@a_lot
@given(text=PLAIN_TEXT | ANY_TEXT)
def test_decoding_gives_back_any_text_in_many_examples(kind: str, text: str) -> None:
    check_lossless(LOSSLESS[kind], text)


@functools.cache
def one_byte_tokens(kind: str) -> list[int]:
    tokenizer = LOSSLESS[kind]
    found = {tokenizer.decode_bytes([token]): token for token in range(tokenizer.vocabulary_size)}
    return [found[bytes([value])] for value in range(256)]


def check_bytes(kind: str, data: bytes) -> None:
    """Spell bytes that need not be UTF-8 in the tokens of one byte."""
    ids = [one_byte_tokens(kind)[value] for value in data]
    assert LOSSLESS[kind].decode_bytes(ids) == data
    check_streaming(streamed(LOSSLESS[kind], ids), data.decode("utf-8", "replace"))


@every_kind
@a_few
@given(data=st.binary(max_size=23))
def test_any_bytes_can_be_spelled(kind: str, data: bytes) -> None:
    check_bytes(kind, data)


@pytest.mark.slow
@every_kind
@a_lot
@given(data=st.binary(max_size=23))
def test_any_bytes_can_be_spelled_in_many_examples(kind: str, data: bytes) -> None:
    check_bytes(kind, data)


def test_the_lossless_law_rejects_a_tokenizer_that_folds_case() -> None:
    class Folding(ByteTokenizer):
        def encode(self, text: str) -> np.ndarray:
            return super().encode(text.lower())

    with pytest.raises(AssertionError):
        check_lossless(Folding(end=True), ENGLISH)


@pytest.mark.parametrize("kind", ALL)
@a_few
@given(data=st.data())
def test_streamed_pieces_joined_equal_the_decoded_whole(kind: str, data: st.DataObject) -> None:
    tokenizer = ALL[kind]
    ids = data.draw(st.lists(st.integers(0, tokenizer.vocabulary_size - 1), max_size=23))
    check_streaming(streamed(tokenizer, ids), tokenizer.decode(ids))


@every_kind
def test_streaming_may_stop_after_any_id(kind: str) -> None:
    tokenizer = LOSSLESS[kind]
    ids = tokenizer.encode(VIETNAMESE + EMOJI).tolist()
    for stop in range(len(ids) + 1):
        check_streaming(streamed(tokenizer, ids[:stop]), tokenizer.decode(ids[:stop]))


def test_the_streaming_law_rejects_decoding_ids_one_by_one() -> None:
    tokenizer = LOSSLESS["byte"]
    ids = tokenizer.encode("chữ").tolist()
    with pytest.raises(AssertionError):
        check_streaming([tokenizer.decode([token]) for token in ids], tokenizer.decode(ids))


def test_a_stream_holds_back_a_character_until_its_last_byte() -> None:
    tokenizer = LOSSLESS["byte"]
    assert streamed(tokenizer, list("aữ".encode())) == ["a", "", "", "ữ", ""]
    assert streamed(tokenizer, list("ữ".encode())[:2]) == ["", "", "\ufffd"]


@pytest.mark.parametrize("kind", ALL)
def test_specials_come_last_are_never_made_from_text_and_decode_to_nothing(kind: str) -> None:
    tokenizer = ALL[kind]
    assert tokenizer.specials == {END: tokenizer.vocabulary_size - 1}
    assert tokenizer.end == tokenizer.vocabulary_size - 1
    known, _ = tokenizer.drop_unknown(f"cat{END}cat {END}")
    assert tokenizer.end not in tokenizer.encode(known)
    assert tokenizer.decode([tokenizer.end]) == ""
    assert streamed(tokenizer, [tokenizer.end]) == ["", ""]
    assert tokenizer.byte_lengths[tokenizer.end] == 0
    assert tokenizer.token_text(tokenizer.end) == END


@pytest.mark.parametrize("kind", ALL)
def test_an_empty_text_has_no_ids(kind: str) -> None:
    ids = ALL[kind].encode("")
    assert ids.shape == (0,)
    assert ids.dtype == np.int32
    assert ALL[kind].decode(ids) == ""


@pytest.mark.parametrize("character", ["a", " ", "\n", "!", "7", "ữ", "😀"])
@pytest.mark.parametrize("size_bytes", [200_000, pytest.param(1_000_000, marks=pytest.mark.slow)])
@every_whole_kind
def test_a_long_run_of_one_character_comes_back(kind: str, size_bytes: int, character: str) -> None:
    """Where time grows with the square of a run's length, or a stack with the length, this does not end well."""
    text = character * (size_bytes // len(character.encode()))
    assert LOSSLESS[kind].decode(LOSSLESS[kind].encode(text)) == text


def test_without_an_end_there_is_no_special() -> None:
    tokenizer = ByteTokenizer(end=False)
    assert tokenizer.end is None
    assert tokenizer.specials == {}
    assert tokenizer.vocabulary_size == 256


# --- characters


def test_char_holds_exactly_the_characters_in_the_order_of_their_code_points() -> None:
    tokenizer = CharTokenizer.train(["đba", "a\nb"], unknown="refuse", end=False)
    assert tokenizer.vocabulary_size == 4
    assert tokenizer.encode("\nabđ").tolist() == [0, 1, 2, 3]


def test_char_spells_unknown_characters_in_bytes_after_the_known_ones() -> None:
    tokenizer = CharTokenizer.train(["ab"], unknown="bytes", end=True)
    assert tokenizer.vocabulary_size == 2 + 256 + 1
    assert tokenizer.encode("aшb😀").tolist() == [0, *(2 + b for b in "ш".encode()), 1, *(2 + b for b in "😀".encode())]
    assert tokenizer.token_text(2 + 0x61) == "<0x61>"
    assert tokenizer.token_text(0) == "a"


def test_char_encodes_blocks_as_it_encodes_the_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    text = "a\ud83d\ude00cat" + VIETNAMESE + EMOJI
    whole = LOSSLESS["char"].encode(text)
    for size in (1, 2, 3, 7):
        monkeypatch.setattr(CharTokenizer, "_BLOCK_CHARACTERS", size)
        np.testing.assert_array_equal(LOSSLESS["char"].encode(text), whole)


@pytest.mark.parametrize(
    ("text", "name"), [("сat ш", "'с' (U+0441)"), ("cat\x00", r"'\x00' (U+0000)"), ("cat \ud800", "(U+FFFD)")]
)
def test_char_refuses_an_unknown_character_by_name(text: str, name: str) -> None:
    with pytest.raises(UserError, match=re.escape(name)) as caught:
        REFUSING.encode(text)
    assert "--unknown drop" in str(caught.value)
    assert not isinstance(caught.value, DamagedFile)


@a_few
@given(text=PLAIN_TEXT | ANY_TEXT)
def test_char_drops_what_it_would_refuse(text: str) -> None:
    kept, dropped = REFUSING.drop_unknown(text)
    assert kept == "".join(c for c in mended(text) if c in ENGLISH)
    assert dropped == len(mended(text)) - len(kept)
    assert REFUSING.decode(REFUSING.encode(kept)) == kept


@pytest.mark.parametrize("kind", [*LOSSLESS, "word mark"])
def test_who_refuses_nothing_drops_nothing(kind: str) -> None:
    assert ALL[kind].drop_unknown(VIETNAMESE + EMOJI) == (VIETNAMESE + EMOJI, 0)


@a_few
@given(texts=st.lists(PLAIN_TEXT | ANY_TEXT, max_size=5))
def test_characters_of_equals_a_sorted_set(texts: list[str]) -> None:
    assert characters_of(texts) == "".join(sorted(set("".join(map(mended, texts)))))


@pytest.mark.slow
@pytest.mark.parametrize("text", [ENGLISH, VIETNAMESE + EMOJI])
def test_char_encodes_200_megabytes_a_second(text: str) -> None:
    text *= 2_000_000 // len(text.encode())
    tokenizer = CharTokenizer.train([text], unknown="bytes", end=False)
    seconds = []
    for _ in range(11):
        start = time.perf_counter()
        tokenizer.encode(text)
        seconds.append(time.perf_counter() - start)
    assert len(text.encode()) / min(seconds) > 200e6


# --- words


@a_few
@given(text=PLAIN_TEXT)
def test_words_joined_are_the_text(text: str) -> None:
    assert "".join(WordTokenizer._WORDS.findall(text)) == text


def test_words_take_one_space_with_them() -> None:
    tokenizer = WordTokenizer.train(["a  cat,\n\n don't e\u0301t"], vocabulary_size=23, unknown="mark", end=False)
    ids = tokenizer.encode("a  cat,\n\n don't e\u0301t")
    shown = ["a", " ", " cat", ",", "\n\n", " don", "'", "t", " e\u0301t"]
    assert [tokenizer.decode([token]) for token in ids] == shown


def test_the_most_frequent_words_are_kept_and_ties_go_by_code_point() -> None:
    tokenizer = WordTokenizer.train(["b;b;c;a;d"], vocabulary_size=4, unknown="bytes", end=True)
    assert tokenizer.words == (";", "b", "a", "c")
    assert tokenizer.vocabulary_size == 4 + 256 + 1
    assert tokenizer.encode("dba").tolist() == [4 + ord("d"), 4 + ord("b"), 4 + ord("a")]
    assert tokenizer.encode("a;d").tolist() == [2, 0, 4 + ord("d")]


def test_a_mark_stands_for_unknown_words_and_counts_no_bytes() -> None:
    tokenizer = WordTokenizer.train(["the cat the"], vocabulary_size=2, unknown="mark", end=True)
    ids = tokenizer.encode("the dog cat")
    assert tokenizer.words == (" cat", " the")
    assert ids.tolist() == [2, 2, 0]
    assert tokenizer.decode(ids) == "<unk><unk> cat"
    assert tokenizer.byte_lengths.tolist() == [4, 4, 0, 0]
    assert tokenizer.token_text(2) == "<unk>"
    assert not tokenizer.lossless
    assert "<unk>" not in tokenizer.specials
    assert all(tokenizer.lossless for tokenizer in LOSSLESS.values())


# --- visible forms


@pytest.mark.parametrize(
    ("token", "shown"),
    [("\n", r"\n"), (" ", "␣"), ("ữ", "ữ"), ("\\", r"\\"), ("\t", r"\t"), ("\x00", r"\x00"), ("\u200d", r"\u200d")],
)
def test_token_text_makes_characters_visible(token: str, shown: str) -> None:
    tokenizer = CharTokenizer(token, unknown="refuse", end=False)
    assert tokenizer.token_text(0) == shown


def test_token_text_shows_half_a_character_as_bytes() -> None:
    assert LOSSLESS["byte"].token_text(0xE1) == "<0xE1>"
    assert LOSSLESS["byte"].token_text(0x41) == "A"


# --- training by configuration


def train(config: TokenizerConfig, training: str, validation: str = "a", *, end: bool = False) -> Tokenizer:
    def pieces(text: str) -> Callable[[], Iterator[str]]:
        return lambda: iter([text[: len(text) // 3], text[len(text) // 3 :]])

    return train_tokenizer(config, pieces(training), pieces(validation), end=end, training_bytes=len(training.encode()))


@pytest.mark.parametrize(
    ("training", "validation", "unknown"),
    [
        ("abc", "cab", "refuse"),
        ("abc", "abcd", "bytes"),
        ("".join(map(chr, range(256))), "a", "refuse"),
        ("".join(map(chr, range(257))), "a", "bytes"),
    ],
)
def test_auto_spells_in_bytes_where_many_or_new_characters_occur(training: str, validation: str, unknown: str) -> None:
    tokenizer = train(CharConfig(), training, validation)
    assert isinstance(tokenizer, CharTokenizer)
    assert tokenizer.unknown == unknown
    assert tokenizer.vocabulary_size == len(set(training)) + (256 if unknown == "bytes" else 0)


def test_characters_only_in_the_validation_part_cannot_be_refused() -> None:
    with pytest.raises(UserError, match=r"'d' \(U\+0064\).*--tokenizer\.unknown bytes"):
        train(CharConfig(unknown="refuse"), "abc", "abcd")


@pytest.mark.parametrize(
    "config",
    [CharConfig(unknown="bytes"), ByteConfig(), WordConfig(vocabulary_size=13), BpeConfig(), UNIGRAM, PAIRS],
)
@pytest.mark.parametrize("end", [False, True])
def test_every_configuration_trains(config: TokenizerConfig, end: bool) -> None:
    tokenizer = train(config, ENGLISH, end=end)
    assert tokenizer.kind == config.kind
    assert (tokenizer.end is not None) == end
    assert tokenizer.decode(tokenizer.encode(EMOJI)) == EMOJI


@every_whole_kind
@pytest.mark.parametrize("end", [False, True])
def test_a_saved_tokenizer_serves_texts_with_and_without_documents(kind: str, end: bool, tmp_path: Path) -> None:
    LOSSLESS[kind].save(tmp_path)
    tokenizer = train(SavedConfig(path=str(tmp_path)), "nothing is learned from this", end=end)
    assert tokenizer.vocabulary_size == LOSSLESS[kind].vocabulary_size - (not end)
    assert (tokenizer.end is not None) == end
    np.testing.assert_array_equal(tokenizer.encode(ENGLISH), LOSSLESS[kind].encode(ENGLISH))


def test_a_sample_is_spread_evenly_and_no_larger_than_the_limit() -> None:
    texts = [chr(0x100 + n) * 50 for n in range(101)]
    sample = list(spread(texts, total_bytes=101 * 100, limit_bytes=1999))
    numbers = [ord(text[0]) - 0x100 for text in sample]
    assert len(sample) == 19
    assert set(np.diff(numbers)) <= {5, 6}
    assert list(spread(texts, total_bytes=101 * 100, limit_bytes=10**6)) == texts


# --- on disk


@pytest.mark.parametrize("kind", ALL)
def test_a_saved_tokenizer_comes_back_the_same(kind: str, tmp_path: Path) -> None:
    tokenizer = ALL[kind]
    tokenizer.save(tmp_path / "tokenizer")
    back = load_tokenizer(tmp_path / "tokenizer")
    assert type(back) is type(tokenizer)
    assert back.fingerprint == tokenizer.fingerprint
    assert back.specials == tokenizer.specials
    assert back.lossless == tokenizer.lossless
    np.testing.assert_array_equal(back.byte_lengths, tokenizer.byte_lengths)
    known, _ = tokenizer.drop_unknown(ENGLISH + EMOJI)
    np.testing.assert_array_equal(back.encode(known), tokenizer.encode(known))
    shown = [tokenizer.token_text(token) for token in range(tokenizer.vocabulary_size)]
    assert [back.token_text(token) for token in range(back.vocabulary_size)] == shown


def test_nothing_is_written_but_json_and_the_forms_of_two_libraries(tmp_path: Path) -> None:
    for kind, tokenizer in ALL.items():
        tokenizer.save(tmp_path / kind)
    for file in tmp_path.rglob("*.*"):
        assert file.suffix == ".json" or file.name in ("sentencepiece.model", "ranks.tiktoken")
        assert file.suffix != ".json" or json.loads(file.read_bytes())


@pytest.mark.parametrize("kind", ["bpe", "sentencepiece", "tiktoken", "huggingface"])
@pytest.mark.parametrize("harm", [lambda path: path.unlink(), lambda path: path.write_bytes(path.read_bytes()[:-1])])
def test_a_missing_or_cut_companion_is_named(kind: str, harm: Callable[[Path], object], tmp_path: Path) -> None:
    LOSSLESS[kind].save(tmp_path)
    (companion,) = (file for file in tmp_path.iterdir() if file.name != "tokenizer.json")
    harm(companion)
    with pytest.raises(DamagedFile, match=re.escape(str(companion))):
        load_tokenizer(tmp_path)


def test_fingerprints_differ_when_anything_differs() -> None:
    fingerprints = [
        tokenizer.fingerprint
        for tokenizer in (
            ByteTokenizer(end=False),
            ByteTokenizer(end=True),
            CharTokenizer("ab", unknown="refuse", end=False),
            CharTokenizer("ac", unknown="refuse", end=False),
            CharTokenizer("ab", unknown="bytes", end=False),
            CharTokenizer("ab", unknown="refuse", end=True),
            WordTokenizer(["a", "b"], unknown="mark", end=False),
            WordTokenizer(["b", "a"], unknown="mark", end=False),
            WordTokenizer(["ab"], unknown="mark", end=False),
            WordTokenizer(["a", "b"], unknown="bytes", end=False),
            BpeTokenizer.train([ENGLISH], vocabulary_size=271, end=False),
            BpeTokenizer.train([ENGLISH], vocabulary_size=272, end=True),
            BpeTokenizer.train([ENGLISH], vocabulary_size=272, end=False),
            BpeTokenizer.train([VIETNAMESE * 3], vocabulary_size=271, end=False),
            TiktokenTokenizer(RANKS, pattern=GPT2_PATTERN, specials={}, end=False),
            TiktokenTokenizer(RANKS, pattern=r"\S+|\s+", specials={}, end=False),
            TiktokenTokenizer(RANKS, pattern=GPT2_PATTERN, specials={"<|x|>": 310}, end=False),
            HuggingFaceTokenizer(BPE.library_json, end=False),
            *(SentencePieceTokenizer.train(TEXTS, c, training_bytes=1, end=False) for c in (UNIGRAM, PAIRS)),
        )
    ]
    assert len(set(fingerprints)) == len(fingerprints)


@pytest.mark.parametrize("kind", ["char", "bpe"])
def test_no_flipped_bit_loads_as_something_else(kind: str, tmp_path: Path) -> None:
    tokenizer = CharTokenizer("abữ", unknown="bytes", end=True) if kind == "char" else LOSSLESS[kind]
    tokenizer.save(tmp_path)
    path = tmp_path / "tokenizer.json"
    whole = path.read_bytes()
    for position in range(len(whole)):
        flipped = bytearray(whole)
        flipped[position] ^= 1 << position % 8
        path.write_bytes(flipped)
        with pytest.raises((DamagedFile, NewerFormat)):
            load_tokenizer(tmp_path)
    path.write_bytes(whole)
    assert load_tokenizer(tmp_path).fingerprint == tokenizer.fingerprint


@pytest.mark.parametrize(
    "content", ["", "[]", "{}", '{"format": "1"}', '{"format": NaN}', '{"format": 1, "x": "\\ud800"}']
)
def test_what_is_no_tokenizer_is_refused(content: str, tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_text(content)
    with pytest.raises(DamagedFile, match=re.escape(str(tmp_path / "tokenizer.json"))):
        load_tokenizer(tmp_path)


def test_a_missing_tokenizer_is_named(tmp_path: Path) -> None:
    with pytest.raises(DamagedFile, match=re.escape(str(tmp_path / "tokenizer.json"))):
        load_tokenizer(tmp_path)


def test_newer_formats_and_kinds_are_refused_as_such(tmp_path: Path) -> None:
    path = tmp_path / "tokenizer.json"
    path.write_text('{"format": 2}')
    with pytest.raises(NewerFormat, match="format 2"):
        load_tokenizer(tmp_path)
    content = {"format": 1, "kind": "syllable"}
    canonical = json.dumps(content, sort_keys=True, separators=(",", ":")).encode()
    path.write_text(json.dumps({**content, "fingerprint": hashlib.sha256(canonical).hexdigest()}))
    with pytest.raises(NewerFormat, match="syllable"):
        load_tokenizer(tmp_path)
