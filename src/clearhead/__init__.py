"""Train a GPT on your own text, and write with it. Nothing is imported until it is used."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import nn

    from clearhead.core.run import Run
    from clearhead.generation.writer import Writer

__all__ = ["load", "train"]


def train(
    text: str | Path | list[str | Path] | None = None,
    *,
    minutes: float | None = None,
    preset: str | None = None,
    run: str | Path | None = None,
    **fields: Any,
) -> Run:
    """Train a model on texts (without one, on the built-in tales) and return its run.

    Args:
        text: one path or several: files, folders, globs.
        run: the new run's folder; without one, a fresh name under ./runs.
        fields: any settings by their dotted names with `__` for the dot: `train__steps=250`, `model__width=128`.

    Raises:
        clearhead.core.errors.UserError: something in the call has to be mended; the message says what.
    """
    from clearhead.training.fit import train_run

    texts = [] if text is None else text if isinstance(text, list) else [text]
    changes = {name.replace("__", "."): value for name, value in fields.items()}
    if minutes is not None:
        changes["train.minutes"] = minutes
    chosen = preset or ("modern" if texts else "tales")
    return train_run(texts, preset=chosen, changes=changes, path=None if run is None else Path(run))


def load(run: str | Path, *, model: nn.Module | None = None) -> Writer:
    """Open a trained run (a path, a name under ./runs, or "last"; then maybe @STEP, @best, @last) to write with it.

    Args:
        model: the module to fill, for a run that trained one of the user's own.
    """
    from clearhead.generation.writer import Writer
    from clearhead.store.load import load as load_run

    return Writer(load_run(str(run), model=model))
