"""GPT-2 of transformers and what is imported from it compute the same, on small random models built from a config."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Literal

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedModel

from clearhead.convert.gpt2 import GPT2
from clearhead.convert.huggingface import from_transformers, to_transformers
from clearhead.core.errors import UserError
from clearhead.model import shapes
from clearhead.model.config import FeedForwardConfig, GptConfig, LayerNormConfig
from clearhead.model.transformer import GPT

VOCABULARY_SIZE = 31
CONFIGS: dict[str, dict[str, Any]] = {
    "plain": {"n_layer": 2, "n_head": 5, "n_embd": 35, "n_positions": 13},
    "one-head": {"n_layer": 3, "n_head": 1, "n_embd": 7, "n_positions": 11},
    "odd-epsilon": {"n_layer": 2, "n_head": 3, "n_embd": 21, "n_positions": 17, "layer_norm_epsilon": 0.03},
    "inner-width": {"n_layer": 2, "n_head": 2, "n_embd": 22, "n_positions": 5, "n_inner": 37},
    "rectified": {"n_layer": 2, "n_head": 2, "n_embd": 14, "n_positions": 11, "activation_function": "relu"},
    "squared": {"n_layer": 1, "n_head": 2, "n_embd": 10, "n_positions": 7, "activation_function": "relu2"},
    "exact": {"n_layer": 1, "n_head": 2, "n_embd": 10, "n_positions": 7, "activation_function": "gelu"},
    "untied": {"n_layer": 1, "n_head": 2, "n_embd": 26, "n_positions": 7, "tie_word_embeddings": False},
}


Randomize = Callable[[PreTrainedModel], PreTrainedModel]
Build = Callable[[GptConfig, dict[str, Tensor]], GPT]
Measure = Callable[[PreTrainedModel, GPT], float]


def gpt2(**settings: Any) -> GPT2LMHeadModel:
    ids = {"vocab_size": VOCABULARY_SIZE, "bos_token_id": 0, "eos_token_id": 0}
    return GPT2LMHeadModel(GPT2Config(attn_implementation="eager", **ids, **settings))


@pytest.mark.parametrize("kernel", ["fused", "explicit"])
@pytest.mark.parametrize("settings", list(CONFIGS.values()), ids=list(CONFIGS))
def test_logits_and_gradients_are_the_same(
    settings: dict[str, Any],
    kernel: Literal["fused", "explicit"],
    randomized: Randomize,
    our_model: Build,
    disagreement: Measure,
) -> None:
    theirs = randomized(gpt2(**settings))
    config, tensors = from_transformers(theirs.config.to_dict(), theirs.state_dict())
    assert disagreement(theirs, our_model(replace(config, kernel=kernel), tensors)) <= 1e-5


Broken = tuple[GptConfig, dict[str, Tensor]]


def key_and_value_swapped(config: GptConfig, tensors: dict[str, Tensor]) -> Broken:
    swap = {"key": "value", "value": "key"}
    return config, {re.sub(r"\b(key|value)\b", lambda found: swap[found[0]], name): x for name, x in tensors.items()}


def square_maps_not_turned(config: GptConfig, tensors: dict[str, Tensor]) -> Broken:
    return config, {name: x.t() if "attention.output.w" in name else x for name, x in tensors.items()}


def a_bias_left_out(config: GptConfig, tensors: dict[str, Tensor]) -> Broken:
    return config, {name: x * (name != "blocks.1.feed_forward.output.bias") for name, x in tensors.items()}


def another_activation(config: GptConfig, tensors: dict[str, Tensor]) -> Broken:
    return replace(config, feed_forward=FeedForwardConfig(kind="relu")), tensors


def the_usual_epsilon(config: GptConfig, tensors: dict[str, Tensor]) -> Broken:
    return replace(config, norm=LayerNormConfig()), tensors


BROKEN = [
    key_and_value_swapped,
    square_maps_not_turned,
    a_bias_left_out,
    another_activation,
    the_usual_epsilon,
]


@pytest.mark.parametrize("broken", BROKEN)
def test_a_broken_import_is_seen(
    broken: Callable[[GptConfig, dict[str, Tensor]], Broken],
    randomized: Randomize,
    our_model: Build,
    disagreement: Measure,
) -> None:
    theirs = randomized(gpt2(**CONFIGS["odd-epsilon"]))
    ours = our_model(*broken(*from_transformers(theirs.config.to_dict(), theirs.state_dict())))
    assert disagreement(theirs, ours) > 1e-4


def test_the_exact_gelu_is_seen(randomized: Randomize, our_model: Build, disagreement: Measure) -> None:
    theirs = randomized(gpt2(**CONFIGS["odd-epsilon"]))
    ours = our_model(*from_transformers(theirs.config.to_dict(), theirs.state_dict()))
    for block in ours.blocks:
        block.feed_forward.activation = F.gelu
    assert disagreement(theirs, ours) > 1e-4


# The formats in which such models are found.


@pytest.fixture(scope="module")
def theirs(randomized: Randomize) -> PreTrainedModel:
    return randomized(gpt2(**CONFIGS["plain"]))


def same(left: dict[str, Tensor], right: dict[str, Tensor]) -> bool:
    return left.keys() == right.keys() and all(torch.equal(left[name], right[name]) for name in left)


def test_the_parameters_are_those_of_the_model(theirs: PreTrainedModel) -> None:
    config, tensors = from_transformers(theirs.config.to_dict(), theirs.state_dict())
    assert tensors.keys() == dict(GPT(config, VOCABULARY_SIZE).named_parameters()).keys()
    assert all(tensor.is_contiguous() for tensor in tensors.values())
    assert len({tensor.untyped_storage().data_ptr() for tensor in tensors.values()}) == len(tensors)


def test_a_stored_config_and_a_model_without_head_give_the_same(theirs: PreTrainedModel) -> None:
    stored = json.loads(theirs.config.to_json_string(use_diff=True)) | {"n_ctx": 13}
    bare = {name.removeprefix("transformer."): x for name, x in theirs.state_dict().items() if name != "lm_head.weight"}
    masks = {"h.0.attn.bias": torch.ones(1, 1, 13, 13).tril(), "h.1.attn.masked_bias": torch.tensor(-1e4)}
    config, tensors = from_transformers(theirs.config.to_dict(), theirs.state_dict())
    found_config, found_tensors = from_transformers(stored, bare | masks)
    assert found_config == config
    assert same(found_tensors, tensors)


def test_the_published_shape_is_ours() -> None:
    with torch.device("meta"):
        theirs = GPT2LMHeadModel(GPT2Config())
    config, tensors = from_transformers(theirs.config.to_dict(), dict(theirs.named_parameters()))
    assert config == shapes.gpt2_124m()
    assert sum(tensor.numel() for tensor in tensors.values()) == 124_439_808


def test_the_weights_given_are_left_alone(theirs: PreTrainedModel) -> None:
    given = theirs.state_dict()
    names = set(given)
    from_transformers(theirs.config.to_dict(), given)
    assert set(given) == names


# What is refused.

REFUSED = {
    "activation_function": "quick_gelu",
    "scale_attn_weights": False,
    "scale_attn_by_inverse_layer_idx": True,
    "reorder_and_upcast_attn": True,
    "add_cross_attention": True,
    "is_encoder_decoder": True,
    "pruned_heads": {"0": [1]},
    "model_type": "gpt_neo",
    "n_ctx": 12,
    "rotary_dim": 4,
}


@pytest.mark.parametrize("name", list(REFUSED))
def test_a_setting_that_is_not_ours_is_refused_by_name(theirs: PreTrainedModel, name: str) -> None:
    with pytest.raises(UserError, match=f"{name} = "):
        from_transformers(theirs.config.to_dict() | {name: REFUSED[name]}, theirs.state_dict())


def test_every_fixed_setting_is_tried() -> None:
    assert {*GPT2.fixed, "n_ctx", "activation_function"} <= set(REFUSED)


def without(tensors: dict[str, Tensor], name: str) -> dict[str, Tensor]:
    return {key: tensor for key, tensor in tensors.items() if key != name}


WRONG_WEIGHTS: dict[str, Callable[[dict[str, Tensor]], dict[str, Tensor]]] = {
    r"lack h\.1\.mlp\.c_fc\.bias": lambda tensors: without(tensors, "transformer.h.1.mlp.c_fc.bias"),
    r"lack wte\.weight": lambda tensors: without(tensors, "transformer.wte.weight"),
    r"hold h\.2\.ln_1\.bias": lambda tensors: tensors | {"transformer.h.2.ln_1.bias": torch.zeros(35)},
    r"hold score\.weight": lambda tensors: tensors | {"score.weight": torch.zeros(2, 35)},
    r"of embedding\.weight have .*\(30, 35\)": lambda tensors: (
        without(tensors, "lm_head.weight") | {"transformer.wte.weight": torch.zeros(30, 35)}
    ),
    r"of blocks\.0\.attention\.key\.bias": lambda tensors: (
        tensors | {"transformer.h.0.attn.c_attn.bias": torch.zeros(103)}
    ),
    r"lm_head\.weight differs": lambda tensors: tensors | {"lm_head.weight": torch.zeros(VOCABULARY_SIZE, 35)},
}


@pytest.mark.parametrize("message", list(WRONG_WEIGHTS))
def test_weights_of_another_model_are_refused_by_name(theirs: PreTrainedModel, message: str) -> None:
    with pytest.raises(UserError, match=message):
        from_transformers(theirs.config.to_dict(), WRONG_WEIGHTS[message](theirs.state_dict()))


def test_impossible_sizes_are_refused(theirs: PreTrainedModel) -> None:
    with pytest.raises(UserError, match="does not divide width = 35; the nearest numbers of heads that do are 5 and 7"):
        from_transformers(theirs.config.to_dict() | {"n_head": 6}, theirs.state_dict())


# The way back.


@pytest.mark.parametrize("settings", list(CONFIGS.values()), ids=list(CONFIGS))
def test_there_and_back_gives_the_same_weights(settings: dict[str, Any], randomized: Randomize) -> None:
    theirs = randomized(gpt2(**settings))
    config, tensors = from_transformers(theirs.config.to_dict(), theirs.state_dict())
    written, back = to_transformers(config, tensors, VOCABULARY_SIZE)
    assert same(
        back, dict(theirs.state_dict()) if "tie_word_embeddings" in settings else dict(theirs.named_parameters())
    )
    assert from_transformers(written, back)[0] == config


def test_a_model_without_shifts_gets_shifts_of_zero(our_model: Build) -> None:
    config = replace(shapes.gpt2(2, 2, 14, 11), bias=False, norm=LayerNormConfig(bias=False))
    ours = GPT(config, VOCABULARY_SIZE).eval()
    settings, tensors = to_transformers(config, dict(ours.named_parameters()), VOCABULARY_SIZE)
    tokens = torch.arange(11)[None]
    assert torch.allclose(our_model(*from_transformers(settings, tensors))(tokens), ours(tokens), atol=1e-6)
