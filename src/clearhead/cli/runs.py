"""What was trained."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from clearhead.cli.arguments import Parser, choose_action
from clearhead.cli.terminal import console, print_json
from clearhead.core.errors import CannotWrite, UserError
from clearhead.core.run import Run
from clearhead.show.readable import visible

if TYPE_CHECKING:
    from clearhead.training.reproduce import Reproduction

DAMAGED = 2
"""The exit code where files are not what was written."""

ACTIONS = {
    "list": "List the runs, the newest last.",
    "show": "Show what is known of a run, and write its report anew.",
    "verify": "Compare every file of a run with its hash, and name the last good step.",
    "reproduce": "Train a run anew from its own record, and compare the two hash by hash.",
    "size": "Say how much room runs take.",
    "remove": "Remove runs with all that is in them.",
}


def run(parser: Parser, arguments: Sequence[str]) -> int:
    """Do what was asked for with runs."""
    action, parser, rest = choose_action(parser, arguments, ACTIONS)
    actions = {
        "list": list_runs,
        "show": show_run,
        "verify": verify_run,
        "reproduce": reproduce_run,
        "size": measure_runs,
        "remove": remove_runs,
    }
    return actions[action](parser, rest)


def digest(run: Run) -> dict[str, Any]:
    """Return the figures of a run that a list shows."""
    from clearhead.core.events import read
    from clearhead.core.files import manifest

    manifest(run.path)  # of a format that is known
    description, events = run.describe(), read(run.path)
    evaluated = [e for e in events if e["event"] == "evaluated" and e["split"] == "validation"]
    stopped = [e for e in events if e["event"] == "stopped"]
    last = events[-1] if events else {"step": 0, "seconds": 0.0}
    return {
        "run": run.name,
        "path": str(run.path),
        "created": description.get("created"),
        "unit": description.get("unit", "token"),
        "parameters": description.get("parameters", {}).get("total"),
        "step": last["step"],
        "seconds": last["seconds"],
        "nats_per_token": evaluated[-1]["nats_per_token"] if evaluated else None,
        "bits_per_byte": evaluated[-1]["bits_per_byte"] if evaluated else None,
        "metrics": evaluated[-1].get("metrics", {}) if evaluated else {},
        "reason": stopped[-1]["reason"] if stopped else "imported" if "imported" in description else None,
    }


def digest_or_trouble(run: Run) -> dict[str, Any]:
    """Return a run's figures, or why its files cannot be read."""
    try:
        return digest(run)
    except UserError as error:
        return {"run": run.name, "path": str(run.path), "trouble": str(error)}


def list_runs(parser: Parser, arguments: Sequence[str]) -> int:
    """Print a line for each run, the oldest first; one that cannot be read is named as such."""
    parser.add_argument("--json", action="store_true", help="print as JSON")
    args = parser.parse(arguments)
    from clearhead.core.run import all_runs, runs_folder
    from clearhead.show.readable import duration
    from clearhead.show.terminal import table

    found = [digest_or_trouble(each) for each in all_runs()]
    if args.json:
        print_json(found)
        return 0
    if not found:
        console().print(f"There is no run in {runs_folder()} yet; clearhead train my.txt makes one.")
        return 0
    rows = [
        (each["run"], None, None, None, "", f"cannot be read: {each['trouble']}")
        if "trouble" in each
        else (
            each["run"],
            each["parameters"],
            each["step"],
            each["nats_per_token"],
            duration(each["seconds"]),
            each["reason"] or "not ended",
        )
        for each in found
    ]
    console().print(table(f"Runs in {runs_folder()}", ("run", "size", "step", "nats", "time", "ended by"), rows))
    return 0


def show_run(parser: Parser, arguments: Sequence[str]) -> int:
    """Print what is known of a run, and write its report anew."""
    parser.add_argument("run", metavar="RUN", help="which run: a path, a name below ./runs, or last")
    parser.add_argument("--json", action="store_true", help="print as JSON, with all settings")
    args = parser.parse(arguments)
    from clearhead.core.run import select
    from clearhead.show import report
    from clearhead.store.checkpoint import is_whole, sizes

    found = select(args.run, "best").run
    found.verify()
    steps = [{"step": step, "bytes": size, "whole": is_whole(found.step_folder(step))} for step, size in sizes(found)]
    figures = digest(found) | {"config": found.describe()["config"], "data": found.data(), "steps": steps}
    if args.json:
        print_json(figures)
        return 0
    print_figures(figures)
    try:
        console().print(f"Report: {report.write(found.path)}", soft_wrap=True)
    except CannotWrite as error:  # a run on a read-only disk can be looked at all the same
        console(stderr=True).print(f"The report was not written: {error}", soft_wrap=True)
    return 0


def verify_run(parser: Parser, arguments: Sequence[str]) -> int:
    """Print what is wrong with a run's files; the exit code is 2 where anything is."""
    parser.add_argument("run", metavar="RUN", help="which run: a path, a name below ./runs, or last")
    parser.add_argument("--json", action="store_true", help="print as JSON")
    args = parser.parse(arguments)
    from clearhead.store.integrity import inspect

    found = inspect(whole_run(args.run))
    if args.json:
        print_json(asdict(found) | {"whole": found.whole})
        return 0 if found.whole else DAMAGED
    out = console()
    for trouble in found.troubles:
        out.print(visible(trouble, keep=" "), soft_wrap=True)
    if found.leftovers:
        out.print(f"Unfinished: {', '.join(found.leftovers)}. The next --resume removes it.", soft_wrap=True)
    state = "is whole" if found.whole else f"is not whole ({len(found.troubles)} found)"
    step = "none to resume from" if found.last_good_step is None else found.last_good_step
    out.print(f"{found.run} {state}: {found.files} files compared, last good step {step}.", soft_wrap=True)
    return 0 if found.whole else DAMAGED


