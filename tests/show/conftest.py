"""A made-up run, as its files and events would tell it."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

Run = tuple[dict[str, Any], list[dict[str, Any]], dict[str, Any]]


@pytest.fixture
def make_run() -> Callable[..., Run]:
    return _make_run


def _make_run(*, steps: int = 37, until: int | None = None, reason: str | None = "budget") -> Run:
    """Return run.json, events and data.json of a run that is planned for `steps` and got to `until`."""
    last = steps if until is None else until
    events = _beginning(steps)
    noise = np.random.default_rng(7)
    for step in range(1, last + 1):
        loss = 1.7 + 2.5 / math.sqrt(step)
        rates = {"learning_rate": 0.003, "grad_norm": 0.7, "tokens_per_second": 5003.0}
        events.append(_event("stepped", step, loss=loss + 0.05 * noise.normal(), **rates))
        if step % 11 == 0 or step == steps:
            events += _look_up(step, loss)
    if reason:
        events.append(_evaluated(last, "validation", 1.9137, sampled=False))
        events.append(_event("stopped", last, reason=reason, message="Loss of step 37 is not finite."))
    return _run_json(), events, _data_json()


def _event(kind: str, step: int, **fields: Any) -> dict[str, Any]:
    time = {"event": kind, "time": "2026-03-01T10:00:00.000+00:00"}
    return time | {"seconds": 2.0 + 0.5 * step, "step": step, "tokens": 2039 * step} | fields


def _beginning(steps: int) -> list[dict[str, Any]]:
    baselines = {
        "unigram": {"nats_per_token": 3.347, "bits_per_byte": 4.828},
        "bigram": {"nats_per_token": 2.485, "bits_per_byte": 3.585},
        "5-gram": {"nats_per_token": 1.7612, "bits_per_byte": 2.541},
    }
    preflight = {"initial_loss": 4.18, "log_vocabulary": 4.1744, "sentence": "The first loss is 4.180."}
    floor = {"nats_per_token": 0.612, "bits_per_byte": 0.883, "beyond_window": 0.431}
    overlap = {"share": 0.0131, "longest": ["the gods be good unto us", "what is thy name"]}
    return [
        _event("started", 0, resumed_from=None, config_sha256="ab", versions={}, exactness="exact"),
        _event("planned", 0, steps=steps, evaluate_every=11, micro_batches=1, cooldown_start=None, reason="steps"),
        _event("measured", 0, name="preflight", values=preflight),
        _event("measured", 1, name="baselines", values=baselines),
        _event("measured", 1, name="overlap", values=overlap),
        _event("measured", 1, name="floor", values=floor),
        _event("warned", 1, code="overlap", message="Some of it was seen", **{"try": "clearhead eval"}),
    ]


def _look_up(step: int, loss: float) -> list[dict[str, Any]]:
    curve = [loss + 1 / place for place in range(1, 14)]
    return [
        _evaluated(step, "validation", loss + 0.1, sampled=True),
        _evaluated(step, "train", loss - 0.1, sampled=True),
        _event("measured", step, name="loss_by_position", values={"positions": 13, "nats": curve}),
        _event("sampled", step, prompt="ROMEO:", text=f"\nWhat step is <b>{step}</b> & why?", seed=1),
        _event("saved", step, path=f"checkpoints/step-{step}", best=True),
    ]


def _evaluated(step: int, split: str, nats: float, *, sampled: bool) -> dict[str, Any]:
    scored = 8192 if sampled else 111_539
    scores = {"nats_per_token": nats, "bits_per_byte": nats / math.log(2), "standard_error": 0.011}
    setting = {"train_seconds": 0.4 * step, "weights": "raw", "context_length": 13, "sampled": sampled}
    return _event("evaluated", step, split=split, tokens_scored=scored, **scores, **setting)


def _run_json() -> dict[str, Any]:
    model = {"kind": "gpt", "num_layers": 3, "num_heads": 2, "num_kv_heads": None, "width": 26, "bias": False}
    model |= {"context_length": 13, "positions": {"kind": "rotary", "base": 10000.0}}
    return {
        "format": 1,
        "name": "poem-1",
        "created": "2026-03-01T09:58:12+00:00",
        "command": "clearhead train poem.txt",
        "config": {"seed": 7, "model": model, "tokenizer": {"kind": "char"}},
        "parameters": {"total": 9001, "embedding": 2003, "hidden": 6998},
        "versions": {"torch": "2.13.0"},
        "machine": {"cores": 2},
    }


def _data_json() -> dict[str, Any]:
    source = {"name": "poem.txt", "bytes": 3011, "encoding": "utf-8", "documents": 1, "characters": 2999, "notes": []}
    return {"format": 1, "sources": [source], "split": {"description": "The last 10 % of the text."}}
