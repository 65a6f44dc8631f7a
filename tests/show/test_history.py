"""What the events say."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from clearhead.show.history import History, smoothed


def _evaluated(step: int, nats: float | None, *, sampled: bool = True, split: str = "validation") -> dict[str, object]:
    return {"event": "evaluated", "step": step, "split": split, "nats_per_token": nats, "sampled": sampled}


def test_the_whole_rule_stands_for_a_step_before_a_sampled_evaluation() -> None:
    events = [
        _evaluated(5, 2.0),
        _evaluated(7, 1.5),
        _evaluated(7, 1.6, sampled=False),
        _evaluated(7, 1.1, split="train"),
    ]
    history = History(events)
    assert [event["nats_per_token"] for event in history.evaluations()] == [2.0, 1.6]
    assert history.result()["nats_per_token"] == 1.6
    assert history.result("train")["nats_per_token"] == 1.1


def test_the_lower_of_raw_and_averaged_weights_counts_and_null_does_not() -> None:
    history = History([_evaluated(5, 2.0), _evaluated(5, 1.9), _evaluated(7, None)])
    assert [event["nats_per_token"] for event in history.evaluations()] == [1.9]
    assert history.best()["step"] == 5


def test_a_run_that_started_again_has_not_ended() -> None:
    stopped = {"event": "stopped", "step": 3, "reason": "signal"}
    assert History([stopped]).ending["reason"] == "signal"
    assert History([stopped, {"event": "started", "step": 3}]).ending == {}
    assert History([]).ending == {}


def test_series_and_times(make_run: Callable[..., tuple[object, list[dict[str, object]], object]]) -> None:
    _, events, _ = make_run(steps=13)
    events.append({"event": "stepped", "step": 14, "seconds": 9.0, "loss": None})
    history = History(events)
    assert history.steps.tolist() == list(range(1, 15))
    assert math.isnan(history.series("loss")[-1])
    assert history.seconds_at(4.5) == 2.0 + 0.5 * 4.5
    assert history.seconds_at(99) is None
    assert history.newest("steps") == 13
    assert list(history.references()) == ["even guessing", "unigram", "bigram", "5-gram", "floor"]


@given(st.lists(st.one_of(st.floats(-5, 5), st.just(math.nan)), min_size=1, max_size=60))
@settings(max_examples=100, deadline=None)
def test_smoothing_equals_the_mean_written_out(values: list[float]) -> None:
    steps, given_values = np.arange(1.0, len(values) + 1), np.array(values)
    for step, mean in zip(steps, smoothed(steps, given_values), strict=True):
        near = given_values[(steps >= 0.94 * step) & (steps <= 1.06 * step)]
        near = near[np.isfinite(near)]
        assert (math.isnan(mean) and len(near) == 0) or math.isclose(mean, near.mean(), abs_tol=1e-9)
