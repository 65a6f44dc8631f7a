"""Line charts as SVG for the report: small, without scripts, coloured by the page's style sheet.

Written by hand and not with matplotlib, because these charts follow the page into dark mode and print, use its
fonts, and are redrawn while a training runs, when a second to import matplotlib (and more to build its font
cache) is not free.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Float

from clearhead.show.page import escape

_LABEL_GAP = 17.0  # pixels between the base lines of two labels
_TICK_GAP_X = 75.0
_STRETCH = 2.0  # pixels in which a line is drawn by its extremes alone
_TICK_GAP_Y = 36.0
_PLACES: Mapping[str, Callable[[Float[np.ndarray, " N"]], Float[np.ndarray, " N"]]] = {
    "linear": lambda value: value,
    "root": np.sqrt,
    "log": np.log,
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Line:
    """One series.

    Args:
        role: the style sheet's names for it: "training", "validation" or "plain", or "raw" for what is only context.
        name: written at its end; without a name the line is context that needs no label.
        dots: whether each point is marked, and tells its numbers when pointed at.
    """

    x: Float[np.ndarray, " N"]
    y: Float[np.ndarray, " N"]
    role: str
    name: str | None = None
    dots: bool = False


@dataclass(frozen=True, slots=True)
class Level:
    """A horizontal line to compare with, such as a baseline."""

    name: str
    y: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Chart:
    """What a chart shows; `draw` makes it a picture.

    Args:
        description: one sentence for those who do not see the picture.
        x_scale: "root" places x at its square root, which gives a fast beginning more room.
        x_note: a second, lighter label below each tick of x.
        label_width: room for labels right of the plot, in pixels.
    """

    description: str
    lines: Sequence[Line]
    x_label: str
    levels: Sequence[Level] = ()
    x_scale: Literal["linear", "root", "log"] = "linear"
    from_zero: bool = False
    x_note: Callable[[float], str] | None = None
    y_format: Callable[[float], str] = "{:.4g}".format
    width: float = 880.0
    height: float = 380.0
    label_width: float = 170.0


@dataclass(frozen=True, slots=True)
class _Frame:
    """The plot's rectangle in pixels and the ranges it shows."""

    chart: Chart
    left: float
    top: float
    right: float
    bottom: float
    x_range: tuple[float, float]
    y_range: tuple[float, float]

    def x(self, value: Float[np.ndarray, " N"]) -> Float[np.ndarray, " N"]:
        place = _PLACES[self.chart.x_scale]
        low, high = place(np.array(self.x_range))
        share = (place(value) - low) / (high - low)
        return np.asarray(self.left + share * (self.right - self.left))

    def y(self, value: Float[np.ndarray, " N"]) -> Float[np.ndarray, " N"]:
        low, high = self.y_range
        return self.bottom - (value - low) / (high - low) * (self.bottom - self.top)

    def x_of(self, value: float) -> float:
        return float(self.x(np.array([value]))[0])

    def y_of(self, value: float) -> float:
        return float(self.y(np.array([value]))[0])


def draw(chart: Chart) -> str:
    """Return the chart as one SVG element.

    Points that are not finite leave a gap. The range of y leaves out the highest 0.5 % of a raw line, so one
    spike does not flatten the rest; what is outside is cut off at the frame.
    """
    frame = _frame(chart)
    plot = "".join(_level(frame, level) for level in chart.levels)
    plot += "".join(_line(frame, line) for line in chart.lines)
    clip = (
        f'<svg x="{frame.left:g}" y="{frame.top:g}" width="{frame.right - frame.left:g}" '
        f'height="{frame.bottom - frame.top:g}" '
        f'viewBox="{frame.left:g} {frame.top:g} {frame.right - frame.left:g} {frame.bottom - frame.top:g}">'
    )
    return (
        f'<svg class="chart" viewBox="0 0 {chart.width:g} {chart.height:g}" role="img" '
        f'aria-label="{escape(chart.description)}">'
        f"{_axes(frame)}{clip}{plot}</svg>{_dots(frame)}{_labels(frame)}</svg>"
    )


