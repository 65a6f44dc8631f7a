"""The report's charts, read back from their SVG."""

from __future__ import annotations

import re
from xml.etree import ElementTree

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from clearhead.show.chart import Chart, Level, Line, draw, nice_ticks, round_numbers, spread, thinned

STEPS = np.arange(1.0, 102.0)
LOSS = 1.5 + 3.0 / STEPS


def _points(svg: str) -> np.ndarray:
    """Return the drawn points of the first line, in pixels."""
    path = re.search(r'class="line [^"]*" d="([^"]*)"', svg)
    assert path
    return np.array([[float(number) for number in pair.split()] for pair in re.split("[ML]", path[1])[1:]])


def _ticks(svg: str, anchor: str) -> np.ndarray:
    """Return value and pixel of each tick label on one axis, as the reader sees them."""
    found = re.findall(rf'class="tick" x="([^"]*)" y="([^"]*)" text-anchor="{anchor}">([^<]*)<', svg)
    return np.array([[float(label.replace(",", "")), float(x if anchor == "middle" else y)] for x, y, label in found])


@pytest.mark.parametrize(("scale", "place"), [("linear", lambda x: x), ("root", np.sqrt), ("log", np.log)])
def test_the_tick_labels_give_back_the_drawn_values(scale: str, place: np.ufunc) -> None:
    svg = draw(Chart(description="d", lines=[Line(x=STEPS, y=LOSS, role="plain")], x_label="x", x_scale=scale))
    drawn = _points(svg)
    across, up = _ticks(svg, "middle"), _ticks(svg, "end")
    x_fit = np.polyfit(place(across[:, 0]), across[:, 1], 1)
    y_fit = np.polyfit(up[:, 0], up[:, 1] - 4, 1)
    expected = np.stack([np.polyval(x_fit, place(STEPS)), np.polyval(y_fit, LOSS)], axis=1)
    assert {tuple(point) for point in np.round(drawn)} <= {tuple(point) for point in np.round(expected)} | {
        (x + dx, y + dy) for x, y in np.round(expected) for dx in (-1, 0, 1) for dy in (-1, 0, 1)
    }
    assert len(drawn) > 50


def test_a_missing_value_leaves_a_gap() -> None:
    holed = LOSS.copy()
    holed[40:50] = np.nan
    svg = draw(Chart(description="d", lines=[Line(x=STEPS, y=holed, role="plain")], x_label="x"))
    path = re.search(r'd="(M[^"]*)"', svg)
    assert path
    assert path[1].count("M") == 2
    assert "nan" not in svg


def test_every_level_and_named_line_has_a_label_and_labels_stand_apart() -> None:
    levels = [Level(f"base <{index}>", 2.0 + index / 1000) for index in range(5)]
    lines = [Line(x=STEPS, y=LOSS, role="training", name="training", dots=True)]
    svg = draw(Chart(description="d", lines=lines, levels=levels, x_label="x"))
    root = ElementTree.fromstring(svg)
    labels = [text for text in root.iter("text") if "label" in text.get("class", "")]
    heights = sorted(float(text.get("y", "nan")) for text in labels)
    assert len(labels) == 6
    assert min(np.diff(heights)) >= 16.9
    assert "base &lt;3&gt;" in svg
    assert len(list(root.iter("circle"))) == len(STEPS)


def test_one_spike_of_a_raw_line_does_not_flatten_the_rest() -> None:
    spiked = LOSS.repeat(11)
    spiked[500] = 1000.0
    steps = np.arange(1.0, len(spiked) + 1)
    raw = draw(Chart(description="d", lines=[Line(x=steps, y=spiked, role="raw")], x_label="x"))
    exact = draw(Chart(description="d", lines=[Line(x=steps, y=spiked, role="plain")], x_label="x"))
    assert _ticks(raw, "end")[:, 0].max() < 5
    assert _ticks(exact, "end")[:, 0].max() >= 1000


def test_a_flat_line_at_one_point_can_be_drawn() -> None:
    svg = draw(Chart(description="d", lines=[Line(x=np.array([3.0]), y=np.array([2.0]), role="plain")], x_label="x"))
    assert "nan" not in svg
    assert "inf" not in svg


@given(st.floats(-1e6, 1e6), st.floats(1e-3, 1e6), st.integers(2, 12))
@example(1.0, 0.001, 10)
@settings(max_examples=200, deadline=None)
def test_nice_ticks_lie_inside_and_are_evenly_spaced(low: float, span: float, at_most: int) -> None:
    ticks = nice_ticks(low, low + span, at_most)
    assert len(ticks) <= at_most
    assert all(low - 1e-6 * span <= tick <= low + span * (1 + 1e-6) for tick in ticks)
    gaps = np.diff(ticks)
    assert len(gaps) == 0 or np.allclose(gaps, gaps[0], rtol=1e-6)


def test_round_numbers() -> None:
    assert round_numbers(1.0, 64.0) == [1, 2, 5, 10, 20, 50]


@given(st.lists(st.floats(0, 300), min_size=1, max_size=9))
@settings(max_examples=200, deadline=None)
def test_spread_labels_keep_order_and_distance(wanted: list[float]) -> None:
    places = spread(wanted, 17.0, 0.0, 300.0)
    order = np.argsort(wanted, kind="stable")
    assert all(np.diff(np.array(places)[order]) >= 17.0 - 1e-6)
    assert min(places) >= 0
    assert max(places) <= 300 + 1e-6


def test_spread_moves_no_label_that_has_room_and_shares_what_is_missing() -> None:
    assert spread([200.0, 10.0, 100.0], 17.0, 0.0, 300.0) == [200.0, 10.0, 100.0]
    assert spread([100.0, 100.0], 20.0, 0.0, 300.0) == [90.0, 110.0]


def test_thinning_keeps_every_extreme() -> None:
    x = np.arange(1000.0)
    y = np.sin(x / 50)
    y[617] = 9.0
    y[300] = np.nan
    kept_x, kept_y = thinned(x, y, 20.0)
    assert len(kept_x) < 200
    for start in range(0, 1000, 20):
        inside = (kept_x >= start) & (kept_x < start + 20)
        assert np.nanmax(kept_y[inside]) == np.nanmax(y[start : start + 20])
        assert np.nanmin(kept_y[inside]) == np.nanmin(y[start : start + 20])
    assert 9.0 not in y[::10]  # taking every tenth point would lose the spike
