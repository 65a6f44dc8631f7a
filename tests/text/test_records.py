"""Rows from tables and aligned files, each against the rows they were written from, and what is refused."""

from __future__ import annotations

import csv
import gzip
import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clearhead.core.errors import UserError
from clearhead.text.config import TextConfig
from clearhead.text.records import (
    Column,
    Columns,
    Row,
    find_columns,
    fingerprint,
    hold_out,
    kept_input,
    named_input,
    read_rows,
)

PAIRS = [("a fine day", "good"), ('he said "no", twice', "bad"), ("naïve 猫", "good"), ("tabs\u2028stay", "bad")]


def columns(text: str | None = None, label: str | None = None) -> Columns:
    first = Column(role="text", aliases=frozenset({"text", "sentence"}), wanted=text)
    return first, Column(role="label", aliases=frozenset({"label"}), wanted=label)


def read(*paths: Path, text: str | None = None, label: str | None = None) -> list[tuple[str, str]]:
    rows = read_rows([named_input(str(path)) for path in paths], columns(text, label), TextConfig())
    return [(row.first, row.second) for row in rows]


def write(path: Path, content: str) -> Path:
    path.write_bytes(content.encode())
    return path


@pytest.mark.parametrize("header", ["", "text\tlabel\n", "Sentence\tLABEL\r\n"])
def test_tabs_divide_and_quotes_mean_themselves(tmp_path: Path, header: str) -> None:
    path = write(tmp_path / "rows.tsv", header + "".join(f"{text}\t{label}\n" for text, label in PAIRS))
    assert read(path) == PAIRS


def test_commas_divide_as_python_writes_them(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    with path.open("w", newline="") as stream:
        csv.writer(stream).writerows([("label", "text"), *((b, a) for a, b in [*PAIRS, ("two\nlines", "good")])])
    assert read(path) == [*PAIRS, ("two\nlines", "good")]


def test_objects_may_hold_numbers(tmp_path: Path) -> None:
    path = write(
        tmp_path / "rows.jsonl", '{"id": 7, "sentence": "fine", "label": 1}\n\n{"label": false, "text": "x"}\n'
    )
    assert read(path) == [("fine", "1"), ("x", "false")]


def test_lines_of_two_files_belong_together(tmp_path: Path) -> None:
    one = write(tmp_path / "a.en", "one\r\ntwo\n")
    other = write(tmp_path / "a.de", "eins\nzwei")
    assert read(one, other) == [("one", "eins"), ("two", "zwei")]


def test_several_tables_follow_each_other_and_may_be_compressed(tmp_path: Path) -> None:
    one = write(tmp_path / "a.tsv", "a\tx\n")
    other = tmp_path / "b.jsonl.gz"
    other.write_bytes(gzip.compress(json.dumps({"text": "b", "label": "y"}).encode()))
    assert read(one, other) == [("a", "x"), ("b", "y")]


def test_what_standard_input_gave_is_read_as_a_table(tmp_path: Path) -> None:
    kept = kept_input(write(tmp_path / "stdin.txt", "a\tx\nb\ty\n"))
    assert [row.second for row in read_rows([kept], columns(), TextConfig())] == ["x", "y"]


@pytest.mark.parametrize(
    ("cells", "text", "label", "found"),
    [
        (["text", "label"], None, None, ((0, 1), True)),
        (["label", "text"], None, None, ((1, 0), True)),
        (["fine", "1"], None, None, ((0, 1), False)),
        (["1", "fine"], "2", "1", ((1, 0), False)),
        (["fine", "2"], None, "2", ((0, 1), False)),
        (["1", "fine"], "2", None, ((1, 0), False)),
        (["id", "mark", "words"], "words", "mark", ((2, 1), True)),
        (["id", "label", "words"], "3", None, ((2, 1), True)),
        (["words", "mark"], "words", None, ((0, 1), True)),
        (["7", "fine", "1"], "2", "3", ((1, 2), False)),
    ],
)
def test_columns_are_found_by_name_number_or_place(
    tmp_path: Path, cells: list[str], text: str | None, label: str | None, found: tuple[tuple[int, int], bool]
) -> None:
    named = named_input(str(write(tmp_path / "x.tsv", "")))
    assert find_columns(cells, columns(text, label), named) == found


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        ("x.tsv", "text\tlabel\nfine\tgood\nalone\n", 'x.tsv", line 3 has 1 of the 2 columns'),
        ("x.tsv", "fine\tgood\n  \tbad\n", "line 2: the text is empty"),
        ("x.tsv", "fine\tgood\nbad\t \n", "line 2: the label is empty"),
        (
            "x.tsv",
            "a\tb\tc\n",
            "not clear which holds the text; name it by --task.text, or if the first row is no header give",
        ),
        ("x.csv", "text;label\nfine;good\n", "has a single column and two are needed; .* separated by commas"),
        ("x.tsv", "text,label\nfine,good\n", "has a single column and two are needed; .* separated by tabs"),
        ("x.csv", 'text,label\n"fine,good\n', "is not comma-separated"),
        ("x.jsonl", '{"text": "x"}\n', "line 1 has no label .its keys: text.; name one with --task.label"),
        ("x.jsonl", '{"text": "x", "label": [1]}\n', "label is neither text nor a number; mend the row"),
        ("x.jsonl", "fine\n", "line 1 is not JSON"),
        ("x.jsonl", "[1]\n", "line 1 is not an object"),
        ("x.txt", "fine\n", "is no table of rows: name .tsv, .csv or .jsonl files, or two plain files"),
        ("x.tsv", "a\0b\tc\n", "does not look like text"),
        ("x.tsv", "", 'There are no rows in .*x.tsv"'),
        ("x.tsv", "text\tlabel\n", 'There are no rows in .*x.tsv"'),
    ],
)
def test_a_mistake_is_named_with_its_row(tmp_path: Path, name: str, content: str, sentence: str) -> None:
    path = write(tmp_path / name, content)
    with pytest.raises(UserError, match=sentence):
        read(path)


