"""All workloads of the benchmark by name."""

from __future__ import annotations

from collections.abc import Sequence

from clearhead.core.errors import UserError, nearest
from clearhead.lab.bench import levels, speed, wholes
from clearhead.lab.bench.workload import Request, Workload

WORKLOADS = {each.name: each for each in (*speed.WORKLOADS, *wholes.WORKLOADS, *levels.WORKLOADS)}

LONGEST_MINUTES = 3
"""What takes longer is measured only when it is named."""


def choose(names: Sequence[str]) -> list[Workload]:
    """Return the workloads of some names or groups; without any, all that do not take long.

    Raises:
        UserError: there is no such workload or group; the nearest is named.
    """
    known = {*WORKLOADS, *(each.group for each in WORKLOADS.values())}
    for name in names:
        if name not in known:
            raise UserError(f"There is no workload {name}; clearhead bench list shows them.{nearest(name, known)}")
    if not names:
        return [each for each in WORKLOADS.values() if each.minutes <= LONGEST_MINUTES]
    return [each for each in WORKLOADS.values() if {each.name, each.group} & {*names}]


def measurable(workloads: Sequence[Workload], request: Request) -> tuple[list[Workload], list[str]]:
    """Return the workloads whose text is there, and why the others are left out."""
    found, said = [], []
    for each in workloads:
        try:
            if each.needs_text:
                request.shakespeare()
            found.append(each)
        except UserError as error:
            said.append(f"{each.name} is left out. {error}")
    return found, said
