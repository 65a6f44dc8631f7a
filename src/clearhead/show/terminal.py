"""What the terminal shows: tables, heat maps, tokens, views."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float
from rich import box
from rich.cells import cell_len, set_cell_size
from rich.console import Console, ConsoleOptions, Group, RenderableType
from rich.table import Table
from rich.text import Text

from clearhead.show.palette import Scale
from clearhead.show.readable import count, visible

if TYPE_CHECKING:
    from clearhead.show.view import Panel, View

_CHIPS = ("black on #bcd7f0", "black on #f3cfae")
_LABEL_LENGTH = 12
_HEADER_LINES = 6
_MASKED = "░"


def table(title: str, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> Table:
    """Return a table: numbers on the right with three decimals, nothing where a value is None."""
    body = [list(row) for row in rows]
    shown = Table(title=title or None, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, pad_edge=False)
    for index, name in enumerate(columns):
        numeric = all(isinstance(row[index], int | float | None) for row in body)
        shown.add_column(Text(name), justify="right" if numeric and body else "left", overflow="fold")
    for row in body:
        shown.add_row(*(_cell(value) for value in row))
    return shown


def heat_map(
    array: Float[np.ndarray, "R C"],
    row_labels: Sequence[str] | None = None,
    column_labels: Sequence[str] | None = None,
    *,
    scale: Scale | None = None,
) -> RenderableType:
    """Return a map of coloured half blocks, or of digits where the terminal has no colour.

    Places that are not a number are shaded in colour and blank in digits; labels have their white space visible.
    Columns that do not fit are left out, which is said below.

    Args:
        row_labels: names of the rows; without them they are counted.
        scale: the range of values and its colours; the array's own if not given.
    """
    rows, columns = array.shape
    return _HeatMap(
        array,
        scale or Scale.of(array.ravel()),
        [visible(label) for label in row_labels] if row_labels is not None else [str(at) for at in range(rows)],
        [visible(label) for label in column_labels]
        if column_labels is not None
        else [str(at) for at in range(columns)],
    )


def token_chips(pieces: Sequence[str]) -> RenderableType:
    """Return the pieces of a text on alternating backgrounds, or between bars where the terminal has no colour."""
    return _TokenChips(tuple(pieces))


def draw(view: View) -> RenderableType:
    """Return all panels of a view with its name above and its caption below."""
    parts: list[RenderableType] = [Text(view.name, style="bold")]
    for panel in view.panels():
        if len(panel.axes) == 2:
            (name, array), (rows, columns) = next(iter(panel.arrays.items())), panel.labels
            scale = Scale.of(view.arrays[name].astype(float).ravel())
            parts += [Text(_map_title(panel)), heat_map(array.astype(float), rows, columns, scale=scale)]
        else:
            parts.append(_series_table(panel))
    return Group(*parts, Text(view.caption))


def has_colour(console: Console) -> bool:
    """Whether colours reach the reader: a terminal, and no NO_COLOR."""
    return console.color_system is not None and not console.no_color


def _cell(value: object) -> Text:
    if value is None:
        return Text("")
    if isinstance(value, float):
        return Text(f"{value:.3f}")
    if isinstance(value, int) and not isinstance(value, bool):
        return Text(count(value))
    return Text(visible(str(value), keep=" \n"))


def _map_title(panel: Panel) -> str:
    return f"{visible(panel.title, keep=' ')} ({panel.axes[0]} down, {panel.axes[1]} across)"


def _series_table(panel: Panel) -> Table:
    names = panel.labels[0]
    length = len(next(iter(panel.arrays.values())))
    places: Sequence[object] = [visible(name) for name in names] if names is not None else range(length)
    rows = [[place, *(float(values[at]) for values in panel.arrays.values())] for at, place in enumerate(places)]
    return table("", [panel.axes[0], *panel.arrays], rows)


@dataclass(frozen=True)
class _TokenChips:
    pieces: tuple[str, ...]

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterable[RenderableType]:
        colour, text = has_colour(console), Text(overflow="fold", end="\n")
        for index, piece in enumerate(self.pieces):
            if index and not colour:
                text.append("|")
            text.append(visible(piece), style=_CHIPS[index % 2] if colour else "")
            if piece.endswith("\n"):
                text.append("\n")
        yield text


@dataclass(frozen=True)
class _HeatMap:
    values: Float[np.ndarray, "R C"]
    scale: Scale
    row_labels: Sequence[str]
    column_labels: Sequence[str]

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterable[RenderableType]:
        scale, colour = self.scale, has_colour(console)
        labels = self._paired_labels() if colour else [_fitted(label) for label in self.row_labels]
        margin = max((cell_len(label) for label in labels), default=0) + 1
        signs = scale.signed and not colour
        pitch = 2 if signs or any(cell_len(character) > 1 for name in self.column_labels for character in name) else 1
        shown = max(1, min(self.values.shape[1], (options.max_width - margin) // pitch))
        values = self.values[:, :shown]
        yield from (Text(" " * margin + line) for line in _upright(self.column_labels[:shown], pitch))
        lines = _blocks(values, scale, pitch) if colour else _digits(values, scale, pitch)
        for label, line in zip(labels, lines, strict=True):
            yield Text(" " * (margin - 1 - cell_len(label)) + label + " ") + line
        yield _legend(scale, colour=colour)
        if shown < self.values.shape[1]:
            yield Text(f"the first {shown} of {self.values.shape[1]} columns fit", style="dim")

    def _paired_labels(self) -> list[str]:
        """Join the labels of the two rows that share a line of half blocks."""
        short = [_fitted(label) for label in self.row_labels]
        lower = [*short[1::2], ""] if len(short) % 2 else short[1::2]
        width = max((cell_len(label) for label in lower), default=0)
        return [f"{upper} {set_cell_size(below, width)}" for upper, below in zip(short[::2], lower, strict=True)]


def _fitted(label: str) -> str:
    return label if cell_len(label) <= _LABEL_LENGTH else set_cell_size(label, _LABEL_LENGTH - 1) + "…"


def _upright(labels: Sequence[str], pitch: int) -> list[str]:
    """Return the lines of a header in which each label is read downwards."""
    short = [label if len(label) <= _HEADER_LINES else label[: _HEADER_LINES - 1] + "…" for label in labels]
    height = max(map(len, short), default=0)
    columns = [label.rjust(height) for label in short]
    return ["".join(set_cell_size(column[line], pitch) for column in columns).rstrip() for line in range(height)]


def _blocks(values: Float[np.ndarray, "R C"], scale: Scale, pitch: int) -> Iterable[Text]:
    """Yield one line for two rows: the upper half of each cell is the upper row's colour, the rest the lower's."""
    for top in range(0, len(values), 2):
        line = Text()
        for column in range(values.shape[1]):
            upper = values[top, column]
            lower = values[top + 1, column] if top + 1 < len(values) else None
            line.append(*_block(upper, lower, scale, pitch))
        yield line


def _block(upper: float, lower: float | None, scale: Scale, pitch: int) -> tuple[str, str]:
    """Return the character and style of a cell of two rows, of which the lower may not be there."""
    seen_upper, seen_lower = bool(np.isfinite(upper)), lower is not None and bool(np.isfinite(lower))
    if seen_upper and lower is not None and seen_lower:
        return "▀" * pitch, f"{_hex(scale, upper)} on {_hex(scale, lower)}"
    if seen_upper:
        return "▀" * pitch, _hex(scale, upper)
    if lower is not None and seen_lower:
        return "▄" * pitch, _hex(scale, lower)
    return _MASKED * pitch, "dim"


def _hex(scale: Scale, value: float) -> str:
    red, green, blue = scale.rgb(np.array([value]))[0]
    return f"#{red:02x}{green:02x}{blue:02x}"


def _digits(values: Float[np.ndarray, "R C"], scale: Scale, pitch: int) -> Iterable[Text]:
    for row in values:
        yield Text("".join(_digit(float(value), scale).rjust(pitch) for value in row).rstrip())


def _digit(value: float, scale: Scale) -> str:
    """Return tenths of the largest value, with a sign where there are negative ones; "." for a true 0."""
    if not np.isfinite(value):
        return ""
    if value == 0:
        return "."
    tenths = min(9, int(10 * abs(value) / scale.high))
    return f"{'-' if value < 0 else ''}{tenths}"


def _legend(scale: Scale, *, colour: bool) -> Text:
    if not colour:
        return Text(f"tenths of {scale.high:.3g}; a true 0 is a point")
    legend = Text(f"{scale.low:.3g} ")
    for place in np.linspace(scale.low, scale.high, 24):
        legend.append("█", style=_hex(scale, float(place)))
    return legend.append(f" {scale.high:.3g}   two rows a line, the upper row named first")
