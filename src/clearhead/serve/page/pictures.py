"""A view's pictures as HTML for the page: themed, and with every cell able to say which one it is when clicked."""

from __future__ import annotations

import base64
import math
import struct
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Float

from clearhead.show.chart import Chart, Line
from clearhead.show.chart import draw as draw_chart
from clearhead.show.page import escape
from clearhead.show.palette import Scale
from clearhead.show.readable import label, visible
from clearhead.show.view import Panel

LONGEST_LABEL = 12
MAP_SIZE = 480.0
TALLEST_MAP = 900.0
LARGEST_CELL = 44.0
NAME_HEIGHT = 14.0
LETTER_WIDTH = 7.3
MOST_ROWS = 40

HATCHING = (
    '<defs><pattern id="hatching" width="6" height="6" patternUnits="userSpaceOnUse" patternTransform="rotate(45)">'
    '<line y2="6" class="hatch"/></pattern></defs>'
)
"""What shows where a map has no number, so that no colour alone says so."""


def draw(panel: Panel, number: int) -> str:
    """Return one picture as HTML.

    Args:
        number: which of the view's pictures it is; clicks on a map or a token tell it with row and column.
    """
    faces = {"map": heat_map, "chips": chips, "bars": bars, "lines": lines, "scatter": scatter, "table": table}
    title = escape(label(panel.title))
    square = " square" if panel.kind == "map" and panel.first.shape[0] == panel.first.shape[1] else ""
    drawn = faces[panel.kind](panel, number)
    return f'<section class="picture as-{panel.kind}{square}"><h3>{title}</h3>{drawn}</section>'


@dataclass(frozen=True, slots=True)
class Grid:
    """Where the cells of a map lie in its drawing, in pixels."""

    left: float
    cell_width: float
    cell_height: float

    def centre(self, row: int, column: int) -> tuple[float, float]:
        """Return the middle of a cell."""
        return self.left + (column + 0.5) * self.cell_width, (row + 0.5) * self.cell_height


def heat_map(panel: Panel, number: int) -> str:
    """Return a map of coloured cells, one pixel each in an image that is scaled without smoothing.

    Cells are squares, unless there are so many more columns than rows that the rows' names would not fit.
    """
    values = panel.cells()
    rows, columns = values.shape
    scale = Scale.of(values.ravel())
    square = min(MAP_SIZE / max(rows, columns, 1), LARGEST_CELL)
    cell_height = max(square, min(NAME_HEIGHT, TALLEST_MAP / max(rows, 1))) if columns > rows else square
    down = _ticks(panel.labels[0], rows, cell_height)
    across = _ticks(panel.labels[1], columns, square)
    left, below = (12 + LETTER_WIDTH * max(len(name) for _, name in ticks) for ticks in (down, across))
    grid = Grid(left, square, cell_height)
    width, height = square * columns, cell_height * rows
    image = base64.b64encode(png(values, scale)).decode()
    whole = left + width + 2
    box = f'x="{left:.1f}" y="0" width="{width:.1f}" height="{height:.1f}"'
    parts = [
        f'<svg class="map" viewBox="0 0 {whole:.0f} {height + below:.0f}" style="max-width:{whole:.0f}px" role="img" '
        f'data-p="{number}" tabindex="0" aria-label="{escape(panel.title)}: {rows} by {columns} cells, '
        f'from {scale.low:.3g} to {scale.high:.3g}; arrows move the cell">',
        HATCHING,
        f'<rect {box} fill="url(#hatching)"/>',
        f'<image class="cells" data-p="{number}" data-rows="{rows}" data-columns="{columns}" {box} '
        f'preserveAspectRatio="none" href="data:image/png;base64,{image}"/>',
        f'<rect class="chosen" data-p="{number}" data-left="{left:.1f}" visibility="hidden" '
        f'width="{square:.3f}" height="{cell_height:.3f}"/>',
        *(_row_name(grid, row, name) for row, name in down),
        *(_column_name(grid, column, name, height, turned=below > 20) for column, name in across),
    ]
    if panel.written is not None:
        parts += _written(panel.written, values, scale, grid)
    return "".join(parts) + f"</svg>{legend(scale)}"


def _row_name(grid: Grid, row: int, name: str) -> str:
    _, y = grid.centre(row, 0)
    return f'<text x="{grid.left - 6:.1f}" y="{y + 4:.1f}" text-anchor="end">{escape(name)}</text>'


