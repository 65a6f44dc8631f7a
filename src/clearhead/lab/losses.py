"""Studies whose answer is a loss: a table of arms with intervals and differences, their curves, what each writes."""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Literal

import numpy as np
from jaxtyping import Float64

from clearhead.core import run as runs
from clearhead.core.config import merge
from clearhead.core.files import write_atomically
from clearhead.core.run import Selection
from clearhead.generation.score import text_nats
from clearhead.lab.compare import NORMAL, Estimate, over_seeds, over_text
from clearhead.lab.experiment import Arm, Experiment, Outcome, require_equal_tokens
from clearhead.lab.study import Request, Study
from clearhead.model.config import GptConfig
from clearhead.show.chart import Chart, Level, Line
from clearhead.show.readable import count
from clearhead.show.study import Answer, Sample
from clearhead.store.load import load_selection
from clearhead.training.config import RunConfig
from clearhead.training.recipes import tiny

Reference = Literal["first", "previous"]
"""What an arm's loss is compared with: the first arm's, or that of the arm before it."""

Measure = Callable[[Outcome], Mapping[str, float | None]]
"""Further figures of a run, each a column of the table; None where there is none."""

Z = NORMAL
NATS_FILE = "validation-nats.npy"


def recipe() -> RunConfig:
    """Return the recipe that studies begin from: the preset tiny, trained to the end, with short samples."""
    preset = tiny()
    return replace(preset, train=replace(preset.train, keep="newest", patience=0, sample_tokens=160))


def plain() -> RunConfig:
    """Return the same without QK-norm, short convolution, embedding norm and soft-cap.

    Each of them does a part of what studies take out, and would hide what it is for.
    """
    shared = recipe()
    assert isinstance(shared.model, GptConfig)
    bare = replace(shared.model, qk_norm=False, convolution=1, embedding_norm=False, logit_softcap=None)
    return replace(shared, model=bare)


def nothing_more(_outcome: Outcome) -> dict[str, float | None]:
    """Measure nothing beside the loss."""
    return {}


def loss_study(
    *,
    name: str,
    question: str,
    arms: Sequence[Arm],
    base: Callable[[], RunConfig] = recipe,
    reference: Reference = "first",
    measure: Measure = nothing_more,
    minutes: float = 10.0,
) -> Study:
    """Return a study that trains its arms on equally many tokens and compares their losses.

    Args:
        base: the settings that all arms share.
    """
    return Study(
        name=name,
        question=question,
        seeds=3,
        minutes=minutes,
        experiment=partial(loss_experiment, name, tuple(arms), base),
        answer=partial(loss_answer, question, reference, measure),
    )


def loss_experiment(name: str, arms: tuple[Arm, ...], base: Callable[[], RunConfig], asked: Request) -> Experiment:
    """Return the experiment that somebody asks for."""
    shared = merge(merge(base(), asked.changes), {"train.steps": asked.steps})
    context = shared.model.context_length
    return Experiment(
        name=name,
        texts=asked.texts,
        base=shared,
        arms=tuple(with_context(arm, context) for arm in arms),
        seeds=tuple(range(1, (asked.seeds or 1) + 1)),
        minutes=asked.minutes,
    )


def with_context(arm: Arm, context_length: int) -> Arm:
    """Return an arm that reads windows of the recipe's length also where it is another kind of model."""
    if "model.kind" not in arm.changes:
        return arm
    return replace(arm, changes={"model.context_length": context_length, **arm.changes})


def loss_answer(
    question: str, reference: Reference, measure: Measure, ran: Experiment, found: Sequence[Outcome]
) -> Answer:
    """Read the losses off an experiment's runs."""
    by_arm = [of_arm(found, arm.name) for arm in ran.arms]
    differences = [None, *(against(others, own) for others, own in compared(by_arm, reference))]
    more = [further(own, measure) for own in by_arm]
    rows = [
        (*loss_row(own, difference), *figures.values())
        for own, difference, figures in zip(by_arm, differences, more, strict=True)
    ]
    return Answer(
        study=ran.name,
        question=question,
        said=tuple(findings(ran, by_arm, differences, reference)),
        columns=(*columns(ran, reference), *more[0]),
        rows=(*rows, *baseline_rows(found, len(rows[0]))),
        notes=how(ran, found),
        chart=curves(ran, found),
        samples=samples(ran, found),
    )


def of_arm(found: Sequence[Outcome], name: str) -> list[Outcome]:
    """Return the runs of one arm, by seed."""
    return sorted((outcome for outcome in found if outcome.arm == name), key=lambda outcome: outcome.seed)


def compared(by_arm: Sequence[list[Outcome]], reference: Reference) -> list[tuple[list[Outcome], list[Outcome]]]:
    """Return each arm but the first behind what it is compared with."""
    before = [by_arm[0]] * (len(by_arm) - 1) if reference == "first" else by_arm[:-1]
    return list(zip(before, by_arm[1:], strict=True))


def loss_of(own: Sequence[Outcome]) -> Estimate:
    """Return an arm's loss: over its seeds, or of one seed with the interval that its validation text leaves."""
    losses = [run.nats_per_token for run in own]
    if len(own) > 1:
        return over_seeds(losses)
    half = Z * own[0].standard_error
    return Estimate(losses[0], math.nan, losses[0] - half, losses[0] + half, 1)


