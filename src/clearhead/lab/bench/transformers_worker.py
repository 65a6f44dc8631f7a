"""The GPT-2 of the transformers library as tasks of a worker; nothing is fetched, its weights are drawn anew."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from transformers import GPT2Config, GPT2LMHeadModel

from clearhead.lab.bench.shapes import Shape
from clearhead.lab.bench.timing import timed_steps, timed_writing
from clearhead.lab.bench.worker import serve
from clearhead.lab.bench.workload import Repeat


def build(shape: Shape) -> Any:
    """Return its GPT-2 in a shape, which has biases, without dropout."""
    torch.manual_seed(1)
    return GPT2LMHeadModel(
        GPT2Config(
            n_layer=shape.num_layers,
            n_head=shape.num_heads,
            n_embd=shape.width,
            n_positions=shape.context_length,
            vocab_size=shape.vocabulary_size,
            resid_pdrop=0.0,
            embd_pdrop=0.0,
            attn_pdrop=0.0,
            bos_token_id=None,
            eos_token_id=None,
            pad_token_id=0,
        )
    )


def train(shape: Mapping[str, Any], batch: int, steps: int, quick: bool) -> Repeat:
    """Train by a plain loop: random tokens, fused AdamW, gradients cut at norm 1."""
    sizes = Shape(**shape)
    model = build(sizes).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, fused=True)

    def step() -> None:
        tokens = torch.randint(sizes.vocabulary_size, (batch, sizes.context_length))
        loss = model(input_ids=tokens, labels=tokens).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        loss.item()

    return timed_steps(step, sizes, batch=batch, steps=steps, dtype=torch.float32, quick=quick)


def decode(shape: Mapping[str, Any], batch: int, seconds: float) -> Repeat:
    """Write with its `generate`, cache on, from one token until the context is full."""
    sizes = Shape(**shape)
    model = build(sizes).eval()
    prompt, length = torch.zeros(batch, 1, dtype=torch.long), sizes.context_length - 1
    settings = {"do_sample": True, "top_k": 0, "max_new_tokens": length, "min_new_tokens": length, "use_cache": True}
    mask = torch.ones_like(prompt)
    return timed_writing(
        lambda: model.generate(prompt, attention_mask=mask, **settings), num_tokens=batch * length, seconds=seconds
    )


if __name__ == "__main__":
    serve({"train": train, "decode": decode})
