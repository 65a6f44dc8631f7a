"""Weights in the format of Hugging Face's transformers, brought into our own models."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from clearhead.core.config import merge
from clearhead.core.errors import UserError
from clearhead.model import shapes
from clearhead.model.config import GptConfig
from clearhead.model.transformer import GPT

GPT2_SIZES = {
    "vocab_size": 50257,
    "n_positions": 1024,
    "n_embd": 768,
    "n_layer": 12,
    "n_head": 12,
    "n_inner": None,
    "layer_norm_epsilon": 1e-5,
    "tie_word_embeddings": True,
}
"""The settings that are carried over, with what they are where a config leaves them out."""

GPT2_FIXED = {
    "model_type": "gpt2",
    "activation_function": "gelu_new",
    "scale_attn_weights": True,
    "scale_attn_by_inverse_layer_idx": False,
    "reorder_and_upcast_attn": False,
    "add_cross_attention": False,
    "is_encoder_decoder": False,
    "pruned_heads": {},
}
"""The settings that change what the model computes, each with the one value that our parts can express."""

TRAINING = ["resid_pdrop", "embd_pdrop", "attn_pdrop", "initializer_range", "gradient_checkpointing"]
SUMMARY_HEAD = [f"summary_{name}" for name in ("type", "use_proj", "activation", "proj_to_labels", "first_dropout")]
CLASSIFIER = ["id2label", "label2id", "num_labels", "problem_type", "task_specific_params"]
TOKENIZER = ["bos_token_id", "eos_token_id", "pad_token_id"]
RESULTS = ["use_cache", "return_dict", "output_attentions", "output_hidden_states", "chunk_size_feed_forward"]
ORIGIN = ["architectures", "transformers_version", "_name_or_path", "_attn_implementation_autoset"]
DTYPE = ["dtype", "torch_dtype"]
GPT2_WITHOUT_EFFECT = frozenset((*TRAINING, *SUMMARY_HEAD, *CLASSIFIER, *TOKENIZER, *RESULTS, *ORIGIN, *DTYPE))
"""The settings that do not change the logits."""

GPT2_MODULES = {
    "ln_1": "attention_norm",
    "attn.c_proj": "attention.output",
    "ln_2": "feed_forward_norm",
    "mlp.c_fc": "feed_forward.up",
    "mlp.c_proj": "feed_forward.output",
}
"""What the parts of a block are called there and here."""


def from_gpt2(config: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> tuple[GptConfig, dict[str, Tensor]]:
    """Return the config and the parameters, by name, of our GPT that computes what a GPT-2 of transformers computes.

    Linear maps are stored there as (in, out) and turned here; the joint map to queries, keys and values is cut in
    three. Departs: the dropout rates, which matter in training only, are not carried over.

    Args:
        config: what config.json holds.
        tensors: the weights of a GPT2LMHeadModel, or of a GPT2Model whose head is tied.

    Raises:
        UserError: a setting cannot be expressed by our parts, or the weights are not those that the config describes.
    """
    settings = _read_gpt2_settings(config)
    inner = settings["n_inner"] or 4 * settings["n_embd"]
    ours = merge(
        shapes.gpt2(),
        {
            "num_layers": settings["n_layer"],
            "num_heads": settings["n_head"],
            "width": settings["n_embd"],
            "context_length": settings["n_positions"],
            "norm.epsilon": settings["layer_norm_epsilon"],
            "feed_forward.factor": inner / settings["n_embd"],
            "tied_head": settings["tie_word_embeddings"],
        },
    )
    # Old files also hold each layer's causal mask.
    given = {
        name.removeprefix("transformer."): tensor
        for name, tensor in tensors.items()
        if not re.search(r"\.attn\.(masked_)?bias$", name)
    }
    converted = dict(_convert_gpt2(given, ours))
    _require_fit(converted, ours, settings["vocab_size"])
    return ours, converted


def _read_gpt2_settings(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings that are carried over; refuse those that nobody here knows how to honour."""
    settings = {name: config.get(name, default) for name, default in GPT2_SIZES.items()}
    fixed = GPT2_FIXED | {"n_ctx": settings["n_positions"]}
    for name, value in config.items():
        if name in GPT2_SIZES or name in GPT2_WITHOUT_EFFECT:
            continue
        if name not in fixed:
            raise UserError(
                f"Nobody here knows what {name} = {value!r} does to a GPT-2; if the logits do not depend on it, "
                "leave it out of the config."
            )
        if value != fixed[name]:
            raise UserError(f"A GPT-2 with {name} = {value!r} cannot be imported, only one with {fixed[name]!r}.")
    return settings


def _convert_gpt2(given: dict[str, Tensor], config: GptConfig) -> Iterator[tuple[str, Tensor]]:
    """Yield our parameters; every tensor of `given` is taken exactly once."""

    def take(name: str) -> Tensor:
        if name not in given:
            raise UserError(f"The weights lack {name}, which the config asks for.")
        tensor = given.pop(name)
        return tensor.t().contiguous() if re.search(r"\.c_\w+\.weight$", name) else tensor

    embedding = take("wte.weight")
    yield "embedding.weight", embedding
    yield "positions.table", take("wpe.weight")
    for layer in range(config.num_layers):
        there, here = f"h.{layer}", f"blocks.{layer}"
        for kind in ("weight", "bias"):
            joint = take(f"{there}.attn.c_attn.{kind}")
            for name, part in zip(("query", "key", "value"), joint.tensor_split(3), strict=True):
                yield f"{here}.attention.{name}.{kind}", part.clone()
            for theirs, ours in GPT2_MODULES.items():
                yield f"{here}.{ours}.{kind}", take(f"{there}.{theirs}.{kind}")
    for kind in ("weight", "bias"):
        yield f"final_norm.{kind}", take(f"ln_f.{kind}")
    if not config.tied_head:
        yield "unembedding.weight", take("lm_head.weight")
    elif "lm_head.weight" in given and not torch.equal(given.pop("lm_head.weight"), embedding):
        raise UserError("The config has tie_word_embeddings, but lm_head.weight differs from wte.weight.")
    for name in given:
        raise UserError(f"The weights hold {name}, which has no place in the model that the config describes.")


def _require_fit(converted: Mapping[str, Tensor], config: GptConfig, vocabulary_size: int) -> None:
    """Compare names and shapes with those of the model, which is made without memory for it."""
    with torch.device("meta"):
        wanted = {name: parameter.shape for name, parameter in GPT(config, vocabulary_size).named_parameters()}
    assert wanted.keys() == converted.keys()
    for name, shape in wanted.items():
        if converted[name].shape != shape:
            found = tuple(converted[name].shape)
            raise UserError(f"The weights of {name} have the shape {found}, and the config asks for {tuple(shape)}.")
