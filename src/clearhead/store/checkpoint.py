"""A step of a run on disk: named tensors and a state, hashed, written whole or not at all."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from clearhead.core.errors import DamagedFile, UserError
from clearhead.core.files import (
    cannot_write,
    drop_file,
    manifest,
    new_folder,
    remove_folder,
    to_json,
    verify_folder,
    write_atomically,
)
from clearhead.core.migrations import FORMAT
from clearhead.core.run import STEP_NAME, Run, read_versioned

MODEL_FILE = "model.safetensors"
AVERAGE_FILE = "average.safetensors"
OPTIMIZER_FILE = "optimizer.safetensors"
STATE_FILE = "state.json"

SPACED_IN_A_TENFOLD = 8
"""How many steps stay to be looked at between one step and its tenfold; a run of 10,000 steps keeps 31 in all."""


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """What a saved step holds.

    Args:
        average: the averaged weights, where the run keeps them.
        optimizer: the optimizers' memory, empty for those that keep none; None for a step that was kept only to be
            looked at.
        state: the training loop's state, with the run's best step so far.
    """

    step: int
    model: Mapping[str, Tensor]
    state: Mapping[str, Any]
    average: Mapping[str, Tensor] | None = None
    optimizer: Mapping[str, Tensor] | None = None


def save(run: Run, checkpoint: Checkpoint) -> Path:
    """Store a step and return its folder; a step that is stored already, whole and with as much in it, stays."""
    folder = run.step_folder(checkpoint.step)
    if folder.exists():
        if is_whole(folder) and (holds(folder, OPTIMIZER_FILE) or checkpoint.optimizer is None):
            return folder
        remove_folder(folder)
    with new_folder(folder) as temporary:
        save_tensors(temporary / MODEL_FILE, checkpoint.model)
        if checkpoint.average is not None:
            save_tensors(temporary / AVERAGE_FILE, checkpoint.average)
        if checkpoint.optimizer is not None:
            save_tensors(temporary / OPTIMIZER_FILE, checkpoint.optimizer)
        write_atomically(temporary / STATE_FILE, to_json({"format": FORMAT, **checkpoint.state}))
    return folder


def load(run: Run, step: int) -> Checkpoint:
    """Read a step after its hashes were checked.

    Raises:
        DamagedFile: a file is missing or was changed; it is named.
    """
    folder = run.step_folder(step)
    if not folder.is_dir():
        have = ", ".join(str(number) for number in run.steps()) or "none"
        raise UserError(f"{run.path} has no saved step {step}; it has {have}.")
    try:
        verify_step(folder)
    except DamagedFile as error:
        raise error.with_advice(whole_instead(run)) from None
    average, optimizer = holds(folder, AVERAGE_FILE), holds(folder, OPTIMIZER_FILE)
    return Checkpoint(
        step=step,
        model=load_tensors(folder / MODEL_FILE),
        state=read_state(folder),
        average=load_tensors(folder / AVERAGE_FILE) if average else None,
        optimizer=load_tensors(folder / OPTIMIZER_FILE) if optimizer else None,
    )


def verify_step(folder: Path) -> None:
    """Check every file of a stored step, and that it is the step that its folder is named after.

    Raises:
        DamagedFile: names the first file that is missing or differs.
    """
    verify_folder(folder)
    named, state = STEP_NAME.fullmatch(folder.name), read_state(folder)
    if named is None or state.get("step") != int(named[1]):
        raise DamagedFile(f"{folder} holds step {state.get('step')}: it was renamed, or swapped with another.")


def is_whole(folder: Path) -> bool:
    """Say whether every file of a stored step is what was written."""
    return damage(folder) is None


def damage(folder: Path) -> DamagedFile | None:
    """Return what is wrong with a stored step, if anything is."""
    try:
        verify_step(folder)
    except DamagedFile as error:
        return error
    return None


def read_state(folder: Path) -> dict[str, Any]:
    """Return a step's state without its format number.

    Raises:
        DamagedFile: it is not one.
    """
    state = read_versioned(folder / STATE_FILE)
    del state["format"]
    named = state.get("best")
    if named is not None and not _names_a_step(named):
        raise DamagedFile(f"{folder / STATE_FILE} does not say which step is the best as this program does.")
    return state | {"best": named}


def _names_a_step(named: Any) -> bool:
    return isinstance(named, dict) and isinstance(named.get("step"), int) and named.get("weights") in ("raw", "average")


def search(run: Run, *, resumable: bool = True) -> tuple[int | None, list[DamagedFile]]:
    """Return the newest step that is whole, if there is one, and what is wrong with each newer one that is not.

    Args:
        resumable: only steps that hold the optimizers' memory count.

    Raises:
        DamagedFile: steps are there, but none is whole.
    """
    troubles: list[DamagedFile] = []
    for step in reversed(run.steps()):
        folder = run.step_folder(step)
        if found := damage(folder):
            troubles.append(found)
        elif not resumable or holds(folder, OPTIMIZER_FILE):
            return step, troubles
    if troubles:
        advice = f"clearhead runs verify {run.path} names all that is damaged"
        raise DamagedFile(f"No saved step of {run.path} is whole: {troubles[0]}").with_advice(advice)
    return None, troubles


def passed_over(troubles: Sequence[DamagedFile], step: int) -> tuple[str, ...]:
    """Return a sentence about damaged steps and the one that is used in their place; none where all are whole."""
    if not troubles:
        return ()
    others = f" (and {len(troubles) - 1} more damaged)" if len(troubles) > 1 else ""
    return (str(troubles[0].with_advice(f"using step {step} instead{others}")),)


def whole_instead(run: Run) -> str:
    """Return what to do about a damaged step that was asked for by its number."""
    for step in reversed(run.steps()):
        if is_whole(run.step_folder(step)):
            return f"{run.path}@{step} is whole"
    return f"clearhead runs verify {run.path} names all that is damaged"


def newest(run: Run, *, resumable: bool = True) -> tuple[int, list[DamagedFile]]:
    """Return what `search` finds.

    Raises:
        UserError: nothing is saved yet. DamagedFile: steps are there, but none is whole.
    """
    step, troubles = search(run, resumable=resumable)
    if step is None:
        raise UserError(f"{run.path} has no saved step yet; clearhead train --resume {run.path} continues it.")
    return step, troubles


def best(run: Run) -> tuple[int, str, list[DamagedFile]]:
    """Return the best step, which of its weights count ("raw" or "average"), and what is wrong with damaged steps.

    The newest whole step's state names it; before the first evaluation the newest step stands in.
    """
    step, troubles = newest(run, resumable=False)
    named = read_state(run.step_folder(step))["best"]
    if named:
        found = damage(run.step_folder(named["step"]))
        if found is None:
            return named["step"], named["weights"], troubles
        troubles.append(DamagedFile(f"The best step is damaged: {found}"))
    return step, "average" if holds(run.step_folder(step), AVERAGE_FILE) else "raw", troubles


def rotate(run: Run, keep: str, spaced: frozenset[int], whole: frozenset[int] = frozenset()) -> None:
    """Remove saved steps that need not stay, once the newest one verifies.

    Args:
        keep: "newest" leaves the best and the newest two, "spaced" also the weights of the steps in `spaced`, "all"
            every step.
        whole: steps that stay as they are in any case.
    """
    if keep == "all":
        return
    step, troubles = newest(run)
    if troubles:
        return
    named = read_state(run.step_folder(step))["best"]
    resumable = [number for number in run.steps() if is_resumable(run.step_folder(number))]
    stay = {*resumable[-2:], named["step"]} if named else set(resumable[-2:])
    for number in run.steps():
        if number in stay or number in whole:
            continue
        if keep == "spaced" and number in spaced:
            strip(run, number)
        else:
            remove_folder(run.step_folder(number))


def drop_after(run: Run, step: int) -> None:
    """Remove the steps that were saved after this one, the newest first."""
    for number in reversed(run.steps()):
        if number > step:
            remove_folder(run.step_folder(number))


def strip(run: Run, step: int) -> None:
    """Leave of a step only what looking at it needs: weights and state."""
    folder = run.step_folder(step)
    if is_resumable(folder):
        drop_file(folder, OPTIMIZER_FILE)


def finish_stripping(run: Run) -> None:
    """Remove the files that a crash kept `strip` from removing, after it had taken them off the manifest."""
    for folder in map(run.step_folder, run.steps()):
        with contextlib.suppress(DamagedFile):
            if not holds(folder, OPTIMIZER_FILE):
                (folder / OPTIMIZER_FILE).unlink(missing_ok=True)


def is_resumable(folder: Path) -> bool:
    """Say whether a stored step claims to hold the optimizers' memory; one whose manifest is damaged does not."""
    try:
        return holds(folder, OPTIMIZER_FILE)
    except DamagedFile:
        return False


