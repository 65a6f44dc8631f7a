"""Bytes become the characters that were meant, and what does not fit is counted."""

from __future__ import annotations

import codecs

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clearhead.core.errors import UserError
from clearhead.text.decoding import Encoding, check_encoding, decode, detect, mend

GERMAN = "Der Bär läßt grüßen, während die Käuzchen über die Dächer flögen.\n" * 7
RUSSIAN = "Все счастливые семьи похожи друг на друга, каждая несчастливая семья несчастлива по-своему.\n" * 7
JAPANESE = "吾輩は猫である。名前はまだ無い。どこで生れたかとんと見当がつかぬ。\n" * 7
ACCENTED_ENGLISH = "It was the best of times at the café, it was the worst of times, it was the age of wisdom.\n" * 23


def read(data: bytes, block_bytes: int = 5, named: str | None = None) -> tuple[str, int, Encoding]:
    encoding = detect(data, named=named)
    assert encoding is not None
    blocks = [data[start : start + block_bytes] for start in range(0, len(data), block_bytes)]
    texts = list(decode(blocks, encoding))
    return "".join(text for text, _ in texts), sum(invalid for _, invalid in texts), encoding


@settings(max_examples=100, deadline=None)
@given(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0\ufeff")), st.integers(1, 11))
def test_utf8_comes_back_whatever_the_blocks(text: str, block_bytes: int) -> None:
    assert read(text.encode(), block_bytes) == (text, 0, Encoding(codec="utf-8"))


@pytest.mark.parametrize(
    ("mark", "codec"),
    [
        (codecs.BOM_UTF8, "utf-8"),
        (codecs.BOM_UTF16_LE, "utf-16-le"),
        (codecs.BOM_UTF16_BE, "utf-16-be"),
        (codecs.BOM_UTF32_LE, "utf-32-le"),
        (codecs.BOM_UTF32_BE, "utf-32-be"),
    ],
)
def test_a_byte_order_mark_decides_and_is_left_out(mark: bytes, codec: str) -> None:
    data = mark + GERMAN.encode(codec)
    assert read(data) == (GERMAN, 0, Encoding(codec=codec, mark_bytes=len(mark)))
    assert read(data, named=codec.rsplit("-", 1)[0] if codec != "utf-8" else "utf-8-sig")[0] == GERMAN


@pytest.mark.parametrize(
    ("text", "codec"),
    [
        (GERMAN, "cp1252"),
        (ACCENTED_ENGLISH, "cp1252"),
        (RUSSIAN, "cp1251"),
        (RUSSIAN, "koi8-r"),
        (JAPANESE, "shift_jis"),
        (JAPANESE, "euc_jp"),
    ],
)
def test_an_older_encoding_is_guessed(text: str, codec: str) -> None:
    decoded, invalid, encoding = read(text.encode(codec))
    assert (decoded, invalid, encoding.guessed) == (text, 0, True)


def test_a_few_broken_bytes_are_counted_and_replaced() -> None:
    data = bytearray(ACCENTED_ENGLISH.replace("é", "e").encode())
    data[97], data[1009] = 0xFF, 0xC3
    text, invalid, encoding = read(bytes(data))
    assert (invalid, encoding) == (2, Encoding(codec="utf-8"))
    assert [position for position, character in enumerate(text) if character == "\ufffd"] == [97, 1009]


def test_damaged_utf8_beyond_ascii_is_not_taken_for_an_older_encoding() -> None:
    data = bytearray(RUSSIAN.encode())
    for position in range(1, len(data), 331):
        data[position] = 0xFF
    assert len(data) // 1000 < len(range(1, len(data), 331))
    text, invalid, encoding = read(bytes(data))
    assert encoding == Encoding(codec="utf-8")
    assert invalid >= len(range(1, len(data), 331))
    assert text.count("\ufffd") == invalid


def test_a_character_cut_by_the_end_is_counted() -> None:
    assert read((GERMAN + "é").encode()[:-1])[:2] == (GERMAN + "\ufffd", 1)


@pytest.mark.parametrize("data", [b"\x7fELF\0\0\0", bytes(range(128, 256)) * 3, GERMAN.encode("utf-16-le")])
def test_what_is_not_text_has_no_encoding(data: bytes) -> None:
    assert detect(data, named=None) is None


def test_a_named_encoding_is_believed() -> None:
    assert read(GERMAN.encode("utf-16-le"), named="utf-16-le") == (GERMAN, 0, Encoding(codec="utf-16-le"))
    assert read(GERMAN.encode("utf-8"), named="latin-1")[0] == GERMAN.encode().decode("latin-1")


@pytest.mark.parametrize("codec", ["utf-16-le", "utf-32-be", "shift_jis", "gb18030", "cp1252", "ascii", "utf-7"])
@settings(max_examples=20, deadline=None)
@given(data=st.binary(max_size=40))
def test_any_bytes_decode_to_text_that_utf8_can_hold(codec: str, data: bytes) -> None:
    text = "".join(text for text, _ in decode([data[:3], data[3:]], Encoding(codec=codec)))
    assert text.encode().decode() == text


def test_lone_surrogates_are_mended() -> None:
    assert mend("a\ud800b\udc80c😀") == ("a\ufffdb\ufffdc😀", 2)
    assert mend("naïve 😀") == ("naïve 😀", 0)


@pytest.mark.parametrize("name", ["utf-9", "hex", "", "a\0b", "idna", "undefined"])
def test_what_is_not_an_encoding_is_refused(name: str) -> None:
    with pytest.raises(UserError, match="is not an encoding"):
        check_encoding(name)


def test_the_nearest_encoding_is_named() -> None:
    with pytest.raises(UserError, match=r'Did you mean "utf'):
        check_encoding("utff8")
    check_encoding("UTF-8")
    check_encoding("latin-1")
