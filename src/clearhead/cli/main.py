"""The command `clearhead`: finds the verb, and turns what goes wrong into a sentence and an exit code."""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from collections.abc import Sequence
from importlib import metadata
from typing import NoReturn

from clearhead.core.errors import UserError, nearest

VERBS = {
    "train": "train a model on texts",
    "sample": "write with a trained model",
    "eval": "measure how good a trained model is",
    "tokens": "see a text as tokens",
    "data": "list, fetch and make texts",
    "runs": "list and show what was trained",
    "config": "print all settings as commented TOML",
}
MODULES = {"eval": "evaluate"}

USAGE = """clearhead trains a GPT on your own text, and shows what happens inside it.

usage: clearhead VERB ...     clearhead VERB --help tells more

{verbs}

Begin with:  clearhead train my.txt      then:  clearhead sample last
"""


class Parser(argparse.ArgumentParser):
    """argparse, with one sentence for a mistake and no guessing at shortened flags."""

    def __init__(self, **settings: object) -> None:
        super().__init__(allow_abbrev=False, **settings)  # type: ignore[arg-type]

    def error(self, message: str) -> NoReturn:
        """Raise a mistake in the arguments as the sentence it is."""
        raise UserError(f"{message[0].upper()}{message[1:]}; {self.prog} --help lists what there is.")

    def parse(self, arguments: Sequence[str]) -> argparse.Namespace:
        """Return the arguments; an unknown flag is named together with the nearest that exists."""
        known, unknown = self.parse_known_args(arguments)
        for argument in unknown:
            flags = [flag for action in self._actions for flag in action.option_strings]
            name = argument.split("=")[0]
            raise UserError(f"{self.prog} does not know {name}.{nearest(name, flags)}")
        return known


def usage() -> str:
    """Return what `clearhead --help` prints."""
    return USAGE.format(verbs="\n".join(f"  {verb:<8} {help_}" for verb, help_ in VERBS.items()))


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command line and return its exit code: 0 done, 2 a user's mistake, 130 or 143 interrupted."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    try:
        return dispatch(given)
    except UserError as error:
        print(f"clearhead: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("clearhead: interrupted.", file=sys.stderr)
        return 130
    except BrokenPipeError:
        # The reader of our output went away; keep Python from complaining when it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141


def dispatch(given: list[str]) -> int:
    """Run the verb that a command line begins with."""
    if not given or given[0] in ("-h", "--help", "help"):
        print(usage())
        return 0 if given else 2
    if given[0] == "--version":
        print(metadata.version("clearhead"))
        return 0
    verb = given[0]
    if verb not in VERBS:
        raise UserError(f"There is no verb {verb}; clearhead --help lists them.{nearest(verb, VERBS)}")
    module = importlib.import_module(f"clearhead.cli.{MODULES.get(verb, verb)}")
    parser = Parser(prog=f"clearhead {verb}", description=module.__doc__)
    exit_code: int = module.run(parser, given[1:])
    return exit_code
