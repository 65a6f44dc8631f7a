"""GPT-2 as transformers stores it, and as our parts.

Linear maps are stored there as (in, out), and the maps to queries, keys and values as one.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from clearhead.convert.family import Family, Tie, require
from clearhead.core.config import merge
from clearhead.model import shapes
from clearhead.model.config import FeedForwardConfig, GptConfig, LayerNormConfig
from clearhead.model.layers import hidden_width

ACTIVATIONS = {
    "gelu_new": "gelu",
    "gelu_pytorch_tanh": "gelu",
    "gelu": "gelu_exact",
    "relu": "relu",
    "relu2": "squared_relu",
}
"""What activations are called there and here; of two names there, the first is written."""

CARRIED = {
    "vocab_size": 50257,
    "n_positions": 1024,
    "n_ctx": None,
    "n_embd": 768,
    "n_layer": 12,
    "n_head": 12,
    "n_inner": None,
    "activation_function": "gelu_new",
    "layer_norm_epsilon": 1e-5,
    "tie_word_embeddings": True,
}

FIXED = {
    "model_type": "gpt2",
    "scale_attn_weights": True,
    "scale_attn_by_inverse_layer_idx": False,
    "reorder_and_upcast_attn": False,
    "add_cross_attention": False,
    "is_encoder_decoder": False,
    "pruned_heads": {},
}

NEEDED = {
    "positions.kind": ("learned",),
    "norm.kind": ("layer",),
    "feed_forward.kind": tuple(ACTIVATIONS.values()),
    "num_kv_heads": (None,),
    "embedding_norm": (False,),
    "convolution": (1,),
    "qk_norm": (False,),
    "logit_softcap": (None,),
}

MODULES = {
    "ln_1": "attention_norm",
    "attn.c_proj": "attention.output",
    "ln_2": "feed_forward_norm",
    "mlp.c_fc": "feed_forward.up",
    "mlp.c_proj": "feed_forward.output",
}
"""What the parts of a block are called there and here."""


def read(settings: dict[str, Any]) -> GptConfig:
    """Return our config of a GPT-2."""
    require(GPT2, "n_ctx", settings["n_ctx"] or settings["n_positions"], settings["n_positions"])
    activation = settings["activation_function"]
    require(GPT2, "activation_function", activation, activation if activation in ACTIVATIONS else "gelu_new")
    inner = settings["n_inner"] or 4 * settings["n_embd"]
    changes = {
        "num_layers": settings["n_layer"],
        "num_heads": settings["n_head"],
        "width": settings["n_embd"],
        "context_length": settings["n_positions"],
        "norm.epsilon": settings["layer_norm_epsilon"],
        "feed_forward.kind": ACTIVATIONS[activation],
        "feed_forward.factor": inner / settings["n_embd"],
        "tied_head": settings["tie_word_embeddings"],
    }
    return merge(shapes.gpt2(), changes)


def write(config: GptConfig) -> dict[str, Any]:
    """Return the settings of a GPT-2 by which it computes what our model does."""
    assert isinstance(config.feed_forward, FeedForwardConfig)
    assert isinstance(config.norm, LayerNormConfig)
    kinds = {ours: theirs for theirs, ours in reversed(ACTIVATIONS.items())}
    assert isinstance(config.norm, LayerNormConfig)
    assert isinstance(config.feed_forward, FeedForwardConfig)
    return {
        "n_positions": config.context_length,
        "n_embd": config.width,
        "n_layer": config.num_layers,
        "n_head": config.num_heads,
        "n_inner": hidden_width(config.feed_forward, config.width),
        "activation_function": kinds[config.feed_forward.kind],
        "layer_norm_epsilon": config.norm.epsilon,
        "tie_word_embeddings": config.tied_head,
        "resid_pdrop": config.dropout,
        "embd_pdrop": config.dropout,
        "attn_pdrop": 0.0,
    }


def ties(config: GptConfig) -> Iterator[Tie]:
    """Yield the tensors of a GPT2LMHeadModel."""
    yield Tie("wte.weight", ("embedding.weight",))
    yield Tie("wpe.weight", ("positions.table",))
    for layer in range(config.num_layers):
        there, here = f"h.{layer}", f"blocks.{layer}"
        for kind in ("weight", "bias"):
            joint = tuple(f"{here}.attention.{name}.{kind}" for name in ("query", "key", "value"))
            yield Tie(f"{there}.attn.c_attn.{kind}", joint, turned=kind == "weight")
            for theirs, ours in MODULES.items():
                turned = kind == "weight" and "c_" in theirs
                yield Tie(f"{there}.{theirs}.{kind}", (f"{here}.{ours}.{kind}",), turned)
    for kind in ("weight", "bias"):
        yield Tie(f"ln_f.{kind}", (f"final_norm.{kind}",))
    if not config.tied_head:
        yield Tie("lm_head.weight", ("unembedding.weight",))


GPT2 = Family(
    name="gpt2",
    title="GPT-2",
    architecture="GPT2LMHeadModel",
    carried=CARRIED,
    fixed=FIXED,
    needed=NEEDED,
    added={"bias": True, "norm.bias": True},
    read=read,
    write=write,
    ties=ties,
    prefix="transformer.",
    # Old files also hold each layer's causal mask.
    leftovers=r"\.attn\.(masked_)?bias$",
)
