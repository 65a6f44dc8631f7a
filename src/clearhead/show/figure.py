"""Views as matplotlib figures, for notebooks and files. Nothing global is changed and no display is needed."""

from __future__ import annotations

import io
import math
import textwrap
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from clearhead.show.palette import LINES, Scale
from clearhead.show.readable import label, one_line, visible

if TYPE_CHECKING:
    from clearhead.show.view import Array, Panel, View

_INK = "#1c1b19"
_INHERITED = "#010203"  # stands for the page's text colour until the SVG is written; no drawing uses it otherwise
_MASKED = "#8b8881"
_MOST_COLUMNS = 6
_FEW = 4  # up to so many maps are drawn large, with labels; more are thumbnails
_WIDEST = 9.0  # large maps stand side by side where they fit
_LABEL_LENGTH = 20
_LABEL_INCHES = 0.16
_CHARACTER_INCHES = 0.075
_TITLE_LINE_INCHES = 0.16
_LONG_NAME = 8  # bars with longer names lie on their side
_LINE_CHARACTERS = 72
_CELL_LENGTH = 40


def draw(view: View, panels: Sequence[Panel] | None = None, *, ink: str = _INK) -> Figure:
    """Return a figure with one picture for each panel of a view, or for some of them.

    An array with two axes is a heat map: cividis, or blue to orange where a value is negative, hatched where there is
    no number, and with one scale for all slices of an array. Tokens and tables are drawn as they stand in a text.
    """
    with _style(ink):
        panels = view.panels() if panels is None else panels
        few = sum(panel.kind == "map" for panel in panels) <= _FEW
        thumbnails = all(panel.kind == "map" for panel in panels)
        sizes = [_size(panel, few=few) for panel in panels]
        columns = min(len(panels), _MOST_COLUMNS) if thumbnails else 1
        if thumbnails and few:
            columns = max(1, min(columns, int(_WIDEST / max(width for width, _ in sizes))))
        rows = math.ceil(len(panels) / columns)
        titles = [_title(panel, width) for panel, (width, _) in zip(panels, sizes, strict=True)]
        widths = [width for width, _ in sizes]
        heights = [
            height + _TITLE_LINE_INCHES * title.count("\n") for title, (_, height) in zip(titles, sizes, strict=True)
        ]
        tallest = [max(heights[first : first + columns]) for first in range(0, len(panels), columns)]
        figure = Figure(figsize=(max(widths) * columns, sum(tallest)), layout="constrained")
        grid = figure.subplots(rows, columns, squeeze=False, height_ratios=tallest)
        for axes, panel, title in zip(grid.flat, panels, titles, strict=False):
            _panel(axes, panel, _scale(view, panel), few=few)
            if len(panels) > 1 or view.pictures:
                axes.set_title(title, loc="center" if thumbnails else "left")
        for axes in grid.flat[len(panels) :]:
            axes.set_axis_off()
        return figure


def to_svg(view: View, panels: Sequence[Panel] | None = None) -> str:
    """Return the view as an SVG element whose text stays text and takes the colour of the page around it."""
    figure = draw(view, panels, ink=_INHERITED)
    stream = io.StringIO()
    with _style(_INHERITED):
        figure.savefig(stream, format="svg", metadata={"Date": None})
    svg = stream.getvalue()
    return svg[svg.index("<svg") :].replace(_INHERITED, "currentColor")


def to_png(view: View) -> bytes:
    """Return the view as a PNG image on white."""
    figure = draw(view)
    stream = io.BytesIO()
    with _style(_INK):
        figure.savefig(stream, format="png", facecolor="white")
    return stream.getvalue()


def _title(panel: Panel, width: float) -> str:
    """Return a panel's title in lines that are no wider than it."""
    return textwrap.fill(visible(panel.title, keep=" "), max(20, int(width / _CHARACTER_INCHES)))


def _scale(view: View, panel: Panel) -> Scale:
    """Return the scale of the whole array that a panel shows, or a slice of."""
    whole = view.arrays[next(iter(panel.arrays))]
    return Scale.of(whole.astype(float).ravel() if whole.dtype.kind in "fiub" else np.zeros(1))


@contextmanager
def _style(ink: str) -> Iterator[None]:
    """Draw with these settings inside the block, and leave no trace of them."""
    colours = dict.fromkeys(("text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color"), ink)
    settings: dict[Any, Any] = {
        **colours,
        "font.size": 9,
        "axes.titlesize": 9,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.linewidth": 0.6,
        "axes.facecolor": "none",
        "figure.facecolor": "none",
        "figure.dpi": 100,
        "savefig.dpi": 160,
        "svg.fonttype": "none",
        "svg.hashsalt": "clearhead",
        "text.parse_math": False,  # a token that is "$" is no formula
        "hatch.linewidth": 0.5,
        "legend.frameon": False,
        "image.interpolation": "nearest",
    }
    with mpl.rc_context(settings), warnings.catch_warnings():
        # A label may be in any script. The SVG's reader has fonts of its own; the PNG shows a box.
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        yield


