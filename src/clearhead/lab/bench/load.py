"""What other programs take of this machine's processors while something is measured, from Linux's /proc."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

TOO_MUCH = 0.03
"""From this share of the machine's time on, a figure is not to be trusted."""

IDLE = (3, 4)
"""Where idle time and waiting for disks stand in /proc/stat."""

GUEST = 8
"""From here on /proc/stat repeats, by guests, what it has counted already."""


@dataclass(frozen=True, slots=True)
class Ticks:
    """Processor time so far, in the system's ticks.

    Args:
        busy: of everybody, with what a host kept from this machine.
        own: of this process and all that it has started.
    """

    total: int
    busy: int
    own: int


class LoadMeter:
    """Tells which share of the machine's processor time others took since it was last asked.

    Args:
        proc: where the system tells; without it, as on macOS, the share is not known.
        process: whose time, and whose descendants' time, is not others'.
    """

    def __init__(self, proc: Path = Path("/proc"), process: int | None = None) -> None:
        self.proc, self.process = proc, os.getpid() if process is None else process
        self.last = self.ticks()

    def share_of_others(self) -> float | None:
        """Return the share, from 0 to 1, and begin anew."""
        before, self.last = self.last, self.ticks()
        if before is None or self.last is None or self.last.total == before.total:
            return None
        others = (self.last.busy - before.busy) - (self.last.own - before.own)
        return min(1.0, max(0.0, others / (self.last.total - before.total)))

    def ticks(self) -> Ticks | None:
        """Return the processor time spent so far, or None where the system does not tell."""
        try:
            first = (self.proc / "stat").read_text().partition("\n")[0]
        except OSError:
            return None
        spent = [int(number) for number in first.split()[1:][:GUEST]]
        total = sum(spent)
        return Ticks(total, total - sum(spent[place] for place in IDLE), self.own_ticks())

    def own_ticks(self) -> int:
        """Return the ticks of a process and its descendants, those included that ended and were waited for."""
        parents, spent = {}, {}
        for folder in self.proc.glob("[0-9]*"):
            try:
                # The name in parentheses may hold spaces and parentheses itself.
                fields = (folder / "stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue  # it has just ended
            number = int(folder.name)
            parents[number] = int(fields[1])
            spent[number] = sum(int(ticks) for ticks in fields[11:15])
        return sum(ticks for number, ticks in spent.items() if self.is_ours(number, parents))

    def is_ours(self, number: int, parents: dict[int, int]) -> bool:
        """Say whether a process is ours or a descendant of ours."""
        while number in parents and number != self.process:
            number = parents[number]
        return number == self.process
