"""Pictures of characters for the terminal: tinted tokens, bars, lines and points."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Shaped
from rich import box
from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderableType
from rich.table import Table
from rich.text import Text

from clearhead.show.heat import digit, fitted, has_colour, legend, style
from clearhead.show.palette import LINES, Scale
from clearhead.show.readable import count, label, visible

_EIGHTHS = " ▏▎▍▌▋▊▉█"
_LEVELS = " ▁▂▃▄▅▆▇█"
_BAR = 28
_WIDEST = 100
_LINE_ROWS = 6
_POINT_ROWS = 24
_COUNTS_FROM = 10


@dataclass(frozen=True)
class TintedTokens:
    """A text whose tokens are coloured by a value; without colour, tenths of the largest value stand below."""

    pieces: Sequence[str]
    values: Float[np.ndarray, " N"]

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterable[RenderableType]:
        scale = Scale.of(self.values)
        width = min(options.max_width, _WIDEST)
        if not has_colour(console):
            yield from self._digits(scale, width)
            return
        text = Text(overflow="fold")
        for piece, value in zip(self.pieces, self.values, strict=True):
            text.append(visible(piece), style(scale, value) if np.isfinite(value) else "dim")
            if piece.endswith("\n"):
                text.append("\n")
        text.rstrip()
        yield text
        yield legend(scale)

    def _digits(self, scale: Scale, width: int) -> Iterable[Text]:
        upper, lower = "", ""
        for piece, value in zip(self.pieces, self.values, strict=True):
            shown, tenths = visible(piece), digit(float(value), scale)
            room = max(cell_len(shown), len(tenths)) + 1
            if cell_len(upper) + room > width:
                yield from (Text(upper.rstrip()), Text(lower.rstrip()))
                upper, lower = "", ""
            upper += shown + " " * (room - cell_len(shown))
            lower += tenths.ljust(room)
        yield from (Text(upper.rstrip()), Text(lower.rstrip()))
        yield Text(f"tenths of {scale.high:.3g}; a true 0 is a point")


def bars(axis: str, names: Sequence[str], arrays: Mapping[str, Float[np.ndarray, " N"]]) -> Table:
    """Return a line for each name with its values and, for the first array, a bar; negative ones point to the left."""
    first = next(iter(arrays.values()))
    scale = Scale.of(first)
    shown = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    shown.add_column(Text(axis))
    for name in arrays:
        shown.add_column(Text(name), justify="right")
    shown.add_column("", no_wrap=True)
    writers = [_writer(values) for values in arrays.values()]
    for at, name in enumerate(names):
        cells = [Text(write(float(values[at]))) for write, values in zip(writers, arrays.values(), strict=True)]
        shown.add_row(Text(fitted(label(name), 32)), *cells, _bar(float(first[at]), scale))
    return shown


def _writer(values: Float[np.ndarray, " N"]) -> Callable[[float], str]:
    """Return how a column's numbers are written: counts where all are whole and some are large, else four decimals."""
    finite = values[np.isfinite(values)]
    if finite.size and bool((finite == finite.round()).all()) and float(np.abs(finite).max()) >= _COUNTS_FROM:
        return count
    return lambda value: f"{value:.4f}" if np.isfinite(value) else ""


def _bar(value: float, scale: Scale) -> Text:
    if not np.isfinite(value):
        return Text("")
    eighths = round(abs(value) / scale.high * _BAR * (4 if scale.signed else 8))
    whole, rest = divmod(eighths, 8)
    length = whole + (rest > 0)
    if not scale.signed:
        return Text("█" * whole + (_EIGHTHS[rest] if rest else ""), LINES[0])
    half = _BAR // 2
    if value < 0:  # an eighth block grows to the right, so what points left is rounded to whole ones
        whole = max(1, round(abs(value) / scale.high * half))
        return Text(" " * (half - whole) + "█" * whole, LINES[0])
    drawn = "█" * whole + (_EIGHTHS[rest] if rest else "")
    return Text(" " * half + drawn + " " * (half - length), LINES[1])


