"""Rows of two texts that belong together (a text and its label, a sentence and its translation), read from files.

A row is a line of a .tsv or .csv file, an object of a .jsonl file, or a line of each of two files side by side.
Whatever is wrong with one is told in a sentence that names it.
"""

from __future__ import annotations

import csv
import hashlib
import itertools
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeAlias

import numpy as np
from jaxtyping import Bool

from clearhead.core.errors import UserError
from clearhead.text.config import TextConfig
from clearhead.text.corpus import DIGEST_BYTES, DocumentTable, normalize
from clearhead.text.decoding import HEAD_BYTES, check_encoding, decode, detect
from clearhead.text.inputs import STANDARD_INPUT, Input, file_input, missing, standard_input
from clearhead.text.split import smallest_hashes

FEWEST_ROWS = 20
TABLES = (".tsv", ".csv", ".jsonl")


@dataclass(frozen=True, slots=True)
class Row:
    """Two texts that belong together, and where they stand."""

    first: str
    second: str
    place: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Column:
    """What one of the two texts is, and how to find it.

    Args:
        role: what sentences call it, such as "label"; the setting that names it is `task.<role>`.
        aliases: names under which it is found in a header or among an object's keys, in lower case.
        wanted: the name or the number (from 1) that the user gives; without one, an alias or the position decides.
    """

    role: str
    aliases: frozenset[str]
    wanted: str | None = None

    @property
    def number(self) -> int | None:
        """The column's place from 1, where the user gives it."""
        return int(self.wanted) or None if self.wanted is not None and self.wanted.isdecimal() else None

    def find(self, names: Sequence[str]) -> int | None:
        """Return the place of the first name that means this column, or None; a number is not a name."""
        if self.number is not None:
            return None
        wanted = self.aliases if self.wanted is None else {self.wanted.strip().lower()}
        return next((place for place, name in enumerate(names) if name.strip().lower() in wanted), None)


Columns: TypeAlias = tuple[Column, Column]


def read_rows(inputs: Sequence[Input], columns: Columns, config: TextConfig) -> list[Row]:
    """Read the rows of tables one after another, or of two other files side by side.

    Raises:
        UserError: a file is no text, a column is missing, a text is empty (the row is named); there is no row.
    """
    if config.encoding is not None:
        check_encoding(config.encoding)
    is_table = [table_kind(input) != "" for input in inputs]
    if all(is_table):
        rows: Iterator[Row] = itertools.chain.from_iterable(table_rows(input, columns, config) for input in inputs)
    elif len(inputs) == 2 and not any(is_table):
        rows = aligned_rows(inputs[0], inputs[1], columns, config)
    else:
        odd = inputs[is_table.index(False)]
        raise UserError(
            f"{odd.label} is no table of rows: name {', '.join(TABLES[:2])} or {TABLES[2]} files, or two plain files "
            f"whose lines belong together ({columns[0].role}s, then {columns[1].role}s)."
        )
    read = [checked(row, columns, config) for row in rows]
    if not read:
        named = " and ".join(input.label for input in inputs)
        raise UserError(f"There are no rows in {named}; name a file that has some.")
    return read


def named_input(name: str, keep_at: Path | None = None) -> Input:
    """Return the file of a name, or standard input, which holds tab-separated rows.

    Args:
        keep_at: where standard input is stored.

    Raises:
        UserError: there is no such file.
    """
    if name == STANDARD_INPUT:
        return standard_input(keep_at)
    path = Path(name)
    if not path.exists():
        raise missing(path)
    if not path.is_file():
        raise UserError(f'"{path}" is not a file; name the file that holds the rows.')
    return file_input(path)


def kept_input(path: Path) -> Input:
    """Return what standard input gave, from where it was stored."""
    return replace(file_input(path), name=STANDARD_INPUT)


def table_kind(input: Input) -> str:
    """Return how a table's rows are written, by the file's name: a member of `TABLES`, or nothing for other files."""
    if input.name == STANDARD_INPUT:
        return ".tsv"
    suffix = Path(input.name.lower().removesuffix(".gz")).suffix
    return suffix if suffix in TABLES else ""


