"""Tables, maps and tokens in the terminal."""

from __future__ import annotations

from io import StringIO

import numpy as np
import pytest
from rich.console import Console, RenderableType

from clearhead.show.heat import heat_map
from clearhead.show.palette import Scale
from clearhead.show.plots import Lines
from clearhead.show.terminal import table, token_chips

VALUES = np.array([[0.0, 0.5, 1.0], [0.25, np.nan, 0.99], [1.0, 0.1, 0.0]])


def _plain(renderable: RenderableType, width: int = 80) -> list[str]:
    stream = StringIO()
    Console(file=stream, width=width, color_system=None).print(renderable)
    return stream.getvalue().splitlines()


def _segments(renderable: RenderableType, width: int = 80) -> list[tuple[str, str | None, str | None]]:
    """Return each piece of text with its two colours."""
    console = Console(file=StringIO(), width=width, force_terminal=True, color_system="truecolor", no_color=False)
    found = []
    for piece, style, _ in console.render(renderable):
        colours = (
            [colour.get_truecolor().hex if colour else None for colour in (style.color, style.bgcolor)] if style else []
        )
        found.append((piece, *(colours or [None, None])))
    return found


def test_without_colour_a_map_is_tenths_of_the_largest_value() -> None:
    lines = _plain(heat_map(VALUES, ["a", " ", "\n"], ["x", "y", "z"]))
    assert lines == ["  xyz", "a .59", "· 2 9", "↵ 91.", "tenths of 1; a true 0 is a point"]


def test_negative_values_keep_their_sign_without_colour() -> None:
    lines = _plain(heat_map(np.array([[-2.0, 1.0], [0.0, 2.0]])))
    assert lines[1:3] == ["0 -9 5", "1  . 9"]


def test_each_half_block_has_the_colours_of_its_two_rows() -> None:
    scale = Scale.of(VALUES.ravel())
    blocks = [segment for segment in _segments(heat_map(VALUES), width=7) if segment[0] in {"▀", "▄"}]
    expected = []
    for upper, lower in ((VALUES[0], VALUES[1]), (VALUES[2], [None] * 3)):
        for above, below in zip(upper, lower, strict=True):
            colours = [
                "#" + bytes(scale.rgb(np.array([value]))[0]).hex() if value is not None and np.isfinite(value) else None
                for value in (above, below)
            ]
            expected.append(("▀", *colours))
    assert blocks == expected


def test_where_there_is_room_each_row_has_its_line() -> None:
    scale = Scale.of(VALUES.ravel())
    backgrounds = [background for piece, _, background in _segments(heat_map(VALUES)) if piece == "  "]
    assert backgrounds == [scale.hex(value) for value in VALUES.ravel() if np.isfinite(value)]


def test_text_in_cells_is_written_on_their_colour() -> None:
    written = heat_map(VALUES, ["a", "b", "c"], ["x", "y", "z"], written=[["p", "q", "r"], ["s", " ", "t"], ["u"] * 3])
    shown = {piece.strip(): background for piece, _, background in _segments(written) if piece.strip() in "pqs·"}
    scale = Scale.of(VALUES.ravel())
    assert (shown["p"], shown["q"], shown["s"], shown["·"]) == (*(scale.hex(v) for v in (0.0, 0.5, 0.25)), None)
    assert [line.rstrip() for line in _plain(written)[:2]] == ["   x   y   z", "a  p   q   r"]


def test_a_place_without_a_number_is_shaded_or_left_out() -> None:
    holes = np.array([[np.nan, np.nan, 1.0], [np.nan, 1.0, 1.0]])
    drawn = [segment[0] for segment in _segments(heat_map(holes), width=7) if segment[0] in {"░", "▀", "▄"}]
    assert drawn == ["░", "▄", "▀"]


def test_columns_that_do_not_fit_are_named() -> None:
    lines = _plain(heat_map(np.ones((2, 101)), ["first", "a very long label"], None), width=40)
    assert max(map(len, lines)) <= 40
    assert lines[-1] == "the first 27 of 101 columns fit"
    assert "a very long…" in " ".join(lines)


def test_wide_characters_keep_the_columns_straight() -> None:
    lines = _plain(heat_map(np.eye(2), ["漢", "b"], ["漢", "b"]))
    assert lines[0] == "   漢b"
    assert lines[1:3] == ["漢  9 .", " b  . 9"]


def test_chips_alternate_and_show_white_space() -> None:
    assert _plain(token_chips(["To", " be", "\n", "x"])) == ["To|·be|↵", "|x"]
    backgrounds = [background for piece, _, background in _segments(token_chips(["a", "b", "c"])) if piece in "abc"]
    assert backgrounds[0] == backgrounds[2] != backgrounds[1]


def test_no_color_is_honoured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    stream = StringIO()
    Console(file=stream, width=80, force_terminal=True).print(heat_map(VALUES), token_chips(["a", "b"]))
    assert "▀" not in stream.getvalue()
    assert "a|b" in stream.getvalue()


def test_a_table_aligns_numbers_and_obeys_nothing_in_its_cells() -> None:
    lines = _plain(table("Runs", ["name", "steps", "loss"], [["[red]a\x1b[31m", 1234, 1.5], ["b", 7, None]]))
    text = "\n".join(lines)
    assert "[red]a␛[31m" in text
    assert lines[0].strip() == "Runs"
    rows = [line for line in lines if "1,234" in line or " b " in line]
    assert rows[0].index("1,234") + 4 == rows[1].index("7")
    assert "1.500" in text
    assert "None" not in text


def test_each_series_has_a_scale_of_its_own() -> None:
    weak, strong, none = np.array([0.01, 0.02]), np.array([3.0, 5.0]), np.full(2, np.nan)
    alone = _plain(Lines("step", ["1", "9"], {"weak": weak}))
    both = _plain(Lines("step", ["1", "9"], {"weak": weak, "none": none, "strong": strong}))
    assert both[: len(alone) - 1] == alone[:-1]
    assert [line.split()[0] for line in both if line[0] != " "] == ["weak", "0.02", "0.01", "strong"]
