"""TOML files: what is written says what it is, and a mistake is found by its line."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import pytest

from clearhead.core.errors import UserError
from clearhead.core.toml import load_toml, to_toml


@dataclass(frozen=True, kw_only=True, slots=True)
class Learned:
    kind: Literal["learned"] = "learned"


@dataclass(frozen=True, kw_only=True, slots=True)
class Turned:
    """Turned by an angle.

    Args:
        kind: which way.
        base: how slow the slowest turn is,
            in positions.
    """

    kind: Literal["left", "right"] = "left"
    base: float = 10_000.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Model:
    """A transformer.

    Equations are written elsewhere.

    Args:
        width: a multiple of "heads".
        positions: where a token stands.

    Raises:
        width: no multiple of the heads.
    """

    width: int = 21
    softcap: float | None = None
    encoding: str | None = None
    names: tuple[str, ...] = ("a", "\x7f\n")
    absent: Learned | None = None
    positions: Learned | Turned = field(default_factory=Turned)
    other: Turned = field(default_factory=Turned)


EXPLAINED = """\
# a multiple of "heads".
width = 21
softcap = "none"
# encoding =
names = ["a", "\\u007f\\n"]
absent = "none"

# where a token stands.
[positions]
# "learned", "left" or "right"
# which way.
kind = "left"
# how slow the slowest turn is, in positions.
base = 10000.0

# Turned by an angle.
[other]
# which way.
kind = "left"
# how slow the slowest turn is, in positions.
base = 10000.0
"""


def test_a_written_file_explains_itself() -> None:
    assert to_toml(Model()) == EXPLAINED
    bare = [line for line in EXPLAINED.splitlines() if not line.startswith("#")]
    assert to_toml(Model(), comments=False).splitlines() == bare


def test_a_dataclass_without_a_docstring_gets_no_comment() -> None:
    assert "Learned(" not in to_toml(Model(absent=Learned()))


def message_of(path: Path) -> str:
    with pytest.raises(UserError) as caught:
        load_toml(path)
    return str(caught.value)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"a = 1\nb = = 2\n", "{path}, line 2: this is not TOML (invalid value)."),
        (b"a = 1\n\n[b", "{path}, line 3: this is not TOML ("),
        (b"a = 1\na = 2\n", "{path}, line 2: this is not TOML ("),
        (b"a = 1\nb = '\xff'\n", "{path}, line 2: this is not UTF-8; save the file with that encoding."),
        (b"a = " + b"[" * 100_000, "{path} nests its brackets too deeply."),
        (b"a = " + b"9" * 10_000, "{path} is not TOML ("),
    ],
)
def test_a_mistake_in_a_file_is_named_with_its_line(tmp_path: Path, content: bytes, expected: str) -> None:
    path = tmp_path / "run.toml"
    path.write_bytes(content)
    message = message_of(path)
    assert message.startswith(expected.format(path=path))
    assert "\n" not in message


def test_files_are_read_whatever_editor_wrote_them(tmp_path: Path) -> None:
    path = tmp_path / "run.toml"
    path.write_bytes(b"\xef\xbb\xbf[train]\r\nseed = 7\r\n")
    assert load_toml(path) == {"train": {"seed": 7}}


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    path = tmp_path / "missing.toml"
    assert message_of(path) == f"Cannot read {path}: No such file or directory."
    assert message_of(tmp_path) == f"Cannot read {tmp_path}: Is a directory."
