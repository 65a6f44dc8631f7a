"""A recorded step computes what the model does at every position, though it repeats the same operations each time."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest
import torch
from architectures import AS_THEY_ARE, CONTEXT, PROMPT, WHOLE, B, V, model_of, tokens
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from clearhead.core.errors import UserError
from clearhead.generation.engine import Request, write
from clearhead.generation.graphed import FixedStep, Graphed, Step
from clearhead.model.build import build_model
from clearhead.model.config import LstmConfig
from clearhead.model.masks import Prefix
from clearhead.model.transformer import GPT
from clearhead.text.tokenizer import CharTokenizer

REFUSED = "convolution"
RECORDED = {name: changes for name, changes in (WHOLE | AS_THEY_ARE).items() if name != REFUSED}


class Tape(TorchDispatchMode):
    """Records as a CUDA graph does: the operations with their numbers, and the memory that they read and write."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[tuple[Any, Any, Any, Any]] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = func(*args, **(kwargs or {}))
        self.calls.append((func, args, kwargs or {}, made))
        return made

    def replay(self) -> None:
        for func, args, kwargs, made in self.calls:
            again = func(*args, **kwargs)
            for memory, found in zip(tree_leaves(made), tree_leaves(again), strict=True):
                if isinstance(memory, Tensor) and memory.data_ptr() != found.data_ptr():
                    memory.copy_(found)


def on_tape(step: Callable[[], Tensor]) -> Step:
    step()
    with Tape() as tape:
        logits = step()

    def replay() -> Tensor:
        tape.replay()
        return logits

    return replay


def anew(step: FixedStep) -> Step:
    return step


@torch.no_grad()
def furthest_from_twin(model: GPT, graphed: Graphed) -> float:
    """Return the largest difference of a logit, as a share of the largest, in a context that begins with a prompt."""
    own, given = model.new_cache(B), tokens()
    assert own is not None
    largest, furthest = float(model(given).abs().max()), 0.0
    graphed.cache.clear()
    for piece in given.split([PROMPT, *[1] * 7, 2, *[1] * 3], dim=1):
        furthest = max(furthest, float((graphed(piece) - model(piece, cache=own)).abs().max()))
        assert graphed.cache.offset == own.offset
    assert own.offset == CONTEXT
    return furthest / largest


def graphed_of(model: nn.Module, record: Callable[[FixedStep], Step] = on_tape) -> Graphed:
    return Graphed(model, model.new_cache(B), record)  # type: ignore[operator]


@pytest.mark.parametrize("record", [anew, on_tape])
@pytest.mark.parametrize("name", RECORDED)
def test_a_recorded_step_computes_what_the_model_does(name: str, record: Callable[[FixedStep], Step]) -> None:
    model = model_of(RECORDED[name])
    graphed = graphed_of(model, record)
    for _ in range(2):
        # The second time through a cache that was in use.
        assert furthest_from_twin(model, graphed) < 3e-5


@torch.no_grad()
def test_a_recorded_step_and_its_model_take_turns() -> None:
    model, given = model_of(WHOLE["modern"]), tokens()
    graphed, parts = graphed_of(model), []
    for number, piece in enumerate(given.split(1, dim=1)):
        parts.append(graphed(piece) if number % 3 else model(piece, cache=graphed.cache))
    assert (torch.cat(parts, dim=1) - model(given)).abs().max() < 3e-5


@torch.no_grad()
def test_logits_are_not_written_over_by_the_next_step() -> None:
    model = model_of(WHOLE["gpt2"])
    graphed = graphed_of(model)
    first, later = (graphed(tokens()[:, place : place + 1]) for place in (0, 1))
    assert (first - model(tokens()[:, :1])).abs().max() < 3e-5 < (first - later).abs().max()


@torch.no_grad()
def test_memory_that_is_not_written_yet_is_not_read() -> None:
    model = model_of({})
    cache = model.new_cache(B)
    assert cache is not None
    model.mask = Prefix(9)
    graphed = Graphed(model, cache, on_tape)
    for slot in cache:
        slot.keys.fill_(7.0), slot.values.fill_(7.0)
    assert (graphed(tokens()[:, :1]) - model(tokens()[:, :1])).abs().max() < 3e-5


