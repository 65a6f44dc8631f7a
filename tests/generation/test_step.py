"""A step is what the model computes: through every architecture, and beside parts that it has no form for."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from clearhead.core.config import build
from clearhead.generation import step as steps
from clearhead.generation.engine import Request, generate
from clearhead.generation.step import Step, one_token_step
from clearhead.model import shapes
from clearhead.model.build import build_model
from clearhead.model.config import GptConfig, LstmConfig
from clearhead.model.layers import RMSNorm
from clearhead.model.masks import PerDocument
from clearhead.model.transformer import GPT
from clearhead.text.tokenizer import CharTokenizer

V, B, PROMPT, CONTEXT = 13, 3, 5, 17
SIZES = {"num_layers": 2, "num_heads": 4, "width": 24, "context_length": CONTEXT}

FOLDED: Mapping[str, dict[str, object]] = {
    "modern": {"feed_forward": {"kind": "swiglu"}},
    "no norm at all": {"norm": {"kind": "none"}, "qk_norm": False, "embedding_norm": False},
    "gpt2": {
        "positions": {"kind": "learned"},
        "norm": {"kind": "layer"},
        "feed_forward": {"kind": "gelu"},
        "bias": True,
        "tied_head": True,
        "logit_softcap": None,
        "convolution": 1,
    },
    "llama": {"norm": {"kind": "rms", "gain": True}, "num_kv_heads": 2, "qk_norm": False, "kernel": "explicit"},
    "one key for all": {"num_kv_heads": 1, "convolution": 5, "positions": {"kind": "none"}},
    "layer norm without a shift": {"norm": {"kind": "layer", "bias": False}, "feed_forward": {"kind": "relu"}},
    "alibi in a window": {"positions": {"kind": "alibi"}, "mask": {"kind": "window", "length": 4}, "num_kv_heads": 2},
    "concatenated": {"positions": {"kind": "concatenated"}, "embedding": {"kind": "one_hot"}},
    "fourier": {"positions": {"kind": "fourier", "num_frequencies": 7}, "mask": {"kind": "prefix"}},
    "sinusoidal, attention only": {"positions": {"kind": "sinusoidal"}, "feed_forward": {"kind": "none"}},
    "key is query": {"mixer": {"kind": "key_is_query"}},
    "unscaled": {"mixer": {"kind": "unscaled"}},
}
"""Architectures of which every block is folded."""

AS_THEY_ARE: Mapping[str, dict[str, object]] = {
    "post-norm": {"residual": "post_norm"},
    "averaging": {"mixer": {"kind": "averaging"}},
    "convolution": {"mixer": {"kind": "convolution", "reach": 3}},
    "value is input": {"mixer": {"kind": "value_is_input"}},
    "constant key": {"mixer": {"kind": "constant_key"}},
    "no output": {"mixer": {"kind": "no_output"}},
}
"""Architectures of which no block is folded."""


def lively(model: nn.Module, deviation: float = 0.4) -> GPT:
    random = torch.Generator().manual_seed(11)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(deviation * torch.randn(parameter.shape, generator=random) + (parameter.ndim < 2))
    assert isinstance(model, GPT)
    return model.eval()


def model_of(changes: Mapping[str, object]) -> GPT:
    return lively(build_model(build(GptConfig, {**SIZES, **changes}), V))


def tokens() -> Tensor:
    return torch.randint(V, (B, CONTEXT), generator=torch.Generator().manual_seed(3))


@torch.no_grad()
def furthest_from_twin(model: GPT, step: Step) -> float:
    """Return the largest difference of a logit, as a share of the largest, in a context that begins with a prompt."""
    own, given = model.new_cache(B), tokens()
    assert own is not None
    largest = float(model(given).abs().max())
    step.cache.clear()
    model(given[:, :PROMPT], cache=own)
    model(given[:, :PROMPT], cache=step.cache)
    furthest = 0.0
    for place in range(PROMPT, CONTEXT):
        logits = model(given[:, place, None], cache=own)[:, -1]
        furthest = max(furthest, float((step(given[:, place]) - logits).abs().max()))
        assert step.cache.offset == place + 1
    return furthest / largest


def step_of(model: nn.Module) -> Step:
    step = one_token_step(model, model.new_cache(B))  # type: ignore[operator]
    assert step is not None
    return step


@pytest.mark.parametrize("name", [*FOLDED, *AS_THEY_ARE])
def test_a_step_is_what_the_model_computes(name: str) -> None:
    model = model_of(FOLDED[name] if name in FOLDED else AS_THEY_ARE[name])
    step = step_of(model)
    assert len(step.folded) == (2 if name in FOLDED else 0)
    for _ in range(2):
        # The second time through a cache that was in use.
        assert furthest_from_twin(model, step) < 3e-5


@pytest.mark.parametrize("shape", [shapes.tiny, shapes.modern, shapes.gpt2, shapes.llama, shapes.lecture])
def test_every_preset_is_folded_whole(shape: Callable[[], GptConfig]) -> None:
    model = lively(build_model(replace(shape(), num_layers=2, context_length=CONTEXT), V), deviation=0.1)
    step = step_of(model)
    assert len(step.folded) == 2
    assert furthest_from_twin(model, step) < 3e-5


def test_documents_of_a_batch_stay_apart() -> None:
    model = model_of({})
    model.mask = PerDocument().bind(torch.tensor([[0] * 4 + [1] * 13, [0] * 8 + [1] * 9, [0] * 17]))
    assert furthest_from_twin(model, step_of(model)) < 3e-5


@torch.no_grad()
def test_a_step_and_its_model_take_turns() -> None:
    model, given = model_of(FOLDED["modern"]), tokens()
    cache = model.new_cache(B)
    step, parts = one_token_step(model, cache), []
    assert step is not None
    for place in range(CONTEXT):
        token = given[:, place]
        parts.append(step(token) if place % 3 else model(token[:, None], cache=cache)[:, -1])
    assert (torch.stack(parts, dim=1) - model(given)).abs().max() < 3e-5


# Broken steps.


def forget_the_position(step: Step) -> None:
    place = step.place
    step.place = lambda index: replace(place(index), turn=place(0).turn)  # type: ignore[method-assign]


def read_one_key_too_few(step: Step) -> None:
    place = step.place
    step.place = lambda index: place(index - 1)  # type: ignore[method-assign]


def leave_a_layer_out(step: Step) -> None:
    del step.layers[-1]


@pytest.mark.parametrize("break_it", [forget_the_position, read_one_key_too_few, leave_a_layer_out])
def test_a_broken_step_is_caught(break_it: Callable[[Step], None]) -> None:
    model = model_of(FOLDED["modern"])
    step = step_of(model)
    break_it(step)
    assert furthest_from_twin(model, step) > 1e-2


# What a step must not pass over.


class Doubled(GPT):
    def head(self, features: Tensor, mask: object = None) -> Tensor:
        return 2.0 * super().head(features)


class Louder(RMSNorm):
    def forward(self, x: Tensor) -> Tensor:
        return 2.0 * super().forward(x)


def test_a_model_of_another_class_is_left_alone() -> None:
    model = Doubled(build(GptConfig, SIZES), V).eval()
    assert one_token_step(model, model.new_cache(B)) is None
    lstm = build_model(LstmConfig(), V).eval()
    assert one_token_step(lstm, lstm.new_cache(B)) is None


def test_a_model_in_training_or_of_another_precision_is_left_alone() -> None:
    model = model_of({"dropout": 0.5})
    assert one_token_step(model, None) is None
    assert one_token_step(model.train(), model.new_cache(B)) is None
    assert one_token_step(model.eval().double(), model.new_cache(B)) is None


def test_a_large_model_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    model = model_of({})
    monkeypatch.setattr(steps, "LARGEST_FOLDED", 7)
    assert one_token_step(model, model.new_cache(B)) is None


def hook_a_layer(model: GPT) -> None:
    model.blocks[1].attention.value.register_forward_hook(lambda module, inputs, output: 2.0 * output)


def change_a_method(model: GPT) -> None:
    convolution = model.blocks[1].convolution
    plain = convolution.forward
    convolution.forward = lambda x, slot=None: 2.0 * plain(x, slot)


def put_a_norm_of_ones_own(model: GPT) -> None:
    model.blocks[1].attention_norm = Louder(24, eps=1e-6, elementwise_affine=False)


@pytest.mark.parametrize("change", [hook_a_layer, change_a_method, put_a_norm_of_ones_own])
def test_a_block_with_a_changed_part_runs_as_it_is(change: Callable[[GPT], None]) -> None:
    model = model_of(FOLDED["modern"])
    change(model)
    step = step_of(model)
    assert step.folded == [next(iter(step.cache))]
    assert furthest_from_twin(model, step) < 3e-5


def test_a_final_norm_of_ones_own_runs_as_it_is() -> None:
    model = model_of(FOLDED["modern"])
    model.final_norm = Louder(24, eps=1e-6, elementwise_affine=False)
    assert furthest_from_twin(model, step_of(model)) < 3e-5


def test_weights_are_those_of_when_the_writing_began() -> None:
    tokenizer = CharTokenizer("\nabcdefghijkl", unknown="refuse", end=False)
    model = lively(build_model(build(GptConfig, {**SIZES, "feed_forward": {"kind": "none"}}), V))
    request = Request(prompt=[1, 2], num_tokens=7)
    first = [token.id for token in generate(model, tokenizer, request)]
    with torch.no_grad():
        model.blocks[0].attention.value.weight.mul_(-3.0)
    second = [token.id for token in generate(model, tokenizer, request)]
    uncached = [token.id for token in generate(model, tokenizer, replace(request, use_cache=False))]
    assert first != second == uncached
