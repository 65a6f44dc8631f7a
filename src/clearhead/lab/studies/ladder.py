"""From counting pairs to a GPT: what does each part bring?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from clearhead.core.config import merge
from clearhead.lab import losses
from clearhead.lab.experiment import Arm, Experiment, Outcome
from clearhead.lab.study import Request, Study
from clearhead.show.study import Answer
from clearhead.training.config import RunConfig
from clearhead.training.recipes import tiny

QUESTION = "From a table of pairs to a GPT: what does each part bring?"


def base() -> RunConfig:
    """Return the recipe that all rungs share: the preset tiny, with shorter samples."""
    recipe = tiny()
    return replace(recipe, train=replace(recipe.train, keep="newest", patience=0, sample_tokens=160))


RUNGS = (
    Arm(name="bigram", changes={"model.kind": "bigram", "model.context_length": 64}, about="a table of pairs"),
    Arm(name="GPT", about="the preset tiny"),
)


def experiment(asked: Request) -> Experiment:
    """Return the ladder's experiment."""
    recipe = merge(base(), {**asked.changes, "train.steps": asked.steps})
    seeds = tuple(range(1, (asked.seeds or 1) + 1))
    return Experiment(name="ladder", texts=asked.texts, base=recipe, arms=RUNGS, seeds=seeds, minutes=asked.minutes)


def answer(ran: Experiment, found: Sequence[Outcome]) -> Answer:
    """Read the ladder off its runs."""
    rows = [losses.loss_row(losses.of_arm(found, arm.name)) for arm in ran.arms]
    return Answer(
        study="ladder",
        question=QUESTION,
        said=(),
        columns=losses.COLUMNS,
        rows=(*rows, *losses.baseline_rows(found, len(losses.COLUMNS))),
        notes=losses.how(ran, found),
        chart=losses.curves(ran, found, "Validation loss in nats per token over the steps, beside n-gram models."),
        samples=losses.samples(ran, found),
    )


STUDY = Study(name="ladder", question=QUESTION, seeds=3, minutes=10.0, experiment=experiment, answer=answer)