def holds(folder: Path, name: str) -> bool:
    """Say whether a file belongs to a stored step: its manifest lists it."""
    return name in manifest(folder)


def log_spaced(steps: int) -> frozenset[int]:
    """Return steps up to `steps`, dense at first: each is further than the last by the same factor, but for rounding.

    Which they are does not depend on where a run ends, so one that is made longer keeps those that it has.
    """
    last = math.floor(SPACED_IN_A_TENFOLD * math.log10(steps))
    return frozenset(round(10 ** (index / SPACED_IN_A_TENFOLD)) for index in range(last + 1))


def save_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: dict[str, str] | None = None) -> None:
    """Write named tensors in the safetensors format; no two of them may share memory.

    Args:
        metadata: words that stand in the file's head.

    Raises:
        UserError: the disk takes no more.
    """
    whole = {name: tensor.detach().to("cpu", copy=True).contiguous() for name, tensor in tensors.items()}
    try:
        save_file(whole, path, metadata)
    except (SafetensorError, OSError) as error:
        raise cannot_write(path, error) from error


def load_tensors(path: Path) -> dict[str, Tensor]:
    """Read named tensors.

    Raises:
        DamagedFile: the file is not in the safetensors format.
    """
    try:
        return load_file(path)
    except (SafetensorError, OSError) as error:
        raise DamagedFile(f"{path} cannot be read: {error}.") from None


