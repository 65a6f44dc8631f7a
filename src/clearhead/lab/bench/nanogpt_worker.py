"""nanoGPT's own code as tasks of a worker, which runs in a folder of it."""

from __future__ import annotations

import contextlib
import runpy
import sys
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from jaxtyping import Int64
from torch import Tensor

from clearhead.lab.bench.shapes import Shape
from clearhead.lab.bench.timing import timed_steps, timed_writing
from clearhead.lab.bench.worker import serve
from clearhead.lab.bench.workload import Repeat, Sample
from clearhead.text.batches import evaluation_windows
from model import GPT, GPTConfig

NUM_TOKENS = 1_003_854
WINDOWS_AT_ONCE = 64


def build(shape: Shape) -> Any:
    """Return its model without biases and dropout, as its Shakespeare configs have it."""
    torch.manual_seed(1337)
    return GPT(
        GPTConfig(
            n_layer=shape.num_layers,
            n_head=shape.num_heads,
            n_embd=shape.width,
            block_size=shape.context_length,
            vocab_size=shape.vocabulary_size,
            dropout=0.0,
            bias=False,
        )
    )


def on(device: str) -> contextlib.AbstractContextManager[object]:
    """Return the context in which its scripts compute: on a GPU with products in bf16, and others in tf32."""
    if device == "cpu":
        return contextlib.nullcontext()
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
    return torch.autocast(device, dtype=torch.bfloat16)


def train(
    shape: Mapping[str, Any], batch: int, steps: int, quick: bool, compile: bool = False, device: str = "cpu"
) -> Repeat:
    """Train by the steps of its train.py: random offsets, AdamW as it configures it, gradients cut at norm 1.

    The loss is read after each step, as its documented command does.
    """
    sizes, products = Shape(**shape), on(device)
    model = build(sizes).to(device)
    optimizer = model.configure_optimizers(0.1, 1e-3, (0.9, 0.99), device)
    compute = torch.compile(model) if compile else model
    text = np.random.default_rng(1).integers(sizes.vocabulary_size, size=NUM_TOKENS).astype(np.uint16)

    def step() -> None:
        tokens, targets = (part.to(device) for part in random_batch(text, batch, sizes.context_length))
        with products:
            _, loss = compute(tokens, targets)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        loss.item()

    dtype = torch.float32 if device == "cpu" else torch.bfloat16
    return timed_steps(step, sizes, batch=batch, steps=steps, dtype=dtype, quick=quick, device=device)


def random_batch(text: Any, batch: int, length: int) -> tuple[Tensor, Tensor]:
    """Return windows at random places, and the same windows one token on."""
    places = torch.randint(len(text) - length, (batch,)).tolist()
    rows = torch.stack([torch.from_numpy(text[place : place + length + 1].astype(np.int64)) for place in places])
    return rows[:, :-1].contiguous(), rows[:, 1:].contiguous()


def decode(shape: Mapping[str, Any], batch: int, seconds: float, device: str = "cpu") -> Repeat:
    """Write with its `generate` from one token until the context is full."""
    sizes, products = Shape(**shape), on(device)
    model = build(sizes).eval().to(device)
    prompt, length = torch.zeros(batch, 1, dtype=torch.long, device=device), sizes.context_length - 1

    def write() -> None:
        with products:
            # A number that is read waits for all that the device still has to do.
            model.generate(prompt, length)[0, -1].item()

    return timed_writing(write, num_tokens=batch * length, seconds=seconds)


def score(out_dir: str, dataset: str) -> Repeat:
    """Score a checkpoint by the evaluation rule: every validation token but the first once, in separate windows.

    The checkpoint is read by its own sample.py, which is asked for no samples.
    """
    sys.argv = ["sample.py", f"--out_dir={out_dir}", "--device=cpu", "--dtype=float32", "--num_samples=0"]
    model = runpy.run_path("sample.py", run_name="__main__")["model"]
    tokens = np.fromfile(f"data/{dataset}/val.bin", dtype=np.uint16).astype(np.int64)
    return lambda _: Sample(figures={"nats_per_character": mean_nats(model, tokens)})


@torch.no_grad()
def mean_nats(model: Any, tokens: Int64[np.ndarray, " N"]) -> float:
    """Return the mean cost of a text's tokens."""
    starts, lengths = evaluation_windows(len(tokens), model.config.block_size)
    total = 0.0
    for length in sorted(set(lengths.tolist())):
        alike = starts[lengths == length]
        for first in range(0, len(alike), WINDOWS_AT_ONCE):
            rows = torch.from_numpy(tokens[alike[first : first + WINDOWS_AT_ONCE, None] + np.arange(length + 1)])
            _, loss = model(rows[:, :-1].contiguous(), rows[:, 1:].contiguous())
            total += float(loss) * len(rows) * length
    return total / (len(tokens) - 1)


if __name__ == "__main__":
    serve({"train": train, "decode": decode, "score": score})
