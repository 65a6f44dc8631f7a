"""What the screens say and offer, without a browser."""

from __future__ import annotations

import re
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from matplotlib.image import imread
from starlette.datastructures import Headers

from clearhead.core.errors import UserError
from clearhead.look.catalogue import SUBJECTS
from clearhead.serve.page import frame, options, pictures, train
from clearhead.serve.page.app import is_ours
from clearhead.serve.page.arithmetic import Cell, cell_in_words
from clearhead.serve.page.studio import Kept, Studio
from clearhead.show.history import History
from clearhead.show.palette import Scale
from clearhead.show.view import Panel, Picture, View


@pytest.fixture
def studio(tmp_path: Path) -> Iterator[Studio]:
    made = Studio(tmp_path)
    yield made
    made.jobs.close()


@pytest.mark.parametrize(
    ("headers", "ours"),
    [
        ({"host": "127.0.0.1:8421"}, True),
        ({"host": "localhost:8421", "origin": "http://localhost:8421"}, True),
        ({"host": "127.0.0.1:8421", "origin": "https://evil.example"}, False),
        ({"host": "evil.example:8421"}, False),
        ({"host": "127.0.0.1.evil.example"}, False),
        ({"host": "127.0.0.1:8421", "origin": "null"}, False),
        ({}, False),
    ],
)
def test_only_our_own_pages_are_answered(headers: dict[str, str], ours: bool) -> None:
    assert is_ours(Headers(headers)) == ours


def test_an_address_holds_the_state_and_nothing_empty() -> None:
    assert frame.address("write", run="a b", step="", prompt="ö&", seed=0) == "/write?run=a+b&prompt=%C3%B6%26&seed=0"
    assert frame.address("runs") == "/runs"


@pytest.mark.parametrize(
    ("text", "minutes", "complaint"),
    [
        ("nowhere.txt", 2.0, "nothing at nowhere.txt"),
        ("", 0.0, "minutes"),
        ("", 31.0, "minutes"),
        ("", None, "minutes"),
    ],
)
def test_a_training_that_cannot_begin_is_refused(
    studio: Studio, text: str, minutes: float | None, complaint: str
) -> None:
    with pytest.raises(UserError, match=complaint):
        train.begin(studio, text, minutes)
    assert studio.jobs.going == []


def test_a_run_that_is_not_there_is_refused(studio: Studio) -> None:
    with pytest.raises(UserError, match="no run nobody"):
        studio.run("nobody")


def test_what_changed_between_samples_is_marked() -> None:
    marked = train.mark_changes("the cat sat on a mat", "the cat <b> on the mat")
    assert marked == ('the cat <span class="changed">&lt;b&gt;</span> on <span class="changed">the</span> mat')
    assert train.mark_changes("", "a b") == "a b"


def test_the_time_left_follows_the_pace() -> None:
    history = History([{"event": "stepped", "step": 50, "seconds": 10.0, "steps": 200}])
    assert train.seconds_left(history) == 30.0
    assert train.seconds_left(History([])) is None


@pytest.mark.parametrize(
    ("events", "said"),
    [
        ([], "Nothing yet."),
        ([{"event": "stepped", "step": 3}], "No end was recorded"),
        ([{"event": "started", "step": 0}, {"event": "stopped", "step": 9, "reason": "signal"}], "everything is saved"),
        ([{"event": "started", "step": 0}, {"event": "stopped", "step": 9, "reason": "budget"}], "complete"),
    ],
)
def test_a_run_says_how_it_stands(events: list[dict[str, object]], said: str) -> None:
    assert said in train.state_in_words(History(events), None)


def test_every_subject_is_offered_once_and_a_new_one_comes_last(monkeypatch: pytest.MonkeyPatch) -> None:
    offered = [name for names in options.grouped().values() for name in names]
    assert sorted(offered) == sorted(SUBJECTS)
    monkeypatch.setitem(SUBJECTS, "dreams", "What it dreams of.")
    assert options.grouped()["More"] == ("dreams",)


@pytest.mark.parametrize("subject", SUBJECTS)
def test_what_a_field_gives_the_subject_takes(subject: str) -> None:
    assert set(options.fields_of(subject).values()) <= set(options.parameters_of(subject))


