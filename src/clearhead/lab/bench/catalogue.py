"""All workloads of the benchmark by name."""

from __future__ import annotations

from collections.abc import Sequence

from clearhead.core.errors import UserError, nearest
from clearhead.lab.bench import levels, speed, wholes
from clearhead.lab.bench.workload import Request, Workload

WORKLOADS = {each.name: each for each in (*speed.WORKLOADS, *wholes.WORKLOADS, *levels.WORKLOADS)}

LONGEST_MINUTES = 3
"""What takes longer is measured only when it is named."""


def choose(names: Sequence[str], request: Request) -> tuple[list[Workload], list[str]]:
    """Return the workloads of some names or groups; without any, all that do not take long and whose text is there.

    Returns:
        the workloads, and sentences on those that were left out for want of their text.

    Raises:
        UserError: there is no such workload or group, or the text of one that was named is not there.
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
