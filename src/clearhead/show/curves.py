"""The charts of a run: loss, loss by position, learning rate, gradient norm and speed over the steps."""

from __future__ import annotations

import math

import numpy as np
from jaxtyping import Float

from clearhead.show.chart import Chart, Level, Line, draw
from clearhead.show.history import History, nats, number, smoothed
from clearhead.show.page import escape
from clearhead.show.readable import count, duration, percent, short_count

_MOST_DOTS = 60


def loss(history: History) -> str:
    """Return the section with the loss of training and validation, and what they are compared with."""
    steps, values, evaluations = history.steps, history.series("loss"), history.evaluations()
    if len(steps) < 2:
        return ""
    lines = [
        Line(x=steps, y=values, role="raw"),
        Line(x=steps, y=smoothed(steps, values), role="training", name="training"),
    ]
    if evaluations:
        x = np.array([float(event["step"]) for event in evaluations])
        y = np.array([nats(event) for event in evaluations])
        lines.append(Line(x=x, y=y, role="validation", name="validation", dots=len(x) <= _MOST_DOTS))
    chart = Chart(
        description=f"Loss in nats per token over {count(steps[-1])} steps, with what it is compared with.",
        lines=lines,
        levels=[Level(name, nats(each)) for name, each in history.references().items()],
        x_label="step, on a square-root scale",
        x_scale="root",
        x_note=lambda step: _time_at(history, step),
    )
    return _section("Loss", _loss_in_words(history), draw(chart))


def by_position(history: History) -> str:
    """Return the section with the newest validation loss at each position of the context."""
    values = history.measured("loss_by_position")
    y = np.array([number(each) for each in values.get("nats") or ()])
    if np.isfinite(y).sum() < 2:
        return ""
    x = _positions(values.get("positions"), len(y))
    smooth = smoothed(x, y)
    finite = smooth[np.isfinite(smooth)]
    levels = [Level(name, nats(each)) for name, each in history.references().items()]
    chart = Chart(
        description="Validation loss in nats per token by position in the context.",
        lines=[
            Line(x=x, y=y, role="raw validation"),
            Line(x=x, y=smooth, role="validation", name=f"position {count(x[-1])}"),
        ],
        levels=[level for level in levels if finite.min() <= level.y <= finite.max()],
        x_label="position in the context",
        x_scale="log",
        height=270.0,
    )
    said = (
        "Nats per token on validation; what context is worth. "
        f"From the first position to the last the loss changes by {finite[-1] - finite[0]:+.2f}."
    )
    return _section("Loss by position", said, draw(chart))


def dynamics(history: History) -> str:
    """Return three small charts side by side: learning rate, gradient norm, tokens per second."""
    steps, figures = history.steps, []
    for title, field in (
        ("Learning rate", "learning_rate"),
        ("Gradient norm", "grad_norm"),
        ("Tokens per second", "tokens_per_second"),
    ):
        values = history.series(field)
        if np.isfinite(values).sum() < 2:
            continue
        exact = field == "learning_rate"
        chart = Chart(
            description=f"{title} over the steps.",
            lines=[Line(x=steps, y=values, role="plain" if exact else "raw plain")]
            + ([] if exact else [Line(x=steps, y=smoothed(steps, values), role="plain")]),
            x_label="",
            y_format=short_count if field == "tokens_per_second" else "{:g}".format,
            from_zero=True,
            width=280.0,
            height=160.0,
            label_width=12.0,
        )
        figures.append(f"<figure><h3>{title}</h3>{draw(chart)}</figure>")
    return f'<section class="thirds">{"".join(figures)}</section>' if figures else ""


def _section(title: str, said: str, chart: str) -> str:
    return (
        f'<section><h2>{title}</h2><p class="said">{escape(said)}</p><figure class="scroll">{chart}</figure></section>'
    )


def _time_at(history: History, step: float) -> str:
    seconds = history.seconds_at(step)
    return "" if seconds is None or step == 0 else duration(seconds)


def _loss_in_words(history: History) -> str:
    """Say how the run began and when validation passed each baseline; the numbers are the chart's own."""
    said = ["Nats per token; lower is better."]
    preflight = history.measured("preflight")
    if sentence := preflight.get("sentence"):
        said.append(str(sentence))
    elif math.isfinite(initial := number(preflight.get("initial_loss"))):
        said.append(f"The first loss was {initial:.3f}.")
    passed = []
    for name, values in history.measured("baselines").items():
        below = (event for event in history.evaluations() if nats(event) < nats(values))
        if first := next(below, None):
            passed.append(f"{name} at step {count(first['step'])}")
    if passed:
        said.append(f"First evaluation below each baseline: {', '.join(passed)}.")
    if math.isfinite(share := number(history.measured("floor").get("beyond_window"))):
        said.append(
            "The floor is that of a reader who has seen the whole story so far; "
            f"for {percent(share)} of the targets the story began before the window."
        )
    return " ".join(said)


def _positions(given: object, length: int) -> Float[np.ndarray, " N"]:
    """Return the positions counted from 1, which a logarithmic axis needs; a run may give only how many they are."""
    if not isinstance(given, list):
        return np.arange(1.0, length + 1)
    positions = [number(each) for each in given]
    shift = max(0.0, 1.0 - min(positions))
    return np.array([position + shift for position in positions])
