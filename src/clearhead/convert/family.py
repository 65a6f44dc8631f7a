"""A family of models that transformers knows: what its configs say, and what its tensors are called there and here."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from clearhead.core.config import merge, to_dict
from clearhead.core.errors import UserError
from clearhead.model.build import build_outline
from clearhead.model.config import GptConfig
from clearhead.model.transformer import GPT
from clearhead.store.checkpoint import model_tensors

TRAINING = ["attention_dropout", "resid_pdrop", "embd_pdrop", "attn_pdrop", "initializer_range"]
MEMORY = ["gradient_checkpointing", "use_cache", "pretraining_tp", "chunk_size_feed_forward", "dtype", "torch_dtype"]
SUMMARY_HEAD = [f"summary_{name}" for name in ("type", "use_proj", "activation", "proj_to_labels", "first_dropout")]
CLASSIFIER = ["id2label", "label2id", "num_labels", "problem_type", "task_specific_params"]
TOKENIZER = ["bos_token_id", "eos_token_id", "pad_token_id"]
RESULTS = ["return_dict", "output_attentions", "output_hidden_states"]
ORIGIN = ["architectures", "transformers_version", "_name_or_path", "_attn_implementation_autoset"]
WITHOUT_EFFECT = frozenset((*TRAINING, *MEMORY, *SUMMARY_HEAD, *CLASSIFIER, *TOKENIZER, *RESULTS, *ORIGIN))
"""The settings that do not change the logits."""

SIZES = frozenset(
    (
        *("kind", "num_layers", "num_heads", "num_kv_heads", "width", "context_length", "positions.base", "bias"),
        *("norm.epsilon", "norm.gain", "norm.bias", "feed_forward.factor", "tied_head"),
        *("kernel", "dropout", "initialization"),
    )
)
"""Our settings that are sizes, that every form expresses, or that do not change what a trained model computes."""


@dataclass(frozen=True, slots=True)
class Tie:
    """A tensor of theirs and the parameters of ours that it holds, one after another.

    Args:
        turned: it is stored there as (in, out), and here as (out, in).
    """

    theirs: str
    ours: tuple[str, ...]
    turned: bool = False


@dataclass(frozen=True, slots=True)
class Family:
    """What transformers calls a `model_type`.

    Args:
        name: the `model_type`.
        title: what people call it.
        architecture: the class of the language model there.
        carried: the settings that are carried over, with what they are where a config leaves them out.
        fixed: the settings that change the logits, each with the one value that our parts can express.
        needed: our settings, each with the values that the family can express.
        added: our settings that every model of the family has; what they add to ours is shifts of 0 and gains of 1.
        read: from their settings, whole, to our config.
        write: from our config to their settings.
        ties: the tensors of a model of that config.
        prefix: what may stand before a tensor's name.
        leftovers: a pattern of stored tensors that follow from the config.
    """

    name: str
    title: str
    architecture: str
    carried: Mapping[str, Any]
    fixed: Mapping[str, Any]
    needed: Mapping[str, tuple[Any, ...]]
    added: Mapping[str, Any]
    read: Callable[[dict[str, Any]], GptConfig]
    write: Callable[[GptConfig], dict[str, Any]]
    ties: Callable[[GptConfig], Iterator[Tie]]
    prefix: str
    leftovers: str


def settings_of(family: Family, config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings that are carried over; refuse those that nobody here knows how to honour."""
    for name, value in config.items():
        if name in family.carried or name in WITHOUT_EFFECT:
            continue
        if name not in family.fixed:
            raise UserError(
                f"Nobody here knows what {name} = {value!r} does to a {family.title}; if the logits do not depend on "
                "it, leave it out of the config."
            )
        require(family, name, value, family.fixed[name])
    return {name: config.get(name, default) for name, default in family.carried.items()}


