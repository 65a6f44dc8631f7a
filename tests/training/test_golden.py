"""The losses of small runs, step by step, against stored ones: what changes the numbers of training is seen here.

`python tests/training/test_golden.py` writes the losses anew, for a change that is meant to move them.
"""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch

from clearhead.core.config import merge
from clearhead.core.events import Stepped
from clearhead.core.runtime import Runtime
from clearhead.model.build import build_model
from clearhead.text.batches import RandomOffsets, ShuffledWindows
from clearhead.text.shards import Tokens, in_memory
from clearhead.text.tales import tales
from clearhead.text.tokenizer import ByteTokenizer
from clearhead.training.config import RandomOffsetsConfig
from clearhead.training.loop import steps
from clearhead.training.objective import next_token
from clearhead.training.optim import build_optimizer
from clearhead.training.recipes import recipe
from clearhead.training.schedule import Plan
from clearhead.training.state import State

STORED = Path(__file__).with_name("golden_losses.json")
NUM_STEPS = 100

BOUND = 1e-5
"""How far a loss may lie from the stored one, relatively.

Between kinds of CPU and threads rounding differs, and training amplifies it: over these steps to at most a tenth of the
bound where it was measured (docs/log.md).
"""

BOUND_WITH_DROPOUT = 2e-4
"""The same with dropout, which amplifies more."""

SMALL = {"model.num_layers": 2, "model.num_heads": 2, "model.width": 24, "model.context_length": 16}
PARTS: dict[str, dict[str, Any]] = {
    "tiny": {},
    "modern": {"train.averaging": 0.9},
    "gpt2": {},
    "lecture": {},
    "tiny, adamw and a cosine": {"optimizer.kind": "adamw", "schedule.kind": "cosine", "schedule.warmup_steps": 20},
    "tiny, warm-up, stable, decay": {"schedule.kind": "wsd", "schedule.warmup_steps": 10, "train.clip_norm": None},
    "tiny, five micro-batches and dropout": {"train.micro_batches": 5, "model.dropout": 0.1},
}
"""What each run is: a recipe, made small, and what is changed about it."""


@cache
def tokens() -> Tokens:
    tokenizer = ByteTokenizer(end=False)
    return in_memory(tokenizer.encode("".join(tale.text for tale in tales(20_000, seed=1))), tokenizer.vocabulary_size)


def losses(part: str, changes: dict[str, Any], threads: int = 1) -> list[float]:
    """Return the loss of each step of a small run."""
    config = merge(recipe(part.partition(",")[0]), {**SMALL, "train.sequences_per_step": 8, **changes})
    train = config.train
    kind = RandomOffsets if isinstance(train.order, RandomOffsetsConfig) else ShuffledWindows
    batches = kind(tokens=tokens(), context_length=16, sequences_per_step=8, seed=1, micro_batches=train.micro_batches)
    model = build_model(config.model, 256, seed=train.seed)
    optimizer = build_optimizer(config.optimizer, model)
    state = State(plan=Plan(NUM_STEPS, NUM_STEPS + 1, train.micro_batches))
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    events = list(steps(model, batches, next_token, optimizer, config, state=state, runtime=Runtime(threads=threads)))
    torch.set_num_threads(before)
    return [event.loss for event in events if isinstance(event, Stepped)]


def stored(part: str) -> list[float]:
    found: list[float] = json.loads(STORED.read_text())[part]
    return found


def check(part: str, threads: int = 1) -> None:
    """Require the stored losses of a run that learned."""
    wanted = stored(part)
    assert len(wanted) == NUM_STEPS
    assert wanted[-1] < 0.8 * wanted[0]
    bound = BOUND_WITH_DROPOUT if "dropout" in part else BOUND
    assert losses(part, PARTS[part], threads) == pytest.approx(wanted, rel=bound)


FIRST = ("tiny", "gpt2", "lecture")


@pytest.mark.parametrize("part", FIRST)
def test_losses_are_those_that_were_stored(part: str) -> None:
    check(part)


@pytest.mark.slow
@pytest.mark.parametrize("part", [part for part in PARTS if part not in FIRST])
def test_losses_of_the_other_parts_are_too(part: str) -> None:
    check(part)


@pytest.mark.slow
def test_losses_on_two_threads_are_too() -> None:
    check("tiny", threads=2)


def test_another_learning_rate_would_be_seen() -> None:
    assert losses("tiny", {"optimizer.learning_rate": 0.041}) != pytest.approx(stored("tiny"), rel=BOUND)


@pytest.mark.slow
@pytest.mark.parametrize(
    "change", [{"optimizer.momentum": 0.89}, {"model.positions.base": 200.0}, {"train.seed": 2}], ids=str
)
def test_other_small_changes_would_be_seen(change: dict[str, Any]) -> None:
    assert losses("tiny", change) != pytest.approx(stored("tiny"), rel=BOUND)


if __name__ == "__main__":
    found = {part: [round(loss, 6) for loss in losses(part, changes)] for part, changes in PARTS.items()}
    lines = (f'  "{part}": {json.dumps(values)}' for part, values in found.items())
    STORED.write_text("{\n" + ",\n".join(lines) + "\n}\n")
