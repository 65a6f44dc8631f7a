"""What to train in a given time: tokenizer, size and length for a text on this machine, and the loss to expect."""

from __future__ import annotations

import functools
import itertools
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from clearhead.core.config import merge, to_dict
from clearhead.core.errors import UserError
from clearhead.core.runtime import Runtime
from clearhead.model.build import build_model, build_outline
from clearhead.model.config import BigramConfig
from clearhead.text.corpus import Corpus
from clearhead.text.split import Split, split
from clearhead.text.tokenizer import train_tokenizer
from clearhead.training import devices
from clearhead.training.config import RunConfig, TrainConfig, override
from clearhead.training.dataset import knowing_every_character
from clearhead.training.expectation import Expectation, TextMeasure, expect, is_covered, measure_text
from clearhead.training.fit import DEFAULT_MINUTES
from clearhead.training.optim import build_optimizer
from clearhead.training.preflight import Sizes, measure_sizes
from clearhead.training.recipes import recipe
from clearhead.training.session import EVALUATION_SHARE

PRESET = "modern"
"""The preset that plans change."""

PROBE_SECONDS = 5.0
TIMED_SECONDS = 0.4
"""How long the steps of one size are timed, after one that warms up."""

FEWEST_STEPS = 100
"""A size that could do fewer steps in its time is no candidate."""

SHORTER = 0.85
"""A run that would learn its text by heart is shortened by this factor, again and again where needed."""

SAMPLE_BYTES = 300_000
"""So much of a text tells how many bytes a token will stand for."""


def of_size(num_layers: int, num_heads: int, width: int, context_length: int, sequences: int) -> dict[str, Any]:
    """Return the settings of a model's size and of its steps."""
    return {
        "model.num_layers": num_layers,
        "model.num_heads": num_heads,
        "model.width": width,
        "model.context_length": context_length,
        "train.sequences_per_step": sequences,
    }


SIZES = (
    of_size(4, 4, 128, 128, 16),
    of_size(6, 3, 192, 256, 16),
    of_size(8, 3, 192, 512, 8),
    of_size(8, 8, 512, 512, 8),
)
TOKENIZERS: tuple[dict[str, Any], ...] = (
    {"tokenizer.kind": "char"},
    {"tokenizer.kind": "bpe", "tokenizer.vocabulary_size": 1024},
)
DROPOUTS = (0.0, 0.1, 0.2)
ALWAYS = {"optimizer.weight_decay": 0.1, "train.patience": 0}
"""What every plan sets: decay helps where a text is read several times, and elsewhere does nothing (docs/log.md)."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """One way to spend the time, and what is to be expected of it.

    Args:
        changes: what the planner sets in the preset, by dotted names.
        config: the whole, with what the user set.
        steps: as many as there is time for.
        expected: by what runs like the preset's came to.
    """

    changes: Mapping[str, Any]
    config: RunConfig
    sizes: Sizes
    vocabulary: Vocabulary
    step_seconds: float
    steps: int
    expected: Expectation

    @property
    def loss(self) -> float:
        """The loss to expect, by which candidates are compared."""
        return self.expected.bits_per_byte

    @property
    def seconds(self) -> float:
        """How long its steps take."""
        return self.steps * self.step_seconds

    @property
    def tokens_per_step(self) -> int:
        """How many tokens a step reads."""
        return tokens_per_step(self.config)

    @property
    def name(self) -> str:
        """Its tokenizer and size in words."""
        assert self.config.tokenizer is not None
        model = self.config.model
        shape = f"{getattr(model, 'num_layers', '?')} layers of width {getattr(model, 'width', '?')}"
        dropout = f", dropout {rate:g}" if (rate := getattr(model, "dropout", 0.0)) else ""
        kind, size = self.config.tokenizer.kind, self.vocabulary.size
        return f"{kind}, {size:,} ids, {shape}, context {model.context_length}{dropout}"


@dataclass(frozen=True, slots=True)
class Choice:
    """A plan: the candidate of which the lowest loss is expected, and all that it was chosen from.

    Args:
        covered: the expectations are about runs like this one; else they only serve to compare.
    """

    text: TextMeasure
    minutes: float
    best: Candidate
    candidates: tuple[Candidate, ...]
    covered: bool

    @property
    def settings(self) -> dict[str, Any]:
        """What the run takes instead of the preset's, by dotted names; only kinds that its user left have them all."""
        whole = flattened(to_dict(self.best.config))
        return {key: whole[key] for key in ("train.minutes", *self.best.changes) if whole.get(key) is not None}

    @property
    def sentence(self) -> str:
        """What was chosen and what is expected of it."""
        said = f"Plan for {self.minutes:g} min: {self.best.name}"
        if self.best.config.train.minutes is None:
            said += f"; done after about {self.best.seconds / 60:.2g} min, before it learns the text by heart"
        return f"{said}; expected: {self.best.expected}." if self.covered else f"{said}."


