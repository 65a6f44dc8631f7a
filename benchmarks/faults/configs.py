"""C5: settings changed at random are refused in a sentence that names the key, or taken as they were given."""

from __future__ import annotations

import contextlib
import copy
import io
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from clearhead.core.config import build, to_dict
from clearhead.core.errors import UserError
from clearhead.training.config import RunConfig
from clearhead.training.recipes import RECIPES, recipe

Trial = dict[str, Any]
AT_ONCE = 100

STRANGE: list[Any] = [
    *(None, True, False, 0, 1, -1, 2, 3, 7, 2**31, 2**63, 2**64, -(2**63), 0.0, -0.0, 0.5, 1.0, -1.5, 1e-320, 1e308),
    *(float("nan"), float("inf"), -float("inf"), "", "none", "nan", "1", "true", "adamw", "../../etc/passwd", "\udce9"),
    *("a\0b", "x" * 300, [], [1, 2], ["a"], [[]], {}, {"kind": "adamw"}, {"kind": None}, {"a": {"b": 1}}, (1,), b"x"),
    *(object(), {1: 2}, 1j, 10**400, "𝕏", "\u202e"),
]
"""Values that a setting may be given by mistake."""

SPELLINGS = ["{}s", "{}_", "_{}", "n_{}", "{}{}", "", "{}.x", "{} ", "é{}", "__class__", "{}\n"]
"""Ways to get a name wrong."""


def mutations(home: Path, cases: int) -> list[Trial]:
    """Return bundles of mutated settings."""
    assert home.exists()
    return [{"seed": seed, "count": AT_ONCE} for seed in range(-(-cases // AT_ONCE))]


def mutated(trial: Trial, home: Path) -> str:
    """Change settings at random, one at a time, and read them."""
    assert home.exists()
    rng = random.Random(trial["seed"])
    for _ in range(trial["count"]):
        trouble = read_mutated(rng)
        if trouble:
            return trouble
    return ""


def read_mutated(rng: random.Random) -> str:
    """Change one setting of a preset and read it; return what went wrong."""
    values = to_dict(recipe(rng.choice(sorted(RECIPES))))
    path, value = mutate(values, rng)
    given = copy.deepcopy(values) if isinstance(value, str | int | float | list | dict) else values
    try:
        config = build(RunConfig, values)
    except UserError as error:
        return judge_sentence(str(error), path)
    except Exception as error:
        return f"{'.'.join(path)} = {value!r}: {type(error).__name__}: {error}"
    if given != values:
        return f"{'.'.join(path)}: the mapping that was given was changed"
    return "" if taken(to_dict(config), path, value) else f"{'.'.join(path)} = {value!r} was ignored"


def mutate(values: dict[str, Any], rng: random.Random) -> tuple[list[str], Any]:
    """Change a random setting, or add one that does not exist; return its path and its value."""
    path = rng.choice(list(_paths(values)))
    section = values
    for name in path[:-1]:
        section = section[name]
    value = rng.choice(STRANGE)
    name = path[-1]
    if rng.random() < 0.3:
        name = rng.choice(SPELLINGS).format(name, name)
    section[name] = value
    return [*path[:-1], name], value


def _paths(values: dict[str, Any]) -> Iterator[list[str]]:
    for name, value in values.items():
        yield [name]
        if isinstance(value, dict):
            for inner in _paths(value):
                yield [name, *inner]


def judge_sentence(sentence: str, path: list[str]) -> str:
    """Say what is wrong with a refusal: it must be one line and name the setting, or a part of it."""
    name = path[-1][:40].strip() or (path[-2] if len(path) > 1 else "no")
    if "\n" in sentence.strip():
        return f"{'.'.join(path)}: more than one line: {sentence!r}"
    shown = name.encode("unicode_escape").decode().lower()
    named = any(part and part.lower() in sentence.lower() for part in (name, shown, *path[-2:-1]))
    return "" if named else f"{'.'.join(path)} is not named in: {sentence}"


def taken(read: dict[str, Any], path: list[str], value: Any) -> bool:
    """Say whether a setting is as it was given: none of it ignored."""
    found: Any = read
    for name in path:
        if not isinstance(found, dict) or name not in found:
            return False
        found = found[name]
    if isinstance(value, dict) and isinstance(found, dict):
        return all(taken(found, [name], inner) for name, inner in value.items())
    if isinstance(value, tuple | list) and isinstance(found, list):
        return list(value) == found
    return bool(found == value) or (value == "none" and found is None)


# Through the command line.


def mutations_typed(home: Path, cases: int) -> list[Trial]:
    """Return mutated flags."""
    assert home.exists()
    return [{"seed": 10_000 + number} for number in range(cases)]


def mutated_and_typed(trial: Trial, home: Path) -> str:
    """Give a mutated setting as a flag, without training."""
    from clearhead.cli.main import main

    rng = random.Random(trial["seed"])
    values = to_dict(recipe("tiny"))
    path, value = mutate(values, rng)
    while isinstance(value, dict | bytes) or "\0" in str(value) or "." in path[-1]:
        path, value = mutate(to_dict(recipe("tiny")), rng)
    said = io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        code = main(["config", "--preset", "tiny", f"--{'.'.join(path)}={value}"])
    text = said.getvalue()
    if code == 0:
        return ""
    return "" if code == 2 and text.count("clearhead: ") == 1 and text.count("\n") == 1 else f"{path}: {code} {text}"
