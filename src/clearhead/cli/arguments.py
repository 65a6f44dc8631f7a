"""How command lines are read: settings such as --model.width are taken out first, the rest is argparse's."""

from __future__ import annotations

import argparse
import math
import re
from collections.abc import Mapping, Sequence
from typing import NoReturn

from clearhead.core.errors import UserError, nearest

REWORDED = {
    r"the following arguments are required: ": "{prog} needs ",
    r"argument (\S+): ": r"\1 ",
    r"expected one argument": "needs a value",
    r"invalid choice: (.*) \(choose from (.*)\)": r"must be one of \2, not \1",
    r"not allowed with argument (\S+)": r"and \1 cannot be given together",
}
"""What argparse says, by pattern, and how it is said here."""


class Parser(argparse.ArgumentParser):
    """argparse, with one sentence for a mistake and no guessing at shortened flags."""

    takes_settings = False
    """Whether the verb takes settings as flags, so that one without its section can be named in full."""

    def __init__(self, **settings: object) -> None:
        super().__init__(allow_abbrev=False, **settings)  # type: ignore[arg-type]

    def error(self, message: str) -> NoReturn:
        """Raise a mistake in the arguments as the sentence it is."""
        for pattern, words in REWORDED.items():
            message = re.sub(pattern, words, message)
        raise UserError(f"{message.replace('{prog}', self.prog)}; {self.prog} --help tells more.")

    def parse(self, arguments: Sequence[str]) -> argparse.Namespace:
        """Return the arguments; an unknown flag is named together with the nearest that exists."""
        # Intermixed, for else an optional text is not seen after a flag: sample last --seed 2 "Once".
        known, unknown = self.parse_known_intermixed_args(arguments)
        if unknown:
            raise self._unknown(unknown[0].partition("=")[0])
        return known

    def _unknown(self, name: str) -> UserError:
        flags = [flag for action in self._actions for flag in action.option_strings]
        if not name.startswith("-"):
            return UserError(f"{self.prog} has no use for {name!r}; a text with spaces needs quotes around it.")
        if name in flags:
            return UserError(f"{name} stands after --, where nothing is a flag; put it before.")
        keys = self._setting_keys(name.lstrip("-").replace("-", "_"))
        hint = f' Did you mean "--{keys[0]}"?' if keys else nearest(name, flags)
        return UserError(f"{self.prog} does not know {name}.{hint}")

    def _setting_keys(self, name: str) -> list[str]:
        if not self.takes_settings:
            return []
        from clearhead.training.config import setting_keys

        return setting_keys(name)


def choose_action(
    parser: Parser, arguments: Sequence[str], actions: Mapping[str, str]
) -> tuple[str, Parser, Sequence[str]]:
    """Take the action, such as `list`, off the front of a verb's arguments.

    Args:
        actions: what each one does, by name.

    Returns:
        its name, a parser for its own flags, and the other arguments.
    """
    given = arguments[0] if arguments else ""
    if given in actions:
        return given, type(parser)(prog=f"{parser.prog} {given}", description=actions[given]), arguments[1:]
    if given and not given.startswith("-"):
        known = f"there is {', '.join(actions)}.{nearest(given, actions)}"
        raise UserError(f"{parser.prog} has no action {given}; {known}")
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    longest = max(map(len, actions))
    parser.epilog = "\n".join(f"  {name:<{longest}} {help_}" for name, help_ in actions.items())
    parser.epilog += f"\n\n{parser.prog} {next(iter(actions))} --help tells more."
    parser.add_argument("action", metavar="|".join(actions))
    parser.parse(arguments)
    raise AssertionError("either help was asked for or the action is missing")


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
                raise UserError(f"--{name} needs a value, such as --{name} 1.")
            value = waiting.pop(0)
        pairs.append((name, value))
    return rest, pairs


def require_sections(pairs: Sequence[tuple[str, str]], verb: str, *sections: str) -> None:
    """Refuse settings of other sections than those that a verb reads.

    Raises:
        UserError: names the first one.
    """
    for name, _ in pairs:
        if name.partition(".")[0] not in sections:
            known = " and ".join(f"--{section}.*" for section in sections)
            raise UserError(f"{verb} has no use for --{name}; of the settings it takes {known}.")


def add_unknown_flag(parser: Parser) -> None:
    """Declare what becomes of characters that a trained tokenizer does not know."""
    parser.add_argument(
        "--unknown", choices=["refuse", "drop"], default="refuse", help="characters that the run does not know (refuse)"
    )


def whole(text: str) -> int:
    """Read a whole number."""
    try:
        return int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"must be a whole number, not {text!r}") from None


def positive(text: str) -> int:
    """Read a whole number above 0."""
    if not text.isdecimal() or int(text) == 0:
        raise argparse.ArgumentTypeError(f"must be a whole number above 0, not {text!r}")
    return int(text)


def number(text: str) -> float:
    """Read a finite number."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise argparse.ArgumentTypeError(f"must be a number, not {text!r}")
    return value