def flattened(values: Mapping[str, Any], where: str = "") -> dict[str, Any]:
    """Return nested settings by dotted names."""
    found: dict[str, Any] = {}
    for key, value in values.items():
        found |= flattened(value, f"{where}{key}.") if isinstance(value, Mapping) else {f"{where}{key}": value}
    return found


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """What a tokenizer makes of a text."""

    size: int
    bytes_per_token: float


def choose(corpus: Corpus, settings: Sequence[Mapping[str, Any]], runtime: Runtime) -> Choice:
    """Choose what its user left open of a timed run on a text.

    Args:
        settings: what was set, nested or by dotted names, in the order in which it holds; a plan changes none of it.

    Raises:
        UserError: the settings do not go together, or the run's length is not given by time.
    """
    parts = split(corpus)
    text = measure_text(parts)
    proposals = propose(settings)
    train = proposals[0].config.train
    if isinstance(proposals[0].config.model, BigramConfig):
        raise UserError("A table of pairs has no size to plan; train it without a plan.")
    if not is_timed(train):
        raise UserError("A plan is for a run of so many minutes; leave steps, tokens and epochs out.")
    minutes = train.minutes or DEFAULT_MINUTES
    proposals = [replace(each, config=merge(each.config, {"train.minutes": minutes})) for each in proposals]
    found = tuple(weigh(proposals, parts, text, 60 * minutes, runtime))
    best = min(found, key=lambda each: each.loss)
    return Choice(text, minutes, best, found, is_covered(best.config, text.training_bytes))


@dataclass(frozen=True, slots=True)
class Proposal:
    """Settings of a candidate before anything is measured: its place in SIZES, what the planner sets, and the whole."""

    size: int
    changes: Mapping[str, Any]
    config: RunConfig


def propose(settings: Sequence[Mapping[str, Any]]) -> list[Proposal]:
    """Return what there is to choose from, each with the user's settings over it; the smallest models first.

    Raises:
        UserError: no proposal can have these settings.
    """
    found: dict[RunConfig, Proposal] = {}
    refusal = None
    for size, tokenizer, dropout in itertools.product(range(len(SIZES)), TOKENIZERS, DROPOUTS):
        changes = {**tokenizer, **SIZES[size], **ALWAYS, "model.dropout": dropout}
        try:
            config = functools.reduce(override, [changes, *settings], recipe(PRESET))
        except UserError as error:
            # Width 160 cannot be divided among 3 heads, but among 4.
            refusal = refusal or error
        else:
            found.setdefault(config, Proposal(size, changes, config))
    if not found and refusal:
        raise refusal
    return list(found.values())


def weigh(
    proposals: Sequence[Proposal], parts: Split, text: TextMeasure, seconds: float, runtime: Runtime
) -> Iterator[Candidate]:
    """Yield the proposals that can do something in their time, with what they cost and promise.

    Each size is timed once; another vocabulary changes its time as it changes its arithmetic, dropout hardly does.
    """
    by_tokenizer = {each.config.tokenizer: each.config for each in proposals}
    vocabularies = {tokenizer: measure_vocabulary(config, parts) for tokenizer, config in by_tokenizer.items()}
    until = time.perf_counter() + PROBE_SECONDS
    rates: dict[int, float] = {}
    known: dict[tuple[int, Vocabulary], Sizes] = {}
    for proposal in proposals:
        config, vocabulary = proposal.config, vocabularies[proposal.config.tokenizer]
        if (proposal.size, vocabulary) not in known:
            known[proposal.size, vocabulary] = sizes_of(config, vocabulary.size)
        sizes = known[proposal.size, vocabulary]
        flops = sizes.flops_per_token * tokens_per_step(config)
        if proposal.size not in rates:
            guess = max(rates.values(), default=0.0) * flops
            # A larger model may take half as long for the same arithmetic.
            if rates and (time.perf_counter() + 2 * guess > until or guess / 2 * FEWEST_STEPS > seconds):
                continue
            rates[proposal.size] = time_step(config, vocabulary.size, runtime) / flops
        step_seconds = rates[proposal.size] * flops
        possible = max(1, int((1 - EVALUATION_SHARE) * seconds / step_seconds))
        if possible < FEWEST_STEPS and proposal.size > min(rates):
            continue
        found = [promise(proposal, sizes, vocabulary, step_seconds, steps, text) for steps in lengths(possible)]
        best = min(found, key=lambda each: each.loss)
        yield best if best.steps == possible else in_epochs(best, text)


def lengths(possible: int) -> Iterator[int]:
    """Yield the lengths among which a run is chosen: what there is time for, and ever less of it."""
    steps = float(possible)
    while steps >= 1:
        yield int(steps)
        steps *= SHORTER