def nice_ticks(low: float, high: float, at_most: int) -> list[float]:
    """Return the multiples of 1, 2 or 5 times a power of ten that lie from low to high, at most so many."""
    raw = (high - low) / max(at_most, 1)
    power = 10.0 ** math.floor(math.log10(raw))
    # Rounding can leave the power a tenth of what it should be, and two ends can lie on ticks: hence 20.
    for factor in (1, 2, 5, 10, 20):
        step = factor * power
        first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
        if last - first + 1 <= at_most:
            break
    return [round(index * step, 12) for index in range(first, last + 1)]


def round_numbers(low: float, high: float) -> list[float]:
    """Return 1, 2 and 5 times the powers of ten that lie from low to high."""
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    candidates = [factor * 10.0**power for power in powers for factor in (1, 2, 5)]
    return [number for number in candidates if low * (1 - 1e-9) <= number <= high * (1 + 1e-9)]


def spread(wanted: Sequence[float], gap: float, low: float, high: float) -> list[float]:
    """Return places for labels, close to the wanted ones, in the same order and at least `gap` apart.

    Of all such places these have the least sum of squared distances from the wanted ones (isotonic regression,
    by pooling neighbours that are too close). They stay from low to high where there is room, and run over
    `high` where there is not.
    """
    order = sorted(range(len(wanted)), key=lambda index: wanted[index])
    pools: list[list[float]] = []
    for rank, index in enumerate(order):
        pools.append([wanted[index] - rank * gap])
        while len(pools) > 1 and np.mean(pools[-2]) > np.mean(pools[-1]):
            last = pools.pop()
            pools[-1] += last
    highest = max(low, high - (len(wanted) - 1) * gap)
    means = [float(np.clip(np.mean(pool), low, highest)) for pool in pools for _ in pool]
    places = [0.0] * len(wanted)
    for rank, index in enumerate(order):
        places[index] = means[rank] + rank * gap
    return places


def thinned(
    x: Float[np.ndarray, " N"], y: Float[np.ndarray, " N"], width: float
) -> tuple[Float[np.ndarray, " M"], Float[np.ndarray, " M"]]:
    """Return, for each stretch of x of this width, its first, lowest and highest point: the outline stays as it is."""
    stretch = np.floor((x - x[0]) / width)
    order = np.arange(len(x))
    lowest = np.lexsort((np.nan_to_num(y, nan=np.inf), stretch))
    highest = np.lexsort((-np.nan_to_num(y, nan=-np.inf), stretch))
    first = np.flatnonzero(np.diff(stretch, prepend=-1.0))
    kept = np.unique(np.concatenate([order[first], lowest[first], highest[first], order[-1:]]))
    return x[kept], y[kept]


def _frame(chart: Chart) -> _Frame:
    x = np.concatenate([line.x for line in chart.lines])
    lowest, highest = float(x.min()) if chart.x_scale == "log" else 0.0, float(x.max())
    return _Frame(
        chart,
        left=46.0,
        top=12.0,
        right=chart.width - chart.label_width,
        bottom=chart.height - (56 if chart.x_note else 40),
        x_range=(lowest, highest if highest > lowest else lowest + 1),
        y_range=_y_range(chart),
    )


def _y_range(chart: Chart) -> tuple[float, float]:
    ends = [level.y for level in chart.levels]
    for line in chart.lines:
        finite = line.y[np.isfinite(line.y)]
        if finite.size:
            ends += [float(finite.min()), float(np.quantile(finite, 0.995 if "raw" in line.role else 1.0))]
    low, high = (min(ends), max(ends)) if ends else (0.0, 1.0)
    if chart.from_zero:
        low = min(low, 0.0)
    margin = 0.04 * (high - low) or abs(high) * 0.1 or 1.0
    return (low if chart.from_zero else low - margin, high + margin)


