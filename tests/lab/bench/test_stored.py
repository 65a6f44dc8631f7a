"""Only what the benchmark wrote is taken for its figures."""

from __future__ import annotations

import contextlib
import copy
import json
import multiprocessing
from pathlib import Path
from typing import Any

import pytest

from clearhead.core.errors import DamagedFile, NewerFormat
from clearhead.lab.bench import record, stored
from clearhead.show import bench

RECORD: dict[str, Any] = {
    "workload": "fake",
    "question": "How fast?",
    "figure": "seconds",
    "best": "lowest",
    "quick": False,
    "time": "2026-01-02T03:04:05+00:00",
    "seconds": 7.0,
    "command": "clearhead bench fake",
    "commit": None,
    "machine": {"processor": "x86_64", "cores": 1, "threads": 1},
    "versions": {"torch": "2"},
    "share_of_others": None,
    "warnings": ["It was late."],
    "variants": [
        {
            "variant": "ours",
            "ours": True,
            "summary": {"seconds": {"median": 2.0, "low": 1.0, "high": 3.0}},
            "samples": [{"figures": {"seconds": 2.0}, "curve": [[1.0, None]]}],
        }
    ],
    "ratios": [{"variant": "ours", "peer": "peer", "median": 2.0, "low": 1.0, "high": 3.0}],
}


def write(path: Path, results: Any, number: Any = 1) -> Path:
    path.write_text(json.dumps({"format": number, "results": results}))
    return path


def places(value: Any, way: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Return the way to every part of a value."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [*([way] if way else []), *(found for key, part in inner for found in places(part, (*way, key)))]


def test_what_was_written_is_read(tmp_path: Path) -> None:
    path = write(tmp_path / "kept.json", {"fake": RECORD})
    assert stored.read(path) == {"fake": RECORD}
    assert stored.read(tmp_path / "none.json") == {}
    tracked = stored.read(Path(__file__).parents[3] / "benchmarks" / "bench.json")
    assert "level-1.898" in tracked


def changed(way: tuple[Any, ...], wrong: Any) -> dict[str, Any]:
    """Return the record with one part changed or gone."""
    record = copy.deepcopy(RECORD)
    *outer, last = way
    part: Any = record
    for key in outer:
        part = part[key]
    if wrong == "gone":
        del part[last]
    else:
        part[last] = wrong
    return record


@pytest.mark.parametrize("wrong", [{}, [], 5.5, "x", None, True, float("inf"), "gone"], ids=str)
def test_a_changed_part_is_named_or_can_be_reported(tmp_path: Path, wrong: Any) -> None:
    refused = 0
    for way in places(RECORD):
        path = write(tmp_path / "kept.json", {"fake": changed(way, wrong)})
        with contextlib.suppress(DamagedFile):
            bench.markdown(list(stored.read(path).values()), {}, {})
            continue
        refused += 1
        with pytest.raises(DamagedFile, match=r"not as clearhead bench --out writes it: results\.fake"):
            stored.read(path)
    assert refused > 10


@pytest.mark.parametrize("results", [5, [], {"fake": {}}, {"fake": 5}, {"other": RECORD}, {"../x": RECORD}])
def test_another_shape_is_refused(tmp_path: Path, results: Any) -> None:
    with pytest.raises(DamagedFile, match="results"):
        stored.read(write(tmp_path / "kept.json", results))


def test_other_formats_are_refused(tmp_path: Path) -> None:
    with pytest.raises(NewerFormat, match="update clearhead"):
        stored.read(write(tmp_path / "kept.json", {}, number=stored.FORMAT + 1))
    for number in (0, None, "1"):
        with pytest.raises(DamagedFile, match="holds no figures"):
            stored.read(write(tmp_path / "kept.json", {}, number=number))


def add_many(path: Path, first: str) -> None:
    for number in range(12):
        record.add(path, RECORD | {"workload": f"{first}-{number}"})


def test_two_benchmarks_at_once_lose_nothing(tmp_path: Path) -> None:
    path, context = tmp_path / "kept.json", multiprocessing.get_context("fork")
    others = [context.Process(target=add_many, args=(path, name)) for name in ("one", "two")]
    for each in others:
        each.start()
    for each in others:
        each.join()
    assert len(stored.read(path)) == 24
