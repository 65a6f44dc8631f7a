"""Train a GPT on your own text, and write with it. Nothing is imported until it is used."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from clearhead import look

if TYPE_CHECKING:
    from torch import nn

    from clearhead.core.run import Run
    from clearhead.generation.classifier import Classifier
    from clearhead.generation.writer import Writer
    from clearhead.store.load import Loaded

__all__ = ["load", "load_classifier", "look", "train"]


def train(
    text: str | Path | list[str | Path] | None = None,
    *,
    minutes: float | None = None,
    preset: str | None = None,
    run: str | Path | None = None,
    **fields: Any,
) -> Run:
    """Train a model on texts (without one, on the built-in tales) and return its run.

    Torch stays as it was set up for the run: its number of threads, and on the CPU deterministic operations alone.

    Args:
        text: one path or several: files, folders, globs.
        minutes: how long to train (2); without a preset, it also decides what is trained: `clearhead plan` tells.
        run: the new run's folder; without one, a fresh name under ./runs.
        fields: any settings by their dotted names with `__` for the dot: `train__steps=250`, `model__width=128`.

    Raises:
        clearhead.core.errors.UserError: something in the call has to be mended; the message says what.
    """
    from clearhead.core.errors import UserError
    from clearhead.show import report
    from clearhead.training.config import override, setting_keys
    from clearhead.training.fit import train_run
    from clearhead.training.plan import before_plan, planner
    from clearhead.training.recipes import default_recipe, recipe

    texts = [] if text is None else text if isinstance(text, list) else [text]
    for name in fields:
        if "__" not in name and (keys := setting_keys(name)):
            raise UserError(f"{name} is called {keys[0].replace('.', '__')} here.")
    changes = {name.replace("__", "."): value for name, value in fields.items()}
    if minutes is not None:
        changes["train.minutes"] = minutes
    if preset:
        config, plan = override(recipe(preset), changes), None
    else:
        kind = str(changes.get("task.kind", "lm"))
        config = before_plan([changes], recipe(default_recipe(kind, named=bool(texts))))
        plan = planner(config, [changes])
    path, fixed_context = None if run is None else Path(run), "model.context_length" in changes
    trained = train_run(texts, config, path, fixed_context=fixed_context, plan=plan)
    report.write(trained.path)
    return trained


def load(run: str | Path | Run, *, model: nn.Module | None = None) -> Writer:
    """Open a trained run to write with it and to score texts.

    A warning says if a damaged step was passed over.

    Args:
        run: what `train` returned, a path, a name under ./runs, or "last"; then maybe @STEP, @last or @best.
        model: the module to fill, for a run that trained one of the user's own.

    Raises:
        clearhead.core.errors.UserError: there is no such run or step, or its files are not what was written.
    """
    from clearhead.generation.writer import Writer

    return Writer(_open(run, model))


def load_classifier(run: str | Path | Run) -> Classifier:
    """Open a run of --task classify to choose labels with it: `.classify(["a text", "another"])`.

    Raises:
        clearhead.core.errors.UserError: there is no such run or step, or it was trained for something else.
    """
    from clearhead.generation.classifier import Classifier

    return Classifier(_open(run, None))


def _open(run: str | Path | Run, model: nn.Module | None) -> Loaded:
    import warnings

    from clearhead.core.run import Run
    from clearhead.store.load import load as load_run

    loaded = load_run(str(run.path if isinstance(run, Run) else run), model=model)
    for notice in loaded.notices:
        warnings.warn(notice, stacklevel=3)
    return loaded
