"""A view's pictures as HTML for the page: themed, and with every cell able to say which one it is when clicked."""

from __future__ import annotations

import base64
import struct
import zlib
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, UInt8

from clearhead.show.chart import Chart, Line
from clearhead.show.chart import draw as draw_chart
from clearhead.show.page import escape
from clearhead.show.palette import Scale
from clearhead.show.readable import label, visible
from clearhead.show.view import Panel

MOST_LABELS = 64
LONGEST_LABEL = 9
MAP_SIZE = 480.0
LARGEST_CELL = 44.0
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
    return f'<section class="picture as-{panel.kind}"><h3>{title}</h3>{faces[panel.kind](panel, number)}</section>'


def heat_map(panel: Panel, number: int) -> str:
    """Return a map of coloured cells, one pixel each in an image that is scaled without smoothing."""
    values = panel.cells()
    rows, columns = values.shape
    scale = Scale.of(values.ravel())
    size = min(MAP_SIZE / max(columns, 1), LARGEST_CELL)
    down, across = _ticks(panel.labels[0], rows), _ticks(panel.labels[1], columns)
    left, below = (12 + 7.3 * max(len(name) for _, name in ticks) for ticks in (down, across))
    width, height = size * columns, size * rows
    image = base64.b64encode(png(coloured(values, scale))).decode()
    whole = left + width + 2
    box = f'x="{left:.1f}" y="0" width="{width:.1f}" height="{height:.1f}"'
    parts = [
        f'<svg class="map" viewBox="0 0 {whole:.0f} {height + below:.0f}" style="max-width:{whole:.0f}px" role="img" '
        f'aria-label="{escape(panel.title)}: {rows} by {columns} cells, from {scale.low:.3g} to {scale.high:.3g}">',
        HATCHING,
        f'<rect {box} fill="url(#hatching)"/>',
        f'<image class="cells" data-p="{number}" data-rows="{rows}" data-columns="{columns}" {box} '
        f'preserveAspectRatio="none" href="data:image/png;base64,{image}"/>',
        f'<rect class="chosen" data-p="{number}" data-left="{left:.1f}" data-size="{size:.3f}" visibility="hidden" '
        f'width="{size:.3f}" height="{size:.3f}"/>',
    ]
    for row, name in down:
        parts.append(
            f'<text x="{left - 6:.1f}" y="{(row + 0.5) * size + 4:.1f}" text-anchor="end">{escape(name)}</text>'
        )
    for column, name in across:
        place = f"translate({left + (column + 0.5) * size + 4:.1f} {height + 6:.1f})"
        turned = " rotate(-90)" if below > 20 else " translate(-8 10)"
        anchor = "end" if below > 20 else "start"
        parts.append(f'<text transform="{place}{turned}" text-anchor="{anchor}">{escape(name)}</text>')
    if panel.written is not None:
        parts += _written(panel.written, values, scale, left, size)
    return "".join(parts) + f"</svg>{legend(scale)}"


def _written(
    texts: Sequence[Sequence[str]], values: Float[np.ndarray, "R C"], scale: Scale, left: float, size: float
) -> list[str]:
    return [
        f'<text class="written" x="{left + (column + 0.5) * size:.1f}" y="{(row + 0.5) * size + 4:.1f}" '
        f'text-anchor="middle" style="fill:{scale.ink(float(values[row, column]))}">{escape(label(text)[:6])}</text>'
        for row, line in enumerate(texts)
        for column, text in enumerate(line)
    ]


def _ticks(labels: Sequence[str] | None, count: int) -> list[tuple[int, str]]:
    """Return the places that are named, few enough to be read."""
    every = max(1, -(-count // MOST_LABELS))
    return [(at, label(labels[at])[:LONGEST_LABEL] if labels is not None else str(at)) for at in range(0, count, every)]


def coloured(values: Float[np.ndarray, "R C"], scale: Scale) -> UInt8[np.ndarray, "R C 4"]:
    """Return each cell's colour; cells that are no number are see-through, so that the hatching below shows."""
    seen = np.isfinite(values)
    return np.concatenate([scale.rgb(values), np.where(seen, 255, 0).astype(np.uint8)[..., None]], axis=-1)


def png(pixels: UInt8[np.ndarray, "R C 4"]) -> bytes:
    """Return an image file. Source: the PNG specification, third edition: signature, IHDR, IDAT, IEND."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    rows, columns, _ = pixels.shape
    unfiltered = b"".join(b"\0" + row.tobytes() for row in pixels)
    header = struct.pack(">IIBBBBB", columns, rows, 8, 6, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(unfiltered)) + chunk(b"IEND", b"")
    )


def legend(scale: Scale) -> str:
    """Return the colours of a scale between its ends."""
    stops = ", ".join(scale.hex(float(place)) for place in np.linspace(scale.low, scale.high, 9))
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
        style = f"background:{scale.hex(value)};color:{scale.ink(value)}" if np.isfinite(value) else ""
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
        shades = (
            enumerate(arrays.values())
            if len(arrays) > 1
            else ((int(array[place] < 0), array) for array in arrays.values())
        )
        marks = "".join(_bar(float(array[place]), low, span, shade) for shade, array in shades)
        numbers = " · ".join(f"{float(array[place]):.3g}" for array in arrays.values())
        rows.append(
            f'<button data-p="{number}" data-row="{place}">{escape(name)}</button>'
            f'<span class="bar">{marks}</span><span class="chance">{numbers}</span>'
        )
    return f'{_shades(list(arrays))}<div class="bars wide">{"".join(rows)}</div>'


def _bar(value: float, low: float, span: float, shade: int) -> str:
    if not np.isfinite(value):
        return ""
    start, end = sorted((0.0, value))
    place = f"left:{100 * (start - low) / span:.2f}%;width:{100 * (end - start) / span:.2f}%"
    return f'<i class="shade-{min(shade, 5)}" style="{place}"></i>'


def _shades(names: list[str]) -> str:
    if len(names) < 2:
        return ""
    keys = "".join(f'<span><i class="shade-{min(at, 5)}"></i>{escape(name)}</span>' for at, name in enumerate(names))
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
        drawn.append(Line(x=x, y=y, role=f"series-{(6, 2, 8, 4, 1, 7)[place % 6]}", name=name, dots=len(y) <= 60))
    return draw_chart(Chart(description=panel.title, lines=drawn, x_label=panel.axes[0], height=320))


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
    numeric = [isinstance(value, int | float) for value in (rows[0] if rows else header)]
    head = "".join(
        f'<th class="{"number" if right else ""}">{escape(label(name.replace("_", " ")))}</th>'
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
    return f"<td>{escape(visible(str(value), keep=' '))}</td>"


PICK = '(event) => { const hit = event.target.closest("[data-i]"); if (hit) emit(hit.dataset.i) }'
"""JavaScript that tells which of many small things was clicked."""
