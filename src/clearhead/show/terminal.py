"""What the terminal shows: tables, heat maps, tokens, views."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from rich import box
from rich.console import Console, ConsoleOptions, Group, RenderableType
from rich.table import Table
from rich.text import Text

from clearhead.show.heat import has_colour, heat_map
from clearhead.show.palette import Scale
from clearhead.show.plots import Lines, Points, TintedTokens, bars
from clearhead.show.readable import count, visible

if TYPE_CHECKING:
    from clearhead.show.view import Array, Panel, View

_FEW_ROWS, _FEW_COLUMNS = 24, 12  # up to so many cells have their numbers written into them
_CHIPS = ("black on #bcd7f0", "black on #f3cfae")


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


def token_chips(pieces: Sequence[str]) -> RenderableType:
    """Return the pieces of a text on alternating backgrounds, or between bars where the terminal has no colour."""
    return _TokenChips(tuple(pieces))


def draw(view: View) -> RenderableType:
    """Return a view: its name and what it is about, every picture, and the caption."""
    parts: list[RenderableType] = [Text(view.name, style="bold")]
    if view.about:
        parts.append(Text(view.about, style="dim"))
    for panel in view.panels():
        parts += [Text(""), *_panel(view, panel)]
    # Rich breaks lines at spaces that do not break too, so there is none before a per cent sign here.
    return Group(*parts, Text(""), Text(view.caption.replace("\u00a0%", "%")))


def _panel(view: View, panel: Panel) -> list[RenderableType]:
    title = visible(panel.title, keep=" ")
    names = panel.labels[0]
    match panel.kind:
        case "map":
            scale = Scale.of(view.arrays[next(iter(panel.arrays))].astype(float).ravel())
            map_ = heat_map(panel.cells(), *panel.labels, scale=scale, written=panel.written or _figures(panel))
            return [Text(f"{title} ({panel.axes[0]} down, {panel.axes[1]} across)"), map_]
        case "chips":
            return [Text(title), TintedTokens(names or [], panel.first.astype(float))]
        case "bars":
            places = names or [str(at) for at in range(len(panel.first))]
            return [Text(title), bars(panel.axes[0], places, _numbers(panel.arrays))]
        case "lines":
            return [Text(title), Lines(panel.axes[0], names, _numbers(panel.arrays))]
        case "scatter":
            groups = list(panel.arrays.values())[1:]
            points = Points(names or [], panel.first.astype(float), groups[0] if groups else None)
            return [Text(title), points]
        case "table":
            return [Text(title), table("", *panel.columns())]


def _figures(panel: Panel) -> list[list[str]] | None:
    """Return the numbers of a map that is small enough to have them written into its cells."""
    values = panel.cells()
    if values.shape[0] > _FEW_ROWS or values.shape[1] > _FEW_COLUMNS:
        return None
    digits = 3 if np.nanmax(np.abs(values), initial=0.0) < 1 else 2
    return [[f"{value:.{digits}f}" if np.isfinite(value) else "" for value in row] for row in values]


def _numbers(arrays: Mapping[str, Array]) -> dict[str, Array]:
    return {name: values.astype(float) for name, values in arrays.items()}


def _cell(value: object) -> Text:
    if value is None:
        return Text("")
    if isinstance(value, float):
        return Text(f"{value:.3f}")
    if isinstance(value, int) and not isinstance(value, bool):
        return Text(count(value))
    return Text(visible(str(value), keep=" \n"))


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
