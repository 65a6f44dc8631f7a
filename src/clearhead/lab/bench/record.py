"""Measured figures on disk: a file that takes each workload as it ends, so that the whole can be measured in pieces."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from clearhead.core.errors import CannotWrite, UserError
from clearhead.core.files import require_file, to_json, write_atomically
from clearhead.core.words import counted
from clearhead.lab.bench.stored import FORMAT, read
from clearhead.show import bench


@dataclass(frozen=True, kw_only=True, slots=True)
class Outline:
    """What a record has, or will have once it is measured: enough to say whether it may take another's place."""

    workload: str
    quick: bool
    variants: Sequence[str]
    repetitions: int


def outline(record: Mapping[str, Any]) -> Outline:
    """Return what a measured record has."""
    return Outline(
        workload=record["workload"],
        quick=record["quick"],
        variants=[each["variant"] for each in record["variants"]],
        repetitions=len(record["variants"][0]["samples"]),
    )


def require_place(path: Path) -> None:
    """Refuse a place where no file can be written.

    Raises:
        UserError: says why.
    """
    if path.is_dir():
        raise UserError(f"{path} is a folder; name a file.")
    require_file(path)
    if not path.parent.is_dir():
        raise UserError(f"There is no folder {path.parent}; make it first, or name another file.")
    if not os.access(path.parent, os.W_OK):
        raise CannotWrite(f"Nothing can be written into {path.parent.absolute()}; name a file in another folder.")


def require_no_loss(path: Path, kept: Mapping[str, Mapping[str, Any]], coming: Outline, *, replace: bool) -> None:
    """Refuse a record that would take the place of a better one.

    Args:
        kept: what the file holds.
        replace: somebody asked for it; but what was only looked at never comes beside what was measured.

    Raises:
        UserError: says what would be lost.
    """
    if coming.quick and not all(each["quick"] for each in kept.values()):
        raise UserError(f"{path} holds figures of full length, and --quick ones tell nothing; name another file.")
    if replace or coming.workload not in kept or kept[coming.workload]["quick"]:
        return
    before = outline(kept[coming.workload])
    lost = [name for name in before.variants if name not in coming.variants]
    asked = "give --replace if they may be lost, or name another file."
    if lost:
        raise UserError(f"{path} has figures of {lost[0]} in {coming.workload}, and these would have none; {asked}")
    if coming.repetitions < before.repetitions:
        many = counted(before.repetitions, "repetition")
        raise UserError(f"{path} has {many} of {coming.workload}, and these would be {coming.repetitions}; {asked}")


def require_room(path: Path, coming: Sequence[Outline], *, replace: bool) -> list[str]:
    """Refuse a file that will not take what is about to be measured.

    Returns:
        the workloads whose figures there will be replaced.

    Raises:
        UserError: nothing can be written there, it is another file, or something would be lost.
    """
    require_place(path)
    kept = read(path)
    for each in coming:
        require_no_loss(path, kept, each, replace=replace)
    return [each.workload for each in coming if each.workload in kept]


def add(path: Path, record: Mapping[str, Any], *, replace: bool = False) -> None:
    """Put a workload's figures into a file, in the place of older ones.

    Raises:
        UserError: something better came there meanwhile.
    """
    with alone(path.parent):
        kept = read(path)
        require_no_loss(path, kept, outline(record), replace=replace)
        results = kept | {record["workload"]: dict(record)}
        write_atomically(path, to_json({"format": FORMAT, "results": dict(sorted(results.items()))}))


@contextlib.contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Wait until no other benchmark writes into a folder, and let others wait for the length of a block."""
    try:
        import fcntl
    except ImportError:  # Windows has no flock; two writers are not kept apart there.
        yield
        return
    # The folder is locked, since the file is another one after each writing.
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        with contextlib.suppress(OSError):  # Some network drives lock no folders; figures are worth more than order.
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def write_report(records: Sequence[Mapping[str, Any]], path: Path, purposes: Mapping[str, str]) -> list[Path]:
    """Write figures as a page of Markdown with charts beside it, and return the files.

    Args:
        purposes: what figures are for, by workload, where it is known.

    Raises:
        UserError: one of them cannot be written there; then none is.
    """
    charts = {str(each["workload"]): f"{path.stem}-{each['workload']}.svg" for each in records if bench.has_curve(each)}
    pages = {path: bench.markdown(records, charts, purposes)}
    for each in records:
        if each["workload"] in charts:
            pages[path.with_name(charts[each["workload"]])] = bench.chart(each)
    for place in pages:
        require_place(place)
    for place, content in pages.items():
        write_atomically(place, content)
    return list(pages)
