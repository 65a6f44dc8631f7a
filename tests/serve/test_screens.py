"""What the screens say and offer, without a browser."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from starlette.datastructures import Headers

from clearhead.core.errors import UserError
from clearhead.serve.page import frame, train
from clearhead.serve.page.app import is_ours
from clearhead.serve.page.studio import Studio
from clearhead.show.history import History


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
