"""What was trained."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from clearhead.cli.arguments import Parser, choose_action
from clearhead.cli.terminal import console, print_json
from clearhead.core.errors import UserError
from clearhead.core.run import Run

ACTIONS = {
    "list": "List the runs, the newest last.",
    "show": "Show what is known of a run, and write its report anew.",
}


def run(parser: Parser, arguments: Sequence[str]) -> int:
    """List or show."""
    action, parser, rest = choose_action(parser, arguments, ACTIONS)
    {"list": list_runs, "show": show_run}[action](parser, rest)
    return 0


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
        "unit": run.describe().get("unit", "token"),
        "parameters": run.describe().get("parameters", {}).get("total"),
        "step": last["step"],
        "seconds": last["seconds"],
        "nats_per_token": evaluated[-1]["nats_per_token"] if evaluated else None,
        "bits_per_byte": evaluated[-1]["bits_per_byte"] if evaluated else None,
        "metrics": evaluated[-1].get("metrics", {}) if evaluated else {},
        "reason": stopped[-1]["reason"] if stopped else None,
    }


def digest_or_damage(run: Run) -> dict[str, Any]:
    """Return a run's figures, or what is wrong with its files."""
    try:
        return digest(run)
    except UserError as error:
        return {"run": run.name, "path": str(run.path), "damage": str(error)}


def list_runs(parser: Parser, arguments: Sequence[str]) -> None:
    """Print a line for each run, the oldest first; a damaged one is named as such."""
    parser.add_argument("--json", action="store_true", help="print as JSON")
    args = parser.parse(arguments)
    from clearhead.core.run import all_runs, runs_folder
    from clearhead.show.readable import duration
    from clearhead.show.terminal import table

    found = [digest_or_damage(each) for each in all_runs()]
    if args.json:
        print_json(found)
        return
    if not found:
        console().print(f"There is no run in {runs_folder()} yet; clearhead train my.txt makes one.")
        return
    rows = [
        (each["run"], None, None, None, "", f"damaged: {each['damage']}")
        if "damage" in each
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


def show_run(parser: Parser, arguments: Sequence[str]) -> None:
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
        return
    print_figures(figures)
    console().print(f"Report: {report.write(found.path)}", soft_wrap=True)


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
