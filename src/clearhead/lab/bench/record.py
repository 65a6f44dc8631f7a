"""Measured figures on disk: a file that takes each workload as it ends, so that the whole can be measured in pieces."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from clearhead.core.errors import DamagedFile
from clearhead.core.files import read_json, to_json, write_atomically
from clearhead.show import bench

FORMAT = 1


def read(path: Path) -> dict[str, dict[str, Any]]:
    """Return the figures of a file by workload; none where there is no file.

    Raises:
        DamagedFile: it is another file.
    """
    if not path.exists():
        return {}
    content = read_json(path)
    if not isinstance(content, dict) or content.get("format") != FORMAT or not isinstance(content.get("results"), dict):
        raise DamagedFile(f"{path} holds no figures that clearhead bench --out wrote.")
    return dict(content["results"])


def add(path: Path, record: Mapping[str, Any]) -> None:
    """Put a workload's figures into a file, in the place of older ones."""
    results = read(path) | {record["workload"]: dict(record)}
    write_atomically(path, to_json({"format": FORMAT, "results": dict(sorted(results.items()))}))


def write_report(records: Sequence[Mapping[str, Any]], path: Path) -> list[Path]:
    """Write figures as a page of Markdown with charts beside it, and return the files."""
    charts = {str(each["workload"]): f"{path.stem}-{each['workload']}.svg" for each in records if bench.has_curve(each)}
    for each in records:
        if each["workload"] in charts:
            write_atomically(path.with_name(charts[each["workload"]]), bench.chart(each))
    write_atomically(path, bench.markdown(records, charts))
    return [path, *(path.with_name(name) for name in charts.values())]
