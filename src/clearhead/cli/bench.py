"""Measure how fast this program learns and writes on this machine, beside peers, each in turn."""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from clearhead.cli.arguments import Parser, dotted_flags, positive
from clearhead.cli.terminal import console, print_json
from clearhead.core.errors import UserError

if TYPE_CHECKING:
    from clearhead.lab.bench.workload import Request

EPILOG = """\
clearhead bench list                    what can be measured
clearhead bench                         all that does not take long
clearhead bench decode --nanogpt PATH   one group, beside nanoGPT
clearhead bench report FILE --to PAGE   what --out FILE has kept, as Markdown with charts

Settings such as --train.steps 110 change our recipe where something is trained to a level.

--out puts figures in the place of the same workload's. It refuses to where variants (such as a peer's) or repetitions
would become fewer, unless --replace is given or they are --quick figures, which never come beside those of full
length."""


def run(parser: Parser, arguments: Sequence[str]) -> int:
    """List, measure or report."""
    actions = {"list": list_workloads, "report": report}
    # Without an action workloads are named, so none is asked for as other verbs do.
    if arguments and arguments[0] in actions:
        action = actions[arguments[0]]
        inner = type(parser)(prog=f"{parser.prog} {arguments[0]}", description=action.__doc__)
        return action(inner, arguments[1:])
    return measure(parser, arguments)


def list_workloads(parser: Parser, arguments: Sequence[str]) -> int:
    """Print a line for each workload."""
    parser.add_argument("--json", action="store_true", help="print as JSON")
    args = parser.parse(arguments)
    from clearhead.lab.bench.catalogue import WORKLOADS
    from clearhead.show.terminal import table

    facts = [(each.name, each.group, each.question, each.minutes) for each in WORKLOADS.values()]
    columns = ("workload", "group", "question", "minutes")
    if args.json:
        print_json([dict(zip(columns, each, strict=True)) for each in facts])
    else:
        console().print(table("", columns, [(*each[:3], f"{each[3]:g}") for each in facts]))
    return 0


def add_arguments(parser: Parser) -> None:
    """Declare the flags of measuring."""
    add = parser.add_argument
    add("names", nargs="*", metavar="NAME", help="workloads or groups (all that do not take long)")
    add("--quick", action="store_true", help="one short repetition of each: to see that it works")
    add("--repetitions", type=positive, metavar="N", help="how often each variant is measured (3 to 5)")
    add("--threads", type=positive, metavar="N", help="CPU threads, for us and for peers (all cores)")
    add("--text", metavar="FILE", help="tiny Shakespeare (./shakespeare.txt, where clearhead data get puts it)")
    add("--nanogpt", metavar="DIR", help="a checkout of nanoGPT, to be measured too")
    add("--transformers", action="store_true", help="measure the library transformers too")
    add("--out", metavar="FILE", help="keep the figures there, as JSON, beside those of other workloads")
    add("--replace", action="store_true", help="with --out: older figures may be lost")
    add("--json", action="store_true", help="print as JSON")
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = EPILOG


def measure(parser: Parser, arguments: Sequence[str]) -> int:
    """Measure what is named, and print it workload by workload."""
    rest, pairs = dotted_flags(arguments)
    add_arguments(parser)
    args = parser.parse(rest)
    if args.replace and args.out is None:
        raise UserError("--replace says what --out may do; give both, or neither.")
    from clearhead.lab.bench import record, runner
    from clearhead.lab.bench.catalogue import choose, unused_peers
    from clearhead.lab.bench.levels import require_settings

    request = request_of(args, pairs)
    err = console(stderr=True)
    chosen, left_out = choose(args.names, request)
    for sentence in (*left_out, *unused_peers(chosen, request)):
        err.print(sentence, soft_wrap=True)
    require_settings(chosen, request)
    coming = [runner.expected(each, request) for each in chosen]
    out = None if args.out is None else Path(args.out)
    if out is not None and (replaced := record.require_room(out, coming, replace=args.replace)):
        err.print(f"{out} has figures of {', '.join(replaced)} already; new ones take their place.", soft_wrap=True)
    command, found = shlex.join(["clearhead", *map(without_folder, sys.argv[1:])]), []
    with err.status("Preparing ...") as status:
        for workload in chosen:
            found.append(
                runner.run(
                    workload,
                    request,
                    command=command,
                    tell=lambda what, name=workload.name: status.update(f"{name}: {what} ..."),
                )
            )
            if not args.json:
                show(found[-1])
            if out is not None:
                record.add(out, found[-1], replace=args.replace)
    if args.json:
        print_json(found)
    return 0


def request_of(args: argparse.Namespace, pairs: Sequence[tuple[str, str]]) -> Request:
    """Return what the flags ask for."""
    from clearhead.core.config import parse_flags
    from clearhead.core.runtime import available_cores, choose_threads
    from clearhead.lab.bench.workload import Request

    parse_flags(pairs)  # refuses what is given twice
    return Request(
        quick=args.quick,
        repetitions=args.repetitions,
        threads=available_cores() if args.threads is None else choose_threads(args.threads),
        text=Path(args.text) if args.text else None,
        nanogpt=Path(args.nanogpt) if args.nanogpt else None,
        transformers=args.transformers,
        changes={f"--{name.replace('-', '_')}": value for name, value in pairs},
    )


def without_folder(word: str) -> str:
    """Return a word of a command as it may be published: of a file that is named from the root on, its name."""
    flag, equals, value = word.rpartition("=")
    return flag + equals + (Path(value).name if Path(value).is_absolute() else value)


def show(found: dict[str, Any]) -> None:
    """Print the figures of one workload."""
    from clearhead.show.bench import circumstances, sentences, terminal_table

    out = console()
    out.print(f"{found['workload']}: {found['question']}", soft_wrap=True)
    out.print(terminal_table(found))
    for sentence in sentences(found):
        out.print(sentence, soft_wrap=True)
    out.print(f"{circumstances(found)}.\n", soft_wrap=True)


def report(parser: Parser, arguments: Sequence[str]) -> int:
    """Write a page of what was kept."""
    parser.add_argument("file", metavar="FILE", help="what clearhead bench --out FILE wrote")
    parser.add_argument(
        "--to", default="RESULTS.md", metavar="PAGE", help="the page; charts lie beside it (RESULTS.md)"
    )
    args = parser.parse(arguments)
    from clearhead.lab.bench import record, stored
    from clearhead.lab.bench.catalogue import purposes

    kept = stored.read(Path(args.file))
    if not kept:
        raise UserError(f"There are no figures in {args.file}; clearhead bench --out {args.file} measures some.")
    if Path(args.to).resolve() == Path(args.file).resolve():
        raise UserError(f"{args.file} holds the figures themselves; name another file by --to.")
    for path in record.write_report(list(kept.values()), Path(args.to), purposes()):
        print(path)
    return 0
