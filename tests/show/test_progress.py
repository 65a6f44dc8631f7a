"""A training as it goes."""

from __future__ import annotations

import re
from collections.abc import Callable
from io import StringIO
from typing import Any

import pytest
from rich.console import Console

from clearhead.show.progress import TrainingProgress, sparkline

MakeRun = Callable[..., tuple[dict[str, Any], list[dict[str, Any]], dict[str, Any]]]


def _shown(events: list[dict[str, Any]], *, terminal: bool = False, quiet: bool = False) -> str:
    stream = StringIO()
    console = Console(file=stream, width=100, force_terminal=terminal, color_system="truecolor" if terminal else None)
    with TrainingProgress(console, quiet=quiet) as progress:
        for event in events:
            progress.show(event)
    return stream.getvalue()


def test_plain_lines_tell_evaluations_and_a_few_steps(make_run: MakeRun) -> None:
    lines = _shown(make_run(steps=100)[1]).splitlines()
    assert "baselines: unigram 3.347, bigram 2.485, 5-gram 1.761" in lines
    assert "warning: Some of it was seen. Try: clearhead eval" in lines
    assert sum(": loss " in line for line in lines) == 21
    assert sum(": validation " in line for line in lines) == 11
    assert lines[-2:] == [
        "step 100/100: validation 1.914 nats per token, 2.761 bits per byte on the whole text",
        "step 100/100: stopped after 52 s (budget)",
    ]
    assert "\x1b" not in "".join(lines)


def test_the_time_left_follows_the_speed_of_the_steps(make_run: MakeRun) -> None:
    said = _shown(make_run(steps=1000, until=200, reason=None)[1])
    assert "step 200/1,000: loss" in said
    assert "5,003 tokens/s, 6:40 left" in said  # 800 steps of half a second


def told_steps(steps: int, log_every: int, seconds_per_step: float) -> list[int]:
    """Return the steps of a run that get a plain line."""
    event = {"event": "stepped", "loss": 1.0, "learning_rate": 0.1, "grad_norm": 1.0, "tokens_per_second": 7.0}
    planned = {"event": "planned", "steps": steps, "step": 0, "seconds": 0.0}
    stepped = [event | {"step": at, "seconds": at * seconds_per_step} for at in range(log_every, steps + 1, log_every)]
    said = re.findall(r"step ([\d,]+)/.*: loss", _shown([planned, *stepped]))
    return [int(step.replace(",", "")) for step in said]


def test_the_first_step_is_told_also_where_few_are_logged() -> None:
    assert told_steps(12_345, 10, 0.001)[:3] == [10, 620, 1240]
    assert 20 <= len(told_steps(12_345, 10, 0.001)) <= 22


def test_slow_steps_are_told_after_ten_seconds_and_a_long_run_at_growing_distances() -> None:
    assert told_steps(1000, 1, 4.0)[:4] == [1, 4, 7, 10]
    late = [step for step in told_steps(100_000, 1, 4.0) if step > 50_000]
    assert 20 < len(late) < 60


def test_quiet_shows_warnings_alone(make_run: MakeRun) -> None:
    said = _shown(make_run()[1], quiet=True)
    assert said == "warning: Some of it was seen. Try: clearhead eval\n"
    assert _shown(make_run()[1], quiet=True, terminal=True).count("\n") == 1


def test_a_terminal_shows_one_live_panel(make_run: MakeRun) -> None:
    events = make_run(steps=100, until=60, reason=None)[1]
    said = _shown(events, terminal=True)
    final = said[said.rindex("step 60") :]
    assert final.startswith("step 60 of 100")
    assert "0:20 left" in final
    for part in ("validation ", "2.137", "5-gram 1.761", "5,003 tokens/s", "What step is <b>55</b> & why?"):
        assert part in final


def test_the_panel_is_not_redrawn_for_every_step(make_run: MakeRun) -> None:
    slow = [event for event in make_run(steps=100)[1] if event["event"] in {"planned", "stepped"}]
    fast = [event | {"seconds": event["seconds"] / 1000} for event in slow]
    assert _shown(fast, terminal=True).count("tokens/s") <= 4
    assert _shown(slow, terminal=True).count("tokens/s") >= 100


@pytest.mark.parametrize("terminal", [False, True])
def test_what_a_model_writes_cannot_steer_the_terminal(make_run: MakeRun, terminal: bool) -> None:
    events = make_run()[1]
    for event in events:
        if event["event"] in {"sampled", "warned"}:
            event |= {"text": "\x1b]0;title\x07[red]", "message": "\x1b]0;title\x07"}
    assert "\x1b]0" not in _shown(events, terminal=terminal)


def test_a_resumed_run_and_one_without_a_plan_can_be_shown() -> None:
    step = {"event": "stepped", "loss": None, "learning_rate": 0.1, "grad_norm": 1.0, "tokens_per_second": 7.0}
    events = [step | {"step": 1000 + at, "seconds": 500.0 + at, "tokens": 1} for at in range(3)]
    assert "step 1,000: loss nan" in _shown(events)
    assert "left" not in _shown(events, terminal=True)


def test_sparkline_spans_its_values() -> None:
    assert sparkline([3.0, 2.0, 1.0, float("nan")]) == "█▅▁ "
    assert sparkline([2.0, 2.0]) == "▁▁"
    assert sparkline([]) == ""
