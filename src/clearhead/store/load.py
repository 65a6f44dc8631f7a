"""From the name of a run to its model, tokenizer and config."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import nn

from clearhead.core.config import build, sections
from clearhead.core.errors import DamagedFile, UserError
from clearhead.core.run import Run, Selection, part, select
from clearhead.model.build import build_model
from clearhead.model.family_config import AnyModelConfig
from clearhead.store import checkpoint
from clearhead.text.shards import ids_of
from clearhead.text.tokenizer import Tokenizer, load_tokenizer


@dataclass(frozen=True, slots=True)
class Loaded:
    """A trained model with what it needs to be used.

    Args:
        description: the run's run.json.
        notices: sentences about damaged steps that were passed over.
    """

    run: Run
    step: int
    model: nn.Module
    tokenizer: Tokenizer
    description: dict[str, Any]
    notices: tuple[str, ...]


def load(text: str, *, model: nn.Module | None = None) -> Loaded:
    """Open the run that `text` names (RUN, RUN@STEP, RUN@best, RUN@last); without a step, its best one.

    Args:
        model: the model to fill, for a run that trained a module of the user's own.

    Raises:
        UserError: no such run or step. DamagedFile: its files are not what was written.
    """
    return load_selection(select(text, "best"), model=model)


def load_selection(selection: Selection, *, model: nn.Module | None = None) -> Loaded:
    """Open a run at a step."""
    run = selection.run
    run.verify()
    description = run.describe()
    tokenizer = tokenizer_of(run)
    step, weights, notices = find_step(selection)
    stored = checkpoint.load(run, step)
    if model is None:
        model = build_model(model_config(description), tokenizer.vocabulary_size)
    tensors = dict(stored.model)
    if weights == "average" and stored.average is not None:
        tensors.update(stored.average)
    checkpoint.load_model_tensors(model, tensors)
    return Loaded(run, step, model.eval(), tokenizer, description, notices)


VERBS = {"lm": "sample", "classify": "classify", "translate": "translate"}
"""What a run of each task is used with."""


def require_task(loaded: Loaded, task: str) -> None:
    """Refuse a run that was trained for something else.

    Raises:
        UserError: names the verb for what the run was trained for.
    """
    trained = loaded.description.get("task", "lm")
    if trained != task:
        name = loaded.run.name
        raise UserError(
            f"{name} was trained with --task {trained}, so clearhead {VERBS[task]} has no use for it; "
            f"clearhead {VERBS[trained]} {name} has."
        )


def tokenizer_of(run: Run) -> Tokenizer:
    """Return a run's tokenizer, which knows what ids the run's training text does not give."""
    tokenizer = load_tokenizer(run.tokenizer)
    # Runs of before this was noted have no such list.
    tokenizer.unseen = ids_of(run.data().get("unseen_ids", []), tokenizer.vocabulary_size)
    return tokenizer


def find_step(selection: Selection) -> tuple[int, str, tuple[str, ...]]:
    """Return the step that a selection means, which of its weights count, and notices."""
    if selection.step == "best":
        step, weights, troubles = checkpoint.best(selection.run)
        return step, weights, checkpoint.passed_over(troubles, step)
    if selection.step == "last":
        step, troubles = checkpoint.newest(selection.run, resumable=False)
        return step, "average", checkpoint.passed_over(troubles, step)
    return int(selection.step), "average", ()


def model_config(description: dict[str, Any]) -> AnyModelConfig:
    """Return the model's config out of a run's run.json."""
    kinds = sections(AnyModelConfig)
    values = part(description, "config", "model")
    kind = part(values, "kind", kind=str)
    if kind not in kinds:
        raise DamagedFile(f'The run holds a model of kind "{kind}", which this version does not know.')
    config: AnyModelConfig = build(kinds[kind], values, where="model")  # type: ignore[assignment]
    return config
