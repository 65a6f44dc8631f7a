"""Answers by the loss: a table of arms with intervals, their curves, and what each writes."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from clearhead.lab.compare import Estimate, over_seeds
from clearhead.lab.experiment import Experiment, Outcome, require_equal_tokens
from clearhead.show.chart import Chart, Level, Line
from clearhead.show.readable import count
from clearhead.show.study import Sample

Z = 1.96
COLUMNS = ("arm", "parameters", "nats per token", "±", "bits per byte", "seconds")


def of_arm(found: Sequence[Outcome], name: str) -> list[Outcome]:
    """Return the runs of one arm, by seed."""
    return sorted((outcome for outcome in found if outcome.arm == name), key=lambda outcome: outcome.seed)


def loss_of(runs: Sequence[Outcome]) -> Estimate:
    """Return an arm's loss: over its seeds, or of one seed with the interval that its validation text leaves."""
    losses = [run.nats_per_token for run in runs]
    if len(runs) > 1:
        return over_seeds(losses)
    half = Z * runs[0].standard_error
    return Estimate(losses[0], math.nan, losses[0] - half, losses[0] + half, 1)


def loss_row(runs: Sequence[Outcome]) -> tuple[object, ...]:
    """Return one arm's cells under COLUMNS."""
    loss = loss_of(runs)
    bits = [run.bits_per_byte for run in runs if run.bits_per_byte is not None]
    seconds = float(np.mean([run.train_seconds for run in runs]))
    return (
        runs[0].arm,
        runs[0].parameters,
        loss.mean,
        loss.half_width,
        float(np.mean(bits)) if bits else None,
        seconds,
    )


def baseline_rows(found: Sequence[Outcome], num_columns: int) -> list[tuple[object, ...]]:
    """Return rows for the n-gram models, which were counted and not trained."""
    rows = []
    for name, values in (found[0].measured("baselines") or {}).items():
        row: list[object] = [name, None, values["nats_per_token"], None, values["bits_per_byte"]]
        rows.append(tuple(row + [None] * (num_columns - len(row))))
    return rows


def curves(experiment: Experiment, found: Sequence[Outcome], description: str) -> Chart:
    """Return the validation losses of all arms over the steps, the mean of their seeds, beside the n-gram models."""
    lines = []
    for index, arm in enumerate(experiment.arms):
        each = [run.curve for run in of_arm(found, arm.name)]
        length = min(len(x) for x, _ in each)
        y = np.mean([y[:length] for _, y in each], axis=0)
        lines.append(Line(x=each[0][0][:length], y=y, role=f"series-{index % 10}", name=arm.name))
    baselines = found[0].measured("baselines") or {}
    levels = [Level(name, values["nats_per_token"]) for name, values in baselines.items()]
    return Chart(
        description=description,
        lines=lines,
        levels=levels,
        x_label="step, on a square-root scale",
        x_scale="root",
        height=440.0,
        label_width=200.0,
    )


def samples(experiment: Experiment, found: Sequence[Outcome]) -> list[Sample]:
    """Return what each arm's first seed wrote last."""
    firsts = [of_arm(found, arm.name)[0] for arm in experiment.arms]
    return [Sample(arm=run.arm, figure=f"{run.nats_per_token:.3f} nats", text=run.sample) for run in firsts]


def how(experiment: Experiment, found: Sequence[Outcome]) -> tuple[str, ...]:
    """Say how the figures came about; checks that all runs were trained on equally many tokens."""
    tokens, seeds = require_equal_tokens(found), len(experiment.seeds)
    spread = (
        f"± is the 95 % interval of the mean over {seeds} seeds (Student's t)."
        if seeds > 1
        else "One seed: ± is the 95 % interval that the validation text leaves; other seeds were not tried."
    )
    return (
        f"Every run was trained on {count(tokens)} tokens and scored on the whole validation text after its last step.",
        spread,
    )
