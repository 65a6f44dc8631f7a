"""What is measured of this program, as tasks of a worker."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from jaxtyping import Int32
from torch import Tensor

from clearhead.core.events import Event, Stepped
from clearhead.core.runtime import Precision, Runtime
from clearhead.generation.engine import Request, write
from clearhead.generation.products import Weights
from clearhead.lab.bench.shapes import Shape
from clearhead.lab.bench.timing import timed_steps, timed_writing
from clearhead.lab.bench.worker import serve
from clearhead.lab.bench.workload import Repeat, Sample
from clearhead.model.build import build_model
from clearhead.model.config import FeedForwardConfig, GptConfig
from clearhead.model.shapes import gpt2, modern
from clearhead.store.load import load
from clearhead.text import shards
from clearhead.text.batches import Batch, ShuffledWindows
from clearhead.text.shards import Tokens
from clearhead.text.tokenizer import CharTokenizer
from clearhead.training.assess import own_target
from clearhead.training.config import AdamWConfig, ConstantConfig, OptimizerConfig, RunConfig, TrainConfig
from clearhead.training.dataset import document_end
from clearhead.training.evaluate import Evaluator
from clearhead.training.loop import steps, to_tensors
from clearhead.training.objective import next_token
from clearhead.training.optim import OptimizerSet, build_optimizer
from clearhead.training.recipes import recipe
from clearhead.training.schedule import Plan
from clearhead.training.state import State

NUM_TOKENS = 1_003_854
"""The length of the training text; what it says does not change how long a step takes."""

ENDLESS = Plan(steps=10**9, evaluate_every=10**9)


def model_config(shape: Shape) -> GptConfig:
    """Return the model that nanoGPT has in this shape, but that our LayerNorms also have a shift."""
    model = gpt2(shape.num_layers, shape.num_heads, shape.width, shape.context_length)
    return replace(model, bias=False, feed_forward=FeedForwardConfig(kind="gelu_exact"))


def modern_config(shape: Shape) -> GptConfig:
    """Return a model of the same sizes from the parts that our presets are made of."""
    return replace(
        modern(),
        num_layers=shape.num_layers,
        num_heads=shape.num_heads,
        width=shape.width,
        context_length=shape.context_length,
    )


PARTS = {"gpt2": model_config, "modern": modern_config}


def random_text(vocabulary_size: int) -> Tokens:
    """Return a text as long as the training part of tiny Shakespeare."""
    ids = np.random.default_rng(1).integers(vocabulary_size, size=NUM_TOKENS, dtype=np.int32)
    return shards.in_memory(ids, vocabulary_size)


class Stopwatch:
    """Adds up how long some parts of each step take."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def running(self, name: str) -> Iterator[None]:
        """Add the time that a block takes."""
        began = time.perf_counter()
        yield
        self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - began


class TimedOptimizer(OptimizerSet):
    """Optimizers whose updates are timed."""

    watch: Stopwatch

    def step(self) -> None:
        """Update every parameter from its gradient."""
        with self.watch.running("optimizer"):
            super().step()


def endless(config: RunConfig, vocabulary_size: int, runtime: Runtime, watch: Stopwatch) -> Iterator[Event]:
    """Train a new model on random text for as long as somebody asks for the next step, data and updates timed."""
    runtime.apply()
    train = config.train
    model = build_model(config.model, vocabulary_size, seed=train.seed).to(runtime.device)
    windows = ShuffledWindows(
        tokens=random_text(vocabulary_size),
        context_length=config.model.context_length,
        sequences_per_step=train.sequences_per_step,
        seed=train.seed,
    )

    def batches(step: int) -> list[Batch[Tensor]]:
        with watch.running("data"):
            return [to_tensors(batch, runtime.device) for batch in windows(step)]

    optimizer = TimedOptimizer(model, build_optimizer(config.optimizer, model, runtime.precision).optimizers)
    optimizer.watch = watch
    state = State(plan=ENDLESS)
    events = steps(model, batches, next_token, optimizer, config, state=state, runtime=runtime)
    return (event for event in events if isinstance(event, Stepped))


