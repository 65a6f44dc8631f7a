"""What the verbs share: where they print, and how the program is called here."""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.rule import Rule
from rich.text import Text

from clearhead.core.words import counted
from clearhead.show.readable import visible

ENDLESS = 10_000
"""The width of what is no terminal: lines there are broken by whoever shows them."""

LONGEST_RULE = 80
LONGEST_BAR = 40
BESIDE_BAR = 30

_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]")


class _Console(Console):
    def on_broken_pipe(self) -> None:
        """Leave a reader that went away to `main`."""
        raise BrokenPipeError


def console(*, stderr: bool = False) -> Console:
    """Return where to print; colours only on a terminal, and not with NO_COLOR. Brackets and colons mean themselves."""
    stream = sys.stderr if stderr else sys.stdout
    width = None if stream.isatty() or "COLUMNS" in os.environ else ENDLESS
    return _Console(stderr=stderr, width=width, highlight=False, markup=False, emoji=False)


def rule(out: Console, title: str = "") -> None:
    """Print a line across, with a title in it."""
    out.print(Rule(title, style="dim"), width=min(LONGEST_RULE, out.width))


def bar(out: Console, share: float) -> str:
    """Return a bar for a share of one, which leaves room for a few numbers before it."""
    return "█" * round(min(LONGEST_BAR, max(1, out.width - BESIDE_BAR)) * share)


def harmless(text: str) -> str:
    """Return a text that a model wrote with its control characters made visible, so that no terminal obeys them."""
    return _CONTROL.sub(lambda found: visible(found[0]), text)


def print_written(out: Console, text: str) -> None:
    """Print what a model wrote: on a terminal with lines broken between words, elsewhere as it is."""
    if out.is_terminal:
        out.print(Text(harmless(text)))
    else:
        print(text, file=out.file)


def tell_left_out(num_characters: int) -> None:
    """Say, if there were any, how many unknown characters were left out."""
    if num_characters:
        console(stderr=True).print(f"Left out: {counted(num_characters, 'unknown character')}.")


def print_json(value: Any) -> None:
    """Print a value as strict JSON."""
    print(json.dumps(value, allow_nan=False, ensure_ascii=False, indent=1))


def program() -> str:
    """Return what to type to run this program again from here."""
    own = Path(sys.argv[0]).absolute()
    if own.parts[-2:] == ("clearhead", "__main__.py"):
        return f"{Path(sys.executable).stem} -m clearhead"
    found = shutil.which("clearhead")
    if own.stem != "clearhead" or (found and Path(found).resolve() == own.resolve()):
        return "clearhead"
    return os.path.relpath(own)
