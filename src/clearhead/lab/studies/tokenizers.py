"""Characters, bytes, pieces: which vocabulary is worth its size when each has the same time?"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from clearhead.core.config import merge
from clearhead.lab import losses
from clearhead.lab.compare import NORMAL, Estimate, over_seeds
from clearhead.lab.experiment import Arm, Experiment, Outcome
from clearhead.lab.study import Request, Study
from clearhead.show.chart import Chart, Level, Line
from clearhead.show.study import Answer
from clearhead.training.config import RunConfig
from clearhead.training.recipes import tiny

QUESTION = "Short sequences or small vocabularies: which tokenizer learns most in the same time?"
COLUMNS = ("tokenizer", "ids", "parameters", "bytes per token", "bits per byte", "±", "MB read", "seconds")
PAIR_SIZES = (512, 1024, 2048, 4096, 8192)
MEGABYTE = 1_000_000


def arm(name: str, **tokenizer: Any) -> Arm:
    """Return the arm of a tokenizer's settings."""
    return Arm(name=name, changes={"tokenizer": tokenizer})


PAIRS = (arm("byte", kind="byte"), *(arm(f"bpe {size}", kind="bpe", vocabulary_size=size) for size in PAIR_SIZES))
"""One family: no merges at all, then more and more of them."""

OTHERS = (
    arm("char", kind="char"),
    arm("unigram 1024", kind="sentencepiece", algorithm="unigram", vocabulary_size=1024),
)


def base() -> RunConfig:
    """Return the recipe that all arms share: the preset tiny."""
    recipe = tiny()
    return replace(recipe, train=replace(recipe.train, keep="newest", patience=0, sample_tokens=60))


def experiment(asked: Request) -> Experiment:
    """Return the experiment: each run takes the same part of the minutes, in as many steps as that allows."""
    arms, seeds = (*OTHERS, *PAIRS), tuple(range(1, (asked.seeds or 1) + 1))
    minutes = None if asked.minutes is None else asked.minutes / (len(arms) * len(seeds))
    recipe = merge(base(), {**asked.changes, "train.steps": asked.steps, "train.minutes": minutes})
    return Experiment(name="tokenizers", texts=asked.texts, base=recipe, arms=arms, seeds=seeds)


def answer(ran: Experiment, found: Sequence[Outcome]) -> Answer:
    """Set bits per byte against the length of the text in tokens."""
    by_arm = {arm.name: losses.of_arm(found, arm.name) for arm in ran.arms}
    bits = {name: bits_of(runs) for name, runs in by_arm.items()}
    return Answer(
        study="tokenizers",
        question=QUESTION,
        said=said(by_arm, bits),
        columns=COLUMNS,
        rows=tuple(row(runs, bits[name]) for name, runs in by_arm.items()),
        notes=notes(ran),
        chart=chart(by_arm, bits),
        samples=losses.samples(ran, found),
    )


def bits_of(runs: Sequence[Outcome]) -> Estimate:
    """Return an arm's bits per byte: over its seeds, or of one seed with the interval that its text leaves."""
    values = [math.nan if run.bits_per_byte is None else run.bits_per_byte for run in runs]
    if len(runs) > 1:
        return over_seeds(values)
    half = NORMAL * runs[0].standard_error * values[0] / (runs[0].nats_per_token or 1.0)
    return Estimate(values[0], math.nan, values[0] - half, values[0] + half, 1)


def bytes_per_token(run: Outcome) -> float:
    """Return the mean length of a training token."""
    split = run.run.data()["split"]
    return float(split["training_bytes"] / split["training_tokens"])


def row(runs: Sequence[Outcome], bits: Estimate) -> tuple[object, ...]:
    """Return one arm's cells under COLUMNS."""
    first, length = runs[0], bytes_per_token(runs[0])
    read = float(np.mean([run.tokens for run in runs])) * length / MEGABYTE
    seconds = float(np.mean([run.train_seconds for run in runs]))
    size = int(first.description["vocabulary_size"])
    return first.arm, size, first.parameters, length, bits.mean, bits.half_width, read, seconds


def said(by_arm: dict[str, list[Outcome]], bits: dict[str, Estimate]) -> tuple[str, ...]:
    """Say which tokenizer came out best, and what it leaves behind."""
    ranked = sorted((name for name in bits if math.isfinite(bits[name].mean)), key=lambda name: bits[name].mean)
    if not ranked:
        return ("No run came to its end.",)
    best, worst = ranked[0], ranked[-1]
    behind = [name for name in ranked[1:] if bits[name].low > bits[best].high]
    apart = f"its interval lies below those of {', '.join(behind)}" if behind else "no interval lies above its own"
    length = bytes_per_token(by_arm[best][0])
    return (
        f"{best} ended lowest, at {bits[best].mean:.3f} bits per byte with {length:.2f} bytes a token; {apart}.",
        f"{worst} ended highest, at {bits[worst].mean:.3f}.",
    )


def notes(ran: Experiment) -> tuple[str, ...]:
    """Say how the figures came about."""
    equal = "as many steps" if ran.base.train.steps is not None else "as much time"
    seeds, context = len(ran.seeds), ran.base.model.context_length
    spread = f"the mean over {seeds} seeds" if seeds > 1 else "what the validation text leaves, for one seed"
    return (
        f"Every run had {equal} and a context of {context} tokens, so with longer tokens it saw more text at once.",
        f"± is the 95 % interval: {spread}. MB read is text of the training part, in repeated passes counted again.",
    )


def chart(by_arm: dict[str, list[Outcome]], bits: dict[str, Estimate]) -> Chart:
    """Draw bits per byte over bytes per token: the family of byte pairs as a line, the others as dots."""
    names = [arm.name for arm in PAIRS]
    families = {"byte pairs": names, **{arm.name: [arm.name] for arm in OTHERS}}
    lines = [
        Line(
            x=np.array([bytes_per_token(by_arm[name][0]) for name in members]),
            y=np.array([bits[name].mean for name in members]),
            role=f"series-{index}",
            name=family,
            dots=True,
        )
        for index, (family, members) in enumerate(families.items())
    ]
    measured = next(iter(by_arm.values()))[0].measured("baselines") or {}
    levels = [Level(name, values["bits_per_byte"]) for name, values in measured.items() if name == "5-gram"]
    return Chart(
        description="Bits per byte of the validation text over the mean bytes per token, after equal time.",
        lines=lines,
        levels=levels,
        x_label="bytes per token",
        x_scale="log",
    )


STUDY = Study(name="tokenizers", question=QUESTION, seeds=1, minutes=16.0, experiment=experiment, answer=answer)
