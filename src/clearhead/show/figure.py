"""Views as matplotlib figures, for notebooks and files. Nothing global is changed and no display is needed."""

from __future__ import annotations

import io
import math
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure

from clearhead.show.palette import LINES, Scale
from clearhead.show.readable import visible

if TYPE_CHECKING:
    from clearhead.show.view import Panel, View

_INK = "#1c1b19"
_INHERITED = "#010203"  # stands for the page's text colour until the SVG is written; no drawing uses it otherwise
_MASKED = "#8b8881"
_MOST_COLUMNS = 6
_FEW = 2  # up to so many maps are drawn large, with labels; more are thumbnails
_LABEL_LENGTH = 14
_LABEL_INCHES = 0.16


def draw(view: View, *, ink: str = _INK) -> Figure:
    """Return a figure with one picture for each panel of the view.

    An array with two axes is a heat map: cividis, or blue to orange where a value is negative, hatched where there is
    no number, and with one scale for all slices of an array. Arrays with one axis are bars where its places have
    names, else lines.
    """
    with _style(ink):
        panels = view.panels()
        few = sum(len(panel.axes) == 2 for panel in panels) <= _FEW
        columns = min(len(panels), _MOST_COLUMNS)
        rows = math.ceil(len(panels) / columns)
        widths, heights = zip(*(_size(panel, few=few) for panel in panels), strict=True)
        figure = Figure(figsize=(max(widths) * columns, max(heights) * rows), layout="constrained")
        grid = figure.subplots(rows, columns, squeeze=False)
        for axes, panel in zip(grid.flat, panels, strict=False):
            scale = Scale.of(view.arrays[next(iter(panel.arrays))].astype(float).ravel())
            _panel(axes, panel, scale, few=few)
            if len(panels) > 1:
                axes.set_title(visible(panel.title, keep=" "))
        for axes in grid.flat[len(panels) :]:
            axes.set_axis_off()
        return figure


def to_svg(view: View) -> str:
    """Return the view as an SVG element whose text stays text and takes the colour of the page around it."""
    figure = draw(view, ink=_INHERITED)
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
    """Return width and height in inches: maps have square cells, within limits."""
    if len(panel.axes) == 1:
        return (6.4, 3.2) if few else (3.6, 2.4)
    rows, columns = next(iter(panel.arrays.values())).shape
    largest, margin = (7.0, 1.1) if few else (1.8, 0.5)
    cell = min(0.26, largest / max(rows, columns))
    return cell * columns + margin, cell * rows + margin


def _panel(axes: Axes, panel: Panel, scale: Scale, *, few: bool) -> None:
    if len(panel.axes) == 2:
        _map(axes, panel, scale, labelled=few)
    elif panel.labels[0] is None:
        _lines(axes, panel)
    else:
        _bars(axes, panel, panel.labels[0])


def _map(axes: Axes, panel: Panel, scale: Scale, *, labelled: bool) -> None:
    values = next(iter(panel.arrays.values())).astype(float)
    colours = ListedColormap(scale.rgb(np.linspace(scale.low, scale.high, 256)) / 255.0)
    axes.patch.set(hatch="////", edgecolor=_MASKED, facecolor="none")
    image = axes.imshow(values, cmap=colours, vmin=scale.low, vmax=scale.high)
    if not labelled:
        axes.set(xticks=[], yticks=[])
        return
    axes.figure.colorbar(image, ax=axes, fraction=0.04, pad=0.02).outline.set_visible(False)
    axes.set(ylabel=panel.axes[0], xlabel=panel.axes[1])
    inches = _size(panel, few=True)
    for names, axis, length in zip(panel.labels, (axes.yaxis, axes.xaxis), reversed(inches), strict=True):
        if names is not None:
            places = _some(len(names), length)
            axis.set_ticks(places, [_short(names[place]) for place in places])
    if max(map(len, panel.labels[1] or ()), default=0) > 2:
        axes.tick_params(axis="x", labelrotation=90)


def _lines(axes: Axes, panel: Panel) -> None:
    for (name, values), colour in zip(panel.arrays.items(), LINES * len(panel.arrays), strict=False):
        axes.plot(values, color=colour, linewidth=1.5, label=name)
    axes.set_xlabel(panel.axes[0])
    axes.margins(x=0)
    if len(panel.arrays) > 1:
        axes.legend()
    else:
        axes.set_ylabel(next(iter(panel.arrays)))


def _bars(axes: Axes, panel: Panel, names: Sequence[str]) -> None:
    places, width = np.arange(len(names)), 0.8 / len(panel.arrays)
    for rank, ((name, values), colour) in enumerate(zip(panel.arrays.items(), LINES * len(panel.arrays), strict=False)):
        axes.bar(places + (rank - (len(panel.arrays) - 1) / 2) * width, values, width, color=colour, label=name)
    some = _some(len(names), 6.0)
    axes.set_xticks(some, [_short(names[place]) for place in some], rotation=90 if len(names) > 8 else 0)
    axes.set_xlabel(panel.axes[0])
    if len(panel.arrays) > 1:
        axes.legend()
    else:
        axes.set_ylabel(next(iter(panel.arrays)))


def _some(number: int, inches: float) -> range:
    """Return all places, or evenly spaced ones where labels would run into each other."""
    return range(0, number, math.ceil(number * _LABEL_INCHES / inches))


def _short(label: str) -> str:
    text = visible(label)
    return text if len(text) <= _LABEL_LENGTH else text[: _LABEL_LENGTH - 1] + "…"
