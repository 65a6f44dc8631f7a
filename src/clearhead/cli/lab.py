"""Questions and the experiments that answer them, with numbers and their spread."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from clearhead.cli.arguments import Parser, choose_action, dotted_flags, number, positive
from clearhead.cli.terminal import console, print_json
from clearhead.core.errors import UserError
from clearhead.core.words import counted

if TYPE_CHECKING:
    from rich.console import Console

    from clearhead.core.events import Event
    from clearhead.lab.experiment import Arm
    from clearhead.show.study import Answer

ACTIONS = {
    "list": "List the questions.",
    "run": "Train what answers a question, and show the answer. The same command again goes on where it stopped.",
}


def run(parser: Parser, arguments: Sequence[str]) -> int:
    """List or run."""
    action, parser, rest = choose_action(parser, arguments, ACTIONS)
    return {"list": list_studies, "run": run_one}[action](parser, rest)


def list_studies(parser: Parser, arguments: Sequence[str]) -> int:
    """Print a line for each question."""
    parser.add_argument("--json", action="store_true", help="print as JSON")
    args = parser.parse(arguments)
    from clearhead.lab.catalogue import STUDIES
    from clearhead.show.terminal import table

    if args.json:
        print_json([{"study": each.name, "question": each.question} for each in STUDIES.values()])
        return 0
    rows = [(each.name, each.question, f"{each.minutes:g}") for each in STUDIES.values()]
    console().print(table("", ("study", "question", "minutes"), rows))
    return 0


def run_one(parser: Parser, arguments: Sequence[str]) -> int:
    """Run a study to its end, and print its answer."""
    rest, pairs = dotted_flags(arguments)
    add = parser.add_argument
    add("study", metavar="ID", help="which question; see clearhead lab list")
    add("texts", nargs="*", metavar="TEXT", help="what to train on; without any, the built-in tales")
    add("--seeds", type=positive, metavar="N", help="how often each arm is trained")
    add("--steps", type=positive, metavar="N", help="the length of each run in steps")
    add("--minutes", type=number, metavar="M", help="for the whole study, shared equally")
    add("--quick", action="store_true", help="one seed and one minute in all: to see how it goes")
    add("--run", metavar="DIR", help="where the study is kept; without it, a folder below ./runs")
    add("--json", action="store_true", help="print the answer as JSON, and nothing else")
    add("-q", "--quiet", action="store_true", help="print only where the study lies")
    parser.takes_settings = True
    parser.epilog = "Settings of clearhead config, such as --model.width 64, change the recipe that all arms share."
    args = parser.parse(rest)
    from clearhead.cli.train import Interruption
    from clearhead.core.config import parse_flags
    from clearhead.lab.catalogue import find
    from clearhead.lab.study import Request, run_study

    if args.minutes is not None and args.minutes <= 0:
        raise UserError(f"--minutes must be above 0, not {args.minutes:g}.")
    asked = Request(
        texts=tuple(args.texts),
        seeds=args.seeds,
        steps=args.steps,
        minutes=args.minutes,
        quick=args.quick,
        changes=parse_flags(pairs),
    )
    watch = Watch(console(stderr=True), quiet=args.quiet or args.json)
    with Interruption() as interruption:
        result = run_study(
            find(args.study), asked, Path(args.run) if args.run else None, stop=interruption.stop, watch=watch
        )
    if result.answer is None:
        console(stderr=True).print(f"Stopped; {result.folder} keeps what is done, and the same command goes on.")
        return interruption.exit_code or 1
    if args.quiet:
        print(result.folder)
    elif args.json:
        print_json({"folder": str(result.folder), **result.answer.to_json()})
    else:
        show(result.answer, result.folder)
    return interruption.exit_code


def show(answer: Answer, folder: Path) -> None:
    """Print an answer as a table with what is said about it."""
    from clearhead.show.study import terminal_table

    out = console()
    out.print(terminal_table(answer))
    for sentence in (*answer.said, *answer.notes):
        out.print(sentence)
    out.print(f"Curves and samples: {folder / 'report.html'}", soft_wrap=True)


class Watch:
    """Prints a line for each run that came to its end."""

    def __init__(self, out: Console, *, quiet: bool) -> None:
        self.out, self.quiet = out, quiet
        self.began = time.monotonic()

    def __call__(self, arm: Arm, seed: int, event: Event) -> None:
        line: dict[str, Any] = event.to_dict()
        whole = line["event"] == "evaluated" and line["split"] == "validation" and not line["sampled"]
        if whole and not self.quiet:
            spent = time.monotonic() - self.began
            self.out.print(
                f"{spent:6.0f} s  {arm.name}, seed {seed}: {line['nats_per_token']:.3f} nats per token "
                f"after {counted(line['step'], 'step')}"
            )