def reproduce_run(parser: Parser, arguments: Sequence[str]) -> int:
    """Train a run anew and print which hashes are equal; the exit code is 1 where one is not."""
    parser.add_argument("run", metavar="RUN", help="which run: a path, a name below ./runs, or last")
    parser.add_argument("--keep", metavar="DIR", help="keep the new run there")
    parser.add_argument("--json", action="store_true", help="print as JSON")
    args = parser.parse(arguments)
    from clearhead.core.run import require_free
    from clearhead.show.progress import TrainingProgress
    from clearhead.training.reproduce import reproduce

    run = whole_run(args.run)
    if args.keep is not None:
        require_free(Path(args.keep))
    with (
        tempfile.TemporaryDirectory(prefix="clearhead-reproduce-") as folder,
        TrainingProgress(console(stderr=True), quiet=args.json) as progress,
    ):
        path = Path(args.keep or Path(folder) / run.name)
        found = reproduce(run, path, lambda event: progress.show(event.to_dict()))
    if args.json:
        compared = [asdict(each) | {"equal": each.equal} for each in found.compared]
        print_json({"run": run.name, "equal": found.equal, "reasons": found.reasons, "compared": compared})
    else:
        print_compared(run, found)
    return 0 if found.equal else 1


def print_compared(run: Run, found: Reproduction) -> None:
    """Print the hashes of a run and of the run made anew."""
    from clearhead.show.terminal import table

    rows = [
        (each.name, each.recorded[:12], (each.rebuilt or "none")[:12], "equal" if each.equal else "differs")
        for each in found.compared
    ]
    out = console()
    out.print(table(f"{run.name}, trained anew", ("stored", "recorded", "made anew", ""), rows))
    differing = sum(not each.equal for each in found.compared)
    out.print("Every bit is the same." if found.equal else f"{differing} of {len(rows)} differ.")
    for reason in found.reasons:
        out.print(f"They may differ: {reason}.", soft_wrap=True)


def measure_runs(parser: Parser, arguments: Sequence[str]) -> int:
    """Print how much room each run takes, and what takes it."""
    parser.add_argument("runs", nargs="*", metavar="RUN", help="which runs (all)")
    parser.add_argument("--json", action="store_true", help="print as JSON")
    args = parser.parse(arguments)
    from clearhead.core.run import all_runs, runs_folder
    from clearhead.show.readable import byte_size
    from clearhead.show.terminal import table
    from clearhead.store.integrity import measure_room

    found = [measure_room(run) for run in (map(whole_run, args.runs) if args.runs else all_runs())]
    if args.json:
        print_json([asdict(each) | {"total": each.total} for each in found])
        return 0
    rows = [
        (each.run, *map(byte_size, (each.steps, each.events, each.leftovers, each.rest, each.total))) for each in found
    ]
    columns = ("run", "saved steps", "events", "unfinished", "rest", "total")
    console().print(table(f"Runs in {runs_folder()}" if not args.runs else "", columns, rows))
    console().print(f"Together: {byte_size(sum(each.total for each in found))}")
    return 0


def remove_runs(parser: Parser, arguments: Sequence[str]) -> int:
    """Remove runs, and say how much room that gives back."""
    parser.add_argument("runs", nargs="+", metavar="RUN", help="which runs: a path, a name below ./runs, or last")
    parser.add_argument("--json", action="store_true", help="print as JSON")
    args = parser.parse(arguments)
    from clearhead.core.run import remove
    from clearhead.show.readable import byte_size
    from clearhead.store.integrity import measure_room

    removed = []
    for run in [whole_run(name) for name in dict.fromkeys(args.runs)]:
        room = measure_room(run)
        remove(run)
        removed.append(asdict(room) | {"total": room.total})
        if not args.json:
            console().print(f"Removed {run.path}: {byte_size(room.total)}.", soft_wrap=True)
    if args.json:
        print_json(removed)
    return 0


def whole_run(text: str) -> Run:
    """Return the run that a user names without a step."""
    from clearhead.core.run import find

    name, at, step = text.rpartition("@")
    if at and not Path(text).is_dir():
        raise UserError(f"This is about the whole run, so @{step} cannot be given; type {name}.")
    return find(text)


def print_figures(figures: dict[str, Any]) -> None:
    """Print a run's figures as a table."""
    from clearhead.show.readable import byte_size, count, duration
    from clearhead.show.terminal import table

    nats, bits = figures["nats_per_token"], figures["bits_per_byte"]
    unit = figures["unit"]
    loss = "not measured yet" if nats is None else f"{nats:.4f} nats per {unit}"
    loss += "".join(f", {name.replace('_', ' ')} {value:.4f}" for name, value in figures["metrics"].items())
    rows = {
        "path": figures["path"],
        "created": figures["created"],
        "parameters": count(figures["parameters"] or 0),
        "text": figures["data"]["split"]["description"],
        "step": count(figures["step"]),
        "time": duration(figures["seconds"]),
        "ended by": figures["reason"] or "not ended",
        "validation": loss if bits is None else f"{loss}, {bits:.4f} bits per byte",
    }
    saved = figures["steps"]
    if saved:
        size = byte_size(sum(step["bytes"] for step in saved))
        rows["saved steps"] = f"{', '.join(str(step['step']) for step in saved)} ({size})"
    if damaged := [str(step["step"]) for step in saved if not step["whole"]]:
        rows["damaged steps"] = ", ".join(damaged)
    console().print(table("", ("run", figures["run"]), list(rows.items())))