def _size(panel: Panel, *, few: bool) -> tuple[float, float]:
    """Return width and height in inches: maps have square cells, within limits; bars have room for their names."""
    match panel.kind:
        case "map":
            return _map_size(panel, few=few)
        case "chips":
            return 6.4, 0.5 + 0.24 * (max(row for _, row, _, _ in _placed(panel)) + 1)
        case "table":
            return 6.4, 0.5 + 0.24 * (len(panel.first) + 1)
        case "scatter":
            return 6.4, 5.2
        case "bars" if _lie(panel):
            return 6.4, 0.8 + 0.2 * len(panel.first) * max(1.0, 0.6 * len(panel.arrays))
        case _:
            return (6.4, 3.2) if few else (3.6, 2.4)


def _map_size(panel: Panel, *, few: bool) -> tuple[float, float]:
    rows, columns = panel.first.shape
    if panel.written is not None:
        longest = max(len(visible(text)) for row in panel.written for text in row)
        return min(12.0, max(0.3, 0.09 * longest) * columns + 1.1), 0.26 * rows + 1.1
    largest, margin = (7.0, 1.1) if few else (1.8, 0.5)
    cell = min(0.26, largest / max(rows, columns))
    named = few and panel.labels[0] is not None and rows < columns
    high = max(cell, min(_LABEL_INCHES, largest / rows)) if named else cell
    return cell * columns + margin, high * rows + margin


def _panel(axes: Axes, panel: Panel, scale: Scale, *, few: bool) -> None:
    match panel.kind:
        case "map":
            _map(axes, panel, scale, labelled=few)
        case "chips":
            _chips(axes, panel, scale)
        case "bars":
            _bars(axes, panel, panel.labels[0] or [str(at) for at in range(len(panel.first))])
        case "lines":
            _lines(axes, panel)
        case "scatter":
            _points(axes, panel)
        case "table":
            _table(axes, panel)


def _map(axes: Axes, panel: Panel, scale: Scale, *, labelled: bool) -> None:
    values = panel.cells()
    colours = ListedColormap(scale.rgb(np.linspace(scale.low, scale.high, 256)) / 255.0)
    axes.patch.set(hatch="////", edgecolor=_MASKED, facecolor="none")
    rows, columns = values.shape
    width, height = _map_size(panel, few=True)
    square = panel.written is None and math.isclose((width - 1.1) * rows, (height - 1.1) * columns)
    image = axes.imshow(values, cmap=colours, vmin=scale.low, vmax=scale.high, aspect="equal" if square else "auto")
    if panel.written is not None:
        _write_into(axes, values, panel.written, scale)
    if not labelled:
        axes.set(xticks=[], yticks=[])
        return
    axes.figure.colorbar(image, ax=axes, fraction=0.04, pad=0.02).outline.set_visible(False)
    axes.set(ylabel=panel.axes[0], xlabel=panel.axes[1])
    inches = _map_size(panel, few=True)
    for names, axis, length in zip(panel.labels, (axes.yaxis, axes.xaxis), reversed(inches), strict=True):
        if names is not None:
            places = _some(len(names), length)
            axis.set_ticks(places, [_short(names[place]) for place in places])
    if max(map(len, panel.labels[1] or ()), default=0) > 2:
        axes.tick_params(axis="x", labelrotation=90)


def _write_into(axes: Axes, values: Array, texts: Sequence[Sequence[str]], scale: Scale) -> None:
    for (row, column), value in np.ndenumerate(values):
        ink = scale.ink(value) if np.isfinite(value) else _MASKED
        axes.text(column, row, _short(texts[row][column]), ha="center", va="center", color=ink, fontsize=8)


def _placed(panel: Panel) -> Iterator[tuple[int, int, int, str]]:
    """Yield each token's column, row and width in characters, and how it is shown, broken into lines."""
    column, row = 0, 0
    for name in panel.labels[0] or []:
        text = visible(name)
        if column and column + len(text) > _LINE_CHARACTERS:
            column, row = 0, row + 1
        yield column, row, len(text), text
        column += len(text)
        if name.endswith("\n"):
            column, row = 0, row + 1


