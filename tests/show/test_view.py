"""Views and their faces."""

from __future__ import annotations

import copy
import csv
import json
import re
from io import StringIO
from pathlib import Path
from xml.etree import ElementTree

import matplotlib as mpl
import numpy as np
import pytest
from rich.console import Console

from clearhead.core.errors import UserError
from clearhead.show import figure
from clearhead.show.view import Picture, View

TOKENS = ("To", "\n", "$x$", "<b>", " be")


@pytest.fixture
def view() -> View:
    rng = np.random.default_rng(5)
    scores = rng.normal(size=(5, 5))
    scores[np.triu_indices(5, 1)] = np.nan
    arrays = {"scores": scores, "surprise": rng.random(5), "norm": rng.random(7)}
    axes = {"scores": ("query", "key"), "surprise": ("key",), "norm": ("layer",)}
    return View("attention", arrays, axes, {"query": TOKENS, "key": TOKENS}, "The largest score is <2>.")


def test_arrays_are_attributes_and_a_wrong_name_lists_the_right_ones(view: View) -> None:
    assert view.scores is view.arrays["scores"]
    with pytest.raises(AttributeError, match="scores, surprise, norm"):
        _ = view.pattern
    assert copy.copy(view).caption == view.caption


def test_axes_and_labels_must_fit_the_arrays() -> None:
    for axes, labels in [(("a",), {}), (("a", "b"), {"a": ["x"]})]:
        with pytest.raises(AssertionError):
            View("v", {"m": np.zeros((2, 3))}, {"m": axes}, labels, "")


def test_json_npz_and_csv_hold_the_same_numbers(view: View, tmp_path: Path) -> None:
    for ending in ("json", "npz", "csv"):
        view.save(tmp_path / f"view.{ending}")
    stored = json.loads((tmp_path / "view.json").read_text())
    from_json = np.array(stored["arrays"]["scores"]["values"], dtype=float)
    packed = np.load(tmp_path / "view.npz", allow_pickle=False)
    rows = list(csv.DictReader((tmp_path / "view.csv").read_text().splitlines(keepends=True)))
    from_csv = np.array([float(row["value"]) for row in rows if row["array"] == "scores"]).reshape(5, 5)
    for found in (from_json, packed["scores"], from_csv):
        np.testing.assert_array_equal(found, view.scores)
    assert stored["arrays"]["scores"]["axes"] == ["query", "key"]
    assert packed["labels.key"].tolist() == list(TOKENS)
    assert rows[1] == {"array": "scores", "query": "To", "key": "\n", "layer": "", "value": "nan"}


def test_an_unknown_ending_is_refused_and_nothing_written(view: View, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"view\.pdf; end the name with one of \.json"):
        view.save(tmp_path / "view.pdf")
    assert list(tmp_path.iterdir()) == []


def test_the_figure_keeps_text_as_text_and_leaves_no_trace(view: View, tmp_path: Path) -> None:
    before = dict(mpl.rcParams)
    view.save(tmp_path / "view.svg")
    assert dict(mpl.rcParams) == before
    svg = (tmp_path / "view.svg").read_text()
    texts = ["".join(text.itertext()) for text in ElementTree.fromstring(svg).iter("{http://www.w3.org/2000/svg}text")]
    assert {"↵", "$x$", "<b>", "·be", "query", "layer"} <= set(texts)
    assert "currentColor" in svg
    assert "#010203" not in svg
    assert figure.to_svg(view) == svg


def test_png_and_html_faces(view: View, tmp_path: Path) -> None:
    view.save(tmp_path / "view.png")
    view.save(tmp_path / "view.html")
    page = (tmp_path / "view.html").read_text()
    assert (tmp_path / "view.png").read_bytes().startswith(b"\x89PNG")
    assert "The largest score is &lt;2&gt;." in page
    assert "scores: query 5 x key 5" in page
    assert re.search(r'(src|href)="(?!#|data:)', page) is None
    assert "&lt;2&gt;" in view._repr_html_()


def test_masked_cells_are_hatched_and_slices_share_a_scale() -> None:
    stack = np.stack([np.full((2, 3), value) for value in (1.0, 4.0, np.nan, 2.0, 3.0)])
    drawn = figure.draw(View("v", {"m": stack}, {"m": ("head", "row", "column")}, {}, ""))
    images = [image for axes in drawn.axes for image in axes.get_images()]
    assert [axes.get_title() for axes in drawn.axes] == [f"m, head {head}" for head in range(5)]
    assert {image.get_clim() for image in images} == {(0.0, 4.0)}
    assert all(axes.patch.get_hatch() for axes in drawn.axes)
    np.testing.assert_array_equal(images[1].get_array(), stack[1])


def test_labelled_arrays_are_bars_and_others_lines() -> None:
    arrays = {"now": np.array([0.5, 0.3]), "before": np.array([0.1, 0.9])}
    axes = {"now": ("token",), "before": ("token",)}
    bars = figure.draw(View("v", arrays, axes, {"token": ("漢", "b")}, "")).axes[0]
    assert [patch.get_height() for patch in bars.patches] == [0.5, 0.3, 0.1, 0.9]
    lines = figure.draw(View("v", arrays, axes, {}, "")).axes[0].get_lines()
    assert [line.get_ydata().tolist() for line in lines] == [[0.5, 0.3], [0.1, 0.9]]


def test_show_draws_every_array_in_the_terminal(view: View) -> None:
    stream = StringIO()
    view.show(Console(file=stream, width=70))
    said = stream.getvalue()
    for part in ("attention", "scores (query down, key across)", "surprise", "layer", "↵", "The largest score is <2>."):
        assert part in said


def test_a_row_of_nothing_is_left_out_of_a_table() -> None:
    arrays = {"low": np.array([0.0, np.nan, np.nan]), "high": np.array([1.0, np.nan, 2.0])}
    axes = dict.fromkeys(arrays, ("token",))
    for labels, rows in (({"token": "abc"}, [["a", 0.0, 1.0], ["c", None, 2.0]]), ({}, [[0.0, 1.0], [None, 2.0]])):
        shown = View("v", arrays, axes, labels, "", pictures=[Picture("table", "t", ("low", "high"))])
        assert shown.panels()[0].columns()[1] == rows
