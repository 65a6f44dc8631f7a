"""The journal of a run: sealed lines, torn ends, and what a resume takes back."""

import json
import math
from pathlib import Path

import pytest

from clearhead.core import events
from clearhead.core.errors import DamagedFile, UserError
from clearhead.core.events import Journal, Sampled, Started, Stepped, Stopped


def stepped(step: int, loss: float = 1.5) -> Stepped:
    return Stepped(
        step=step,
        tokens=7 * step,
        seconds=0.5 * step,
        loss=loss,
        learning_rate=0.1,
        grad_norm=1.0,
        tokens_per_second=9.0,
    )


def started(resumed_from: int | None) -> Started:
    return Started(
        step=resumed_from or 0,
        tokens=0,
        seconds=0.0,
        resumed_from=resumed_from,
        config_sha256="",
        versions={},
        exactness="exact",
    )


def write(folder: Path, *made: events.Event) -> None:
    journal = Journal(folder)
    for event in made:
        journal.write(event)
    journal.close()


def test_events_come_back(tmp_path: Path) -> None:
    text = 'a "quoted"\n\u2028 line, 😀 and \x00'
    write(tmp_path, started(None), stepped(1), Sampled(step=1, tokens=7, seconds=0.5, prompt="", text=text, seed=3))
    lines = events.read(tmp_path)
    assert [line["event"] for line in lines] == ["started", "stepped", "sampled"]
    assert lines[1]["loss"] == 1.5
    assert lines[2]["text"] == text
    assert all("time" in line and "crc" not in line for line in lines)


def test_a_number_that_json_lacks_becomes_null(tmp_path: Path) -> None:
    write(tmp_path, stepped(1, math.nan), stepped(2, math.inf))
    raw = (tmp_path / events.FILE).read_text()
    assert "NaN" not in raw
    assert [json.loads(line)["loss"] for line in raw.splitlines()] == [None, None]


def test_the_chain_goes_on_after_reopening(tmp_path: Path) -> None:
    write(tmp_path, stepped(1), stepped(2))
    write(tmp_path, stepped(3))
    assert [line["step"] for line in events.read(tmp_path)] == [1, 2, 3]


@pytest.mark.parametrize("cut", [1, 2, 17, 60])
def test_a_torn_last_line_is_ignored_and_cut_off(tmp_path: Path, cut: int) -> None:
    write(tmp_path, stepped(1), stepped(2))
    path = tmp_path / events.FILE
    path.write_bytes(path.read_bytes()[:-cut])
    assert [line["step"] for line in events.read(tmp_path)] == [1]
    write(tmp_path, stepped(2), stepped(3))
    assert [line["step"] for line in events.read(tmp_path)] == [1, 2, 3]


@pytest.mark.parametrize("change", [(b"1.5", b"1.4"), (b'"step": 1', b'"step": 7')])
def test_a_changed_line_is_refused(tmp_path: Path, change: tuple[bytes, bytes]) -> None:
    write(tmp_path, stepped(1), stepped(2), stepped(3))
    path = tmp_path / events.FILE
    path.write_bytes(path.read_bytes().replace(*change, 1))
    with pytest.raises(DamagedFile, match="line 1"):
        events.read(tmp_path)


def test_a_removed_or_swapped_line_is_refused(tmp_path: Path) -> None:
    write(tmp_path, stepped(1), stepped(2), stepped(3), stepped(4))
    path = tmp_path / events.FILE
    first, second, third, fourth = path.read_bytes().splitlines(keepends=True)
    for order in ([first, third, fourth], [first, third, second, fourth]):
        path.write_bytes(b"".join(order))
        with pytest.raises(DamagedFile, match="line 2"):
            events.read(tmp_path)


def test_a_resume_takes_back_what_was_not_saved(tmp_path: Path) -> None:
    write(tmp_path, started(None), stepped(1), stepped(2), stepped(3), started(1), stepped(2, 9.0))
    lines = events.read(tmp_path)
    assert [(line["event"], line["step"]) for line in lines] == [
        ("started", 0), ("stepped", 1), ("started", 1), ("stepped", 2),
    ]  # fmt: skip
    assert lines[-1]["loss"] == 9.0


def test_recording_passes_events_on(tmp_path: Path) -> None:
    made = [stepped(1), Stopped(step=1, tokens=7, seconds=1.0, reason="budget", message="")]
    assert list(events.record(tmp_path, made)) == made
    assert len(events.read(tmp_path)) == 2


def test_no_journal_is_an_empty_one(tmp_path: Path) -> None:
    assert events.read(tmp_path) == []


def test_lines_lost_after_the_end_are_missed(tmp_path: Path) -> None:
    write(tmp_path, stepped(1), Stopped(step=1, tokens=7, seconds=1.0, reason="budget", message=""))
    events.verify(tmp_path)
    whole = (tmp_path / events.FILE).read_bytes()
    for kept in (0, whole.index(b"\n") + 1, len(whole) - 1):
        (tmp_path / events.FILE).write_bytes(whole[:kept])
        with pytest.raises(DamagedFile, match=r"events\.jsonl"):
            events.verify(tmp_path)
    write(tmp_path, stepped(2))
    assert not (tmp_path / events.SEAL).exists()
    events.verify(tmp_path)


def test_a_line_that_finds_no_room_leaves_the_file_as_it_was(tmp_path: Path) -> None:
    resource = pytest.importorskip("resource")
    journal = Journal(tmp_path)
    journal.write(stepped(1))
    before = (tmp_path / events.FILE).read_bytes()
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) + 20, limit[1]))
    try:
        with pytest.raises(UserError, match=r"Cannot write .*events\.jsonl: .*No space|too large"):
            journal.write(stepped(2))
        assert (tmp_path / events.FILE).read_bytes() == before
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
    journal.write(stepped(2))
    journal.close()
    assert [line["step"] for line in events.read(tmp_path)] == [1, 2]


def test_a_name_that_is_not_utf8_is_told(tmp_path: Path) -> None:
    write(tmp_path, Sampled(step=1, tokens=7, seconds=0.5, prompt="", text="\udce9", seed=3), stepped(2))
    assert events.read(tmp_path)[0]["text"] == "\udce9"