def against(others: Sequence[Outcome], own: Sequence[Outcome]) -> Estimate:
    """Return how much more an arm costs than another: seed by seed, or for one seed token by token."""
    if len(own) > 1:
        pairs = zip(others, own, strict=True)
        return over_seeds([ours.nats_per_token - theirs.nats_per_token for theirs, ours in pairs])
    if not math.isfinite(own[0].nats_per_token - others[0].nats_per_token):
        return Estimate(math.nan, math.nan, math.nan, math.nan, 1)
    return over_text(validation_nats(own[0]) - validation_nats(others[0]))


def validation_nats(outcome: Outcome) -> Float64[np.ndarray, " N"]:
    """Return what each token of the validation text costs after the last step; computed once and kept with the run."""
    file = outcome.run.path / NATS_FILE
    if file.exists():
        kept: Float64[np.ndarray, " N"] = np.load(file)
        return kept
    loaded = load_selection(Selection(outcome.run, "last"))
    ids = np.fromfile(outcome.run.path / runs.VALIDATION_FILE, dtype="<i4").astype(np.int32)
    nats = text_nats(loaded.model, ids)
    stream = io.BytesIO()
    np.save(stream, nats)
    write_atomically(file, stream.getvalue())
    return nats


def columns(ran: Experiment, reference: Reference) -> tuple[str, ...]:
    """Return the names of the table's columns."""
    other = ran.arms[0].name if reference == "first" else "the row above"
    return ("", "parameters", "nats per token", "±", "bits per byte", f"against {other}", "± ", "seconds")


def loss_row(own: Sequence[Outcome], difference: Estimate | None) -> tuple[object, ...]:
    """Return one arm's row of the table."""
    loss = loss_of(own)
    return (
        own[0].arm,
        own[0].parameters,
        loss.mean,
        loss.half_width,
        mean_or_none([run.bits_per_byte for run in own]),
        None if difference is None else difference.mean,
        None if difference is None else difference.half_width,
        float(np.mean([run.train_seconds for run in own])),
    )


def further(own: Sequence[Outcome], measure: Measure) -> dict[str, float | None]:
    """Return an arm's further figures: the mean over its seeds, None where a seed has none."""
    figures = [measure(run) for run in own]
    return {name: mean_or_none([figure[name] for figure in figures]) for name in figures[0]}


def mean_or_none(values: Sequence[float | None]) -> float | None:
    """Return the mean of the values, or None where one is missing."""
    there = [value for value in values if value is not None]
    return float(np.mean(there)) if len(there) == len(values) else None


def baseline_rows(found: Sequence[Outcome], num_columns: int) -> list[tuple[object, ...]]:
    """Return rows for the n-gram models, which were counted and not trained."""
    baselines = found[0].measured("baselines") or {}
    nothing = (None,) * (num_columns - 5)
    return [
        (f"{name} counts", None, values["nats_per_token"], None, values["bits_per_byte"], *nothing)
        for name, values in baselines.items()
    ]


def findings(
    ran: Experiment, by_arm: Sequence[list[Outcome]], differences: Sequence[Estimate | None], reference: Reference
) -> Iterator[str]:
    """Say in a sentence for each arm whether it differs from what it is compared with."""
    for index, (own, difference) in enumerate(zip(by_arm, differences, strict=True)):
        if difference is None:
            continue
        other = ran.arms[0 if reference == "first" else index - 1].name
        if not math.isfinite(difference.mean):
            yield f"{own[0].arm}: training broke off."
        elif difference.low <= 0.0 <= difference.high:
            yield f"{own[0].arm}: no clear difference from {other} ({difference.mean:+.3f})."
        else:
            word = "more" if difference.mean > 0 else "less"
            yield f"{own[0].arm}: {abs(difference.mean):.3f} nats {word} than {other}."


def curves(ran: Experiment, found: Sequence[Outcome]) -> Chart:
    """Return the validation losses of all arms over the steps, the mean of their seeds, beside the n-gram models."""
    lines = []
    for index, arm in enumerate(ran.arms):
        each = [run.curve for run in of_arm(found, arm.name)]
        length = min(len(steps) for steps, _ in each)
        if not length:
            continue  # a run that broke off before its first evaluation
        mean = np.mean([losses[:length] for _, losses in each], axis=0)
        lines.append(Line(x=each[0][0][:length], y=mean, role=f"series-{index % 10}", name=arm.name))
    baselines = found[0].measured("baselines") or {}
    return Chart(
        description="Validation loss in nats per token, the mean of the seeds; lower is better.",
        lines=lines,
        levels=[Level(f"{name} counts", values["nats_per_token"]) for name, values in baselines.items()],
        x_label="step, on a square-root scale",
        x_scale="root",
        height=460.0,
        label_width=200.0,
    )


def samples(ran: Experiment, found: Sequence[Outcome]) -> list[Sample]:
    """Return what each arm's first seed wrote last."""
    firsts = [of_arm(found, arm.name)[0] for arm in ran.arms]
    return [
        Sample(arm=run.arm, about=ran.arm(run.arm).about, figure=f"{run.nats_per_token:.3f} nats", text=run.sample)
        for run in firsts
    ]


def how(ran: Experiment, found: Sequence[Outcome]) -> tuple[str, ...]:
    """Say how the figures came about; checks that all runs were trained on equally many tokens."""
    tokens, seeds = require_equal_tokens(found), len(ran.seeds)
    if seeds > 1:
        spread = (
            f"± is the 95 % interval of a mean over {seeds} seeds (Student's t); differences are taken seed by seed."
        )
    else:
        spread = (
            "One seed: ± is the 95 % interval that the validation text leaves (differences by a bootstrap over its "
            "stretches). What another seed would give is not known."
        )
    scored = f"Every run was trained on {count(tokens)} tokens and scored on the whole validation text at its end."
    return scored, spread
