"""Train a model on texts: files, folders, globs in quotes, or - for standard input; without any, on built-in tales."""

from __future__ import annotations

import argparse
import functools
import shlex
import signal
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

from clearhead.cli.arguments import Parser, dotted_flags, positive
from clearhead.cli.terminal import console, print_json, program
from clearhead.core.errors import UserError

if TYPE_CHECKING:
    from clearhead.core.events import StopReason
    from clearhead.training.config import RunConfig
    from clearhead.training.session import Session

SHORT_FLAGS = {
    "steps": "train.steps",
    "tokens": "train.tokens",
    "epochs": "train.epochs",
    "minutes": "train.minutes",
    "seed": "train.seed",
    "tokenizer": "tokenizer.kind",
    "task": "task.kind",
    "device": "train.device",
    "threads": "train.threads",
}
RESUME_FLAGS = ("steps", "threads", "device")

EXIT_CODES = {"non_finite": 3, "error": 1}


def run(parser: Parser, arguments: Sequence[str]) -> int:
    """Train, and show it."""
    rest, pairs = dotted_flags(arguments)
    add_arguments(parser)
    args = parser.parse(rest)
    if args.range_test and not args.dry_run:
        raise UserError("--range-test trains nothing that is kept; give it together with --dry-run.")
    if args.dry_run:
        return show_dry_run(args, pairs)
    if args.resume is not None:
        return train_and_show(resumed(args, pairs), args)
    return train_and_show(created(args, pairs, None if args.run is None else Path(args.run)), args)


def add_arguments(parser: Parser) -> None:
    """Declare the flags."""
    add = parser.add_argument
    add("texts", nargs="*", metavar="TEXT", help="what to train on")
    add("--preset", metavar="NAME", help="named settings; without, a timed run is planned (see clearhead plan)")
    add("--config", metavar="FILE", help="settings as TOML, over the preset")
    add("--run", metavar="DIR", help="where the run is kept; without it, a new folder below ./runs")
    for name in ("steps", "tokens", "epochs", "minutes"):
        add(f"--{name}", metavar="N", help=f"the length of the run in {name}{' (2)' if name == 'minutes' else ''}")
    add("--stop-after", type=positive, metavar="N", help="end after step N, leaving the plan as it is")
    add("--seed", metavar="N", help="what weights, order and dropout are drawn from (1)")
    add("--tokenizer", metavar="KIND", help="char, byte, word, bpe, sentencepiece, ... (planned)")
    add("--device", metavar="NAME", help="cpu, cuda or mps (cuda if there is one)")
    add("--threads", metavar="N", help="CPU threads (tried out)")
    add(
        "--task",
        metavar="KIND",
        help="what to learn: lm (each next token), classify (a label for a text), translate (lm)",
    )
    add("--resume", metavar="RUN", help="go on with a run, from where it was last saved")
    add("--dry-run", action="store_true", help="say what would be trained, and end; no run is made")
    add("--range-test", action="store_true", help="with --dry-run: which learning rates learn (30 s)")
    add("--json", action="store_true", help="print the last figures as JSON, and nothing else")
    add("-q", "--quiet", action="store_true", help="print only where the run lies")
    add("-v", "--verbose", action="store_true", help="print what was read, file by file")
    parser.takes_settings = True
    parser.epilog = "Every setting of clearhead config is a flag too: --model.width 128, --optimizer.kind adamw."


def changes_of(args: argparse.Namespace, pairs: list[tuple[str, str]]) -> dict[str, Any]:
    """Return the settings that the flags change."""
    from clearhead.core.config import parse_flags

    dotted = {name.replace("-", "_") for name, _ in pairs}
    short = []
    for flag, key in SHORT_FLAGS.items():
        value = getattr(args, flag, None)
        if value is not None:
            if key in dotted:
                raise UserError(f"--{flag} and --{key} are the same setting; give one of them.")
            short.append((key, value))
    return parse_flags([*pairs, *short])


def layers(args: argparse.Namespace, pairs: list[tuple[str, str]]) -> list[dict[str, Any]]:
    """Return what is set over the preset, in the order in which it holds: the file, then flags."""
    from clearhead.core.toml import load_toml

    found = [load_toml(Path(args.config))] if args.config else []
    return [*found, changes_of(args, pairs)]


def task_of(found: list[dict[str, Any]]) -> str:
    """Return the kind of task that the settings name last."""
    tasks = [layer["task"] for layer in found if isinstance(layer.get("task"), dict)]
    return str(next((task["kind"] for task in reversed(tasks) if "kind" in task), "lm"))


def settings(args: argparse.Namespace, pairs: list[tuple[str, str]]) -> tuple[RunConfig, bool]:
    """Return the run's settings (preset, then file, then flags), and whether the context length was named."""
    from clearhead.training.config import override
    from clearhead.training.recipes import default_recipe, recipe

    found = layers(args, pairs)
    named = "context_length" in found[-1].get("model", {})
    if args.preset:
        return functools.reduce(override, found, recipe(args.preset)), named
    from clearhead.training.plan import before_plan

    return before_plan(found, recipe(default_recipe(task_of(found), named=bool(args.texts)))), named


