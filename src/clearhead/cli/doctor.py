"""Check every device of this machine: are its numbers right, how fast is it, what is missing; in about 20 seconds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from clearhead.cli.arguments import Parser, positive
from clearhead.cli.terminal import console, print_json

if TYPE_CHECKING:
    from clearhead.training.devices import DeviceReport, Examination


def run(parser: Parser, arguments: Sequence[str]) -> int:
    """Examine, print what was found and what follows; exit code 1 if a device computes wrong numbers."""
    parser.add_argument("--preset", metavar="NAME", help="whose shapes are checked (tiny and modern)")
    parser.add_argument("--seconds", type=positive, default=20, metavar="N", help="about how long it may take (20)")
    parser.add_argument("--json", action="store_true", help="print as JSON")
    args = parser.parse(arguments)
    from clearhead.core.extras import missing
    from clearhead.core.run import machine, versions
    from clearhead.model.family_config import as_language_model
    from clearhead.model.shapes import SIZES
    from clearhead.training.devices import examine, verdicts
    from clearhead.training.recipes import recipe

    names = (args.preset,) if args.preset else ("tiny", "modern")
    checked = {name: as_language_model(recipe(name).model) for name in names}
    with console(stderr=True).status("Checking ...") as status:
        found = examine(
            checked, SIZES, seconds=float(args.seconds), notify=lambda what: status.update(f"Checking {what} ...")
        )
    absent, sentences = missing(), verdicts(found)
    if args.json:
        facts = {"machine": machine(), "versions": versions(), **as_values(found)}
        print_json(facts | {"missing": [asdict(each) for each in absent], "verdicts": sentences})
    else:
        show(found)
        out = console()
        out.print("\n".join(sentences), soft_wrap=True)
        for each in absent:
            out.print(f"Not installed: {each.name}, for {each.needed_for}. Try: {each.try_}", soft_wrap=True)
    return 0 if all(device.right for device in found.devices) else 1


def as_values(found: Examination) -> dict[str, Any]:
    """Return an examination as JSON values; what is not finite becomes null."""
    from clearhead.core.events import finite_or_null

    values: dict[str, Any] = finite_or_null(asdict(found))
    for device, report in zip(values["devices"], found.devices, strict=True):
        device["right"] = report.right
    return values


def show(found: Examination) -> None:
    """Print an examination as tables."""
    from clearhead.show.terminal import table

    out = console()
    for device in found.devices:
        out.print(
            table(f"{device.name}: {device.description}", ("model", "precision", "off by", ""), check_rows(device))
        )
    columns = ("training, tokens a second", *(device.name for device in found.devices))
    out.print(table("", columns, speed_rows(found.devices)))
    rates = ", ".join(f"{threads}: {rate:,.0f}" for threads, rate in found.threads.items())
    out.print(f"Tokens a second of {found.devices[0].speeds[0].model} on the CPU by threads: {rates}.")


def check_rows(device: DeviceReport) -> list[tuple[str, str, str, str]]:
    """Return a row for each check of a device."""
    return [
        (
            check.model,
            check.precision,
            f"loss {check.deviation.loss:.1e}, gradient {check.deviation.gradient:.1e}",
            "right" if check.right else f"WRONG ({check.deviation.worst})",
        )
        for check in device.checks
    ]


def speed_rows(devices: Sequence[DeviceReport]) -> list[tuple[str, ...]]:
    """Return a row for each size of model, with a column for each device."""
    from clearhead.show.readable import short_count

    rows = []
    for speeds in zip(*(device.speeds for device in devices), strict=True):
        rates = [speed.tokens_per_second for speed in speeds]
        cells = ["too slow to try" if rate is None else f"{rate:,.0f}" for rate in rates]
        rows.append((f"{speeds[0].model}, {short_count(speeds[0].parameters)} parameters", *cells))
    return rows
