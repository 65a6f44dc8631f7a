"""Say what `train` would do with a text in a given time on this machine: settings, steps, memory, expected loss."""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from clearhead.cli.arguments import Parser, dotted_flags
from clearhead.cli.terminal import console, print_json, program
from clearhead.cli.train import SHORT_FLAGS, layers
from clearhead.core.errors import UserError

if TYPE_CHECKING:
    from clearhead.training.plan import Candidate, Choice

FLAGS = {
    "minutes": "how long the run may take (2)",
    "tokenizer": "char, byte, word, bpe, ... (planned)",
    "device": "cpu, cuda or mps (cuda if there is one)",
    "threads": "CPU threads (tried out)",
}


def run(parser: Parser, arguments: Sequence[str]) -> int:
    """Plan, and print the plan."""
    rest, pairs = dotted_flags(arguments)
    parser.takes_settings = True
    parser.add_argument("texts", nargs="*", metavar="TEXT", help="what would be trained on (built-in tales)")
    parser.add_argument("--config", metavar="FILE", help="settings as TOML, which the plan leaves as they are")
    for flag, help_ in FLAGS.items():
        parser.add_argument(f"--{flag}", metavar="N" if flag in ("minutes", "threads") else "NAME", help=help_)
    parser.add_argument("--json", action="store_true", help="print as JSON")
    args = parser.parse(rest)
    from clearhead.text.origin import read_texts
    from clearhead.training.fit import choose_runtime
    from clearhead.training.plan import before_plan, choose
    from clearhead.training.recipes import recipe

    settings = layers(args, pairs)
    config = before_plan(settings, recipe("modern"))
    if config.task.kind != "lm":
        raise UserError(f"Plans are for language models; --task {config.task.kind} trains without one.")
    choice = choose(read_texts(args.texts, config.text), settings, choose_runtime(config))
    command = shlex.join([*program().split(), "train", *args.texts, *flags(choice, args, pairs)])
    if args.json:
        print_json(as_values(choice) | {"command": command})
    else:
        show(choice, command)
    return 0


def flags(choice: Choice, args: argparse.Namespace, pairs: list[tuple[str, str]]) -> list[str]:
    """Return the flags that ask for a plan's settings without planning: what was planned, then what was given."""
    from clearhead.training.plan import PRESET

    short = [(SHORT_FLAGS[flag], getattr(args, flag)) for flag in FLAGS if getattr(args, flag) is not None]
    given = {name.replace("-", "_"): value for name, value in [*short, *pairs]}
    file = ["--config", args.config] if args.config else []
    given.pop("train.minutes", None)
    every = given | {key: str(value) for key, value in choice.settings.items()}
    return ["--preset", PRESET, *file, *(word for key, value in every.items() for word in (f"--{key}", value))]


def as_values(choice: Choice) -> dict[str, Any]:
    """Return a plan as JSON values: the text, the candidate chosen, and all candidates."""
    return {
        "minutes": choice.minutes,
        "text": asdict(choice.text),
        "chosen": candidate_values(choice.best),
        "covered": choice.covered,
        "candidates": [candidate_values(each) for each in choice.candidates],
    }


def candidate_values(candidate: Candidate) -> dict[str, Any]:
    """Return a candidate as JSON values."""
    return {
        "settings": dict(candidate.changes),
        "parameters": candidate.sizes.parameters,
        "memory_bytes": candidate.sizes.memory_bytes,
        "vocabulary_size": candidate.vocabulary.size,
        "bytes_per_token": candidate.vocabulary.bytes_per_token,
        "step_seconds": candidate.step_seconds,
        "steps": candidate.steps,
        "seconds": candidate.seconds,
        "expected": asdict(candidate.expected),
    }


def show(choice: Choice, command: str) -> None:
    """Print a plan: what could be done in the time, what is chosen, and how to do it."""
    from clearhead.show.readable import byte_size, count, duration, short_count
    from clearhead.show.terminal import table

    out = console()
    columns = (
        "tokenizer and model",
        "parameters",
        "memory for it",
        "time",
        "steps",
        "tokens a second",
        "expected bits per byte",
    )
    rows = [
        (
            each.name,
            short_count(each.sizes.parameters),
            byte_size(each.sizes.memory_bytes),
            duration(each.seconds),
            count(each.steps),
            count(round(each.tokens_per_step / each.step_seconds)),
            each.loss,
        )
        for each in choice.candidates
    ]
    out.print(table(f"What {choice.minutes:g} min are enough for here", columns, rows))
    out.print(choice.sentence)
    out.print(f"  {command}", soft_wrap=True)