@dataclass(frozen=True)
class Lines:
    """Series over a common axis, each as a small chart of blocks from its own lowest value to its highest."""

    axis: str
    places: Sequence[str] | None
    arrays: Mapping[str, Float[np.ndarray, " N"]]

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterable[RenderableType]:
        drawn = {name: values for name, values in self.arrays.items() if np.isfinite(values).any()}
        if not drawn:
            return
        ends = {name: (float(np.nanmin(values)), float(np.nanmax(values))) for name, values in drawn.items()}
        margin = max(len(f"{end:.3g}") for pair in ends.values() for end in pair) + 1
        width = min(options.max_width, _WIDEST) - margin
        for index, (name, values) in enumerate(drawn.items()):
            low, high = ends[name]
            wide = max(1, min(4, width // len(values)))
            columns = np.repeat(_pooled(values, width), wide)
            yield Text(name, LINES[index % len(LINES)] if len(self.arrays) > 1 else "bold")
            for row, line in enumerate(_columns(columns, low, high)):
                end = {0: f"{high:.3g}", _LINE_ROWS - 1: f"{low:.3g}"}.get(row, "")
                yield Text(end.rjust(margin - 1) + " ") + Text(line.rstrip(), LINES[index % len(LINES)])
        first, last = (self.places[0], self.places[-1]) if self.places else ("0", str(len(values) - 1))
        gap = len(columns) - cell_len(visible(first)) - cell_len(visible(last))
        yield Text(" " * margin + visible(first) + " " * max(1, gap) + visible(last) + f"  {self.axis}", "dim")


def _pooled(values: Float[np.ndarray, " N"], width: int) -> Float[np.ndarray, " M"]:
    """Return the values, or the means of equal stretches where there are more than fit."""
    if len(values) <= width:
        return values
    return np.array([np.nanmean(part) if np.isfinite(part).any() else np.nan for part in np.array_split(values, width)])


def _columns(values: Float[np.ndarray, " N"], low: float, high: float) -> list[str]:
    share = (values - low) / ((high - low) or 1.0)
    eighths = np.where(np.isfinite(values), 1 + share * (8 * _LINE_ROWS - 1), 0).round().astype(int)
    rows = range(_LINE_ROWS - 1, -1, -1)
    return ["".join(_LEVELS[min(8, max(0, height - 8 * row))] for height in eighths) for row in rows]


@dataclass(frozen=True)
class Points:
    """Names written where their points lie; of several at one place the first is seen."""

    names: Sequence[str]
    points: Float[np.ndarray, "N 2"]
    groups: Shaped[np.ndarray, " N"] | None

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterable[RenderableType]:
        width = min(options.max_width, _WIDEST) - 1
        kinds = sorted(set(self.groups.tolist())) if self.groups is not None else []
        colours = {kind: LINES[index % len(LINES)] for index, kind in enumerate(kinds)}
        low, high = self.points.min(axis=0), self.points.max(axis=0)
        share = (self.points - low) / np.where(high > low, high - low, 1.0)
        grid: list[list[tuple[str, str]]] = [[(" ", "")] * width for _ in range(_POINT_ROWS)]
        for index, (name, (x, y)) in enumerate(zip(self.names, share, strict=True)):
            shown = fitted(label(name), 8)
            row, column = round((1 - y) * (_POINT_ROWS - 1)), round(x * (width - len(shown)))
            if all(cell == (" ", "") for cell in grid[row][column : column + len(shown)]):
                colour = colours[self.groups[index]] if self.groups is not None else ""
                grid[row][column : column + len(shown)] = [(character, colour) for character in shown]
        for cells in grid:
            line = Text()
            for character, colour in cells:
                line.append(character, colour)
            line.rstrip()
            yield line
        yield Text("  ").join(Text(kind, colour) for kind, colour in colours.items())
