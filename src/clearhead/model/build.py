"""From a model's config to the model."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

from clearhead.model.config import BigramConfig, GptConfig, LstmConfig
from clearhead.model.encoder import Encoder
from clearhead.model.encoder_decoder import EncoderDecoder
from clearhead.model.ensemble import Ensemble
from clearhead.model.family_config import AnyModelConfig, EncoderConfig
from clearhead.model.ladder import Bigram
from clearhead.model.transformer import GPT
from clearhead.model.variants.lstm import Lstm

LanguageModel = GPT | Bigram | Lstm
Model = LanguageModel | Encoder | Ensemble | EncoderDecoder


def build_model(config: AnyModelConfig, vocabulary_size: int, *, seed: int = 0) -> Model:
    """Return a new model with weights drawn from `seed`; the global random state is left as it was."""
    with torch.random.fork_rng(devices=[]):
        # Not torch.manual_seed, which would seed every GPU too.
        torch.default_generator.manual_seed(seed)
        if isinstance(config, GptConfig):
            return GPT(config, vocabulary_size)
        if isinstance(config, BigramConfig):
            return Bigram(config, vocabulary_size)
        if isinstance(config, LstmConfig):
            return Lstm(config, vocabulary_size)
        if isinstance(config, EncoderConfig):
            kind = Encoder if config.num_members == 1 else Ensemble
            return kind(config, vocabulary_size)
        return EncoderDecoder(config, vocabulary_size)


FILLS = (torch.Tensor.normal_, torch.Tensor.uniform_, torch.Tensor.zero_, torch.Tensor.fill_)


class Unfilled(TorchFunctionMode):
    """Leaves out what fills new tensors, so their memory is never touched."""

    def __torch_function__(
        self, func: Callable[..., Any], types: object, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        return args[0] if func in FILLS else func(*args, **(kwargs or {}))


def build_outline(config: AnyModelConfig, vocabulary_size: int) -> Model:
    """Return a model to be measured, not run: its weights are whatever stood in memory.

    The device `meta` does the same, but its first operations load torch's compiler, for a second of a busy core.
    """
    with Unfilled():
        return build_model(config, vocabulary_size)