def promise(
    proposal: Proposal, sizes: Sizes, vocabulary: Vocabulary, step_seconds: float, steps: int, text: TextMeasure
) -> Candidate:
    """Return a proposal of so many steps with what is expected of it."""
    expected = expect(
        text,
        parameters=sizes.parameters,
        tokens=steps * tokens_per_step(proposal.config),
        bytes_per_token=vocabulary.bytes_per_token,
        dropout=getattr(proposal.config.model, "dropout", 0.0),
        decay=getattr(proposal.config.optimizer, "weight_decay", 0.0),
    )
    return Candidate(proposal.changes, proposal.config, sizes, vocabulary, step_seconds, steps, expected)


def in_epochs(candidate: Candidate, text: TextMeasure) -> Candidate:
    """Return a candidate that is to end before its time, limited by epochs."""
    epochs = candidate.steps * candidate.tokens_per_step * candidate.vocabulary.bytes_per_token / text.training_bytes
    length = {"train.minutes": None, "train.epochs": round(epochs, 2)}
    return replace(candidate, changes={**candidate.changes, **length}, config=merge(candidate.config, length))


def sizes_of(config: RunConfig, vocabulary_size: int) -> Sizes:
    """Return how big a candidate's model is, without making it."""
    return measure_sizes(build_outline(config.model, vocabulary_size), tokens_per_step(config))


def tokens_per_step(config: RunConfig) -> int:
    """Return how many tokens a step reads."""
    return config.train.sequences_per_step * config.model.context_length


def measure_vocabulary(config: RunConfig, parts: Split) -> Vocabulary:
    """Train a tokenizer on the beginning of a text, and see how far its tokens reach."""
    sample = "".join(parts.training_text(SAMPLE_BYTES))
    size = len(sample.encode())
    assert config.tokenizer is not None
    # Characters that only stand further on are no reason to refuse the text here.
    tokenizer = train_tokenizer(
        config.tokenizer, lambda: iter([sample]), lambda: iter([sample]), end=parts.has_documents, training_bytes=size
    )
    with knowing_every_character():
        num_tokens = max(1, len(tokenizer.encode(sample)))
    return Vocabulary(tokenizer.vocabulary_size, size / num_tokens)


def time_step(config: RunConfig, vocabulary_size: int, runtime: Runtime) -> float:
    """Return the seconds that a training step on random tokens takes."""
    model = build_model(config.model, vocabulary_size, seed=1).to(runtime.device)
    optimizer = build_optimizer(config.optimizer, model, runtime.precision)
    shape = (config.train.sequences_per_step, config.model.context_length)
    tokens = torch.randint(vocabulary_size, shape, device=runtime.device)

    def step() -> None:
        devices.one_pass(model, tokens, runtime)
        optimizer.step()

    return devices.best_seconds(step, TIMED_SECONDS)


def is_timed(train: TrainConfig) -> bool:
    """Say whether a run is as long as it has time."""
    return (train.steps, train.tokens, train.epochs) == (None, None, None)


class Planner:
    """Settles a run once its text is read, and remembers what it expected of it.

    Args:
        settings: what its user set, in the order in which it holds.
        notify: told what was chosen, and what is expected of it.
    """

    def __init__(self, settings: Sequence[Mapping[str, Any]], notify: Callable[[str], None]) -> None:
        self.settings, self.notify = settings, notify
        self.expected: Expectation | None = None

    def __call__(self, runtime: Runtime, corpus: Corpus) -> RunConfig:
        """Return the settings that promise most."""
        proposals = propose(self.settings)
        if len(proposals) == 1:
            return proposals[0].config
        choice = choose(corpus, self.settings, runtime)
        self.notify(choice.sentence)
        if choice.covered:
            self.expected = choice.best.expected
        return choice.best.config


def before_plan(settings: Sequence[Mapping[str, Any]], preset: RunConfig) -> RunConfig:
    """Return what was set over a preset or, where these do not go together, over the first proposal that can have it.

    Raises:
        UserError: no proposal can have it either.
    """
    try:
        return functools.reduce(override, settings, preset)
    except UserError as refusal:
        try:
            return propose(settings)[0].config
        except UserError:
            raise refusal from None


def planner(
    config: RunConfig, settings: Sequence[Mapping[str, Any]], notify: Callable[[str], None] = lambda _: None
) -> Planner | None:
    """Return what settles a run once its text is read, or None where there is nothing to plan.

    Plans are for language models whose length is given by time.

    Args:
        config: the run's settings without a plan.
    """
    if config.task.kind != "lm" or isinstance(config.model, BigramConfig) or not is_timed(config.train):
        return None
    return Planner(settings, notify)