def lines_of(input: Input, config: TextConfig) -> Iterator[str]:
    """Stream the decoded lines of a file with their ends.

    Raises:
        UserError: it does not look like text.
    """
    head = b"".join(itertools.islice(input.blocks(), 1))[:HEAD_BYTES]
    encoding = detect(head, named=config.encoding)
    if encoding is None:
        raise UserError(f"{input.label} does not look like text; name its encoding with --text.encoding.")
    rest = ""
    for stretch, _invalid in decode(input.blocks(), encoding):
        # Only line feeds end a line: a text may hold the other characters that do so elsewhere.
        *lines, rest = (rest + stretch).split("\n")
        yield from (f"{line}\n" for line in lines)
    if rest:
        yield rest


def table_rows(input: Input, columns: Columns, config: TextConfig) -> Iterator[Row]:
    """Yield the rows of one table."""
    kind, lines = table_kind(input), lines_of(input, config)
    if kind == ".jsonl":
        yield from object_rows(input, lines, columns)
        return
    split_lines = comma_cells(input, lines) if kind == ".csv" else tab_cells(lines)
    places: tuple[int, int] | None = None
    for number, cells in split_lines:
        if places is None:
            places, is_header = find_columns(cells, columns, input)
            if is_header:
                continue
        if len(cells) <= max(places):
            raise UserError(
                f"{place_of(input, number)} has {len(cells)} of the {max(places) + 1} columns that are needed "
                f"({columns[0].role} and {columns[1].role}); mend it or leave it out."
            )
        yield Row(cells[places[0]], cells[places[1]], place_of(input, number))


def tab_cells(lines: Iterable[str]) -> Iterator[tuple[int, list[str]]]:
    """Yield each line's number and its cells; nothing is quoted, and blank lines are passed over."""
    for number, line in enumerate(lines, start=1):
        if not line.isspace():
            yield number, line.rstrip("\r\n").split("\t")


def comma_cells(input: Input, lines: Iterable[str]) -> Iterator[tuple[int, list[str]]]:
    """Yield the number of each row's last line and its cells; cells in double quotes may hold commas and line ends."""
    reader = csv.reader(lines, strict=True)
    try:
        yield from ((reader.line_num, cells) for cells in reader if cells)
    except csv.Error as error:
        raise UserError(f"{place_of(input, reader.line_num)} is not comma-separated ({error}); mend it.") from None


def find_columns(cells: Sequence[str], columns: Columns, input: Input) -> tuple[tuple[int, int], bool]:
    """Return where the two columns stand in a table, by its first row, and whether that row is a header.

    It is one where it has the name of a column. Without a header columns are found by their numbers, or the text
    stands first in two columns.

    Raises:
        UserError: a named column is not there, or there are more than two and nothing says which are meant.
    """
    named = [column.find(cells) for column in columns]
    first, second = (
        column.number - 1 if column.number else place for column, place in zip(columns, named, strict=True)
    )
    for column, place in zip(columns, (first, second), strict=True):
        if place is None:
            require_no_name(column, cells, input)
    if len(cells) == 1:
        separator = "commas" if table_kind(input) == ".csv" else "tabs"
        raise UserError(
            f"{input.label} has a single column and two are needed; its cells are separated by {separator}."
        )
    if len(cells) == 2:
        first = first if first is not None else 0 if second is None else 1 - second
        second = 1 - first if second is None else second
    if first is None or second is None:
        unclear = columns[0 if first is None else 1].role
        raise UserError(
            f"{input.label} has {len(cells)} columns and it is not clear which holds the {unclear}; name it by "
            f"--task.{unclear}, or if the first row is no header give both numbers: "
            f"--task.{columns[0].role} 1 --task.{columns[1].role} 2."
        )
    return (first, second), named != [None, None]


def require_no_name(column: Column, cells: Sequence[str], input: Input) -> None:
    """Refuse a name that the user gives and no header has."""
    if column.wanted is not None and column.number is None:
        raise UserError(
            f"{input.label} has no column {column.wanted} (its first row: {', '.join(cells)[:200]}); "
            f"name the one with the {column.role} by --task.{column.role}, or its number from 1."
        )


