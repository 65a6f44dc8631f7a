"""How fast a model trains and writes, which part of the machine's peak that is, and what a step's parts take."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from clearhead.core.extras import is_installed
from clearhead.lab.bench.shapes import SHAPES
from clearhead.lab.bench.variants import of_nanogpt, of_ours, of_transformers, precisions
from clearhead.lab.bench.workload import Request, Variant, Workload
from clearhead.text.batches import STEPS_AT_ONCE

GPU = "cuda"


def settings_of_training(size: str, batch: int, steps: int, request: Request) -> dict[str, Any]:
    """Return what everyone is told who trains one size at one batch."""
    return {
        "task": "train",
        "shape": SHAPES[size].to_dict(),
        "batch": batch,
        "steps": 1 if request.quick else steps,
        "quick": request.quick,
    }


def training(size: str, batch: int, steps: int, request: Request) -> list[Variant]:
    """Return nanoGPT's model as we train it and as peers do."""
    settings = settings_of_training(size, batch, steps, request)
    kinds = precisions()
    found = [of_ours(f"ours, {kind}", request, **settings, precision=kind) for kind in kinds]
    found += of_nanogpt("nanoGPT", request, **settings)
    found += of_transformers(request, **settings)
    if not request.quick:
        found += [
            of_ours(f"ours, {kind}, compiled", request, **settings, precision=kind, compile=True) for kind in kinds
        ]
        found += of_nanogpt("nanoGPT, compiled", request, **settings, compile=True)
    return found


def shares(request: Request) -> list[Variant]:
    """Return the preset `tiny` with either optimizer."""
    # As many steps as read their data together, so that each repetition reads once.
    steps, kind = 1 if request.quick else STEPS_AT_ONCE, precisions()[-1]
    names = {"adamw": "AdamW", "muon": "Muon"}
    settings = {"task": "shares", "steps": steps, "precision": kind}
    return [of_ours(f"ours, {shown}, {kind}", request, **settings, optimizer=name) for name, shown in names.items()]


def decoding(size: str, batch: int, request: Request) -> Sequence[Variant]:
    """Return nanoGPT's model as we and as peers write with it, and one of our own parts in the same sizes.

    Ours writes with rounded weights too, in the form that is fast for so many rows.
    """
    rounded = "int8" if batch == 1 else "bf16"
    settings = {
        "task": "decode",
        "shape": SHAPES[size].to_dict(),
        "batch": batch,
        "seconds": 0.01 if request.quick else 1.0,
    }
    found = [
        of_ours("ours", request, **settings),
        of_ours(f"ours, weights in {rounded}", request, **settings, weights=rounded),
        of_ours("ours, modern parts", request, **settings, parts="modern"),
    ]
    if batch == 1 and is_installed("numba"):
        found.append(of_ours("ours, compiled", request, **settings, compile=True))
        found.append(of_ours("ours, compiled, weights in int8", request, **settings, compile=True, weights="int8"))
    return [*found, *of_nanogpt("nanoGPT", request, **settings), *of_transformers(request, **settings)]


def training_on_gpu(size: str, batch: int, steps: int, request: Request, device: str = GPU) -> list[Variant]:
    """Return nanoGPT's model as we and it train it in bf16 on a GPU, plain and compiled."""
    settings = {**settings_of_training(size, batch, steps, request), "device": device}
    return [
        of_ours("ours, bf16", request, **settings, precision="bf16"),
        of_ours("ours, bf16, compiled", request, **settings, precision="bf16", compile=True),
        *of_nanogpt("nanoGPT", request, **settings),
        *of_nanogpt("nanoGPT, compiled", request, **settings, compile=True),
    ]


def decoding_on_gpu(size: str, batch: int, request: Request, device: str = GPU) -> list[Variant]:
    """Return nanoGPT's model as we and it write with it on a GPU, ours in fp32, its products in bf16."""
    settings = {
        "task": "decode",
        "shape": SHAPES[size].to_dict(),
        "batch": batch,
        "seconds": 0.01 if request.quick else 1.0,
        "device": device,
    }
    return [
        of_ours("ours", request, **settings),
        of_ours("ours, compiled", request, **settings, compile=True),
        *of_nanogpt("nanoGPT", request, **settings),
    ]


def training_workload(size: str, batch: int, steps: int, *, repetitions: int, minutes: float) -> Workload:
    """Return the training of one size at one batch."""
    shape = SHAPES[size]
    return Workload(
        name=f"train-{size}-{batch}",
        group="train",
        question=f"How fast is nanoGPT's model of {size} trained with AdamW, {batch} x {shape.context_length} tokens?",
        figure="tokens_per_second",
        best="highest",
        variants=partial(training, size, batch, steps),
        repetitions=repetitions,
        minutes=minutes,
    )


def decoding_workload(size: str, batch: int, *, minutes: float) -> Workload:
    """Return the writing with one size at one batch."""
    length = SHAPES[size].context_length
    return Workload(
        name=f"decode-{size}-{batch}",
        group="decode",
        question=f"How fast does nanoGPT's model of {size} write, {batch} x {length} tokens?",
        figure="tokens_per_second",
        best="highest",
        variants=partial(decoding, size, batch),
        minutes=minutes,
    )


def gpu_workloads(size: str, batch: int) -> Iterator[Workload]:
    """Yield the training of, and the writing of one text with, a size that is for a GPU."""
    length = SHAPES[size].context_length
    training = Workload(
        name=f"train-{size}-{batch}-gpu",
        group="gpu",
        question=f"How fast is nanoGPT's GPT-2 of {size} trained on a GPU, {batch} x {length} tokens?",
        figure="tokens_per_second",
        best="highest",
        variants=partial(training_on_gpu, size, batch, 10),
        minutes=2.0,
        needs_gpu=True,
    )
    question = f"How fast does nanoGPT's GPT-2 of {size} write on a GPU, 1 x {length} tokens?"
    yield training
    yield replace(training, name=f"decode-{size}-1-gpu", question=question, variants=partial(decoding_on_gpu, size, 1))


WORKLOADS = (
    training_workload("0.8M", 12, 50, repetitions=5, minutes=1.5),
    training_workload("0.8M", 32, 25, repetitions=5, minutes=1.5),
    training_workload("10.6M", 16, 2, repetitions=3, minutes=1.5),
    Workload(
        name="shares",
        group="shares",
        question="Which shares of a step of tiny at 2,048 tokens do the update and the data take?",
        figure="optimizer_share",
        best="lowest",
        variants=shares,
        minutes=1.0,
    ),
    decoding_workload("0.8M", 1, minutes=0.3),
    decoding_workload("0.8M", 64, minutes=0.3),
    decoding_workload("10.6M", 1, minutes=0.3),
    decoding_workload("10.6M", 64, minutes=1.0),
    *gpu_workloads("124M", 16),
)
