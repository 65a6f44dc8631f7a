"""Presets: whole-run settings under a name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from clearhead.core.errors import UserError, nearest
from clearhead.model import shapes
from clearhead.model.family_config import EncoderConfig, EncoderDecoderConfig
from clearhead.text.config import BpeConfig, CharConfig, WordConfig
from clearhead.training.config import (
    AdamWConfig,
    ClassifyTaskConfig,
    ConstantConfig,
    CosineConfig,
    LinearConfig,
    MuonConfig,
    RandomOffsetsConfig,
    RunConfig,
    TrainConfig,
    TranslateTaskConfig,
)


def tiny() -> RunConfig:
    """0.8M parameters over characters with a context of 64: a text in its own voice within a minute."""
    return RunConfig(
        tokenizer=CharConfig(),
        model=shapes.tiny(),
        optimizer=MuonConfig(),
        schedule=LinearConfig(),
        train=TrainConfig(sequences_per_step=32),
    )


def tales() -> RunConfig:
    """For the built-in tales: 0.9M parameters over 1,024 pieces of words, with a context of 128."""
    return RunConfig(
        tokenizer=BpeConfig(vocabulary_size=1024),
        model=replace(shapes.tiny(), context_length=128),
        train=TrainConfig(sequences_per_step=16),
    )


def modern() -> RunConfig:
    """2.7M parameters, context 256: the default."""
    return RunConfig(
        model=shapes.modern(),
        optimizer=MuonConfig(),
        schedule=LinearConfig(),
        train=TrainConfig(sequences_per_step=16),
    )


def lecture() -> RunConfig:
    """The lecture's small model: 3 layers, 4 heads, width 32, context 8, batches of 4 random chunks, AdamW 1e-3."""
    return RunConfig(
        tokenizer=CharConfig(),
        model=shapes.lecture(),
        optimizer=AdamWConfig(learning_rate=1e-3, weight_decay=0.01, beta2=0.999),
        schedule=ConstantConfig(),
        train=TrainConfig(sequences_per_step=4, order=RandomOffsetsConfig(), clip_norm=None, precision="fp32"),
    )


def lecture_large() -> RunConfig:
    """The lecture's final model: 6 layers, 6 heads, width 384, context 256, dropout 0.2, AdamW 3e-4."""
    return RunConfig(
        tokenizer=CharConfig(),
        model=shapes.lecture_large(),
        optimizer=AdamWConfig(learning_rate=3e-4, weight_decay=0.01, beta2=0.999),
        schedule=ConstantConfig(),
        train=TrainConfig(sequences_per_step=64, order=RandomOffsetsConfig(), clip_norm=None, precision="fp32"),
    )


def gpt2() -> RunConfig:
    """GPT-2's parts at 4 layers, 4 heads, width 128, context 256, trained with AdamW and a cosine."""
    return RunConfig(
        model=shapes.gpt2(),
        optimizer=AdamWConfig(learning_rate=1e-3, weight_decay=0.1),
        schedule=CosineConfig(),
        train=TrainConfig(sequences_per_step=16),
    )


def gpt2_124m() -> RunConfig:
    """GPT-2's smallest published shape: 12 layers, 12 heads, width 768, context 1,024."""
    return RunConfig(
        model=shapes.gpt2_124m(),
        optimizer=AdamWConfig(learning_rate=6e-4, beta2=0.95, weight_decay=0.1),
        schedule=CosineConfig(warmup_steps=700),
        train=TrainConfig(sequences_per_step=8),
    )


def llama() -> RunConfig:
    """Llama's parts at 4 layers, 4 heads, width 128, context 256, trained with AdamW and a cosine."""
    return RunConfig(
        model=shapes.llama(),
        optimizer=AdamWConfig(learning_rate=1e-3, beta2=0.95, weight_decay=0.1),
        schedule=CosineConfig(),
        train=TrainConfig(sequences_per_step=16),
    )