def require(family: Family, name: str, value: object, wanted: object) -> None:
    """Refuse a setting of theirs that has not the one value which can be expressed here."""
    if value != wanted:
        raise UserError(f"A {family.title} with {name} = {value!r} cannot be imported, only one with {wanted!r}.")


def misfits(config: GptConfig, needed: Mapping[str, Collection[Any]], known: Collection[str] = SIZES) -> list[str]:
    """Name the settings of ours that another form cannot express, such as `model.qk_norm = true`.

    Args:
        needed: settings, each with the values that can be expressed.
        known: settings of which every value can. Any other may only be what it is by default.
    """
    ours = flat(to_dict(config)) | {"num_kv_heads": None if config.kv_heads == config.num_heads else config.kv_heads}
    usual = flat(to_dict(GptConfig()))
    fitting = {name: needed.get(name, (usual.get(name),)) for name in ours if name in needed or name not in known}
    return [f"model.{name} = {_as_toml(ours[name])}" for name, values in fitting.items() if ours[name] not in values]


def listed(words: Sequence[str]) -> str:
    """Return words as a sentence lists them: `a, b and c`."""
    return " and ".join([", ".join(words[:-1]), words[-1]]) if len(words) > 1 else words[0]


def flat(values: Mapping[str, Any], before: str = "") -> dict[str, Any]:
    """Return nested settings under dotted names."""
    found: dict[str, Any] = {}
    for name, value in values.items():
        found |= flat(value, f"{before}{name}.") if isinstance(value, Mapping) else {f"{before}{name}": value}
    return found


def to_ours(family: Family, config: GptConfig, theirs: Mapping[str, Tensor], vocabulary_size: int) -> dict[str, Tensor]:
    """Return our parameters by name; every tensor of theirs is taken exactly once.

    Raises:
        UserError: the weights are not those that the config describes.
    """
    given = dict(theirs)
    ours: dict[str, Tensor] = {}
    for tie in family.ties(config):
        if tie.theirs not in given:
            raise UserError(f"The weights lack {tie.theirs}, which the config asks for.")
        joint = given.pop(tie.theirs)
        parts = (joint.t() if tie.turned else joint).tensor_split(len(tie.ours))
        ours |= {name: part.contiguous().clone() for name, part in zip(tie.ours, parts, strict=True)}
    head = given.pop("lm_head.weight", None) if config.tied_head else None
    if head is not None and not torch.equal(head, ours["embedding.weight"]):
        raise UserError("The config has tie_word_embeddings, but lm_head.weight differs from the embedding.")
    for name in given:
        raise UserError(f"The weights hold {name}, which has no place in the model that the config describes.")
    _require_fit(ours, config, vocabulary_size)
    return ours


def to_theirs(family: Family, config: GptConfig, ours: Mapping[str, Tensor], vocabulary_size: int) -> dict[str, Tensor]:
    """Return their tensors by name, with shifts of 0 and gains of 1 where our model has none."""
    wider = merge(config, family.added)
    whole = model_tensors(GPT(wider, vocabulary_size)) | dict(ours)
    theirs: dict[str, Tensor] = {}
    for tie in family.ties(wider):
        joint = torch.cat([whole[name] for name in tie.ours])
        theirs[tie.theirs] = (joint.t() if tie.turned else joint).contiguous()
    return theirs


def _as_toml(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else f'"{value}"' if isinstance(value, str) else str(value)


def _require_fit(converted: Mapping[str, Tensor], config: GptConfig, vocabulary_size: int) -> None:
    """Compare names and shapes with those of the model, which is made without memory for it."""
    wanted = {name: parameter.shape for name, parameter in build_outline(config, vocabulary_size).named_parameters()}
    assert wanted.keys() == converted.keys()
    for name, shape in wanted.items():
        if converted[name].shape != shape:
            found = tuple(converted[name].shape)
            raise UserError(f"The weights of {name} have the shape {found}, and the config asks for {tuple(shape)}.")
