"""All workloads of the benchmark by name."""

from __future__ import annotations

from collections.abc import Sequence

from clearhead.core.errors import UserError, nearest
from clearhead.lab.bench import levels, speed, wholes
from clearhead.lab.bench.nanogpt import require_nanogpt
from clearhead.lab.bench.workload import Request, Workload

WORKLOADS = {each.name: each for each in (*speed.WORKLOADS, *wholes.WORKLOADS, *levels.WORKLOADS)}

PURPOSES = {
    "train": "It tells what a step costs, the same model and batch for all.",
    "shares": "It tells what is left to gain outside the model's own arithmetic.",
    "decode": "It tells how fast text appears, to one reader or in many samples at once.",
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
        the workloads, and sentences on those that were left out for want of their text.

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
    try:
        if any(each.needs_text for each in chosen):
            request.shakespeare()
    except UserError as error:
        if names:
            raise
        return [each for each in chosen if not each.needs_text], [
            f"{each.name} is left out. {error}" for each in chosen if each.needs_text
        ]
    return chosen, []


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