def _column_name(grid: Grid, column: int, name: str, height: float, *, turned: bool) -> str:
    x, _ = grid.centre(0, column)
    place = f"translate({x + 4:.1f} {height + 6:.1f})"
    turn, anchor = (" rotate(-90)", "end") if turned else (" translate(-8 10)", "start")
    return f'<text transform="{place}{turn}" text-anchor="{anchor}">{escape(name)}</text>'


def _written(
    texts: Sequence[Sequence[str]], values: Float[np.ndarray, "R C"], scale: Scale, grid: Grid
) -> Iterator[str]:
    fits = max(1, int(grid.cell_width / LETTER_WIDTH))
    for row, line in enumerate(texts):
        for column, text in enumerate(line):
            x, y = grid.centre(row, column)
            ink = scale.ink(float(values[row, column]))
            yield (
                f'<text class="written" x="{x:.1f}" y="{y + 4:.1f}" text-anchor="middle" style="fill:{ink}">'
                f"{escape(label(text)[:fits])}</text>"
            )


def _ticks(labels: Sequence[str] | None, count: int, size: float) -> list[tuple[int, str]]:
    """Return the places that are named, so few that no two names touch."""
    every = max(1, math.ceil(NAME_HEIGHT / size)) if size > 0 else 1
    return [(at, label(labels[at])[:LONGEST_LABEL] if labels is not None else str(at)) for at in range(0, count, every)]


def png(values: Float[np.ndarray, "R C"], scale: Scale) -> bytes:
    """Return an image file, one pixel a cell; cells that are no number are see-through, so that hatching shows below.

    The scale's colours are a palette of 255, which makes the file a quarter as large as one of full colours.
    Source: the PNG specification, third edition: signature, IHDR, PLTE, tRNS, IDAT, IEND.
    """

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    rows, columns = values.shape
    seen = np.isfinite(values)
    index = np.where(seen, 1 + np.rint(254 * scale.fraction(np.where(seen, values, scale.low))), 0).astype(np.uint8)
    palette = np.concatenate([[[0, 0, 0]], scale.rgb(np.linspace(scale.low, scale.high, 255))]).astype(np.uint8)
    unfiltered = np.pad(index, ((0, 0), (1, 0))).tobytes()
    return b"".join(
        (
            b"\x89PNG\r\n\x1a\n",
            chunk(b"IHDR", struct.pack(">IIBBBBB", columns, rows, 8, 3, 0, 0, 0)),
            chunk(b"PLTE", palette.tobytes()),
            chunk(b"tRNS", b"\0"),
            chunk(b"IDAT", zlib.compress(unfiltered, level=1)),
            chunk(b"IEND", b""),
        )
    )


def legend(scale: Scale) -> str:
    """Return the colours of a scale between its ends."""
    stops = ", ".join(f"rgb{tuple(colour)}" for colour in scale.rgb(np.linspace(scale.low, scale.high, 9)).tolist())
    return (
        f'<div class="legend small numbers"><span>{scale.low:.3g}</span>'
        f'<i style="background:linear-gradient(90deg, {stops})"></i><span>{scale.high:.3g}</span></div>'
    )


def chips(panel: Panel, number: int) -> str:
    """Return a text as tokens, each tinted by its number."""
    values = panel.first.astype(float)
    scale = Scale.of(values)
    shown = []
    for place, (name, value) in enumerate(zip(panel.labels[0] or [], values, strict=True)):
        # Nothing, where there may be something, is left untinted.
        tinted = np.isfinite(value) and (value != 0 or scale.signed)
        style = f"background:{scale.hex(value)};color:{scale.ink(value)}" if tinted else ""
        said = f"{value:.4g}" if np.isfinite(value) else "not scored"
        where = f'data-p="{number}" data-row="{place}"'
        shown.append(f'<button {where} style="{style}" title="{said}">{escape(visible(name))}</button>')
        if name.endswith("\n"):
            shown.append("<br>")
    return f'<p class="chips">{"".join(shown)}</p>{legend(scale)}'


def bars(panel: Panel, number: int) -> str:
    """Return bars from zero, one below the other; several arrays are told apart by their shade."""
    arrays = {name: array.astype(float)[:MOST_ROWS] for name, array in panel.arrays.items()}
    finite = np.concatenate([array[np.isfinite(array)] for array in arrays.values()])
    low, high = min(0.0, float(finite.min(initial=0.0))), max(0.0, float(finite.max(initial=0.0)))
    span = (high - low) or 1.0
    rows = []
    for place in range(len(next(iter(arrays.values())))):
        name = label(panel.labels[0][place]) if panel.labels[0] is not None else str(place)
        drawn = [float(array[place]) for array in arrays.values()]
        marks = "".join(
            _bar(value, low, span, shade if len(drawn) > 1 else int(value < 0), (shade, len(drawn)))
            for shade, value in enumerate(drawn)
        )
        numbers = " · ".join(map(amount, drawn))
        rows.append(
            f'<button data-p="{number}" data-row="{place}">{escape(name)}</button>'
            f'<span class="bar">{marks}</span><span class="chance">{numbers}</span>'
        )
    return f'{_shades(list(arrays))}<div class="bars wide">{"".join(rows)}</div>'


