"""A run's events as they come are what a reader of the whole file sees."""

from __future__ import annotations

from pathlib import Path

import pytest

from clearhead.core import events
from clearhead.core.errors import DamagedFile
from clearhead.core.events import Follower, Journal, Saved, Started


def saved(step: int) -> Saved:
    return Saved(step=step, tokens=7 * step, seconds=0.5, path=f"step-{step}", best=False)


def started(resumed_from: int) -> Started:
    return Started(
        step=resumed_from,
        tokens=0,
        seconds=0.0,
        resumed_from=resumed_from,
        config_sha256="",
        versions={},
        exactness="exact",
    )


def test_each_look_takes_what_was_added(tmp_path: Path) -> None:
    follower = Follower(tmp_path)
    assert not follower.look()
    journal = Journal(tmp_path)
    for step in (1, 2, 3):
        journal.write(saved(step))
        assert follower.look()
        assert follower.events == events.read(tmp_path)
        assert not follower.look()
    journal.close()


def test_a_torn_line_waits_until_it_is_whole(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    for step in (1, 2):
        journal.write(saved(step))
    journal.close()
    path = tmp_path / events.FILE
    whole = path.read_bytes()
    path.write_bytes(whole[:-7])
    follower = Follower(tmp_path)
    assert follower.look()
    assert [event["step"] for event in follower.events] == [1]
    assert not follower.look()
    path.write_bytes(whole)
    assert follower.look()
    assert [event["step"] for event in follower.events] == [1, 2]


def test_a_damaged_line_is_named_by_its_number(tmp_path: Path) -> None:
    follower, journal = Follower(tmp_path), Journal(tmp_path)
    for step in (1, 2):
        journal.write(saved(step))
    follower.look()
    journal.write(saved(3))
    journal.close()
    path = tmp_path / events.FILE
    path.write_bytes(path.read_bytes().replace(b'"step": 3', b'"step": 4'))
    with pytest.raises(DamagedFile, match="line 3"):
        follower.look()


def test_what_a_resume_takes_back_is_taken_back(tmp_path: Path) -> None:
    follower, journal = Follower(tmp_path), Journal(tmp_path)
    for step in (2, 3, 5):
        journal.write(saved(step))
    follower.look()
    journal.write(started(resumed_from=2))
    follower.look()
    assert [event["step"] for event in follower.events] == [2, 2]
    assert follower.events == events.read(tmp_path)
    journal.close()