def test_a_name_that_no_header_has_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "x.tsv", "text\tmark\nfine\tgood\n")
    with pytest.raises(UserError, match=r"has no column grade \(its first row: text, mark\)"):
        read(path, label="grade")


def test_aligned_files_must_be_equally_long(tmp_path: Path) -> None:
    one, other = write(tmp_path / "a.en", "one\ntwo\n"), write(tmp_path / "a.de", "eins\n")
    for pair in ((one, other), (other, one)):
        with pytest.raises(UserError, match=r'a.de" ends at line 1 and ".*a.en" goes on'):
            read(*pair)


def test_missing_files_and_folders_are_refused(tmp_path: Path) -> None:
    write(tmp_path / "rows.tsv", "")
    with pytest.raises(UserError, match=r'Did you mean ".*rows.tsv"'):
        named_input(str(tmp_path / "row.tsv"))
    with pytest.raises(UserError, match="is not a file"):
        named_input(str(tmp_path))


def rows_of(texts: list[str]) -> list[Row]:
    return [Row(text, "x", "") for text in texts]


@settings(max_examples=20)
@given(st.lists(st.text("abc", min_size=1, max_size=3), min_size=40, max_size=60))
def test_the_split_keeps_copies_together_and_ignores_the_order(texts: list[str]) -> None:
    texts = [*texts, *(f"text {number}" for number in range(40))]
    chosen = {text for text, out in zip(texts, hold_out(rows_of(texts)), strict=True) if out}
    training = {text for text, out in zip(texts, hold_out(rows_of(texts)), strict=True) if not out}
    assert chosen
    assert not chosen & training
    shuffled = sorted(texts, key=lambda text: text[::-1])
    again = {text for text, out in zip(shuffled, hold_out(rows_of(shuffled)), strict=True) if out}
    assert again == chosen
    assert sum(len(text) for text in texts if text in chosen) <= sum(map(len, texts)) / 10


def test_few_rows_cannot_be_split() -> None:
    with pytest.raises(UserError, match="There are 19 rows and at least 20 are needed"):
        hold_out(rows_of([str(number) for number in range(19)]))
    with pytest.raises(UserError, match="too alike"):
        hold_out(rows_of(["same"] * 30))


def test_the_fingerprint_knows_which_text_is_which() -> None:
    assert fingerprint([Row("a", "b", "here")]) == fingerprint([Row("a", "b", "there")])
    first, second = Row("a", "b", ""), Row("c", "d", "")
    assert len({fingerprint([first], [second]), fingerprint([first, second], []), fingerprint([first, second])}) == 3
    prints = {fingerprint(rows) for rows in ([Row("a", "b", "")], [Row("b", "a", "")], [Row("ab", "", "")], [])}
    assert len(prints) == 4