def _chips(axes: Axes, panel: Panel, scale: Scale) -> None:
    for (column, row, width, text), value in zip(_placed(panel), panel.first.astype(float), strict=True):
        seen = bool(np.isfinite(value))
        colour = scale.hex(value) if seen else "none"
        axes.add_patch(Rectangle((column, row), width, 0.9, facecolor=colour, edgecolor="none"))
        ink = scale.ink(value) if seen else _MASKED
        place = (column + width / 2, row + 0.45)
        axes.text(*place, text, ha="center", va="center", family="monospace", fontsize=8, color=ink)
    axes.set(xlim=(0, _LINE_CHARACTERS), ylim=(max(row for _, row, _, _ in _placed(panel)) + 1, 0))
    axes.set_axis_off()


def _points(axes: Axes, panel: Panel) -> None:
    points, names = panel.first.astype(float), panel.labels[0] or []
    groups = list(panel.arrays.values())[1] if len(panel.arrays) > 1 else np.zeros(len(points), int)
    for kind, colour in zip(sorted(set(groups.tolist())), LINES * len(points), strict=False):
        here = groups == kind
        axes.scatter(*points[here].T, s=0.1, color=colour, label=kind)
        for index in np.flatnonzero(here):
            axes.text(
                points[index, 0], points[index, 1], _short(names[int(index)]), color=colour, ha="center", va="center"
            )
    if len(panel.arrays) > 1:
        axes.legend(markerscale=20, loc="best", fontsize=8)
    axes.set(xticks=[], yticks=[])


def _table(axes: Axes, panel: Panel) -> None:
    header, rows = panel.columns()
    cells = [
        [f"{value:.3f}" if isinstance(value, float) else one_line(str(value), 40) for value in row] for row in rows
    ]
    drawn = axes.table(cells, colLabels=header, loc="upper left", edges="horizontal", cellLoc="left", colLoc="left")
    drawn.auto_set_font_size(False)
    drawn.set_fontsize(8)
    drawn.auto_set_column_width(list(range(len(header))))
    axes.set_axis_off()


def _cell(value: object) -> str:
    return f"{value:.3f}" if isinstance(value, float) else one_line(str(value), _CELL_LENGTH)


def _lines(axes: Axes, panel: Panel) -> None:
    for (name, values), colour in zip(panel.arrays.items(), LINES * len(panel.arrays), strict=False):
        axes.plot(values, color=colour, linewidth=1.5, label=name)
    axes.set_xlabel(panel.axes[0])
    if panel.labels[0] is not None:
        some = _some(len(panel.labels[0]), 3.0)
        axes.set_xticks(some, [_short(panel.labels[0][place]) for place in some])
    axes.margins(x=0)
    _named(axes, panel, axes.set_ylabel)


def _lie(panel: Panel) -> bool:
    return max(map(len, panel.labels[0] or ()), default=0) > _LONG_NAME


def _lying_bars(axes: Axes, panel: Panel, names: Sequence[str]) -> None:
    places, height = np.arange(len(names)), 0.8 / len(panel.arrays)
    for rank, ((name, values), colour) in enumerate(zip(panel.arrays.items(), LINES * len(panel.arrays), strict=False)):
        axes.barh(places + (rank - (len(panel.arrays) - 1) / 2) * height, values, height, color=colour, label=name)
    axes.set_yticks(places, [_short(name) for name in names])
    axes.invert_yaxis()
    axes.margins(y=0.01)
    _named(axes, panel, axes.set_xlabel)


def _named(axes: Axes, panel: Panel, say: Callable[[str], object]) -> None:
    """Say which colour is which beside the picture, or what a single one is."""
    if len(panel.arrays) > 1:
        axes.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0))
    else:
        say(next(iter(panel.arrays)))


def _bars(axes: Axes, panel: Panel, names: Sequence[str]) -> None:
    if _lie(panel):
        _lying_bars(axes, panel, names)
        return
    places, width = np.arange(len(names)), 0.8 / len(panel.arrays)
    for rank, ((name, values), colour) in enumerate(zip(panel.arrays.items(), LINES * len(panel.arrays), strict=False)):
        axes.bar(places + (rank - (len(panel.arrays) - 1) / 2) * width, values, width, color=colour, label=name)
    some = _some(len(names), 6.0)
    axes.set_xticks(some, [_short(names[place]) for place in some], rotation=90 if len(names) > 8 else 0)
    axes.set_xlabel(panel.axes[0])
    _named(axes, panel, axes.set_ylabel)


def _some(number: int, inches: float) -> range:
    """Return all places, or evenly spaced ones where labels would run into each other."""
    return range(0, number, math.ceil(number * _LABEL_INCHES / inches))


def _short(name: str) -> str:
    text = label(name)
    return text if len(text) <= _LABEL_LENGTH else text[: _LABEL_LENGTH - 1] + "…"
