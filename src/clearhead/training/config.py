"""What can be set about a whole run."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from clearhead.core.config import FOREIGN_NAMES, describe, merge
from clearhead.core.ranges import require_above_zero, require_not_negative, require_positive, require_share
from clearhead.core.words import counted
from clearhead.model.config import GptConfig
from clearhead.model.family_config import AnyModelConfig
from clearhead.text.config import TextConfig, TokenizerConfig

LENGTHS = ("steps", "tokens", "epochs", "minutes")
"""The settings of `train` that say how long a run is; one of them is given."""


@dataclass(frozen=True, kw_only=True, slots=True)
class AdamWConfig:
    """Adam with decoupled weight decay on matrices (Loshchilov and Hutter 2019).

    Args:
        learning_rate: the peak, for every parameter.
    """

    kind: Literal["adamw"] = "adamw"
    learning_rate: float = 1e-3
    beta1: float = 0.9
    beta2: float = 0.99
    epsilon: float = 1e-8
    weight_decay: float = 0.1

    def __post_init__(self) -> None:
        require_above_zero("learning_rate", self.learning_rate)
        for name in ("epsilon", "weight_decay"):
            require_not_negative(name, getattr(self, name))
        for name in ("beta1", "beta2"):
            require_share(name, getattr(self, name))


@dataclass(frozen=True, kw_only=True, slots=True)
class MuonConfig:
    """Muon for the matrices inside the blocks, AdamW without decay for everything else (Jordan et al. 2024).

    Args:
        learning_rate: the peak for the blocks' matrices, whose updates are made orthogonal first.
        momentum: how much of the earlier gradients is kept.
        weight_decay: decoupled, on the blocks' matrices alone.
        newton_schulz_steps: iterations that make an update orthogonal.
        embedding_learning_rate: AdamW's peak for embeddings.
        head_learning_rate: AdamW's peak for the head.
        gain_learning_rate: AdamW's peak for vectors.
    """

    kind: Literal["muon"] = "muon"
    learning_rate: float = 0.04
    momentum: float = 0.9
    weight_decay: float = 0.0
    newton_schulz_steps: int = 5
    embedding_learning_rate: float = 0.1
    head_learning_rate: float = 0.01
    gain_learning_rate: float = 0.03
    beta1: float = 0.9
    beta2: float = 0.95
    epsilon: float = 1e-10

    def __post_init__(self) -> None:
        require_above_zero("learning_rate", self.learning_rate)
        for name in ("embedding_learning_rate", "head_learning_rate", "gain_learning_rate", "weight_decay", "epsilon"):
            require_not_negative(name, getattr(self, name))
        for name in ("momentum", "beta1", "beta2"):
            require_share(name, getattr(self, name))
        require_positive("newton_schulz_steps", self.newton_schulz_steps)


OptimizerConfig = AdamWConfig | MuonConfig


@dataclass(frozen=True, kw_only=True, slots=True)
class ConstantConfig:
    """The peak learning rate throughout, after a linear warm-up.

    Args:
        warmup_steps: steps in which the rate rises from near zero to its peak.
    """

    kind: Literal["constant"] = "constant"
    warmup_steps: int = 0

    def __post_init__(self) -> None:
        require_not_negative("warmup_steps", self.warmup_steps)


@dataclass(frozen=True, kw_only=True, slots=True)
class CosineConfig:
    """From the peak to `final` of it along half a cosine (Loshchilov and Hutter 2017).

    Args:
        warmup_steps: steps in which the rate rises from near zero to its peak.
        final: what is left of the peak at the end.
    """

    kind: Literal["cosine"] = "cosine"
    warmup_steps: int = 100
    final: float = 0.1

    def __post_init__(self) -> None:
        require_not_negative("warmup_steps", self.warmup_steps)
        if not 0.0 <= self.final <= 1.0:
            raise ValueError(f"final must be from 0 to 1, not {self.final}.")


@dataclass(frozen=True, kw_only=True, slots=True)
class LinearConfig:
    """From the peak straight to zero at the end of the run.

    Args:
        warmup_steps: steps in which the rate rises from near zero to its peak.
    """

    kind: Literal["linear"] = "linear"
    warmup_steps: int = 0

    def __post_init__(self) -> None:
        require_not_negative("warmup_steps", self.warmup_steps)


@dataclass(frozen=True, kw_only=True, slots=True)
class WarmupStableDecayConfig:
    """The peak for most of the run, then straight to zero (Hu et al. 2024).

    Args:
        warmup_steps: steps in which the rate rises from near zero to its peak.
        decay_share: the part of the run in which it falls.
    """

    kind: Literal["wsd"] = "wsd"
    warmup_steps: int = 0
    decay_share: float = 0.4

    def __post_init__(self) -> None:
        require_not_negative("warmup_steps", self.warmup_steps)
        if not 0.0 < self.decay_share <= 1.0:
            raise ValueError(f"decay_share must be above 0 and at most 1, not {self.decay_share}.")


ScheduleConfig = ConstantConfig | CosineConfig | LinearConfig | WarmupStableDecayConfig


@dataclass(frozen=True, kw_only=True, slots=True)
class ShuffledConfig:
    """Windows in a keyed random order, each once an epoch, with a fresh phase every epoch."""

    kind: Literal["shuffled"] = "shuffled"


@dataclass(frozen=True, kw_only=True, slots=True)
class RandomOffsetsConfig:
    """Windows at random places, with replacement, as in the lecture."""

    kind: Literal["random_offsets"] = "random_offsets"


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainConfig:
    """How a run is trained.

    Args:
        steps: the length of the run in updates; at most one of steps, tokens, epochs and minutes is given.
        tokens: the length of the run in training targets.
        epochs: the length of the run in passes over the training part.
        minutes: the length of the run in minutes on this machine.
        sequences_per_step: windows in the batch of one update.
        micro_batches: parts into which that batch is cut, one after another, to save memory.
        order: how windows are drawn.
        clip_norm: gradients with a larger norm are scaled down to it.
        averaging: the decay of the running average of the weights, which is then evaluated in their place.
        seed: what weights, order and dropout are drawn from.
        device: a torch device; without one a CUDA GPU if there is one, else the CPU.
        check_device: compare a few numbers with the CPU's first, and refuse a device that computes wrong ones.
        precision: "bf16" multiplies matrices in bfloat16; weights stay in float32. Without a word, it is
            used where the device has instructions for it and the model is wide enough to gain. "tf32" cuts float32
            to 10 bits after the point in products, on CUDA GPUs alone.
        threads: CPU threads; without a number, chosen by a probe.
        deterministic: the same bits every time on a CPU.
        compile: let torch.compile make kernels; costs seconds at the start.
        recompute: keep less for the backward pass and compute it again (gradient checkpointing).
        log_every: steps between `stepped` events; without a number 1 for runs below 10,000 steps, else 10.
        evaluate_every: steps between evaluations; without a number, chosen by a probe to take about 5 % of the time.
        save_every: steps between saved steps; without a number, as evaluate_every.
        keep: which saved steps stay: "newest" (the best and the newest two), "spaced" (also the weights alone of
            steps 1, 2, 3, 4, 6, 7, 10, 13 and so on, eight in each tenfold) or "all"; without a word, "spaced" below
            5 million parameters.
        patience: evaluations without a gain above one standard error before the learning rate goes down and the
            run ends; without a number, 5 for texts under 5 MB in runs limited by epochs or minutes, else never.
        sample_prompt: what the samples during training begin with; without one, a line end or `<|end|>`.
        sample_tokens: how long those samples are.
    """

    steps: int | None = None
    tokens: int | None = None
    epochs: float | None = None
    minutes: float | None = None
    sequences_per_step: int = 32
    micro_batches: int = 1
    order: ShuffledConfig | RandomOffsetsConfig = field(default_factory=ShuffledConfig)
    clip_norm: float | None = 1.0
    averaging: float | None = None
    seed: int = 1
    device: str | None = None
    check_device: bool = True
    precision: Literal["fp32", "tf32", "bf16"] | None = None
    threads: int | None = None
    deterministic: bool = True
    compile: bool = False
    recompute: bool = False
    log_every: int | None = None
    evaluate_every: int | None = None
    save_every: int | None = None
    keep: Literal["newest", "spaced", "all"] | None = None
    patience: int | None = None
    sample_prompt: str | None = None
    sample_tokens: int = 200

    def __post_init__(self) -> None:
        given = [name for name in LENGTHS if getattr(self, name) is not None]
        if len(given) > 1:
            raise ValueError(f"give only one of steps, tokens, epochs and minutes, not {' and '.join(given)}.")
        positive = [*given, "sequences_per_step", "micro_batches", "clip_norm", "sample_tokens"]
        positive += ["threads", "log_every", "evaluate_every", "save_every"]
        for name in positive:
            value = getattr(self, name)
            if value is not None and value <= 0:
                raise ValueError(f"{name} must be above 0, not {value}.")
        require_not_negative("patience", self.patience or 0)
        if self.micro_batches > self.sequences_per_step:
            raise ValueError(
                f"micro_batches = {self.micro_batches} is more than sequences_per_step = {self.sequences_per_step}; "
                f"at most {counted(self.sequences_per_step, 'part')} can be cut."
            )
        if self.averaging is not None and not 0.0 < self.averaging < 1.0:
            raise ValueError(f"averaging is a decay between 0 and 1, such as 0.99, not {self.averaging}.")
        if not 0 <= self.seed < 2**63:
            raise ValueError(f"seed must be between 0 and {2**63 - 1}, not {self.seed}.")

    def planned_steps(self, tokens_per_step: int, sequences_per_epoch: int) -> int | None:
        """Return the number of updates of a run limited by steps, tokens or epochs, or None."""
        if self.tokens is not None:
            return max(1, round(self.tokens / tokens_per_step))
        if self.epochs is not None:
            return max(1, math.ceil(self.epochs * sequences_per_epoch / self.sequences_per_step))
        return self.steps


@dataclass(frozen=True, kw_only=True, slots=True)
class LanguageTaskConfig:
    """Predict each next token of a text."""

    kind: Literal["lm"] = "lm"


@dataclass(frozen=True, kw_only=True, slots=True)
class ClassifyTaskConfig:
    """Choose a label for each text of a table.

    Args:
        text: the name of the column or key that holds the texts, or the column's number from 1; without one, a usual
            name such as "text", or the first of two columns.
        label: likewise of the labels; without one, a usual name such as "label", or the second of two columns.
        validation: files of rows to validate on; without one, a tenth of the rows, chosen by the hash of their text.
    """

    kind: Literal["classify"] = "classify"
    text: str | None = None
    label: str | None = None
    validation: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class TranslateTaskConfig:
    """Write the target that belongs to each source of a table, or of two files side by side.

    Args:
        source: the name of the column or key that holds the sources, or the column's number from 1; without one, a
            usual name such as "source", or the first of two columns.
        target: likewise of the targets; without one, a usual name such as "target", or the second of two columns.
        validation: files of pairs to validate on; without one, a tenth of them, chosen by the hash of their source.
        label_smoothing: the share of each target's probability that training spreads over all ids.
    """

    kind: Literal["translate"] = "translate"
    source: str | None = None
    target: str | None = None
    validation: tuple[str, ...] = ()
    label_smoothing: float = 0.1

    def __post_init__(self) -> None:
        require_share("label_smoothing", self.label_smoothing)


TaskConfig = LanguageTaskConfig | ClassifyTaskConfig | TranslateTaskConfig


@dataclass(frozen=True, kw_only=True, slots=True)
class RunConfig:
    """Everything that decides a run, besides its text.

    Args:
        tokenizer: how text becomes ids; without one, characters below 4 MB of text, else byte-pair encoding.
    """

    task: TaskConfig = field(default_factory=LanguageTaskConfig)
    text: TextConfig = field(default_factory=TextConfig)
    tokenizer: TokenizerConfig | None = None
    model: AnyModelConfig = field(default_factory=GptConfig)
    optimizer: OptimizerConfig = field(default_factory=MuonConfig)
    schedule: ScheduleConfig = field(default_factory=LinearConfig)
    train: TrainConfig = field(default_factory=TrainConfig)


def override(config: RunConfig, changes: Mapping[str, Any]) -> RunConfig:
    """Return settings with changes over them; a length that the changes name takes the place of the one before.

    Args:
        changes: by nested or dotted names.

    Raises:
        UserError: the sentence names the dotted key of the first mistake.
    """
    train = changes.get("train")
    nested = train if isinstance(train, Mapping) else {}
    if any(f"train.{length}" in changes or length in nested for length in LENGTHS):
        config = merge(config, {"train": dict.fromkeys(LENGTHS)})
    return merge(config, changes)


def setting_keys(name: str) -> list[str]:
    """Return the dotted names of the settings that are called so, here or in other projects."""
    wanted = {name, FOREIGN_NAMES.get(name)}
    return [field.key for field in describe(RunConfig) if field.key.rpartition(".")[2] in wanted]