def test_a_subject_is_called_with_what_was_written(studio: Studio) -> None:
    given = options.arguments(studio, "next-token", "a b", {"top_k": "3", "top_p": "0.5", "seed": ""})
    assert given == {"prompt": "a b", "top_k": 3, "top_p": 0.5}
    assert options.arguments(studio, "analogy", "a b", {"words": "x - y + z"}) == {"prompt": "x - y + z"}
    assert options.arguments(studio, "parameters", "a b", {}) == {}
    with pytest.raises(UserError, match="Top k takes a number, and three is none"):
        options.arguments(studio, "next-token", "", {"top_k": "three"})
    with pytest.raises(UserError, match="another run"):
        options.arguments(studio, "compare", "", {})
    with pytest.raises(UserError, match="no run nobody"):
        options.arguments(studio, "compare", "", {"against": "nobody@3"})


def test_a_terminal_is_asked_for_the_same(studio: Studio) -> None:
    folder = studio.folder
    assert options.words(studio, "next-token", "a b", {"top_k": "3", "seed": ""}) == ["--top-k=3", "a b"]
    assert options.words(studio, "next-token", "-5 cats", {"seed": "2"}) == ["--seed=2", "--", "-5 cats"]
    assert options.words(studio, "analogy", "a b", {"words": "x - y + z"}) == ["x - y + z"]
    assert options.words(studio, "compare", "", {"against": "my@3"}) == [f"--other={folder / 'my@3'}"]
    assert options.words(studio, "parameters", "a b", {}) == []
    assert options.words(studio, "loss-by-position", "a b", {}) == []


def test_a_map_is_an_image_whose_pixels_are_the_scales_colours() -> None:
    values = np.array([[0.0, 0.25, np.nan], [1.0, 0.5, 0.75]])
    scale = Scale.of(values.ravel())
    pixels = np.rint(255 * imread(BytesIO(pictures.png(values, scale)), "png"))
    assert pixels.shape == (2, 3, 4)
    assert pixels[0, 2, 3] == 0
    seen = np.isfinite(values)
    assert (pixels[..., 3][seen] == 255).all()
    assert np.abs(pixels[..., :3][seen] - scale.rgb(values[seen])).max() <= 2


def test_steps_of_a_training_have_room_at_its_beginning() -> None:
    def places(axis: str) -> list[float]:
        panel = Panel("lines", "loss", {"loss": np.array([3.0, 2.0, 1.0])}, (axis,), (["0", "25", "100"],))
        return [float(x) for x in re.findall(r' cx="([\d.]+)"', pictures.lines(panel, 0))]

    for axis, share in (("step", 1 / 2), ("distance", 1 / 4)):
        low, middle, high = places(axis)
        assert (middle - low) / (high - low) == pytest.approx(share, abs=0.01)


def scores(q: np.ndarray, k: np.ndarray) -> View:
    """Return a view of one head, as `look.attention` has it."""
    raw = q @ k.T
    masked = np.where(np.tri(len(q), dtype=bool), raw / np.sqrt(q.shape[1]), -np.inf)
    pattern = np.exp(masked) / np.exp(masked).sum(axis=1, keepdims=True)
    arrays = {"pattern": pattern, "scores_raw": raw, "scores_scaled": raw / np.sqrt(q.shape[1])}
    square = {**arrays, "scores_masked": masked}
    return View(
        "attention",
        square | {"query_vector": q, "key_vector": k},
        dict.fromkeys(square, ("query", "key"))
        | {"query_vector": ("query", "channel"), "key_vector": ("key", "channel")},
        {},
        "",
        pictures=[Picture("map", "pattern", ("pattern",))],
    )


def test_a_cell_of_attention_is_written_out_as_its_arithmetic() -> None:
    rng = np.random.default_rng(1)
    view = scores(rng.normal(size=(5, 7)), rng.normal(size=(5, 7)))
    said = cell_in_words(view, view.panels()[0], Cell(0, 3, 1))
    raised = np.exp(view.scores_masked[3] - view.scores_masked[3].max())
    for number in (
        f"= {view.scores_raw[3, 1]:.3f}",
        f"÷ √7 = {view.scores_scaled[3, 1]:.3f}",
        f"{raised[1]:.4f} ÷ {raised.sum():.4f} = {view.pattern[3, 1]:.4f}",
    ):
        assert number in said
    assert "4 comes after 3" in cell_in_words(view, view.panels()[0], Cell(0, 3, 4))


def test_what_was_not_used_longest_goes_first() -> None:
    kept: Kept[int] = Kept(2)
    kept.keep("a", 1)
    kept.keep("b", 2)
    assert kept.get("a") == 1
    kept.keep("c", 3)
    assert ("a" in kept, "b" in kept, "c" in kept) == (True, False, True)
