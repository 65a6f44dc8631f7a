"""How soon a recipe reaches a loss on tiny Shakespeare, and which loss it reaches in a given time."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from clearhead.core.config import parse_flags
from clearhead.core.errors import UserError
from clearhead.core.events import read
from clearhead.core.runtime import choose_device, choose_threads
from clearhead.lab.bench import nanogpt
from clearhead.lab.bench.nanogpt import NanoGpt, read_log
from clearhead.lab.bench.processes import OURS, run_program
from clearhead.lab.bench.variants import OURS as WORKER
from clearhead.lab.bench.worker import worker
from clearhead.lab.bench.workload import Flags, Repeat, Request, Sample, Variant, Workload
from clearhead.training import recipes
from clearhead.training.config import LENGTHS, override

NANOGPT_CPU_SECONDS = 113.0
"""The cold wall time of nanoGPT's command on two Zen 4 cores; measured anew where nanoGPT is given."""

COLD_SECONDS = 5.0
"""What a run takes beside the minutes that it is given: imports, reading, the last evaluation, the report."""

LENGTH_FLAGS = frozenset(f"--train.{length}" for length in LENGTHS)
QUICK_STEPS = {"--train.steps": "3"}
QUICK_NANOGPT = (
    *("--max_iters=2", "--lr_decay_iters=2", "--eval_interval=2", "--eval_iters=1"),
    "--always_save_checkpoint=True",
)


@dataclass
class Budget:
    """The seconds that a run may take from its start to its end."""

    seconds: float


@contextmanager
def runs_of_ours(request: Request, flags: Callable[[], Flags], *, halves: bool = False) -> Iterator[Repeat]:
    """Give what trains a new run, seed by seed.

    Args:
        flags: asked for a run's flags when it begins.
        halves: tell the loss on each half of the validation part too.
    """
    text = request.shakespeare().absolute()
    with tempfile.TemporaryDirectory(prefix="clearhead-bench-") as home:

        def repeat(seed: int) -> Sample:
            folder = Path(home, f"seed-{seed}")
            folder.mkdir()
            settings = [word for pair in flags().items() for word in pair]
            arguments: tuple[str | Path, ...] = (
                "train",
                text,
                "--run",
                "run",
                "--seed",
                str(seed),
                "--quiet",
                *settings,
            )
            ended = run_program((*OURS, *arguments), threads=request.threads, folder=folder)
            figures, curve = outcome(folder / "run")
            if halves:
                task = {"task": "halves", "run": str(folder / "run")}
                with worker(WORKER, task, threads=request.threads) as score:
                    figures |= score(0).figures
            return Sample(figures={"wall_seconds": ended.seconds, **figures}, curve=curve)

        yield repeat


def outcome(run: Path) -> tuple[dict[str, float], list[tuple[float, float]]]:
    """Return what a run's events say: seconds in steps and the last loss by the whole rule, and the way there."""
    found = [line for line in read(run) if line["event"] == "evaluated" and line["split"] == "validation"]
    curve = [(line["train_seconds"], nats_per_character(line)) for line in found if line["sampled"]]
    last = [line for line in found if not line["sampled"]][-1]
    figures = {"step_seconds": last["train_seconds"], "nats_per_character": nats_per_character(last)}
    return figures, curve


def nats_per_character(line: Mapping[str, Any]) -> float:
    """Return the loss of an evaluation for each character, whatever its tokens are: Shakespeare's are a byte each."""
    bits: float = line["bits_per_byte"]
    return math.log(2) * bits


@contextmanager
def runs_of_nanogpt(request: Request, budget: Budget) -> Iterator[Repeat]:
    """Give what runs nanoGPT's documented command and scores its last checkpoint; its seed is fixed."""
    assert request.nanogpt is not None
    text = request.shakespeare().absolute()
    with nanogpt.prepared(request.nanogpt, text, threads=request.threads) as peer:
        yield lambda _: trained_by_nanogpt(peer, request, budget)


def trained_by_nanogpt(peer: NanoGpt, request: Request, budget: Budget) -> Sample:
    """Run its command once; what our scoring takes does not count."""
    ended = peer.train(*(QUICK_NANOGPT if request.quick else ()))
    budget.seconds = ended.seconds
    log = read_log(ended.said)
    figures = {"wall_seconds": ended.seconds, "step_seconds": log.step_seconds, "nats_per_character": peer.score()}
    return Sample(figures=figures, curve=log.curve)


def recipe(request: Request, flags: Flags) -> Flags:
    """Return a recipe's flags with what the request changes; of several lengths the one that is named last holds."""
    for changes in (QUICK_STEPS if request.quick else {}, request.changes):
        if LENGTH_FLAGS & changes.keys():
            flags = {name: value for name, value in flags.items() if name not in LENGTH_FLAGS}
        flags = {**flags, **changes}
    return flags


def require_settings(chosen: Sequence[Workload], request: Request) -> None:
    """Refuse changes of our recipes that would not be used, or that training would refuse later.

    Raises:
        UserError: names the first of them.
    """
    if not request.changes:
        return
    trained = [each for each in chosen if each.recipes]
    if not trained:
        users = sorted({each.group for each in WORKLOADS})
        raise UserError(
            f"Nothing that is measured here has a use for {next(iter(request.changes))}; of the groups of clearhead "
            f"bench list, {', '.join(users[:-1])} and {users[-1]} take settings."
        )
    for workload in trained:
        lengths = [name for name in request.changes if name in LENGTH_FLAGS]
        if lengths and workload.own_length:
            raise UserError(f"{workload.name} says itself how long its runs take; leave {lengths[0]} out.")
        for flags in workload.recipes:
            require_recipe(recipe(request, flags))