def classify() -> RunConfig:
    """For labelled texts: three encoders of one layer over words, three of ten hidden, read ten times."""
    return RunConfig(
        task=ClassifyTaskConfig(),
        tokenizer=WordConfig(),
        model=EncoderConfig(num_members=3, num_layers=1, dropout=0.3, token_dropout=0.3),
        optimizer=MuonConfig(
            learning_rate=0.001,
            embedding_learning_rate=0.001,
            head_learning_rate=0.001,
            gain_learning_rate=0.0001,
        ),
        schedule=LinearConfig(),
        train=TrainConfig(sequences_per_step=32, epochs=10.0),
    )


def classify_tales() -> RunConfig:
    """For the sentences of the built-in tales' world: an encoder of two layers over words."""
    return RunConfig(
        task=ClassifyTaskConfig(),
        tokenizer=WordConfig(),
        model=EncoderConfig(),
        optimizer=small_embedding_optimizer(),
        schedule=LinearConfig(),
        train=TrainConfig(sequences_per_step=64),
    )


def translate() -> RunConfig:
    """For pairs of sentences: 3 + 3 layers of width 256 over 4,096 pieces of words, both languages sharing them."""
    return RunConfig(
        task=TranslateTaskConfig(),
        tokenizer=BpeConfig(vocabulary_size=4096),
        model=EncoderDecoderConfig(dropout=0.3),
        optimizer=small_embedding_optimizer(),
        schedule=LinearConfig(warmup_steps=100),
        train=TrainConfig(sequences_per_step=128, precision="bf16"),
    )


def translate_tales() -> RunConfig:
    """For the tales' invented language: 2 + 2 layers of width 128 over words."""
    return RunConfig(
        task=TranslateTaskConfig(label_smoothing=0.0),
        tokenizer=WordConfig(),
        model=EncoderDecoderConfig(num_encoder_layers=2, num_decoder_layers=2, width=128, dropout=0.0),
        optimizer=small_embedding_optimizer(),
        schedule=LinearConfig(warmup_steps=20),
        train=TrainConfig(sequences_per_step=64),
    )


def small_embedding_optimizer() -> MuonConfig:
    """Return Muon with rates that suit an embedding which is drawn small, as one is that is also the head."""
    return MuonConfig(
        learning_rate=0.02,
        embedding_learning_rate=0.003,
        head_learning_rate=0.003,
        gain_learning_rate=0.01,
    )


RECIPES: dict[str, Callable[[], RunConfig]] = {
    "tiny": tiny,
    "tales": tales,
    "modern": modern,
    "lecture": lecture,
    "lecture-large": lecture_large,
    "gpt2": gpt2,
    "gpt2-124m": gpt2_124m,
    "llama": llama,
    "classify": classify,
    "classify-tales": classify_tales,
    "translate": translate,
    "translate-tales": translate_tales,
}

DEFAULTS = {
    "lm": ("modern", "tales"),
    "classify": ("classify", "classify-tales"),
    "translate": ("translate", "translate-tales"),
}
"""For each task the preset for data that are named, and the one for the built-in data."""


def default_recipe(task: str, *, named: bool) -> str:
    """Return the preset of a task where the user names none.

    Args:
        named: the user names data, so it is not the built-in data.

    Raises:
        UserError: there is no such task; the nearest is named.
    """
    if task not in DEFAULTS:
        raise UserError(f"There is no task {task}; there are {', '.join(DEFAULTS)}.{nearest(task, DEFAULTS)}")
    return DEFAULTS[task][0 if named else 1]


def recipe(name: str) -> RunConfig:
    """Return the settings of a preset.

    Raises:
        UserError: there is no such preset; the nearest is named.
    """
    if name not in RECIPES:
        raise UserError(f"There is no preset {name}; there are {', '.join(RECIPES)}.{nearest(name, RECIPES)}")
    return RECIPES[name]()
