"""Llama as transformers stores it, and as our parts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from clearhead.convert.family import Family, Tie, require
from clearhead.core.config import merge
from clearhead.core.errors import UserError
from clearhead.model import shapes
from clearhead.model.config import GptConfig, RMSNormConfig, RotaryConfig, SwiGLUConfig
from clearhead.model.layers import hidden_width

CARRIED = {
    "vocab_size": 32000,
    "hidden_size": 4096,
    "intermediate_size": 11008,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": None,
    "head_dim": None,
    "max_position_embeddings": 2048,
    "rms_norm_eps": 1e-6,
    "attention_bias": False,
    "mlp_bias": False,
    "tie_word_embeddings": False,
    "rope_theta": None,
    "rope_scaling": None,
    "rope_parameters": None,
}

FIXED = {"model_type": "llama", "hidden_act": "silu", "is_encoder_decoder": False}

NEEDED = {
    "positions.kind": ("rotary",),
    "norm.kind": ("rms",),
    "feed_forward.kind": ("swiglu",),
    "embedding_norm": (False,),
    "convolution": (1,),
    "qk_norm": (False,),
    "logit_softcap": (None,),
}

NORMS = {"input_layernorm": "attention_norm", "post_attention_layernorm": "feed_forward_norm"}
LINEAR = {
    "self_attn.q_proj": "attention.query",
    "self_attn.k_proj": "attention.key",
    "self_attn.v_proj": "attention.value",
    "self_attn.o_proj": "attention.output",
    "mlp.gate_proj": "feed_forward.gate",
    "mlp.up_proj": "feed_forward.up",
    "mlp.down_proj": "feed_forward.output",
}
"""What the parts of a block are called there and here."""

DEFAULT_BASE = 10_000.0


def read(settings: dict[str, Any]) -> GptConfig:
    """Return our config of a Llama."""
    width, num_heads = settings["hidden_size"], settings["num_attention_heads"]
    require(LLAMA, "head_dim", settings["head_dim"] or width // num_heads, width // num_heads)
    require(LLAMA, "mlp_bias", settings["mlp_bias"], settings["attention_bias"])
    if settings["intermediate_size"] % 8:
        raise UserError(
            f"A Llama with intermediate_size = {settings['intermediate_size']} cannot be imported, only one with a "
            "multiple of 8."
        )
    changes = {
        "num_layers": settings["num_hidden_layers"],
        "num_heads": num_heads,
        "num_kv_heads": settings["num_key_value_heads"],
        "width": width,
        "context_length": settings["max_position_embeddings"],
        "positions.base": rotary_base(settings),
        "norm.epsilon": settings["rms_norm_eps"],
        "feed_forward.factor": settings["intermediate_size"] / width,
        "bias": settings["attention_bias"],
        "tied_head": settings["tie_word_embeddings"],
    }
    return merge(shapes.llama(), changes)


def rotary_base(settings: Mapping[str, Any]) -> float:
    """Return the base of the rotations, wherever the version that wrote the config put it.

    Raises:
        UserError: the rotations are scaled, which nothing here can express.
    """
    base = settings["rope_theta"]
    for name in ("rope_parameters", "rope_scaling"):
        given = dict(settings[name] or {})
        base = given.pop("rope_theta", None) or base
        kinds = {given.pop("rope_type", "default"), given.pop("type", "default")}
        if kinds != {"default"} or given:
            raise UserError(
                f"A Llama with {name} = {settings[name]!r} cannot be imported, only one whose rotations are not scaled "
                '(rope_type "default").'
            )
    return float(base or DEFAULT_BASE)


def write(config: GptConfig) -> dict[str, Any]:
    """Return the settings of a Llama by which it computes what our model does."""
    assert isinstance(config.positions, RotaryConfig)
    assert isinstance(config.norm, RMSNormConfig)
    assert isinstance(config.feed_forward, SwiGLUConfig)
    return {
        "hidden_size": config.width,
        "intermediate_size": hidden_width(config.feed_forward, config.width),
        "num_hidden_layers": config.num_layers,
        "num_attention_heads": config.num_heads,
        "num_key_value_heads": config.kv_heads,
        "head_dim": config.head_width,
        "hidden_act": "silu",
        "max_position_embeddings": config.context_length,
        "rms_norm_eps": config.norm.epsilon,
        "attention_bias": config.bias,
        "mlp_bias": config.bias,
        "tie_word_embeddings": config.tied_head,
        # Versions before 5 read the first, later ones the second.
        "rope_theta": config.positions.base,
        "rope_parameters": {"rope_type": "default", "rope_theta": config.positions.base},
    }


def ties(config: GptConfig) -> Iterator[Tie]:
    """Yield the tensors of a LlamaForCausalLM."""
    yield Tie("embed_tokens.weight", ("embedding.weight",))
    for layer in range(config.num_layers):
        there, here = f"layers.{layer}", f"blocks.{layer}"
        for theirs, ours in NORMS.items():
            yield Tie(f"{there}.{theirs}.weight", (f"{here}.{ours}.weight",))
        for theirs, ours in LINEAR.items():
            for kind in ("weight", "bias") if config.bias else ("weight",):
                yield Tie(f"{there}.{theirs}.{kind}", (f"{here}.{ours}.{kind}",))
    yield Tie("norm.weight", ("final_norm.weight",))
    if not config.tied_head:
        yield Tie("lm_head.weight", ("unembedding.weight",))


LLAMA = Family(
    name="llama",
    title="Llama",
    architecture="LlamaForCausalLM",
    carried=CARRIED,
    fixed=FIXED,
    needed=NEEDED,
    added={"norm.gain": True},
    read=read,
    write=write,
    ties=ties,
    prefix="model.",
    # Old files also hold each layer's rotations.
    leftovers=r"\.rotary_emb\.inv_freq$",
)