def require_recipe(flags: Flags) -> None:
    """Refuse flags that training would refuse."""
    pairs = [(name.removeprefix("--"), value) for name, value in flags.items() if name != "--preset"]
    train = override(recipes.recipe(flags["--preset"]), parse_flags(pairs)).train
    if train.threads is not None:
        choose_threads(train.threads)
    if train.device is not None:
        choose_device(train.device)


def to_level(flags: Flags, request: Request, *, beside_nanogpt: bool, halves: bool = False) -> list[Variant]:
    """Return a recipe of fixed length."""
    own = partial(runs_of_ours, request, lambda: recipe(request, flags), halves=halves)
    return [
        *([theirs(request, Budget(0.0))] if beside_nanogpt and request.nanogpt else []),
        Variant(name="ours", prepare=own),
    ]


def in_time(recipes: Mapping[str, Flags], request: Request) -> list[Variant]:
    """Return recipes that take as long as nanoGPT's command took the time before."""
    budget = Budget(NANOGPT_CPU_SECONDS)

    def flags(given: Flags) -> Flags:
        return recipe(request, {**given, "--train.minutes": f"{(budget.seconds - COLD_SECONDS) / 60:.3f}"})

    found = [theirs(request, budget)] if request.nanogpt else []
    for name, given in recipes.items():
        found.append(Variant(name=f"ours, {name}", prepare=partial(runs_of_ours, request, partial(flags, given))))
    return found


def not_measured(request: Request) -> list[str]:
    """Say that the time of a run was not measured beside it, where that is so."""
    if request.nanogpt is not None or request.quick:
        return []
    return [
        f"The time was not measured in this run: ours had {NANOGPT_CPU_SECONDS:g} s, which nanoGPT's command took on "
        "two Zen 4 cores; --nanogpt DIR measures it here."
    ]


def theirs(request: Request, budget: Budget) -> Variant:
    """Return nanoGPT's documented command."""
    return Variant(name="nanoGPT", prepare=partial(runs_of_nanogpt, request, budget), ours=False)


SMALL = {
    "--preset": "tiny",
    "--model.num_layers": "3",
    "--model.num_heads": "2",
    "--train.steps": "66",
    "--train.sequences_per_step": "24",
    "--train.evaluate_every": "66",
    "--optimizer.learning_rate": "0.06",
    "--optimizer.gain_learning_rate": "0.06",
    "--optimizer.head_learning_rate": "0.02",
    "--schedule.kind": "wsd",
    "--schedule.decay_share": "0.7",
}
"""For a run of seconds: three layers, small batches, higher rates that stay high for a while (docs/log.md)."""

PIECES = {"--preset": "modern", "--tokenizer.kind": "bpe", "--tokenizer.vocabulary_size": "1024"}
LARGER = {**PIECES, "--train.steps": "165"}
LONGEST = {
    **PIECES,
    "--model.num_layers": "8",
    "--model.context_length": "512",
    "--model.dropout": "0.1",
    "--optimizer.weight_decay": "0.2",
    "--train.sequences_per_step": "8",
    "--train.steps": "320",
}
"""It ends long before the hour does: more steps, also with more dropout, did not help (docs/log.md)."""

IN_TIME = {
    "context 64": {"--preset": "tiny"},
    "context 128": {
        "--preset": "tiny",
        "--model.context_length": "128",
        "--model.num_heads": "2",
        "--train.sequences_per_step": "16",
    },
}

WORKLOADS = (
    Workload(
        name="level-1.898",
        group="level",
        question="How long until 0.8M parameters are as good as nanoGPT's command for a CPU makes them at its end?",
        figure="wall_seconds",
        best="lowest",
        variants=partial(to_level, SMALL, beside_nanogpt=True),
        recipes=(SMALL,),
        minutes=2.5,
        needs_text=True,
        cold=True,
        level=1.898,
    ),
    Workload(
        name="budget",
        group="budget",
        question="How good do 0.8M parameters become in the time of nanoGPT's command for a CPU?",
        figure="nats_per_character",
        best="lowest",
        variants=partial(in_time, IN_TIME),
        recipes=tuple(IN_TIME.values()),
        own_length=True,
        notes=not_measured,
        minutes=19.0,
        needs_text=True,
        cold=True,
    ),
    Workload(
        name="level-1.4697",
        group="long",
        question="How long until a model of at most 11M is, per character, as good as what nanoGPT publishes?",
        figure="wall_seconds",
        best="lowest",
        variants=partial(to_level, LARGER, beside_nanogpt=False),
        recipes=(LARGER,),
        minutes=4.5,
        needs_text=True,
        cold=True,
        level=1.4697,
    ),
    Workload(
        name="hour",
        group="long",
        question="How good does one model become in an hour, on each half of the validation text?",
        figure="nats_per_character",
        best="lowest",
        variants=partial(to_level, LONGEST, beside_nanogpt=False, halves=True),
        recipes=(LONGEST,),
        minutes=14.0,
        needs_text=True,
        cold=True,
    ),
)