def train(
    shape: Mapping[str, Any],
    batch: int,
    steps: int,
    precision: Precision,
    quick: bool,
    compile: bool = False,
    device: str = "cpu",
) -> Repeat:
    """Train nanoGPT's model with AdamW by our loop."""
    sizes = Shape(**shape)
    runtime = Runtime(device=device, precision=precision, threads=torch.get_num_threads())
    config = RunConfig(
        model=model_config(sizes),
        optimizer=AdamWConfig(),
        schedule=ConstantConfig(),
        train=TrainConfig(sequences_per_step=batch, compile=compile, log_every=1),
    )
    events = endless(config, sizes.vocabulary_size, runtime, Stopwatch())
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    return timed_steps(lambda: next(events), sizes, batch=batch, steps=steps, dtype=dtype, quick=quick, device=device)


def shares(optimizer: str, steps: int, precision: Precision) -> Repeat:
    """Train the `tiny` preset at 2,048 tokens a step, and tell the shares of data and updates."""
    config = recipe("tiny")
    optimizers: dict[str, OptimizerConfig] = {"adamw": AdamWConfig(), "muon": config.optimizer}
    sequences = 2048 // config.model.context_length
    train = replace(config.train, sequences_per_step=sequences, log_every=1)
    watch = Stopwatch()
    runtime = Runtime(precision=precision, threads=torch.get_num_threads())
    events = endless(replace(config, optimizer=optimizers[optimizer], train=train), 65, runtime, watch)

    def repeat(_: int) -> Sample:
        watch.seconds.clear()
        began = time.perf_counter()
        for _ in range(steps):
            next(events)
        spent = time.perf_counter() - began
        return Sample(
            figures={
                "optimizer_share": watch.seconds["optimizer"] / spent,
                "data_share": watch.seconds["data"] / spent,
                "step_milliseconds": 1000 * spent / steps,
            }
        )

    return repeat


def decode(
    shape: Mapping[str, Any],
    batch: int,
    seconds: float,
    parts: str = "gpt2",
    weights: Weights = "fp32",
    compile: bool = False,
    device: str = "cpu",
) -> Repeat:
    """Write from one token until the context is full."""
    sizes = Shape(**shape)
    model = build_model(PARTS[parts](sizes), sizes.vocabulary_size, seed=1).eval().to(device)
    letters = "".join(chr(ord("0") + number) for number in range(sizes.vocabulary_size))
    tokenizer = CharTokenizer(letters, unknown="refuse", end=False)
    length = sizes.context_length - 1
    request = Request(prompt=[0], samples=batch, num_tokens=length, weights=weights, compile=compile)

    def timed(request: Request) -> Repeat:
        return timed_writing(lambda: write(model, tokenizer, request), num_tokens=batch * length, seconds=seconds)

    if not compile or device != "cpu":
        # A GPU's graph is recorded for every text, so its time is in the rate.
        return timed(request)
    began = time.perf_counter()
    write(model, tokenizer, replace(request, num_tokens=1))
    spent = time.perf_counter() - began
    return with_break_even(timed(request), timed(replace(request, compile=False)), spent)


def with_break_even(compiled: Repeat, plain: Repeat, spent: float) -> Repeat:
    """Return what measures a compiled step, and tells after how many tokens the seconds spent on it are won back."""

    def repeat(number: int) -> Sample:
        figures = dict(compiled(number).figures)
        gained = 1 / plain(number).figures["tokens_per_second"] - 1 / figures["tokens_per_second"]
        # Where nothing is gained they never are, and there is no number to tell.
        tokens = spent / gained if gained > 0 else math.nan
        return Sample(figures={**figures, "compile_seconds": spent, "break_even_tokens": tokens})

    return repeat


def halves(run: str) -> Repeat:
    """Score both halves of a run's validation part, each by itself, with the weights of its last step."""
    loaded = load(f"{run}@last")
    ids, lengths = own_target(loaded).ids, loaded.tokenizer.byte_lengths
    context, end = int(loaded.model.context_length), document_end(loaded.model.config, loaded.tokenizer)  # type: ignore[arg-type]

    def nats(part: Int32[np.ndarray, " N"]) -> float:
        tokens = shards.in_memory(part, loaded.tokenizer.vocabulary_size)
        bits = Evaluator(tokens, context, lengths, end).score(loaded.model).bits_per_byte
        assert bits is not None
        return math.log(2) * bits

    read = np.cumsum(lengths[ids])
    middle = int(np.searchsorted(read, read[-1] / 2))
    return lambda _: Sample(figures={"first_half_nats": nats(ids[:middle]), "second_half_nats": nats(ids[middle:])})


if __name__ == "__main__":
    serve({"train": train, "shares": shares, "decode": decode, "halves": halves})
