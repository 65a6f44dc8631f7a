"""A trained run with a smaller vocabulary: unused ids leave the embedding, the head and the tokenizer."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from clearhead.core import events
from clearhead.core import run as runs
from clearhead.core.errors import UserError
from clearhead.core.files import write_atomically
from clearhead.core.run import Run
from clearhead.model.build import build_model
from clearhead.store import checkpoint
from clearhead.store.load import Loaded, load, model_config
from clearhead.text.compact import CompactTokenizer, compact
from clearhead.text.shards import ranges_of
from clearhead.training.preflight import measure_sizes


def compact_run(name: str, path: Path | None = None) -> Run:
    """Write a run again without the ids that its training text does not give, and return the new run.

    The logits of the other ids stay what they were, so what the model writes gets no worse; a text that needs an id
    which is gone is read as bytes. The new run holds one step, and can be resumed from it.

    Args:
        name: RUN, RUN@STEP, RUN@best or RUN@last; without a step, its best one.
        path: the new run's folder; without one, a fresh name under the runs folder.

    Raises:
        UserError: it is not recorded which ids are used, or all are; the tokenizer cannot do without one, or the step
            is kept only to be looked at.
    """
    whole = load(name)
    if "unseen_ids" not in whole.run.data():
        raise UserError(
            f"{whole.run.path} does not record which ids its training text has, as a language model trained here does, "
            "so it is not known which to leave out."
        )
    tokenizer = compact(whole.tokenizer)
    stored = checkpoint.load(whole.run, whole.step)
    if not stored.optimizer:
        raise UserError(f"Step {whole.step} of {whole.run.path} holds weights alone; take another, such as @last.")
    small = build_model(model_config(whole.description), tokenizer.vocabulary_size)
    path = path or runs.new_path(f"{whole.run.name}-compact")
    _lay_down(path, whole, tokenizer, small)
    kept = torch.from_numpy(tokenizer.kept).long()
    shrunk = replace(
        stored,
        model=fewer_rows(stored.model, small, kept),
        average=None if stored.average is None else fewer_rows(stored.average, small, kept),
        optimizer=fewer_rows(stored.optimizer, small, kept),
    )
    checkpoint.save(Run(path), shrunk)
    return Run(path)


def fewer_rows(tensors: Mapping[str, Tensor], small: nn.Module, kept: Tensor) -> dict[str, Tensor]:
    """Return tensors of a model, or of its optimizers, in the shapes of the smaller model.

    An axis that became shorter counts the vocabulary: of it the kept ids stay.
    """
    shapes = {name: tensor.shape for name, tensor in checkpoint.model_tensors(small).items()}
    found = {}
    for name, tensor in tensors.items():
        shape = shapes[name.rpartition("/")[0] or name]
        for axis in range(tensor.ndim):
            if tensor.shape[axis] != shape[axis]:
                tensor = tensor.index_select(axis, kept)
        found[name] = tensor
    return found


def _lay_down(path: Path, whole: Loaded, tokenizer: CompactTokenizer, small: nn.Module) -> None:
    """Write the new run as it is before its saved step."""
    run, description = whole.run, whole.description
    train = description["config"]["train"]
    sizes = measure_sizes(small, train["sequences_per_step"] * description["config"]["model"]["context_length"])
    changed: dict[str, Any] = {
        "name": path.name,
        "compacted_from": {"run": str(run.path.absolute()), "step": whole.step},
        "parameters": {"total": sizes.parameters, **sizes.by_role},
        "flops_per_token": sizes.flops_per_token,
        "vocabulary_size": tokenizer.vocabulary_size,
        "tokenizer": {"kind": tokenizer.kind, "fingerprint": tokenizer.fingerprint},
    }
    unseen = np.flatnonzero(np.isin(tokenizer.kept, whole.tokenizer.unseen)).astype(np.int32)
    validation = np.fromfile(run.path / runs.VALIDATION_FILE, dtype="<i4").astype(np.int32)
    with runs.creating(path, description | changed, run.data() | {"unseen_ids": ranges_of(unseen)}) as folder:
        (folder / runs.TOKENIZER_FOLDER).mkdir()
        tokenizer.save(folder / runs.TOKENIZER_FOLDER)
        write_atomically(folder / runs.VALIDATION_FILE, tokenizer.renumbered(validation).astype("<i4").tobytes())
        _copy(run, ("stdin.txt",), folder)
    # Events are told on when the run is resumed, so they are not of the files that never change.
    _copy(run, (events.FILE, events.SEAL), path)


def _copy(run: Run, names: Sequence[str], folder: Path) -> None:
    for name in names:
        if (run.path / name).exists():
            shutil.copyfile(run.path / name, folder / name)
