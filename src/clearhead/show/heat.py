"""Heat maps in the terminal: cells two columns wide where they fit, else two rows a line; digits without colour."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from rich.cells import cell_len, set_cell_size
from rich.console import Console, ConsoleOptions, RenderableType
from rich.text import Text

from clearhead.show.palette import Scale
from clearhead.show.readable import label, visible

_LABEL_LENGTH = 12
_HEADER_LINES = 6
_MASKED = "░"
_CELL = 2  # columns of a cell with a line of its own, about as wide as it is high
_MOST_LINES = 40
_TENTH = 10
_WRITTEN, _NARROWEST = 7, 3  # columns of a cell with text in it, at most and at least


def has_colour(console: Console) -> bool:
    """Whether colours reach the reader: a terminal, and no NO_COLOR."""
    return console.color_system is not None and not console.no_color


def fitted(name: str, length: int = _LABEL_LENGTH) -> str:
    """Return a name in at most so many columns."""
    return name if cell_len(name) <= length else set_cell_size(name, length - 1) + "…"


def style(scale: Scale, value: float) -> str:
    """Return the style of text on a value's colour."""
    return f"{scale.ink(value)} on {scale.hex(value)}"


def legend(scale: Scale, *, note: str = "") -> Text:
    """Return the colours of a scale between its ends."""
    line = Text(f"{scale.low:.3g} ")
    for place in np.linspace(scale.low, scale.high, 24):
        line.append("█", style=scale.hex(float(place)))
    return line.append(f" {scale.high:.3g}{note}")


def heat_map(
    array: Float[np.ndarray, "R C"],
    row_labels: Sequence[str] | None = None,
    column_labels: Sequence[str] | None = None,
    *,
    scale: Scale | None = None,
    written: Sequence[Sequence[str]] | None = None,
) -> RenderableType:
    """Return a map of coloured cells, or of digits where the terminal has no colour.

    Places that are not a number are shaded in colour and blank in digits; labels have their white space visible.
    Columns that do not fit are left out, which is said below.

    Args:
        row_labels: names of the rows; without them they are counted.
        scale: the range of values and its colours; the array's own if not given.
        written: a text for each cell.
    """
    rows, columns = array.shape
    scale = scale or Scale.of(array.ravel())
    down = [label(name) for name in row_labels] if row_labels is not None else [str(at) for at in range(rows)]
    across = _counted(columns) if column_labels is None else [visible(name) for name in column_labels]
    if written is not None:
        return _WrittenMap(array, scale, down, across, [[visible(text) for text in row] for row in written])
    return _HeatMap(array, scale, down, across)


def _counted(columns: int) -> list[str]:
    """Return the numbers of columns; of many, every tenth."""
    return [str(at) if columns <= 2 * _TENTH or at % _TENTH == 0 else "" for at in range(columns)]


