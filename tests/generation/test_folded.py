"""A folded model computes what the model does: in every architecture, and beside parts that know no shorter form."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from architectures import AS_THEY_ARE, CONTEXT, PROMPT, SIZES, WHOLE, B, V, lively, model_of, tokens
from torch import Tensor, nn

from clearhead.core.config import build
from clearhead.core.errors import UserError
from clearhead.generation import folded as module
from clearhead.generation.engine import Request, generate
from clearhead.generation.folded import Folded, fold
from clearhead.model import shapes
from clearhead.model.build import build_model
from clearhead.model.config import GptConfig, LstmConfig
from clearhead.model.layers import RMSNorm
from clearhead.model.masks import PerDocument, Prefix
from clearhead.model.transformer import GPT
from clearhead.text.tokenizer import CharTokenizer


@torch.no_grad()
def furthest_from_twin(model: GPT, folded: Folded) -> float:
    """Return the largest difference of a logit, as a share of the largest, in a context that begins with a prompt."""
    own, given = model.new_cache(B), tokens()
    assert own is not None
    largest = float(model(given).abs().max())
    folded.cache.clear()
    furthest = 0.0
    for piece in given.split([PROMPT, *[1] * 7, 2, 3], dim=1):
        furthest = max(furthest, float((folded(piece) - model(piece, cache=own)).abs().max()))
        assert folded.cache.offset == own.offset
    assert own.offset == CONTEXT
    return furthest / largest


def folded_of(model: nn.Module) -> Folded:
    folded = fold(model, model.new_cache(B))  # type: ignore[operator]
    assert folded is not None
    return folded


@pytest.mark.parametrize("name", [*WHOLE, *AS_THEY_ARE])
def test_a_folded_model_computes_what_the_model_does(name: str) -> None:
    model = model_of(WHOLE[name] if name in WHOLE else AS_THEY_ARE[name])
    folded = folded_of(model)
    assert len(folded.folded) == (2 if name in WHOLE else 0)
    for _ in range(2):
        # The second time through a cache that was in use.
        assert furthest_from_twin(model, folded) < 3e-5


@pytest.mark.parametrize("shape", [shapes.tiny, shapes.modern, shapes.gpt2, shapes.llama, shapes.lecture])
def test_every_preset_is_folded_whole(shape: Callable[[], GptConfig]) -> None:
    model = lively(build_model(replace(shape(), num_layers=2, context_length=CONTEXT), V), deviation=0.1)
    folded = folded_of(model)
    assert len(folded.folded) == 2
    assert furthest_from_twin(model, folded) < 3e-5


def test_documents_of_a_batch_stay_apart() -> None:
    model = model_of({})
    model.mask = PerDocument().bind(torch.tensor([[0] * 4 + [1] * 13, [0] * 8 + [1] * 9, [0] * 17]))
    assert furthest_from_twin(model, folded_of(model)) < 3e-5


@torch.no_grad()
def test_a_folded_model_and_its_model_take_turns() -> None:
    model, given = model_of(WHOLE["modern"]), tokens()
    folded, parts = folded_of(model), []
    for number, piece in enumerate(given.split([1, 2, 3, 1, 1, 1, 3, 2, 2, 1], dim=1)):
        parts.append(folded(piece) if number % 3 else model(piece, cache=folded.cache))
    assert (torch.cat(parts, dim=1) - model(given)).abs().max() < 3e-5


def test_what_the_model_refuses_to_read_is_refused() -> None:
    folded = folded_of(model_of({}))
    with pytest.raises(UserError, match="reads at most 17 positions, not 18"):
        folded(torch.zeros(B, CONTEXT + 1, dtype=torch.long))
    folded.mask = Prefix(9)
    folded(tokens()[:, :3])
    with pytest.raises(UserError, match="read them all at once"):
        folded(tokens()[:, 3:4])


# Broken forms.


def forget_the_position(folded: Folded) -> None:
    place = folded.place
    folded.place = lambda start, end: replace(place(start, end), turns=place(0, end - start).turns)  # type: ignore[method-assign]


def write_over_the_last_key(folded: Folded) -> None:
    place = folded.place
    folded.place = lambda start, end: place(max(0, start - 1), end - (start > 0))  # type: ignore[method-assign]


def leave_a_layer_out(folded: Folded) -> None:
    del folded.layers[-1]


@pytest.mark.parametrize("break_it", [forget_the_position, write_over_the_last_key, leave_a_layer_out])
def test_a_broken_form_is_caught(break_it: Callable[[Folded], None]) -> None:
    model = model_of(WHOLE["modern"])
    folded = folded_of(model)
    break_it(folded)
    assert furthest_from_twin(model, folded) > 1e-2


# What must not be passed over.


class Doubled(GPT):
    def head(self, features: Tensor, mask: object = None) -> Tensor:
        return 2.0 * super().head(features)


class Louder(RMSNorm):
    def forward(self, x: Tensor) -> Tensor:
        return 2.0 * super().forward(x)


def test_a_model_of_another_class_is_left_alone() -> None:
    model = Doubled(build(GptConfig, SIZES), V).eval()
    assert fold(model, model.new_cache(B)) is None
    lstm = build_model(LstmConfig(), V).eval()
    assert fold(lstm, lstm.new_cache(B)) is None


def test_a_model_in_training_or_of_another_precision_is_left_alone() -> None:
    model = model_of({"dropout": 0.5})
    assert fold(model, None) is None
    assert fold(model.train(), model.new_cache(B)) is None
    assert fold(model.eval().double(), model.new_cache(B)) is None


def test_a_large_model_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    model = model_of({})
    monkeypatch.setattr(module, "LARGEST_FOLDED", 7)
    assert fold(model, model.new_cache(B)) is None


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
    model = model_of(WHOLE["modern"])
    change(model)
    folded = folded_of(model)
    assert folded.folded == [next(iter(folded.cache))]
    assert furthest_from_twin(model, folded) < 3e-5


def test_a_final_norm_of_ones_own_runs_as_it_is() -> None:
    model = model_of(WHOLE["modern"])
    model.final_norm = Louder(24, eps=1e-6, elementwise_affine=False)
    assert furthest_from_twin(model, folded_of(model)) < 3e-5


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
