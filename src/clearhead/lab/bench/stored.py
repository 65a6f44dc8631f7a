"""Reads what `clearhead bench --out` wrote, and takes nothing else: a report relies on every part of it."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from clearhead.core.errors import DamagedFile, newer_format
from clearhead.core.files import read_json

FORMAT = 1

LARGEST = 1e300
"""No figure comes near it; beyond, there are infinities."""


@dataclass(frozen=True, slots=True)
class Each:
    """A list of values of one shape."""

    shape: Shape
    at_least: int = 0


@dataclass(frozen=True, slots=True)
class Named:
    """A section whose names are free and whose values are of one shape."""

    shape: Shape


Shape = Callable[[Any], bool] | dict[str, Any] | Each | Named
"""What a value must be: judged by a function, a section with these names at least, or many of one shape."""


def is_text(value: Any) -> bool:
    """Say whether it is a text."""
    return isinstance(value, str)


def is_flag(value: Any) -> bool:
    """Say whether it is true or false."""
    return isinstance(value, bool)


def is_number(value: Any) -> bool:
    """Say whether it is a number that can be shown."""
    return isinstance(value, int | float) and not isinstance(value, bool) and -LARGEST < value < LARGEST


def is_count(value: Any) -> bool:
    """Say whether it is a whole number, or null for one that the system did not tell."""
    return value is None or (is_number(value) and isinstance(value, int))


def is_figure(value: Any) -> bool:
    """Say whether it is a number, or null for one that was not finite."""
    return value is None or is_number(value)


def is_point(value: Any) -> bool:
    """Say whether it is a place on a curve."""
    return isinstance(value, list) and len(value) == 2 and all(map(is_figure, value))


def is_commit(value: Any) -> bool:
    """Say whether it is a commit, or null for one that is not known."""
    return value is None or is_text(value)


def is_name(value: Any) -> bool:
    """Say whether it can be a workload's name, and so a part of a file's."""
    return is_text(value) and re.fullmatch(r"[\w.-]+", value) is not None


SUMMARY = {"median": is_figure, "low": is_figure, "high": is_figure}

RECORD = {
    "workload": is_name,
    "question": is_text,
    "figure": is_text,
    "best": is_text,
    "quick": is_flag,
    "time": is_text,
    "seconds": is_number,
    "command": is_text,
    "commit": is_commit,
    "machine": {"processor": is_text, "cores": is_count, "threads": is_count},
    "versions": {"torch": is_text},
    "share_of_others": is_figure,
    "warnings": Each(is_text),
    "variants": Each(
        {
            "variant": is_text,
            "ours": is_flag,
            "summary": Named(SUMMARY),
            "samples": Each({"figures": Named(is_figure), "curve": Each(is_point)}, at_least=1),
        },
        at_least=1,
    ),
    "ratios": Each({"variant": is_text, "peer": is_text, **SUMMARY}),
}
"""What the record of a workload holds (`runner.run`)."""


def misfit(value: Any, shape: Shape, where: str) -> str | None:
    """Return the name of the first part of a value that is not of its shape, or None.

    Args:
        where: the name of the value itself.
    """
    if isinstance(shape, Each):
        if not isinstance(value, list) or len(value) < shape.at_least:
            return where
        parts = [(each, shape.shape, f"{where}[{number}]") for number, each in enumerate(value)]
    elif isinstance(shape, dict | Named):
        if not isinstance(value, dict):
            return where
        shapes = dict.fromkeys(value, shape.shape) if isinstance(shape, Named) else shape
        if absent := [name for name in shapes if name not in value]:
            return f"{where}.{absent[0]}"
        parts = [(value[name], inner, f"{where}.{name}") for name, inner in shapes.items()]
    else:
        return None if shape(value) else where
    return next((found for part in parts if (found := misfit(*part))), None)


def read(path: Path) -> dict[str, dict[str, Any]]:
    """Return the figures of a file by workload; none where there is no file.

    Raises:
        DamagedFile: it is another file, or a part of it is not as it was written.
        NewerFormat: a newer version wrote it.
    """
    if not path.exists():
        return {}
    content = read_json(path)
    number = content.get("format") if isinstance(content, dict) and "results" in content else None
    if not isinstance(number, int) or number < 1:
        raise DamagedFile(f"{path} holds no figures that clearhead bench --out wrote.")
    if number > FORMAT:
        raise newer_format(path, number, FORMAT)
    results: dict[str, dict[str, Any]] = content["results"]
    place = misfit(results, Named(RECORD), "results")
    place = place or next((f"results.{name}" for name in results if results[name]["workload"] != name), None)
    if place is not None:
        raise DamagedFile(f"{path} is not as clearhead bench --out writes it: {place} is missing or of another kind.")
    return results
