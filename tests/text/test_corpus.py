"""A corpus is the same text however it is stored, streamed in bounded pieces, and bad input gets one sentence."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import re
import sys
import unicodedata
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from clearhead.core.errors import UserError
from clearhead.text import corpus as corpora
from clearhead.text.config import TextConfig
from clearhead.text.corpus import Corpus, Piece, from_documents, normalize, read

PLAIN = TextConfig()
POEM = "Über allen Gipfeln\nIst Ruh,\nIn allen Wipfeln\nSpürest du\nKaum einen Hauch;\n" * 3
# Splits as GPT-2's tokenizer does, with Python's classes of characters.
WORDS = re.compile(r" ?[^\W\d_]+| ?\d+| ?[^\s\w]+| ?_+|\s+(?!\S)|\s+")


def documents_of(corpus: Corpus) -> list[str]:
    documents, begun = [], ""
    for piece in corpus.pieces():
        assert piece.text
        begun += piece.text
        if piece.ends_document:
            documents.append(begun)
            begun = ""
    assert begun == ""
    return documents


def write(path: Path, content: str | bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def rows(texts: Sequence[str], field: str = "text") -> str:
    return "".join(json.dumps({"id": number, field: text}) + "\n" for number, text in enumerate(texts))


def test_a_file_is_one_document_described_as_it_is(tmp_path: Path) -> None:
    path = write(tmp_path / "poem.txt", POEM)
    corpus = read([path], PLAIN)
    assert list(corpus.pieces()) == [Piece(POEM, ends_document=True)] == list(corpus.pieces())
    (source,) = corpus.sources
    assert (source.name, source.encoding, source.invalid_bytes, source.documents) == (str(path), "utf-8", 0, 1)
    assert source.bytes == corpus.utf8_bytes == len(POEM.encode())
    assert source.characters == corpus.characters == len(POEM)
    assert source.sha256 == hashlib.sha256(POEM.encode()).hexdigest()
    assert source.notes == corpus.notes == ()


def test_the_same_text_has_one_fingerprint_however_it_is_stored(tmp_path: Path) -> None:
    texts = ["One.\n", POEM, "Drei \u2028 und vier\r\n"]
    for number, text in enumerate(texts):
        write(tmp_path / "folder" / f"{number}.txt", text)
    stored = [
        write(tmp_path / "rows.jsonl", "\n" + rows(texts)),
        write(tmp_path / "packed.jsonl.gz", gzip.compress(rows(texts).encode())),
        write(tmp_path / "wide.jsonl", rows(texts).encode("utf-16")),
        tmp_path / "folder",
        tmp_path / "folder" / "*.txt",
    ]
    expected = from_documents(texts, "texts")
    for name in stored:
        corpus = read([name], PLAIN)
        assert documents_of(corpus) == documents_of(expected) == texts
        assert corpus.fingerprint == expected.fingerprint
        assert (corpus.table.digests == expected.table.digests).all()
        assert corpus.table.utf8_bytes.tolist() == [len(text.encode()) for text in texts]
        assert corpus.table.characters.tolist() == [len(text) for text in texts]


def test_the_fingerprint_knows_borders_and_order() -> None:
    cases = [["ab", "c"], ["a", "bc"], ["abc"], ["c", "ab"]]
    assert len({from_documents(case, "x").fingerprint for case in cases}) == len(cases)


def test_names_are_read_in_order_and_each_file_once(tmp_path: Path) -> None:
    first, second = write(tmp_path / "z.txt", "zz"), write(tmp_path / "a.txt", "aa")
    (tmp_path / "link.txt").symlink_to(first)
    assert documents_of(read([first, second, tmp_path, str(first)], PLAIN)) == ["zz", "aa"]


def test_standard_input_is_a_text_too(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for data in (POEM.encode(), gzip.compress(POEM.encode())):
        monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(data)))
        corpus = read(["-", "-"], PLAIN, keep_stdin_at=tmp_path / "kept")
        assert documents_of(corpus) == [POEM]
        assert corpus.sources[0].name == "-"
        assert (tmp_path / "kept").read_bytes() == data
        assert read([tmp_path / "kept"], PLAIN).fingerprint == corpus.fingerprint


def test_a_row_may_name_its_text_otherwise(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", rows(["one", "two"], field="story"))
    assert documents_of(read([path], TextConfig(field="story"))) == ["one", "two"]


def test_what_a_reader_should_know_is_noted(tmp_path: Path) -> None:
    decomposed = unicodedata.normalize("NFD", "é")
    path = write(tmp_path / "a.txt", b"\xef\xbb\xbf" + f"one\r\ntwo\rthr{decomposed}e\n".encode())
    (source,) = read([path], PLAIN).sources
    assert source.notes == ("BOM", "CRLF line ends", "CR line ends", "mixed Unicode forms")
    assert documents_of(read([path], PLAIN)) == [f"one\r\ntwo\rthr{decomposed}e\n"]
    mended = read([path], TextConfig(normalize=("lf", "nfc")))
    assert documents_of(mended) == ["one\ntwo\nthrée\n"]
    assert mended.sources[0].notes[1] == "CRLF line ends, mended"
    assert mended.fingerprint == from_documents(["one\ntwo\nthrée\n"], "x").fingerprint


def test_invalid_bytes_and_guesses_are_noted(tmp_path: Path) -> None:
    broken = write(tmp_path / "broken.txt", b"x" * 1999 + b"\xff")
    (source,) = read([broken], PLAIN).sources
    assert (source.invalid_bytes, source.notes) == (1, ("1 invalid byte became U+FFFD",))
    old = write(tmp_path / "old.txt", POEM.encode("cp1252"))
    (source,) = read([old], PLAIN).sources
    assert (source.encoding, source.notes) == ("cp1252", ("encoding cp1252 was guessed",))
    (source,) = read([old], TextConfig(encoding="latin-1")).sources
    assert (source.encoding, source.notes) == ("iso8859-1", ())


def test_lone_surrogates_of_rows_are_replaced(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", json.dumps({"text": "long enough " * 30 + "\ud800 😀"}))
    corpus = read([path], PLAIN)
    assert documents_of(corpus)[0].endswith("\ufffd 😀")
    assert corpus.sources[0].invalid_bytes == 1


def test_empty_documents_are_left_out_and_counted(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", rows(["", "one", "", "two"]))
    corpus = read([path], PLAIN)
    assert documents_of(corpus) == ["one", "two"]
    assert corpus.sources[0].notes == ("2 empty documents left out",)
    assert from_documents(["", "one"], "x").documents == 1


def test_a_folder_passes_over_what_is_not_text(tmp_path: Path) -> None:
    write(tmp_path / "a.txt", POEM)
    write(tmp_path / "b.png", b"\x89PNG\r\n\x1a\n\0\0\0")
    write(tmp_path / "late.bin", b"x" * (corpora.HEAD_BYTES + 5) + b"\0")
    write(tmp_path / "packed.gz", gzip.compress(b"\0" * 99))
    write(tmp_path / "empty.txt", b"")
    write(tmp_path / ".hidden", POEM)
    corpus = read([tmp_path], PLAIN)
    assert documents_of(corpus) == [POEM]
    assert corpus.notes == (f'passed over in "{tmp_path}": 3 binary, 1 empty, 1 hidden',)


PIECE = 29
PARTS = ["a", "bc", " ", "\n", "\r\n", "\r", "\u0301", "e", "漢", "\u1100", "\u1161", "\u11a8", "word", "."]


def texts_of(parts: Sequence[str], longest: int = 150) -> st.SearchStrategy[str]:
    return st.lists(st.sampled_from(parts), max_size=longest).map("".join)


@settings(max_examples=150, deadline=None)
@given(st.lists(texts_of(PARTS) | texts_of(["word", "\n", " "]), min_size=1, max_size=7).filter(any))
@example(["x" * 28 + "\r\n" + "x" * 5])
@example(["a" + "\u0301" * 70])
@example([("word" * 3 + "\n\n") * 9])
def test_pieces_are_bounded_and_lose_nothing(texts: list[str]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(corpora, "PIECE_CHARACTERS", PIECE)
        corpus = from_documents(texts, "texts")
        assert documents_of(corpus) == [text for text in texts if text]
        assert all(len(piece.text) <= PIECE for piece in corpus.pieces())


# What combines over more than half a piece is cut anywhere, so these words are kept apart.
@settings(max_examples=150, deadline=None)
@given(st.lists(texts_of(PARTS, 9), max_size=40).map("x".join))
@example("e\u0301" * 31)
@example("\u1100\u1161\u11a8" * 31)
@example("\r\n" * 31)
def test_a_cut_never_changes_the_normal_form(text: str) -> None:
    steps = ("lf", "nfc")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(corpora, "PIECE_CHARACTERS", PIECE)
        pieces = corpora._document_pieces([[text]], corpora._Findings(), steps)
        assert "".join(piece.text for piece in pieces) == normalize(text, steps)


def test_cutting_anywhere_would_change_the_normal_form() -> None:
    for text in ("e\u0301" * 31, "\u1100\u1161\u11a8" * 31, "\r\n" * 31):
        naive = [normalize(text[start : start + PIECE], ("lf", "nfc")) for start in range(0, len(text), PIECE)]
        assert "".join(naive) != normalize(text, ("lf", "nfc"))


@pytest.mark.parametrize("gap", [" ", "\n", "\n\n", "\r\n", "\t"])
def test_cutting_at_white_space_leaves_the_words_as_they_are(gap: str) -> None:
    text = gap.join(f"word{number}, and" for number in range(500))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(corpora, "PIECE_CHARACTERS", 512)
        pieces = [piece.text for piece in from_documents([text], "text").pieces()]
    assert len(pieces) > 10
    assert [word for piece in pieces for word in WORDS.findall(piece)] == WORDS.findall(text)
    naive = [text[start : start + 512] for start in range(0, len(text), 512)]
    assert [word for piece in naive for word in WORDS.findall(piece)] != WORDS.findall(text)


def test_a_line_end_between_lines_is_the_first_choice(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(corpora, "PIECE_CHARACTERS", 160)
    text = "a" * 153 + "\nb c d e f g h i j k\n"
    assert [piece.text for piece in from_documents([text], "text").pieces()] == [text[:154], text[154:]]


def test_a_long_file_is_read_in_bounded_pieces(tmp_path: Path) -> None:
    text = "".join(f"Line {number} with a ü in it.\n" for number in range(120_000))
    corpus = read([write(tmp_path / "a.txt", text)], PLAIN)
    pieces = list(corpus.pieces())
    assert len(pieces) == -(-len(text) // corpora.PIECE_CHARACTERS) > 3
    assert [piece.ends_document for piece in pieces] == [False] * (len(pieces) - 1) + [True]
    assert all(piece.text.endswith("\n") for piece in pieces)
    assert "".join(piece.text for piece in pieces) == text


def test_a_long_row_is_read_across_blocks(tmp_path: Path) -> None:
    texts = ["short", "long " * 300_000, "after"]
    assert documents_of(read([write(tmp_path / "a.jsonl", rows(texts))], PLAIN)) == texts


def test_prompts_are_mended_by_the_same_step() -> None:
    assert normalize("a\r\nb\rc\n", ("lf",)) == "a\nb\nc\n"
    assert normalize("e\u0301\r\n", ("nfc",)) == "é\r\n"
    assert normalize("e\u0301\r\n", ()) == "e\u0301\r\n"


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        ("empty.txt", b"", r'"[^"]*empty\.txt" holds no text'),
        ("bom.txt", b"\xef\xbb\xbf", "holds no text"),
        ("binary.txt", b"abc\0def", "does not look like text .it has NUL bytes"),
        ("late.txt", b"x" * corpora.HEAD_BYTES + b"\0", "it has NUL characters"),
        ("noise.txt", bytes(range(128, 256)) * 5, "fits no known encoding"),
        ("later.txt", b"x" * corpora.HEAD_BYTES + b"\xfe\xff" * 9000, "18,000 of its 1,066,576 bytes are not utf-8"),
        ("a.jsonl", b'{"text": "a"}\n\n{"text": "b"\n', r"a\.jsonl\", line 3 is not JSON"),
        ("b.jsonl", b'{"content": "a", "id": 3}\n', r'line 1 has no field "text" \(its fields: "content", "id"\)'),
        ("c.jsonl", b'{"text": "a"}\n{"text": 7}\n', r'line 2: the field "text" is not a string'),
        ("d.jsonl", b'["text"]\n', 'line 1 is not an object with the field "text"'),
        ("e.jsonl", b'{"text": ""}\n', "holds no text"),
        ("f.txt.gz", gzip.compress(b"abc" * 999, mtime=0)[:-5], "is not a whole gzip file"),
    ],
)
def test_bad_content_gets_one_sentence(tmp_path: Path, name: str, content: bytes, sentence: str) -> None:
    path = write(tmp_path / name, content)
    with pytest.raises(UserError, match=sentence):
        read([path], PLAIN)


def test_bad_names_get_one_sentence(tmp_path: Path) -> None:
    write(tmp_path / "shakespeare.txt", POEM)
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "nothing").mkdir()
    write(tmp_path / "binary" / "a", b"\0")
    for name, sentence in {
        tmp_path / "shakespear.txt": 'There is no file or folder .* Did you mean ".*shakespeare.txt"',
        tmp_path / "*.md": "No file or folder matches",
        tmp_path / "nothing": r"There is no readable text in .*nothing\" .it is empty",
        tmp_path / "binary": "passed over: 1 binary",
        tmp_path / "pipe": "neither a file nor a folder",
        "x" * 999: "Cannot read .*: File name too long",
        "": "A text has no name",
    }.items():
        with pytest.raises(UserError, match=sentence):
            read([name], PLAIN)
    with pytest.raises(UserError, match="A text has no name"):
        read([], PLAIN)
    with pytest.raises(UserError, match="utf-9"):
        read([tmp_path / "shakespeare.txt"], TextConfig(encoding="utf-9"))
    with pytest.raises(UserError, match='"tales" holds no text'):
        from_documents(["", ""], "tales")


def test_a_file_that_changes_between_readings_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "a.txt", POEM)
    corpus = read([path], PLAIN)
    write(path, POEM + "more")
    with pytest.raises(UserError, match="changed"):
        list(corpus.pieces())
