"""What a run's events say, as series and last values: a live, a finished and a crashed run look the same."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float

Event = Mapping[str, Any]


class History:
    """The events of one run, in the order of their steps.

    Args:
        events: what `core.events.read` returns; fields that a run does not have are simply absent.
    """

    def __init__(self, events: Sequence[Event]) -> None:
        self.events = events
        self._stepped = self.of("stepped")

    def of(self, kind: str) -> list[Event]:
        """Return the events of one kind."""
        return [event for event in self.events if event.get("event") == kind]

    @property
    def ending(self) -> Event:
        """The `stopped` event, if nothing started again after it; else an empty mapping."""
        bounds = (event for event in reversed(self.events) if event.get("event") in {"started", "stopped"})
        latest = next(bounds, {})
        return latest if latest.get("event") == "stopped" else {}

    def measured(self, name: str) -> Mapping[str, Any]:
        """Return the newest values measured under this name; empty if there are none."""
        found = [event for event in self.of("measured") if event.get("name") == name]
        values = found[-1].get("values") if found else None
        return values if isinstance(values, Mapping) else {}

    def newest(self, field: str) -> Any:
        """Return a field's value in the newest event that has it, else None."""
        return next((event[field] for event in reversed(self.events) if event.get(field) is not None), None)

    @property
    def steps(self) -> Float[np.ndarray, " N"]:
        """The step of each `stepped` event."""
        return np.array([float(event["step"]) for event in self._stepped])

    def series(self, field: str) -> Float[np.ndarray, " N"]:
        """Return a field of the `stepped` events, beside `steps`; NaN where it was not finite or not given."""
        return np.array([number(event.get(field)) for event in self._stepped])

    def seconds_at(self, step: int | float) -> float | None:
        """Return the run's seconds at a step, between the events around it; None outside what was recorded."""
        known = {float(event["step"]): float(event["seconds"]) for event in self.events if "seconds" in event}
        steps = sorted(known)
        if not steps or not steps[0] <= step <= steps[-1]:
            return None
        return float(np.interp(step, steps, [known[each] for each in steps]))

    def evaluations(self, split: str = "validation") -> list[Event]:
        """Return one evaluation a step: the whole rule before a sampled one, then the lower loss.

        The lower loss is what decides between raw and averaged weights elsewhere too.
        """
        chosen: dict[int, Event] = {}
        for event in self.of("evaluated"):
            if event.get("split") == split and math.isfinite(nats(event)):
                step = int(event["step"])
                chosen[step] = min(chosen.get(step, event), event, key=_preference)
        return [chosen[step] for step in sorted(chosen)]

    def result(self, split: str = "validation") -> Event:
        """Return the evaluation that stands for the run: the last by the whole rule, else the last; or empty."""
        evaluations = self.evaluations(split)
        whole = [event for event in evaluations if not event.get("sampled")]
        return (whole or evaluations or [{}])[-1]

    def best(self) -> Event:
        """Return the validation evaluation with the lowest loss; empty if there is none."""
        return min(self.evaluations(), key=nats, default={})

    def references(self) -> dict[str, Mapping[str, Any]]:
        """Return what a loss is compared with, where known: even guessing, the n-grams, the text's own floor."""
        even = {"nats_per_token": self.measured("preflight").get("log_vocabulary")}
        known = {"even guessing": even, **self.measured("baselines"), "floor": self.measured("floor")}
        return {name: values for name, values in known.items() if math.isfinite(nats(values))}


def number(value: object) -> float:
    """Return a float; NaN for what is not a number, such as the null of a loss that overflowed."""
    return float(value) if isinstance(value, int | float) else math.nan


def nats(values: object) -> float:
    """Return the nats per token of an evaluation or a baseline; NaN where it has none."""
    return number(values.get("nats_per_token")) if isinstance(values, Mapping) else math.nan


def smoothed(steps: Float[np.ndarray, " N"], values: Float[np.ndarray, " N"]) -> Float[np.ndarray, " N"]:
    """Return a running mean whose window grows with the step: the points within 6 % of it on either side.

    A loss falls fast at first and slowly later, so a window of fixed length either hides the start or leaves the
    end noisy. Values that are not finite take no part.
    """
    finite = np.isfinite(values)
    sums = np.concatenate([[0.0], np.cumsum(np.where(finite, values, 0.0))])
    counts = np.concatenate([[0], np.cumsum(finite)])
    first = np.searchsorted(steps, 0.94 * steps, side="left")
    last = np.searchsorted(steps, 1.06 * steps, side="right")
    inside = counts[last] - counts[first]
    total = sums[last] - sums[first]
    mean = np.full(len(values), np.nan)
    np.divide(total, inside, out=mean, where=inside > 0)
    return mean


def _preference(event: Event) -> tuple[bool, float]:
    return bool(event.get("sampled")), nats(event)
