"""What the verbs share: where they print, and how the program is called here."""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console


def console(*, stderr: bool = False) -> Console:
    """Return where to print; colours only on a terminal, and not with NO_COLOR."""
    return Console(stderr=stderr, highlight=False)


def print_json(value: Any) -> None:
    """Print a value as strict JSON."""
    print(json.dumps(value, allow_nan=False, ensure_ascii=False, indent=1))


def program() -> str:
    """Return what to type to run this program again from here."""
    found = shutil.which("clearhead")
    own = Path(sys.argv[0]).absolute()
    if own.name != "clearhead" or (found and Path(found).resolve() == own.resolve()):
        return "clearhead"
    return os.path.relpath(own)


def dotted_flags(arguments: Sequence[str]) -> tuple[list[str], list[tuple[str, str]]]:
    """Take flags such as `--model.width 128` or `--model.width=128` out of a command line.

    They are taken out before argparse looks, so that it cannot mistake their values for texts.
    """
    rest: list[str] = []
    pairs: list[tuple[str, str]] = []
    waiting = list(arguments)
    while waiting:
        argument = waiting.pop(0)
        if argument == "--":
            return [*rest, argument, *waiting], pairs
        name, equals, value = argument.removeprefix("--").partition("=")
        if not argument.startswith("--") or "." not in name:
            rest.append(argument)
            continue
        if not equals:
            if not waiting:
                from clearhead.core.errors import UserError

                raise UserError(f"--{name} needs a value, such as --{name} 1.")
            value = waiting.pop(0)
        pairs.append((name, value))
    return rest, pairs