def _axes(frame: _Frame) -> str:
    chart, parts = frame.chart, []
    for tick in nice_ticks(*frame.y_range, max(2, int((frame.bottom - frame.top) / _TICK_GAP_Y))):
        y = frame.y_of(tick)
        parts.append(f'<line class="grid" x1="{frame.left:g}" x2="{frame.right:g}" y1="{y:.1f}" y2="{y:.1f}"/>')
        label = escape(chart.y_format(tick))
        parts.append(f'<text class="tick" x="{frame.left - 8:g}" y="{y + 4:.1f}" text-anchor="end">{label}</text>')
    for tick in _x_ticks(frame):
        x = frame.x_of(tick)
        parts.append(
            f'<text class="tick" x="{x:.1f}" y="{frame.bottom + 18:g}" text-anchor="middle">{tick:,.0f}</text>'
        )
        if chart.x_note and chart.x_note(tick):
            note = escape(chart.x_note(tick))
            parts.append(f'<text class="note" x="{x:.1f}" y="{frame.bottom + 33:g}" text-anchor="middle">{note}</text>')
    parts.append(
        f'<text class="note" x="{frame.right:g}" y="{chart.height - 4:g}" text-anchor="end">'
        f"{escape(chart.x_label)}</text>"
    )
    return "".join(parts)


def _x_ticks(frame: _Frame) -> list[float]:
    """Choose whole numbers along x: evenly spaced, or round ones as dense as their labels allow."""
    low, high = frame.x_range
    if frame.chart.x_scale == "linear":
        ticks = nice_ticks(low, high, max(2, int((frame.right - frame.left) / _TICK_GAP_X)))
        return [tick for tick in ticks if tick == int(tick)]
    kept = [high, low]
    for tick in reversed(round_numbers(max(low, 1.0), high)):
        if all(abs(frame.x_of(tick) - frame.x_of(other)) >= _TICK_GAP_X for other in kept):
            kept.append(tick)
    return kept


def _level(frame: _Frame, level: Level) -> str:
    y = frame.y_of(level.y)
    return f'<line class="level" x1="{frame.left:g}" x2="{frame.right:g}" y1="{y:.1f}" y2="{y:.1f}"/>'


def _line(frame: _Frame, line: Line) -> str:
    pieces, pen = [], "M"
    for x, y in zip(*thinned(frame.x(line.x), frame.y(line.y), _STRETCH), strict=True):
        if not math.isfinite(y):
            pen = "M"
            continue
        pieces.append(f"{pen}{x:.1f} {y:.1f}")
        pen = "L"
    return f'<path class="line {line.role}" d="{"".join(pieces)}"/>'


def _dots(frame: _Frame) -> str:
    dots = []
    for line in (line for line in frame.chart.lines if line.dots):
        for x, y in zip(line.x, line.y, strict=True):
            if math.isfinite(y):
                dots.append(
                    f'<circle class="dot {line.role}" cx="{frame.x_of(x):.1f}" cy="{frame.y_of(y):.1f}" r="3">'
                    f"<title>{x:,.0f}: {y:.4g}</title></circle>"
                )
    return "".join(dots)


def _labels(frame: _Frame) -> str:
    """Write the names and last values right of the plot, apart from each other, tied to where they belong."""
    wanted = [(level.name, level.y, "level") for level in frame.chart.levels]
    for line in frame.chart.lines:
        finite = line.y[np.isfinite(line.y)]
        if line.name and finite.size:
            wanted.append((line.name, float(finite[-1]), line.role))
    heights = [frame.y_of(value) for _, value, _ in wanted]
    places = spread(heights, _LABEL_GAP, frame.top + 4, frame.bottom)
    parts = []
    for (name, value, role), at, place in zip(wanted, heights, places, strict=True):
        x = frame.right
        parts.append(f'<path class="leader" d="M{x + 3:g} {at:.1f}L{x + 16:g} {place:.1f}"/>')
        parts.append(
            f'<text class="label {role}" x="{x + 20:g}" y="{place + 4:.1f}">'
            f'{escape(name)} <tspan class="value">{value:.3f}</tspan></text>'
        )
    return "".join(parts)
