"""Models of many architectures, small and with weights that let every part say something."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from clearhead.core.config import build
from clearhead.model.build import build_model
from clearhead.model.config import GptConfig
from clearhead.model.transformer import GPT

V, B, PROMPT, CONTEXT = 13, 3, 5, 17
SIZES = {"num_layers": 2, "num_heads": 4, "width": 24, "context_length": CONTEXT}

WHOLE: Mapping[str, dict[str, object]] = {
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
"""Architectures of which every block is folded for writing."""

AS_THEY_ARE: Mapping[str, dict[str, object]] = {
    "post-norm": {"residual": "post_norm"},
    "averaging": {"mixer": {"kind": "averaging"}},
    "convolution": {"mixer": {"kind": "convolution", "reach": 3}},
    "value is input": {"mixer": {"kind": "value_is_input"}},
    "constant key": {"mixer": {"kind": "constant_key"}},
    "no output": {"mixer": {"kind": "no_output"}},
}
"""Architectures of which no block is."""


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
