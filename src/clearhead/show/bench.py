"""What a benchmark found: tables for the terminal, a page of Markdown, charts of loss against seconds."""

from __future__ import annotations

import io
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from clearhead.core.words import counted
from clearhead.show.readable import duration, percent

if TYPE_CHECKING:
    from rich.table import Table

Record = Mapping[str, Any]
"""The figures of one workload, as `clearhead bench --json` prints them."""

RATES = ("_per_second", "_gigaflops")
SHARES = ("_share", "share_of_peak")
LOSSES = ("_nats", "nats_per_character")


def terminal_table(record: Record) -> Table:
    """Return a row for each variant, with the median of each figure and its ends."""
    from clearhead.show.terminal import table

    columns, rows = cells(record)
    return table("", columns, rows)


def cells(record: Record) -> tuple[list[str], list[list[str]]]:
    """Return the names of a record's figures, the compared one first, and a line of figures for each variant."""
    names = list(dict.fromkeys([record["figure"], *(name for each in record["variants"] for name in each["summary"])]))
    rows = [
        [each["variant"], *(spread(name, each["summary"].get(name)) for name in names)] for each in record["variants"]
    ]
    return ["", *(name.replace("_", " ") for name in names)], rows


def spread(name: str, summary: Mapping[str, float | None] | None) -> str:
    """Return a median with its lowest and highest value; the median alone where there is no difference to be seen."""
    if summary is None:
        return ""
    if None in summary.values():
        return "not a number"
    median, low, high = (amount(name, summary[key]) for key in ("median", "low", "high"))
    return median if low == high else f"{median} ({low} to {high})"


def amount(name: str, value: float | None) -> str:
    """Return a figure as its name's unit asks for."""
    if value is None:
        return ""
    if name.endswith(SHARES):
        return f"{100 * value:.1f} %"
    if name.endswith(LOSSES):
        return f"{value:.4f}"
    if name.endswith(RATES):
        return f"{value:,.0f}"
    return f"{value:#.3g}" if abs(value) < 100 else f"{value:,.0f}"


def sentences(record: Record) -> list[str]:
    """Return what follows from a record's figures, and what speaks against them."""
    figure = record["figure"].replace("_", " ")
    said = []
    for each in record["ratios"]:
        first, second = (each["variant"], each["peer"])[:: 1 if record["best"] == "highest" else -1]
        if None in (each["median"], each["low"], each["high"]):
            said.append(f"The {figure} of {first} and {second} cannot be compared: not all are numbers.")
            continue
        said.append(
            f"{first} has {each['median']:.2f} times the {figure} of {second} "
            f"({each['low']:.2f} to {each['high']:.2f})."
        )
    return [*said, *record["warnings"]]


def circumstances(record: Record) -> str:
    """Return in a line where and how a record's figures were measured."""
    machine, others = record["machine"], record["share_of_others"]
    repetitions = counted(len(record["variants"][0]["samples"]), "repetition")
    processors = [
        f"{noun}s not known" if machine[f"{noun}s"] is None else counted(machine[f"{noun}s"], noun)
        for noun in ("core", "thread")
    ]
    parts = [
        machine.get("model") or machine["processor"],
        *processors,
        *([str(machine["gpu"])] if "gpu" in machine else []),
        f"torch {record['versions']['torch']}",
        "other load not known" if others is None else f"other load {percent(others, 1)}",
        f"{repetitions} in {duration(record['seconds'])}",
        f"commit {record['commit'] or 'not known'}",
        record["time"],
    ]
    return ", ".join(parts)


def markdown(records: Sequence[Record], charts: Mapping[str, str], purposes: Mapping[str, str]) -> str:
    """Return a page of all figures: each with its command, commit and machine.

    Args:
        charts: the file of a workload's chart, by workload, where there is one.
        purposes: what its figures are for, likewise.
    """
    lines = [
        "# What was measured",
        "",
        "Medians, with the lowest and the highest in brackets. Variants are measured in turn, each in a process of its "
        "own. This page is written by `clearhead bench report`.",
    ]
    for record in records:
        lines += ["", *section(record, charts.get(record["workload"]), purposes.get(record["workload"]))]
    return "\n".join(lines) + "\n"


def section(record: Record, chart_file: str | None, purpose: str | None) -> Iterator[str]:
    """Yield the lines of one workload."""
    columns, rows = cells(record)
    yield from (f"## {record['workload']}", "", " ".join(filter(None, (record["question"], purpose))), "")
    yield f"| {' | '.join(columns)} |"
    yield f"|{'---|' * len(columns)}"
    yield from (f"| {' | '.join(row)} |" for row in rows)
    yield ""
    yield from (f"- {sentence}" for sentence in sentences(record))
    if chart_file is not None:
        yield from ("", f"![Loss against seconds spent in steps]({chart_file})")
    yield from ("", f"`{record['command']}`", "", f"{circumstances(record)}.")


def has_curve(record: Record) -> bool:
    """Say whether something was trained whose loss was watched."""
    return any(sample["curve"] for each in record["variants"] for sample in each["samples"])


def chart(record: Record) -> str:
    """Return a picture of loss against seconds as SVG: a line for each run, a colour for each variant."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    from clearhead.show.palette import LINES

    figure = Figure(figsize=(7.2, 3.6), layout="constrained")
    axes = figure.add_subplot()
    for each, colour in zip(record["variants"], LINES * len(record["variants"]), strict=False):
        for number, sample in enumerate(each["samples"]):
            seconds, losses = zip(*map(drawable, sample["curve"]), strict=True) if sample["curve"] else ((), ())
            axes.plot(seconds, losses, color=colour, linewidth=1.2, label=None if number else each["variant"])
            end = drawable([sample["figures"].get(name) for name in ("step_seconds", "nats_per_character")])
            axes.plot(*end, "o", color=colour, markersize=4)
    axes.set(xlabel="seconds spent in steps", ylabel="validation loss (nats per character)")
    axes.legend(frameon=False)
    stream = io.StringIO()
    # Names inside an SVG are drawn by chance unless they are salted: the same figures make the same file.
    with rc_context({"svg.hashsalt": "clearhead"}):
        figure.savefig(stream, format="svg", metadata={"Date": None})
    svg = stream.getvalue()
    return svg[svg.index("<svg") :]


def drawable(point: Sequence[float | None]) -> list[float]:
    """Return numbers with a gap where there is none."""
    return [math.nan if value is None else value for value in point]
