"""What was trained: `runs list`, `runs show RUN`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from clearhead.cli.main import Parser
from clearhead.cli.terminal import console, print_json
from clearhead.core.errors import UserError
from clearhead.core.run import Run


def run(parser: Parser, arguments: Sequence[str]) -> int:
    """List or show."""
    parser.add_argument("action", choices=["list", "show"], help="what to do")
    parser.add_argument("run", nargs="?", metavar="RUN", help="for show: which run")
    parser.add_argument("--json", action="store_true", help="print as JSON")
    args = parser.parse(arguments)
    if args.action == "list":
        return list_runs(as_json=args.json)
    if not args.run:
        raise UserError("Name the run to show, such as clearhead runs show last.")
    return show_run(args.run, as_json=args.json)


def digest(run: Run) -> dict[str, Any]:
    """Return the figures of a run that a list shows."""
    from clearhead.core.events import read

    events = read(run.path)
    evaluated = [e for e in events if e["event"] == "evaluated" and e["split"] == "validation"]
    stopped = [e for e in events if e["event"] == "stopped"]
    last = events[-1] if events else {"step": 0, "seconds": 0.0}
    return {
        "run": run.name,
        "path": str(run.path),
        "created": run.describe().get("created"),
        "parameters": run.describe().get("parameters", {}).get("total"),
        "step": last["step"],
        "seconds": last["seconds"],
        "nats_per_token": evaluated[-1]["nats_per_token"] if evaluated else None,
        "bits_per_byte": evaluated[-1]["bits_per_byte"] if evaluated else None,
        "reason": stopped[-1]["reason"] if stopped else None,
    }


def list_runs(*, as_json: bool) -> int:
    """Print a line for each run, the oldest first; a damaged one is named as such."""
    from clearhead.core.run import all_runs, runs_folder
    from clearhead.show.readable import count, duration
    from clearhead.show.terminal import table

    rows, found = [], []
    for each in all_runs():
        try:
            figures = digest(each)
        except UserError as error:
            rows.append((each.name, "damaged", "", "", "", str(error)))
            continue
        found.append(figures)
        loss = figures["nats_per_token"]
        rows.append(
            (
                figures["run"],
                count(figures["parameters"] or 0),
                count(figures["step"]),
                "" if loss is None else f"{loss:.4f}",
                duration(figures["seconds"]),
                figures["reason"] or "not stopped",
            )
        )
    if as_json:
        print_json(found)
    elif rows:
        console().print(table(f"Runs in {runs_folder()}", ("run", "parameters", "step", "nats", "time", "ended"), rows))
    else:
        console().print(f"There is no run in {runs_folder()} yet; clearhead train my.txt makes one.")
    return 0


def show_run(name: str, *, as_json: bool) -> int:
    """Print what is known of a run, and write its report anew."""
    from clearhead.core.run import select
    from clearhead.show import report
    from clearhead.store.checkpoint import is_whole, sizes

    found = select(name, "best").run
    found.verify()
    steps = [{"step": step, "bytes": size, "whole": is_whole(found.step_folder(step))} for step, size in sizes(found)]
    figures = digest(found) | {"config": found.describe()["config"], "data": found.data(), "steps": steps}
    if as_json:
        print_json(figures)
        return 0
    from clearhead.show.readable import byte_size
    from clearhead.show.terminal import table

    out = console()
    shown = [(key, str(figures[key])) for key in ("path", "created", "parameters", "step", "seconds", "reason")]
    shown += [("loss", f"{figures['nats_per_token']} nats per token, {figures['bits_per_byte']} bits per byte")]
    shown += [("text", figures["data"]["split"]["description"])]
    out.print(table(f"Run {found.name}", ("", ""), shown))
    rows = [(str(s["step"]), byte_size(s["bytes"]), "whole" if s["whole"] else "damaged") for s in steps]
    out.print(table("Saved steps", ("step", "size", ""), rows))
    out.print(f"Report: {report.write(found.path)}", soft_wrap=True)
    return 0
