"""Whole commands on 1 MB of text: how soon they answer, and how much memory training takes."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from clearhead.lab.bench import nanogpt
from clearhead.lab.bench.nanogpt import NanoGpt
from clearhead.lab.bench.processes import OURS, Ended, run_program
from clearhead.lab.bench.workload import Repeat, Request, Sample, Variant, Workload
from clearhead.text.tales import tales

TEXT_BYTES = 1_000_000
QUICK_BYTES = 30_000
FIRST_STEP = "step 1/"
THEIR_FIRST_STEP = "iter 0:"
THEIR_FIRST_SAMPLE = "---------------"
TRAINED_STEPS = 20
TINY = ("--preset", "tiny")
PLANNED = ("--minutes", "2", "--stop-after", "2")


@contextmanager
def text_file(request: Request) -> Iterator[Path]:
    """Give a folder with a text of built-in tales in it."""
    with tempfile.TemporaryDirectory(prefix="clearhead-bench-") as home:
        text = "\n\n".join(tale.text for tale in tales(QUICK_BYTES if request.quick else TEXT_BYTES, 1))
        Path(home, "text.txt").write_text(text)
        yield Path(home)


def command(request: Request, home: Path, *arguments: str | Path, word: str | None = None) -> Ended:
    """Run our command."""
    return run_program((*OURS, *arguments), threads=request.threads, folder=home, word=word)


def training(request: Request, home: Path, *flags: str, word: str | None = None) -> Ended:
    """Train a new run; nothing is left in a cache for the next."""
    with tempfile.TemporaryDirectory(dir=home) as fresh:
        arguments: tuple[str | Path, ...] = ("train", home / "text.txt", *flags)
        return command(request, Path(fresh), *arguments, word=word)


@contextmanager
def measured(request: Request, measure: Callable[[Path], Sample]) -> Iterator[Repeat]:
    """Give a measurement of ours, whose folder holds the text."""
    with text_file(request) as home:
        yield lambda _: measure(home)


@contextmanager
def sampled(request: Request) -> Iterator[Repeat]:
    """Give what times our first sampled token; the run is trained before."""
    with text_file(request) as home:
        run = home / "run"
        command(request, home, "train", home / "text.txt", "--preset", "tiny", "--steps", "1", "--run", run)
        arguments = ("sample", run, "--num-tokens", "1", "--quiet")
        yield lambda _: until_said(command(request, home, *arguments, word=""))


@contextmanager
def theirs(request: Request, measure: Callable[[NanoGpt], Sample], *, trained: bool) -> Iterator[Repeat]:
    """Give a measurement of nanoGPT.

    Args:
        trained: it has a checkpoint.
    """
    assert request.nanogpt is not None
    with (
        text_file(request) as home,
        nanogpt.prepared(request.nanogpt, home / "text.txt", threads=request.threads) as peer,
    ):
        if trained:
            peer.train("--max_iters=1", "--eval_interval=1", "--eval_iters=1", "--always_save_checkpoint=True")
        yield lambda _: measure(peer)


def until_said(ended: Ended) -> Sample:
    """Return when the word that was waited for came."""
    assert ended.until_said is not None, "the program ended well without having said it"
    return Sample(figures={"seconds": ended.until_said})


def memory(ended: Ended) -> Sample:
    """Return the most memory that a program had."""
    return Sample(figures={"megabytes": ended.megabytes, "seconds": ended.seconds})


def side_by_side(
    measure: Callable[[Path], Sample], peer: Callable[[NanoGpt], Sample] | None, request: Request
) -> list[Variant]:
    """Return a measurement of ours and the same of nanoGPT."""
    found = [Variant(name="ours", prepare=partial(measured, request, measure))]
    if peer is not None and request.nanogpt is not None:
        found.append(Variant(name="nanoGPT", ours=False, prepare=partial(theirs, request, peer, trained=False)))
    return found


def helped(request: Request) -> list[Variant]:
    """Return the list of verbs."""
    return side_by_side(
        lambda home: Sample(figures={"seconds": command(request, home, "--help").seconds}), None, request
    )


def first_steps(request: Request) -> list[Variant]:
    """Return the first step of training: with a preset, and where the machine and the text are looked at first."""
    found = side_by_side(
        lambda home: until_said(training(request, home, *TINY, "--steps", "2", word=FIRST_STEP)),
        lambda peer: until_said(peer.train("--max_iters=0", word=THEIR_FIRST_STEP)),
        request,
    )

    def planned(home: Path) -> Sample:
        return until_said(training(request, home, *PLANNED, word=FIRST_STEP))

    return [*found, Variant(name="ours, planned", prepare=partial(measured, request, planned))]


def first_tokens(request: Request) -> list[Variant]:
    """Return the first token that is written."""
    found = [Variant(name="ours", prepare=partial(sampled, request))]
    if request.nanogpt is not None:

        def measure(peer: NanoGpt) -> Sample:
            return until_said(peer.sample("--num_samples=1", "--max_new_tokens=1", word=THEIR_FIRST_SAMPLE))

        found.append(Variant(name="nanoGPT", ours=False, prepare=partial(theirs, request, measure, trained=True)))
    return found


def memories(request: Request) -> list[Variant]:
    """Return a short training."""
    steps = 2 if request.quick else TRAINED_STEPS
    return side_by_side(
        lambda home: memory(training(request, home, *TINY, "--steps", str(steps), "--quiet")),
        lambda peer: memory(peer.train(f"--max_iters={steps}")),
        request,
    )


def start(name: str, question: str, variants: Callable[[Request], list[Variant]], minutes: float) -> Workload:
    """Return a workload that times how soon a command answers."""
    return Workload(
        name=f"start-{name}",
        group="start",
        question=question,
        figure="seconds",
        best="lowest",
        variants=variants,
        minutes=minutes,
    )


WORKLOADS = (
    start("help", "How soon does clearhead --help end?", helped, 0.1),
    start("step", "How soon after Enter is the first step on 1 MB done?", first_steps, 0.6),
    start("token", "How soon after Enter is the first sampled token there?", first_tokens, 0.4),
    Workload(
        name="memory",
        group="memory",
        question="How much memory does training 0.8M parameters on 1 MB take at most?",
        figure="megabytes",
        best="lowest",
        variants=memories,
        minutes=1.0,
    ),
)