def created(args: argparse.Namespace, pairs: list[tuple[str, str]], path: Path | None) -> Session:
    """Return a new run, ready to train."""
    from clearhead.training.fit import create
    from clearhead.training.plan import planner

    config, fixed_context = settings(args, pairs)
    out = console(stderr=True)
    notify: Callable[[str], None] = (lambda _: None) if args.quiet or args.json else out.print
    return create(
        args.texts,
        config,
        path,
        fixed_context=fixed_context,
        command=shlex.join(["clearhead", *sys.argv[1:]]),
        notify=notify,
        plan=None if args.preset else planner(config, layers(args, pairs), notify),
    )


def resumed(args: argparse.Namespace, pairs: list[tuple[str, str]]) -> Session:
    """Return a run opened where it was last saved."""
    from clearhead.core.run import select
    from clearhead.training.fit import resume

    given = [f"--{flag}" for flag in SHORT_FLAGS if getattr(args, flag) is not None and flag not in RESUME_FLAGS]
    given += [f"--{name}" for name, _ in pairs]
    given += [f"--{flag}" for flag in ("preset", "config", "run") if getattr(args, flag) is not None]
    if given or args.texts:
        raise UserError(
            f"--resume goes on with a run as it was begun, so {(given or args.texts)[0]} cannot be given; "
            "only --steps, --stop-after, --threads and --device can."
        )
    selection = select(args.resume, "last")
    if selection.step != "last":
        raise UserError(f"--resume goes on from the last saved step, so @{selection.step} cannot be given.")
    session = resume(
        selection,
        steps_in_all=whole_number("steps", args.steps),
        threads=whole_number("threads", args.threads),
        device=args.device,
    )
    if args.stop_after is not None and args.stop_after <= session.state.step:
        raise UserError(f"{session.run.path} is at step {session.state.step} already; --stop-after must be more.")
    if not args.quiet and not args.json:
        console(stderr=True).print(f"Resuming {session.run.path} at step {session.state.step}: {session.exactness}.")
    return session


def whole_number(flag: str, text: str | None) -> int | None:
    """Return a flag's value as a number above 0."""
    if text is None:
        return None
    if not text.isdecimal() or int(text) == 0:
        raise UserError(f"--{flag} must be a whole number above 0, not {text}.")
    return int(text)


class Interruption:
    """Ctrl-C and SIGTERM as a question to be asked after each step; a second one ends at once."""

    def __init__(self) -> None:
        self.number: int | None = None

    def __enter__(self) -> Interruption:
        self._before = {number: signal.signal(number, self._receive) for number in (signal.SIGINT, signal.SIGTERM)}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _receive(self, number: int, _frame: FrameType | None) -> None:
        if self.number is not None:
            raise KeyboardInterrupt
        self.number = number
        print("\nFinishing this step, then saving. Once more ends at once.", file=sys.stderr)

    def stop(self) -> StopReason | None:
        """Return the reason to stop, if there is one."""
        return None if self.number is None else "signal"

    @property
    def exit_code(self) -> int:
        """128 and the signal's number."""
        return 0 if self.number is None else 128 + self.number


def train_and_show(session: Session, args: argparse.Namespace) -> int:
    """Train a session to its end with a progress display, write the report, and say what to do next."""
    from clearhead.cli.summary import Summary, beginning, print_beginning, print_sources
    from clearhead.show import report
    from clearhead.show.progress import TrainingProgress
    from clearhead.training.fit import train

    summary = Summary(session)
    quiet = args.quiet or args.json
    out = console(stderr=quiet)
    if args.verbose and not quiet:
        print_sources(out, session)
    if not quiet:
        print_beginning(out, beginning(session), new=not session.state.step)
    with Interruption() as interruption, TrainingProgress(out, quiet=quiet) as progress:
        for event in train(session, stop=interruption.stop, stop_after=args.stop_after):
            line = event.to_dict()
            summary.take(line)
            progress.show(line)
    report.write(session.run.path)
    if args.json:
        print_json(summary.figures())
    elif args.quiet:
        print(session.run.path)
    else:
        summary.print_end(out, program())
    return interruption.exit_code or EXIT_CODES.get(summary.reason, 0)


def show_dry_run(args: argparse.Namespace, pairs: list[tuple[str, str]]) -> int:
    """Show what would be trained, and with --range-test which learning rates learn; the run's files do not stay."""
    from clearhead.cli.summary import beginning, print_beginning, print_range_test, print_sources
    from clearhead.core.run import require_free
    from clearhead.training.range_test import range_test

    if args.resume is not None:
        raise UserError("--dry-run is about a new run; clearhead runs show tells of one that is there.")
    if args.run is not None:
        require_free(Path(args.run))
    with tempfile.TemporaryDirectory(prefix="clearhead-dry-run-") as folder:
        session = created(args, pairs, Path(folder) / "run")
        facts, out = beginning(session), console()
        if not args.json:
            print_sources(out, session)
            print_beginning(out, facts, new=True)
        if args.range_test:
            found = range_test(session)
            facts["range_test"] = {
                "factors": found.factors.tolist(),
                "losses": found.losses.tolist(),
                "suggested": found.suggested,
                "sequences_per_step": found.sequences_per_step,
            }
            if not args.json:
                print_range_test(out, session, found)
        if args.json:
            print_json(facts)
    return 0
