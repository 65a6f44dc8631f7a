"""Measures the variants of a workload in turn: A B A B, so that whatever changes on the machine meets all of them."""

from __future__ import annotations

import math
import platform
import statistics
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from clearhead.core.events import finite_or_null
from clearhead.core.run import machine, versions
from clearhead.core.runtime import describe_device
from clearhead.lab.bench.load import TOO_MUCH, LoadMeter
from clearhead.lab.bench.record import Outline
from clearhead.lab.bench.workload import Request, Sample, Variant, Workload
from clearhead.show.readable import percent

Tell = Callable[[str], None]

ENOUGH = 0.8
"""The share of runs that have to reach a level."""


@dataclass(frozen=True, slots=True)
class Measured:
    """What was found about a variant, in the order of the repetitions."""

    variant: Variant
    samples: Sequence[Sample]

    def values(self, figure: str) -> list[float]:
        """Return one figure of all repetitions."""
        return [sample.figures[figure] for sample in self.samples]


def interleaved(
    variants: Sequence[Variant], repetitions: int, *, warm_up: bool = True, tell: Tell = lambda _: None
) -> list[Measured]:
    """Prepare all variants, then measure each of them once, each once more, and so on.

    Args:
        warm_up: begin with a round that does not count.
        tell: told in a few words what is being done.
    """
    with ExitStack() as stack:
        ready = []
        for variant in variants:
            tell(f"preparing {variant.name}")
            ready.append(stack.enter_context(variant.prepare()))
        samples: list[list[Sample]] = [[] for _ in variants]
        for number in range(0 if warm_up else 1, repetitions + 1):
            for variant, repeat, found in zip(variants, ready, samples, strict=True):
                tell(f"{variant.name}, {f'{number} of {repetitions}' if number else 'warming up'}")
                sample = repeat(number)
                if number:
                    found.append(sample)
    return [Measured(variant, found) for variant, found in zip(variants, samples, strict=True)]


def run(workload: Workload, request: Request, *, command: str, tell: Tell = lambda _: None) -> dict[str, Any]:
    """Measure a workload, and return what was found and under which circumstances, as JSON values."""
    repetitions, variants = repetitions_of(workload, request), workload.variants(request)
    meter, began = LoadMeter(), time.monotonic()
    found = interleaved(variants, repetitions, warm_up=not workload.cold, tell=tell)
    others = meter.share_of_others()
    record = {
        "workload": workload.name,
        "question": workload.question,
        "figure": workload.figure,
        "best": workload.best,
        "quick": request.quick,
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "seconds": round(time.monotonic() - began, 1),
        "command": command,
        "commit": commit(),
        "machine": {**machine(), **hardware(), **graphics(workload), "threads": request.threads},
        "versions": versions(),
        "share_of_others": others,
        "warnings": [
            *warnings(others, quick=request.quick),
            *workload.notes(request),
            *missed(workload, found),
        ],
        "variants": [described(each) for each in found],
        "ratios": ratios(workload, found),
    }
    values: dict[str, Any] = finite_or_null(record)
    return values


def repetitions_of(workload: Workload, request: Request) -> int:
    """Return how often each variant is measured."""
    return request.repetitions or (1 if request.quick else workload.repetitions)


def expected(workload: Workload, request: Request) -> Outline:
    """Return what a record will have once it is measured.

    Raises:
        UserError: a peer that was asked for is not there.
    """
    return Outline(
        workload=workload.name,
        quick=request.quick,
        variants=[each.name for each in workload.variants(request)],
        repetitions=repetitions_of(workload, request),
    )


def warnings(share_of_others: float | None, *, quick: bool) -> list[str]:
    """Return why figures are not to be trusted."""
    said = ["This was a quick look: the figures tell nothing."] if quick else []
    if share_of_others is None:
        said.append("What other programs took of this machine is not known.")
    elif share_of_others > TOO_MUCH:
        said.append(
            f"Other programs took {percent(share_of_others, 1)} of this machine: measure again when it is idle."
        )
    return said


def missed(workload: Workload, found: Sequence[Measured]) -> list[str]:
    """Return which of ours did not reach the workload's level often enough."""
    said = []
    for measured in (each for each in found if each.variant.ours and workload.level is not None):
        losses = measured.values("nats_per_character")
        reached = sum(loss <= (workload.level or 0.0) for loss in losses)
        if reached < ENOUGH * len(losses):
            said.append(f"{measured.variant.name}: {reached} of {len(losses)} runs reached {workload.level}.")
    return said


def described(measured: Measured) -> dict[str, Any]:
    """Return a variant's samples, and the median and the ends of each figure."""
    names = measured.samples[0].figures
    return {
        "variant": measured.variant.name,
        "ours": measured.variant.ours,
        "summary": {name: summary(measured.values(name)) for name in names},
        "samples": [{"figures": dict(each.figures), "curve": list(each.curve)} for each in measured.samples],
    }


def summary(values: Sequence[float]) -> dict[str, float]:
    """Return the median, the lowest and the highest of some values; none of them where one is not a number."""
    if any(map(math.isnan, values)):
        # In whatever order these are sorted, what comes out is chance.
        return dict.fromkeys(("median", "low", "high"), math.nan)
    return {"median": statistics.median(values), "low": min(values), "high": max(values)}


def ratios(workload: Workload, found: Sequence[Measured]) -> list[dict[str, Any]]:
    """Return how many times better each of ours is than each peer, repetition by repetition."""
    lines = []
    for ours in (each for each in found if each.variant.ours):
        for peer in (each for each in found if not each.variant.ours):
            pairs = zip(ours.values(workload.figure), peer.values(workload.figure), strict=True)
            times = [mine / theirs if workload.best == "highest" else theirs / mine for mine, theirs in pairs]
            lines.append({"variant": ours.variant.name, "peer": peer.variant.name, **summary(times)})
    return lines


def hardware(cpuinfo: Path = Path("/proc/cpuinfo")) -> Mapping[str, Any]:
    """Return the name of the processor and what of its instructions matters here, as far as the system tells."""
    described = {"release": platform.release()}
    if cpuinfo.exists():
        lines = [line.partition(":") for line in cpuinfo.read_text().splitlines()]
        fields = {name.strip(): value.strip() for name, _, value in reversed(lines)}
        described["model"] = fields.get("model name", "")
        wanted = ("avx2", "avx512f", "avx512_bf16", "amx_bf16")
        described["instructions"] = " ".join(name for name in wanted if name in fields.get("flags", "").split())
    return described


def graphics(workload: Workload) -> Mapping[str, str]:
    """Return the name of the GPU, where a workload is measured on one."""
    return {"gpu": describe_device("cuda")} if workload.needs_gpu else {}


def commit() -> str | None:
    """Return the commit of this source, with "-dirty" where it was changed; None where it is installed without git."""
    git = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty"]
    try:
        said = subprocess.run(git, capture_output=True, text=True, check=False)
    except OSError:
        return None
    return said.stdout.strip() or None