def object_rows(input: Input, lines: Iterable[str], columns: Columns) -> Iterator[Row]:
    """Yield the rows of a file of JSON objects."""
    for number, line in enumerate(lines, start=1):
        if line.isspace():
            continue
        place = place_of(input, number)
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise UserError(f"{place} is not JSON ({error}); each line of a .jsonl file is one object.") from None
        if not isinstance(row, dict):
            raise UserError(f"{place} is not an object with a {columns[0].role} and a {columns[1].role}.")
        yield Row(value_of(row, columns[0], place), value_of(row, columns[1], place), place)


def value_of(row: Mapping[str, object], column: Column, place: str) -> str:
    """Return what an object holds for a column; numbers and truth values are written out."""
    keys = list(row)
    found = column.find(keys)
    if found is None:
        named = ", ".join(keys) or "none"
        raise UserError(f"{place} has no {column.role} (its keys: {named}); name one with --task.{column.role}.")
    key, value = keys[found], row[keys[found]]
    if isinstance(value, str):
        return value
    if isinstance(value, bool | int | float):
        return json.dumps(value)
    raise UserError(
        f"{place}: {key} is neither text nor a number; mend the row, leave it out, or name another key "
        f"with --task.{column.role}."
    )


def aligned_rows(first: Input, second: Input, columns: Columns, config: TextConfig) -> Iterator[Row]:
    """Yield the lines of two files side by side.

    Raises:
        UserError: one has more lines than the other.
    """
    pairs = itertools.zip_longest(lines_of(first, config), lines_of(second, config))
    for number, (one, other) in enumerate(pairs, start=1):
        if one is None or other is None:
            short, long = (first, second) if one is None else (second, first)
            raise UserError(
                f"{short.label} ends at line {number - 1} and {long.label} goes on; "
                "line by line the two must belong together."
            )
        yield Row(one.rstrip("\r\n"), other.rstrip("\r\n"), place_of(first, number))


def place_of(input: Input, number: int) -> str:
    """Say where a row stands."""
    return f"{input.label}, line {number}"


def checked(row: Row, columns: Columns, config: TextConfig) -> Row:
    """Return a row as the settings say it is read, with no white space around its texts.

    Raises:
        UserError: one of them is empty.
    """
    first, second = (normalize(text, config.normalize).strip() for text in (row.first, row.second))
    for text, column in ((first, columns[0]), (second, columns[1])):
        if not text:
            raise UserError(f"{row.place}: the {column.role} is empty; fill it in or leave the row out.")
    return Row(first, second, row.place)


def hold_out(rows: Sequence[Row]) -> Bool[np.ndarray, " N"]:
    """Tell which rows are validated on: those of smallest hash of their first text, at most a tenth, as in `split`.

    Raises:
        UserError: there are fewer than 20 rows.
    """
    if len(rows) < FEWEST_ROWS:
        raise UserError(
            f"There are {len(rows)} rows and at least {FEWEST_ROWS} are needed to hold some out; "
            "give more, or rows to validate on with --task.validation."
        )
    encoded = [row.first.encode() for row in rows]
    digests = b"".join(hashlib.sha256(text).digest()[:DIGEST_BYTES] for text in encoded)
    table = DocumentTable(
        np.frombuffer(digests, dtype=np.uint8).reshape(-1, DIGEST_BYTES),
        np.array([len(text) for text in encoded], dtype=np.int64),
        np.array([len(row.first) for row in rows], dtype=np.int64),
    )
    chosen = smallest_hashes(table)
    if not chosen.any() or chosen.all():
        raise UserError("The rows are too alike to hold some out; give rows to validate on with --task.validation.")
    return chosen


def fingerprint(*parts: Iterable[Row]) -> str:
    """Return a hash that stands for the rows' texts, in order, and for the part in which each stands."""
    digest = hashlib.sha256(b"clearhead rows 2\n")
    for rows in parts:
        digest.update(b"[")
        for row in rows:
            digest.update(json.dumps([row.first, row.second]).encode())
        digest.update(b"]")
    return digest.hexdigest()