@dataclass(frozen=True)
class _WrittenMap:
    """Cells with text in them: coloured, or as a table without colours."""

    values: Float[np.ndarray, "R C"]
    scale: Scale
    row_labels: Sequence[str]
    column_labels: Sequence[str]
    written: Sequence[Sequence[str]]

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterable[RenderableType]:
        colour = has_colour(console)
        longest = max((cell_len(text) for row in self.written for text in row), default=1)
        pitch = min(_WRITTEN, max(longest, _NARROWEST)) + 1
        margin = max(map(cell_len, (fitted(name) for name in self.row_labels)), default=0) + 1
        shown = max(1, min(self.values.shape[1], (options.max_width - margin) // pitch))
        header = "".join(_centred(name, pitch) for name in self.column_labels[:shown])
        yield Text(" " * margin + header.rstrip(), style="dim")
        for name, values, texts in zip(self.row_labels, self.values, self.written, strict=True):
            line = Text(_right(fitted(name), margin - 1) + " ")
            for value, text in zip(values[:shown], texts[:shown], strict=True):
                line.append(_centred(text, pitch), style(self.scale, value) if colour and np.isfinite(value) else "")
            yield line
        if colour:
            yield legend(self.scale)
        yield from _left_out(shown, self.values.shape[1])


@dataclass(frozen=True)
class _HeatMap:
    values: Float[np.ndarray, "R C"]
    scale: Scale
    row_labels: Sequence[str]
    column_labels: Sequence[str]

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterable[RenderableType]:
        colour = has_colour(console)
        rows, columns = self.values.shape
        single = [fitted(name) for name in self.row_labels]
        paired = self._paired_labels()
        large = rows <= _MOST_LINES and _margin(single) + _CELL * columns <= options.max_width
        labels = single if large or not colour else paired
        margin, pitch = _margin(labels), self._pitch(colour=colour, large=large)
        shown = max(1, min(columns, (options.max_width - margin) // pitch))
        values = self.values[:, :shown]
        yield from (Text(" " * margin + line) for line in _upright(self.column_labels[:shown], pitch))
        if colour:
            lines = _cells(values, self.scale) if large else _half_blocks(values, self.scale, pitch)
        else:
            lines = _digits(values, self.scale, pitch)
        for name, line in zip(labels, lines, strict=True):
            yield Text(_right(name, margin - 1) + " ") + line
        yield self._legend(colour=colour, large=large)
        yield from _left_out(shown, columns)

    def _pitch(self, *, colour: bool, large: bool) -> int:
        wide = any(cell_len(character) > 1 for name in self.column_labels for character in name)
        signs = self.scale.signed and not colour
        return 2 if wide or signs or (colour and large) else 1

    def _paired_labels(self) -> list[str]:
        """Join the labels of the two rows that share a line of half blocks."""
        short = [fitted(name) for name in self.row_labels]
        lower = [*short[1::2], ""] if len(short) % 2 else short[1::2]
        width = max((cell_len(label) for label in lower), default=0)
        return [f"{upper} {set_cell_size(below, width)}" for upper, below in zip(short[::2], lower, strict=True)]

    def _legend(self, *, colour: bool, large: bool) -> Text:
        if not colour:
            return Text(f"tenths of {self.scale.high:.3g}; a true 0 is a point")
        return legend(self.scale, note="" if large else "   two rows a line, the upper row named first")


def _margin(labels: Sequence[str]) -> int:
    return max((cell_len(label) for label in labels), default=0) + 1


def _right(label: str, width: int) -> str:
    return " " * (width - cell_len(label)) + label


def _centred(text: str, width: int) -> str:
    text = fitted(text, width - 1)
    before = (width - cell_len(text)) // 2
    return " " * before + text + " " * (width - before - cell_len(text))


def _left_out(shown: int, columns: int) -> Iterable[Text]:
    if shown < columns:
        yield Text(f"the first {shown} of {columns} columns fit", style="dim")


def _upright(labels: Sequence[str], pitch: int) -> list[str]:
    """Return the lines of a header in which each label is read downwards."""
    lengths = sorted(len(name) for name in labels if name)
    usual = lengths[len(lengths) // 2] if lengths else 0
    most = min(_HEADER_LINES, usual + 2)  # one long name among short ones gets no lines of its own
    short = [label if len(label) <= most else label[: most - 1] + "…" for label in labels]
    height = max(map(len, short), default=0)
    columns = [label.rjust(height) for label in short]
    return ["".join(set_cell_size(column[line], pitch) for column in columns).rstrip() for line in range(height)]


def _cells(values: Float[np.ndarray, "R C"], scale: Scale) -> Iterable[Text]:
    for row in values:
        line = Text()
        for value in row:
            line.append(*((" " * _CELL, f"on {scale.hex(value)}") if np.isfinite(value) else (_MASKED * _CELL, "dim")))
        yield line


def _half_blocks(values: Float[np.ndarray, "R C"], scale: Scale, pitch: int) -> Iterable[Text]:
    """Yield one line for two rows: the upper half of each cell is the upper row's colour, the rest the lower's."""
    for top in range(0, len(values), 2):
        line = Text()
        for column in range(values.shape[1]):
            upper = values[top, column]
            lower = values[top + 1, column] if top + 1 < len(values) else None
            line.append(*_half_block(upper, lower, scale, pitch))
        yield line


def _half_block(upper: float, lower: float | None, scale: Scale, pitch: int) -> tuple[str, str]:
    """Return the character and style of a cell of two rows, of which the lower may not be there."""
    seen_upper, seen_lower = bool(np.isfinite(upper)), lower is not None and bool(np.isfinite(lower))
    if seen_upper and lower is not None and seen_lower:
        return "▀" * pitch, f"{scale.hex(upper)} on {scale.hex(lower)}"
    if seen_upper:
        return "▀" * pitch, scale.hex(upper)
    if lower is not None and seen_lower:
        return "▄" * pitch, scale.hex(lower)
    return _MASKED * pitch, "dim"


def _digits(values: Float[np.ndarray, "R C"], scale: Scale, pitch: int) -> Iterable[Text]:
    for row in values:
        yield Text("".join(digit(float(value), scale).rjust(pitch) for value in row).rstrip())


def digit(value: float, scale: Scale) -> str:
    """Return tenths of the largest value, with a sign where there are negative ones; "." for a true 0."""
    if not np.isfinite(value):
        return ""
    if value == 0:
        return "."
    tenths = min(9, int(10 * abs(value) / scale.high))
    return f"{'-' if value < 0 else ''}{tenths}"
