"""Llama of transformers and what is imported from it compute the same, on small random models built from a config."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Literal

import pytest
import torch
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedModel

from clearhead.convert.huggingface import from_transformers, to_transformers
from clearhead.convert.llama import LLAMA
from clearhead.core.errors import UserError
from clearhead.model import shapes
from clearhead.model.config import GptConfig, RMSNormConfig, RotaryConfig, SwiGLUConfig
from clearhead.model.transformer import GPT

VOCABULARY_SIZE = 31
MHA = {"hidden_size": 30, "num_attention_heads": 5, "num_key_value_heads": 5, "intermediate_size": 56}
GQA = {"hidden_size": 36, "num_attention_heads": 6, "num_key_value_heads": 2, "intermediate_size": 88}
CONFIGS: dict[str, dict[str, Any]] = {
    "one-kv-head-a-head": MHA | {"num_hidden_layers": 2, "max_position_embeddings": 13},
    "grouped": GQA | {"num_hidden_layers": 3, "max_position_embeddings": 17, "rms_norm_eps": 0.03},
    "one-kv-head": GQA | {"num_key_value_heads": 1, "num_hidden_layers": 1, "max_position_embeddings": 11},
    "another-base": GQA
    | {"num_hidden_layers": 2, "max_position_embeddings": 19, "rope_parameters": {"rope_theta": 37.0}},
    "tied": MHA | {"num_hidden_layers": 1, "max_position_embeddings": 7, "tie_word_embeddings": True},
    "with-shifts": GQA
    | {"num_hidden_layers": 2, "max_position_embeddings": 7, "attention_bias": True, "mlp_bias": True},
}

Randomize = Callable[[PreTrainedModel], PreTrainedModel]
Build = Callable[[GptConfig, dict[str, Tensor]], GPT]
Measure = Callable[[PreTrainedModel, GPT], float]


def llama(settings: dict[str, Any]) -> LlamaForCausalLM:
    rope = {"rope_type": "default", "rope_theta": 10_000.0} | settings.get("rope_parameters", {})
    return LlamaForCausalLM(
        LlamaConfig(attn_implementation="eager", **{**settings, "rope_parameters": rope, "vocab_size": VOCABULARY_SIZE})
    )


@pytest.mark.parametrize("kernel", ["fused", "explicit"])
@pytest.mark.parametrize("settings", list(CONFIGS.values()), ids=list(CONFIGS))
def test_logits_and_gradients_are_the_same(
    settings: dict[str, Any],
    kernel: Literal["fused", "explicit"],
    randomized: Randomize,
    our_model: Build,
    disagreement: Measure,
) -> None:
    theirs = randomized(llama(settings))
    config, tensors = from_transformers(theirs.config.to_dict(), theirs.state_dict())
    assert disagreement(theirs, our_model(replace(config, kernel=kernel), tensors)) <= 1e-5


Broken = tuple[GptConfig, dict[str, Tensor]]


def gate_and_up_swapped(config: GptConfig, tensors: dict[str, Tensor]) -> Broken:
    swap = {"gate": "up", "up": "gate"}
    return config, {re.sub(r"\b(gate|up)\b", lambda found: swap[found[0]], name): x for name, x in tensors.items()}


def the_usual_base(config: GptConfig, tensors: dict[str, Tensor]) -> Broken:
    return replace(config, positions=RotaryConfig()), tensors


def another_epsilon(config: GptConfig, tensors: dict[str, Tensor]) -> Broken:
    return replace(config, norm=RMSNormConfig(epsilon=0.01, gain=True)), tensors


def interleaved_rotations(config: GptConfig, tensors: dict[str, Tensor]) -> Broken:
    def mixed(x: Tensor) -> Tensor:
        return x.unflatten(0, (-1, 2, config.head_width // 2)).transpose(1, 2).flatten(0, 2)

    return config, {name: mixed(x) if re.search(r"query|key", name) else x for name, x in tensors.items()}


@pytest.mark.parametrize("broken", [gate_and_up_swapped, the_usual_base, another_epsilon, interleaved_rotations])
def test_a_broken_import_is_seen(
    broken: Callable[[GptConfig, dict[str, Tensor]], Broken],
    randomized: Randomize,
    our_model: Build,
    disagreement: Measure,
) -> None:
    theirs = randomized(llama(CONFIGS["another-base"]))
    ours = our_model(*broken(*from_transformers(theirs.config.to_dict(), theirs.state_dict())))
    assert disagreement(theirs, ours) > 1e-4


# The formats in which such models are found.


@pytest.fixture(scope="module")
def theirs(randomized: Randomize) -> PreTrainedModel:
    return randomized(llama(CONFIGS["grouped"]))


def test_the_configs_of_older_versions_are_read(theirs: PreTrainedModel) -> None:
    stored = json.loads(theirs.config.to_json_string())
    del stored["rope_parameters"], stored["head_dim"]
    old = stored | {"rope_theta": 10_000.0, "rope_scaling": None, "pretraining_tp": 1, "torch_dtype": "float16"}
    inverse = {"model.layers.0.self_attn.rotary_emb.inv_freq": torch.ones(3)}
    found, _ = from_transformers(old, theirs.state_dict() | inverse)
    assert found == from_transformers(theirs.config.to_dict(), theirs.state_dict())[0]


REFUSED: dict[str, Any] = {
    "hidden_act": "gelu",
    "is_encoder_decoder": True,
    "model_type": "mistral",
    "head_dim": 8,
    "mlp_bias": True,
    "attention_bias": True,
    "intermediate_size": 86,
    "rope_scaling": {"type": "linear", "factor": 2.0},
    "rope_parameters": {"rope_type": "llama3", "rope_theta": 5e5, "factor": 8.0},
    "sliding_window": 5,
    "quantization_config": {"bits": 4},
}


@pytest.mark.parametrize("name", list(REFUSED))
def test_a_setting_that_is_not_ours_is_refused_by_name(theirs: PreTrainedModel, name: str) -> None:
    with pytest.raises(UserError, match=f"{'mlp_bias' if name == 'attention_bias' else name} = "):
        from_transformers(theirs.config.to_dict() | {name: REFUSED[name]}, theirs.state_dict())


def test_every_fixed_setting_is_tried() -> None:
    assert set(LLAMA.fixed) <= set(REFUSED)


def test_scaled_rotations_do_compute_something_else(theirs: PreTrainedModel, disagreement: Measure) -> None:
    """What is refused is refused for a reason: read as if it were not scaled, it would be wrong."""
    rope = {"rope_type": "linear", "rope_theta": 10_000.0, "factor": 2.0}
    scaled = LlamaForCausalLM(
        LlamaConfig(**(CONFIGS["grouped"] | {"vocab_size": VOCABULARY_SIZE}), rope_parameters=rope)
    )
    scaled.load_state_dict(theirs.state_dict())
    tokens = torch.arange(17)[None]
    assert (scaled.eval()(tokens).logits - theirs(tokens).logits).abs().max() > 1e-4


# The way back.


@pytest.mark.parametrize("settings", list(CONFIGS.values()), ids=list(CONFIGS))
def test_there_and_back_gives_the_same_weights(settings: dict[str, Any], randomized: Randomize) -> None:
    theirs = randomized(llama(settings))
    config, tensors = from_transformers(theirs.config.to_dict(), theirs.state_dict())
    written, back = to_transformers(config, tensors, VOCABULARY_SIZE)
    parameters = dict(theirs.named_parameters())
    assert back.keys() == parameters.keys()
    assert all(torch.equal(back[name], parameters[name]) for name in back)
    assert from_transformers(written, back)[0] == config


def test_a_model_without_gains_gets_gains_of_one(our_model: Build) -> None:
    config = replace(shapes.llama(2, 2, 20, 11), norm=RMSNormConfig())
    ours = GPT(config, VOCABULARY_SIZE).eval()
    settings, tensors = to_transformers(config, dict(ours.named_parameters()), VOCABULARY_SIZE)
    tokens = torch.arange(11)[None]
    assert torch.allclose(our_model(*from_transformers(settings, tensors))(tokens), ours(tokens), atol=1e-6)


UNLIKE = {
    "model.qk_norm = true": {"qk_norm": True},
    "model.convolution = 3": {"convolution": 3},
    "model.logit_softcap = 15.0": {"logit_softcap": 15.0},
    "model.embedding_norm = true": {"embedding_norm": True},
}


@pytest.mark.parametrize("named", list(UNLIKE))
@pytest.mark.parametrize("shape", [shapes.gpt2, shapes.llama])
def test_what_no_family_can_express_is_refused_by_name(shape: Callable[[], GptConfig], named: str) -> None:
    with pytest.raises(UserError, match=f"cannot express {named}; train with --preset {shape.__name__} "):
        to_transformers(replace(shape(), **UNLIKE[named]), {}, VOCABULARY_SIZE)


def test_the_nearest_family_is_named() -> None:
    odd = replace(shapes.gpt2(), feed_forward=SwiGLUConfig(), num_kv_heads=2)
    with pytest.raises(
        UserError, match=r'GPT-2 .* express model\.num_kv_heads = 2 and model\.feed_forward\.kind = "swiglu";'
    ):
        to_transformers(odd, {}, VOCABULARY_SIZE)