@torch.no_grad()
def test_a_recorded_step_is_not_cast() -> None:
    model = model_of(WHOLE["modern"])
    with torch.autocast("cpu", dtype=torch.bfloat16):
        logits = graphed_of(model, anew)(tokens()[:, :1])
    assert (logits - model(tokens()[:, :1])).abs().max() < 3e-5


# Broken forms.


def read_every_position(step: FixedStep) -> None:
    step.mask = replace(step.mask, allowed=torch.ones_like(step.mask.allowed))


def place_by_numbers(step: FixedStep) -> None:
    step.positions = step.model.positions  # type: ignore[assignment]


def write_in_one_place(step: FixedStep) -> None:
    for slot in step.slots:
        slot.position = torch.tensor([PROMPT])


def forget_the_latest(step: FixedStep) -> None:
    for slot in step.slots:
        slot.take_over = lambda _, slot=slot: slot.recent.zero_()  # type: ignore[method-assign, misc]


BREAKS = [read_every_position, place_by_numbers, write_in_one_place, forget_the_latest]


@pytest.mark.parametrize("break_it", BREAKS)
def test_a_broken_step_is_caught(break_it: Callable[[FixedStep], None]) -> None:
    def record(step: FixedStep) -> Step:
        break_it(step)
        return on_tape(step)

    model = model_of(WHOLE["modern"])
    assert furthest_from_twin(model, graphed_of(model, record)) > 1e-2


# What is refused.


class Doubled(GPT):
    def features(self, *args: Any, **kwargs: Any) -> Tensor:
        return 2.0 * super().features(*args, **kwargs)


def refused_models() -> dict[str, nn.Module]:
    doubled = model_of(WHOLE["modern"])
    doubled.__class__ = Doubled
    watched, partly = model_of(WHOLE["modern"]), model_of(WHOLE["modern"])
    watched.blocks[1].register_forward_hook(lambda *_: None)
    partly.blocks[1].train()
    return {
        REFUSED: model_of(AS_THEY_ARE[REFUSED]),
        "flex": model_of({"kernel": "flex"}),
        "flex, unscaled": model_of({"kernel": "flex", "mixer": {"kind": "unscaled"}}),
        "watched": watched,
        "in part in training": partly,
        "in training": model_of({}).train(),
        "of another class": doubled,
        "LSTM": build_model(LstmConfig(), V).eval(),
    }


@pytest.mark.parametrize("name", refused_models())
def test_a_part_that_does_otherwise_at_other_positions_is_refused(name: str) -> None:
    with pytest.raises(UserError, match="cannot be recorded; leave compile out"):
        graphed_of(refused_models()[name])


def test_what_the_model_refuses_to_read_is_refused() -> None:
    graphed = graphed_of(model_of({}))
    for column in tokens().split(1, dim=1):
        graphed(column)
    with pytest.raises(UserError, match="reads at most 17 positions, not 18"):
        graphed(tokens()[:, :1])
    graphed.cache.clear()
    graphed.model.mask = Prefix(9)
    graphed(tokens()[:, :3])
    with pytest.raises(UserError, match="read them all at once"):
        graphed(tokens()[:, 3:4])


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA GPU")
@pytest.mark.parametrize("name", RECORDED)
def test_on_a_gpu_a_graph_gives_what_the_model_does(name: str) -> None:
    model = model_of(RECORDED[name]).to("cuda")
    cache, own = model.new_cache(B), model.new_cache(B)
    assert cache is not None
    graphed, given = Graphed(model, cache), tokens().to("cuda")
    with torch.no_grad():
        for piece in given.split([PROMPT, *[1] * 12], dim=1):
            torch.testing.assert_close(graphed(piece), model(piece, cache=own), atol=1e-3, rtol=1e-3)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA GPU")
def test_on_a_gpu_texts_are_alike_with_and_without_a_graph() -> None:
    model, tokenizer = model_of(WHOLE["llama"]).to("cuda"), CharTokenizer("abcdefghijklm", unknown="refuse", end=False)
    requests = [Request(prompt=[1, 2], num_tokens=53, samples=3, compile=flag) for flag in (False, True)]
    for one, other in pairwise(write(model, tokenizer, request) for request in requests):
        assert one == other
