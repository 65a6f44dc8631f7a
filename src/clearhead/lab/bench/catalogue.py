"""All workloads of the benchmark by name."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from clearhead.core.errors import UserError, nearest
from clearhead.lab.bench import levels, speed, wholes
from clearhead.lab.bench.nanogpt import require_nanogpt
from clearhead.lab.bench.workload import Request, Workload

WORKLOADS = {each.name: each for each in (*speed.WORKLOADS, *wholes.WORKLOADS, *levels.WORKLOADS)}

PURPOSES = {
    "train": "It tells what a step costs, the same model and batch for all.",
    "shares": "It tells what is left to gain outside the model's own arithmetic.",
    "decode": "It tells how fast text appears, to one reader or in many samples at once.",
    "gpu": "It tells the same on a CUDA GPU, for a model of a size that is worth one.",
    "start": "It tells how long one waits after Enter before there is something to see.",
    "memory": "It tells how small a machine may be.",
    "level": "It tells what speed and recipe bring together: the time to a known loss, from start to end.",
    "budget": "It tells what the same time is worth with another recipe.",
    "long": "It tells how far one gets with patience.",
}
"""What the figures of a group are for."""

LONGEST_MINUTES = 3
"""What takes longer is measured only when it is named."""


def choose(names: Sequence[str], request: Request) -> tuple[list[Workload], list[str]]:
    """Return the workloads of some names or groups; without any, all that do not take long and whose text is there.

    Returns:
        the workloads, and sentences on those that were left out for want of their text or of a GPU.

    Raises:
        UserError: there is no such workload or group, or what one that was named needs is not there.
    """
    known = {*WORKLOADS, *(each.group for each in WORKLOADS.values())}
    for name in names:
        if name not in known:
            raise UserError(f"There is no workload {name}; clearhead bench list shows them.{nearest(name, known)}")
    chosen = [
        each
        for each in WORKLOADS.values()
        if {each.name, each.group} & {*names} or (not names and each.minutes <= LONGEST_MINUTES)
    ]
    if request.nanogpt is not None:
        require_nanogpt(request.nanogpt)
    chosen, left_out = without_gpu(chosen, named=bool(names))
    try:
        if any(each.needs_text for each in chosen):
            request.shakespeare()
    except UserError as error:
        if names:
            raise
        left_out += [f"{each.name} is left out. {error}" for each in chosen if each.needs_text]
        return [each for each in chosen if not each.needs_text], left_out
    return chosen, left_out


def without_gpu(chosen: Sequence[Workload], *, named: bool) -> tuple[list[Workload], list[str]]:
    """Return the workloads that can be measured here, and a sentence on those that lack a GPU.

    Raises:
        UserError: one that lacks it was named.
    """
    missing = [each.name for each in chosen if each.needs_gpu and not torch.cuda.is_available()]
    if not missing:
        return list(chosen), []
    sentence = f"{', '.join(missing)}: torch finds no CUDA GPU here."
    if named:
        raise UserError(f"{sentence} Leave them out.")
    return [each for each in chosen if each.name not in missing], [f"Left out are {sentence}"]


def unused_peers(chosen: Sequence[Workload], request: Request) -> list[str]:
    """Return sentences on peers that were asked for and that none of the chosen workloads has."""
    asked = {"nanoGPT": request.nanogpt is not None, "transformers": request.transformers}
    measured = {variant.name for workload in chosen for variant in workload.variants(request) if not variant.ours}
    return [
        f"{peer} is not measured: none of the chosen workloads has it."
        for peer, wanted in asked.items()
        if wanted and not any(name.startswith(peer) for name in measured)
    ]


def purposes() -> dict[str, str]:
    """Return what each workload's figures are for."""
    return {each.name: PURPOSES[each.group] for each in WORKLOADS.values() if each.group in PURPOSES}