def amount(value: float) -> str:
    """Return a number as it is read beside its bar."""
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def _bar(value: float, low: float, span: float, shade: int, lane: tuple[int, int]) -> str:
    """Return one bar, in its lane of so many."""
    if not np.isfinite(value):
        return ""
    start, end = sorted((0.0, value))
    across = f"left:{100 * (start - low) / span:.2f}%;width:{100 * (end - start) / span:.2f}%"
    down = f"top:{100 * lane[0] / lane[1]:.1f}%;bottom:{100 * (1 - (lane[0] + 1) / lane[1]):.1f}%"
    return f'<i class="shade-{min(shade, 5)}" style="{across};{down}"></i>'


def plain(name: str) -> str:
    """Return an array's name as words."""
    return label(name.replace("_", " "))


def _shades(names: list[str]) -> str:
    if len(names) < 2:
        return ""
    keys = "".join(
        f'<span><i class="shade-{min(at, 5)}"></i>{escape(plain(name))}</span>' for at, name in enumerate(names)
    )
    return f'<p class="keys small">{keys}</p>'


def lines(panel: Panel, number: int) -> str:
    """Return a line chart of arrays that share one axis."""
    drawn = []
    for place, (name, array) in enumerate(panel.arrays.items()):
        y = array.astype(float)
        named = panel.labels[0]
        x = (
            np.array([float(each) for each in named])
            if named and all(map(_is_number, named))
            else np.arange(len(y)) * 1.0
        )
        drawn.append(
            Line(x=x, y=y, role=f"series-{(6, 2, 8, 4, 1, 7)[place % 6]}", name=plain(name), dots=len(y) <= 60)
        )
    axis = panel.axes[0]
    scale: Literal["linear", "root"] = "root" if axis == "step" else "linear"  # a training's beginning is kept densely
    return draw_chart(Chart(description=panel.title, lines=drawn, x_label=axis, x_scale=scale, height=320.0))


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def scatter(panel: Panel, number: int) -> str:
    """Return named points in a plane, coloured by the group that a second array names."""
    points = panel.first.astype(float)
    low, high = points.min(axis=0), points.max(axis=0)
    places = (points - low) / np.where(high > low, high - low, 1.0)
    named = [array for array in panel.arrays.values() if array.dtype.kind == "U"]
    groups = [str(group) for group in named[0]] if named else [""] * len(points)
    order = list(dict.fromkeys(groups))
    names = panel.labels[0] or [str(at) for at in range(len(points))]
    dots = "".join(
        f'<text class="shade-{order.index(group) % 6}" x="{20 + 600 * x:.1f}" y="{430 - 410 * y:.1f}" '
        f'text-anchor="middle"><title>{escape(visible(name))}: {escape(group)}</title>{escape(label(name)[:8])}</text>'
        for (x, y), name, group in zip(places, names, groups, strict=True)
    )
    picture = f'<svg class="map" viewBox="0 0 640 450" role="img" aria-label="{escape(panel.title)}">{dots}</svg>'
    return _shades(order) + picture


def table(panel: Panel, number: int) -> str:
    """Return the arrays as columns."""
    header, rows = panel.columns()
    numeric = [any(isinstance(row[at], int | float) for row in rows) for at in range(len(header))]
    head = "".join(
        f'<th class="{"number" if right else ""}">{escape(plain(name))}</th>'
        for name, right in zip(header, numeric, strict=True)
    )
    body = "".join(f"<tr>{''.join(map(_cell, row))}</tr>" for row in rows[:MOST_ROWS])
    more = f'<p class="small">{len(rows) - MOST_ROWS} more rows.</p>' if len(rows) > MOST_ROWS else ""
    return f'<table class="plain"><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>{more}'


def _cell(value: object) -> str:
    if isinstance(value, int | float):
        return (
            f'<td class="number">{value:,}</td>' if isinstance(value, int) else f'<td class="number">{value:.4g}</td>'
        )
    return "<td></td>" if value is None else f"<td>{escape(visible(str(value), keep=' '))}</td>"


PICK = '(event) => { const hit = event.target.closest("[data-i]"); if (hit) emit(hit.dataset.i) }'
"""JavaScript that tells which of many small things was clicked."""
