"""Weights in the format of Hugging Face's transformers, brought into our own models and back."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from clearhead.convert.family import Family, listed, misfits, settings_of, to_ours, to_theirs
from clearhead.convert.gpt2 import GPT2
from clearhead.convert.llama import LLAMA
from clearhead.core.errors import UserError, nearest
from clearhead.model.config import GptConfig

FAMILIES: dict[str, Family] = {family.name: family for family in (GPT2, LLAMA)}


def from_transformers(config: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> tuple[GptConfig, dict[str, Tensor]]:
    """Return the config and the parameters, by name, of our GPT that computes what a model of transformers computes.

    Departs: dropout rates, which matter in training only, are not carried over.

    Args:
        config: what config.json holds.
        tensors: the weights of the language model, or of the model without its head where the head is tied.

    Raises:
        UserError: a setting cannot be expressed by our parts, or the weights are not those that the config describes.
    """
    family = _family_of(config)
    settings = settings_of(family, config)
    ours = family.read(settings)
    given = {
        name.removeprefix(family.prefix): tensor
        for name, tensor in tensors.items()
        if not re.search(family.leftovers, name)
    }
    return ours, to_ours(family, ours, given, settings["vocab_size"])


def to_transformers(
    config: GptConfig, tensors: Mapping[str, Tensor], vocabulary_size: int
) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Return the settings and the tensors, by name, of the model of transformers that computes what our GPT computes.

    Raises:
        UserError: no family there has all the parts of this model; those that stand in the way are named.
    """
    family = family_for(config)
    theirs = to_theirs(family, config, tensors, vocabulary_size)
    named = {name if name == "lm_head.weight" else family.prefix + name: tensor for name, tensor in theirs.items()}
    settings = {
        "model_type": family.name,
        "architectures": [family.architecture],
        "vocab_size": vocabulary_size,
        "dtype": "float32",
    }
    return settings | family.write(config), named


def family_for(config: GptConfig) -> Family:
    """Return the family that can express a model.

    Raises:
        UserError: there is none; the nearest one and what it lacks are named.
    """
    lacking = {name: misfits(config, family.needed) for name, family in FAMILIES.items()}
    name = min(lacking, key=lambda name: len(lacking[name]))
    if lacking[name]:
        raise UserError(
            f"A {FAMILIES[name].title} of transformers, which comes nearest, cannot express {listed(lacking[name])}; "
            f"train with --preset {name} in order to export, or let clearhead export RUN eject write this model as it "
            "is."
        )
    return FAMILIES[name]


def _family_of(config: Mapping[str, Any]) -> Family:
    name = config.get("model_type")
    if name not in FAMILIES:
        raise UserError(
            f"A model with model_type = {name!r} cannot be imported; models of the families "
            f"{' and '.join(FAMILIES)} can.{nearest(str(name), FAMILIES)}"
        )
    return FAMILIES[name]