def model_tensors(model: torch.nn.Module) -> dict[str, Tensor]:
    """Return a model's parameters and stored buffers by name, each piece of memory once."""
    seen: set[int] = set()
    unique = {}
    for name, tensor in model.state_dict().items():
        if tensor.data_ptr() not in seen:
            unique[name] = tensor
            seen.add(tensor.data_ptr())
    return unique


def load_model_tensors(model: torch.nn.Module, tensors: Mapping[str, Tensor]) -> None:
    """Put stored tensors into a model.

    Raises:
        DamagedFile: a name or a shape does not fit the model, or numbers are not finite.
    """
    own = model_tensors(model)
    require_weights(tensors, own)
    with torch.no_grad():
        for name, tensor in tensors.items():
            own[name].copy_(tensor)


def require_weights(tensors: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> None:
    """Refuse stored weights that cannot take the place of a model's own.

    Raises:
        DamagedFile: a name or a shape differs, or numbers are not finite; such weights are never saved.
    """
    for name in sorted(set(own) ^ set(tensors)):
        raise DamagedFile(f"The saved weights do not fit the model: {name} is only in one of them.")
    for name, tensor in tensors.items():
        if own[name].shape != tensor.shape:
            raise DamagedFile(f"The saved weights do not fit the model: {name} has shape {tuple(tensor.shape)}.")
        if not tensor.isfinite().all():
            raise DamagedFile(f"The saved weights are no weights: {name} has numbers that are not finite.")


def sizes(run: Run) -> Iterator[tuple[int, int]]:
    """Yield each saved step and its bytes on disk."""
    for step in run.steps():
        yield step, sum(file.stat().st_size for file in run.step_folder(step).iterdir())
