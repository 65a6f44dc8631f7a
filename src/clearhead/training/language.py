"""The task of a language model: predict each next token of a text."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor, nn

from clearhead.core import run as runs
from clearhead.core.errors import BrokenModel, UserError
from clearhead.core.files import write_atomically
from clearhead.core.run import Run
from clearhead.core.words import counted
from clearhead.generation.engine import Request, prompt_ids, write
from clearhead.model.config import GptConfig, PrefixConfig
from clearhead.model.family_config import AnyModelConfig, EncoderConfig, EncoderDecoderConfig
from clearhead.store.load import Loaded, tokenizer_of
from clearhead.text import origin, shards
from clearhead.text.batches import Batch, RandomOffsets, ShuffledWindows
from clearhead.text.corpus import Corpus
from clearhead.training import dataset
from clearhead.training.assess import assess
from clearhead.training.config import RandomOffsetsConfig, RunConfig
from clearhead.training.dataset import Dataset
from clearhead.training.evaluate import SAMPLED_TARGETS, Evaluator, Score
from clearhead.training.objective import Loss, next_token
from clearhead.training.task import BatchSource, Evaluate, Further, Reading, Sample, Task

SAMPLE_SEED = 1
END_SAMPLES = 3
END_SAMPLE_TOKENS = 400

FEWEST_WINDOWS = 7
"""A context that nobody named leaves room for so many windows; 2 kB of text have it for windows of 256 characters."""


@dataclass(frozen=True)
class LanguageTask(Task):
    """A text in windows; each position predicts the token after it."""

    data: Dataset
    kind = "lm"
    unit = "token"
    alternative = "id"
    built_in = "tales"

    @classmethod
    def read(cls, reading: Reading, config: RunConfig) -> tuple[LanguageTask, RunConfig]:
        if isinstance(config.model, EncoderConfig):
            raise UserError(
                "An encoder reads what a language model is to predict; give --task classify with it, "
                "or leave --model.kind encoder out."
            )
        if isinstance(config.model, EncoderDecoderConfig):
            raise UserError(
                "An encoder-decoder learns from pairs; give --task translate with it, "
                "or leave --model.kind encoder_decoder out."
            )
        notify = reading.notify
        corpus = origin.read_texts(reading.names, config.text, reading.keep_stdin_at)
        tell_notes(corpus, notify)
        if reading.plan is not None:
            # No token stands for less than a byte, and a plan would build a model of that context.
            if reading.fixed_context:
                require_room(config.model.context_length, corpus.utf8_bytes)
            config = reading.plan(corpus)
        chosen, sentence = dataset.choose_tokenizer(config.tokenizer, corpus.utf8_bytes)
        if sentence:
            notify(sentence)
        data = dataset.prepare(corpus, chosen, reading.names, config.text)
        if sentence := dataset.shortened(chosen, data.tokenizer):
            notify(sentence)
        config = replace(config, tokenizer=chosen)
        config = fit_context(config, len(data.training), fixed=reading.fixed_context, notify=notify)
        dataset.document_end(config.model, data.tokenizer)  # refused, if at all, before anything is on disk
        return cls(data), config

    @classmethod
    def reopen(cls, run: Run, config: RunConfig) -> LanguageTask:
        validation = np.fromfile(run.path / runs.VALIDATION_FILE, dtype="<i4").astype(np.int32)
        return cls(dataset.reopen(tokenizer_of(run), validation, run.data(), run.path))

    @classmethod
    def assess(cls, loaded: Loaded, texts: Sequence[str], further: Further) -> dict[str, Any]:
        if len(texts) > 1:
            raise UserError("A language model is scored on one text at a time; name a single file or folder.")
        return assess(loaded, *texts, **asdict(further))

    @property
    def choices(self) -> int:
        return self.data.tokenizer.vocabulary_size

    @property
    def evaluated_tokens(self) -> int:
        return 2 * SAMPLED_TARGETS

    def objective(self, model: nn.Module, batch: Batch[Tensor]) -> Loss:
        return next_token(model, batch)

    def batches(self, config: RunConfig) -> BatchSource:
        kind = RandomOffsets if isinstance(config.train.order, RandomOffsetsConfig) else ShuffledWindows
        return kind(
            tokens=self.data.training,
            context_length=config.model.context_length,
            sequences_per_step=config.train.sequences_per_step,
            seed=config.train.seed,
            micro_batches=config.train.micro_batches,
            end=dataset.document_end(config.model, self.data.tokenizer),
            longest_prefix=longest_prefix(config.model),
        )

    def evaluation(self, config: RunConfig) -> Evaluate:
        data, context = self.data, config.model.context_length
        end = dataset.document_end(config.model, data.tokenizer)
        validation = Evaluator(data.validation_source(), context, data.byte_lengths, end)
        training = Evaluator(training_slice(data), context, data.byte_lengths, end)

        def evaluate(model: nn.Module, sampled: bool) -> dict[str, Score]:
            scores = {"validation": validation.score(model, sampled=sampled)}
            # The whole rule is for the validation part; the training slice is compared with during the run.
            if sampled:
                scores["train"] = training.score(model, sampled=True)
            return scores

        return evaluate

    def sampling(self, config: RunConfig) -> Sample:
        train, tokenizer = config.train, self.data.tokenizer
        prompt = train.sample_prompt or ""
        request = Request(prompt=prompt_ids(tokenizer, prompt), num_tokens=train.sample_tokens, seed=SAMPLE_SEED)

        def sample(model: nn.Module) -> list[tuple[str, str, int]]:
            was_training = model.training
            model.eval()
            try:
                text = write(model, tokenizer, request)[0]
            except BrokenModel:
                # The loss says so too, and a run that went wrong ends by the loop's own rules.
                return []
            finally:
                model.train(was_training)
            return [(prompt, text, SAMPLE_SEED)]

        return sample

    def compared_with(self, config: RunConfig) -> dict[str, Any]:
        floor = dataset.measure_floor(self.data, config.model.context_length)
        return {
            "baselines": dataset.measure_baselines(self.data),
            "overlap": dataset.measure_overlap(self.data),
            **({"floor": floor} if floor else {}),
        }

    def demonstrate(self, model: nn.Module) -> list[str]:
        tokenizer = self.data.tokenizer
        number = END_SAMPLES if tokenizer.end is not None else 1
        tokens = END_SAMPLE_TOKENS * (1 + number // 2)
        request = Request(prompt=prompt_ids(tokenizer, ""), samples=number, num_tokens=tokens)
        return [text.strip("\n") for text in write(model, tokenizer, request)]

    def store(self, folder: Path) -> None:
        write_atomically(folder / runs.VALIDATION_FILE, self.data.validation.astype("<i4").tobytes())


def tell_notes(corpus: Corpus, notify: Callable[[str], None]) -> None:
    """Tell what is worth knowing about how a text was read."""
    for note in corpus.notes:
        notify(f"{note[0].upper()}{note[1:]}.")
    for source in corpus.sources:
        for note in source.notes:
            notify(f"{source.name}: {note}.")


def longest_prefix(model: AnyModelConfig) -> int:
    """Return how many tokens of a training sequence may be given: 1 where the mask needs no more."""
    if isinstance(model, GptConfig) and isinstance(model.mask, PrefixConfig):
        return model.mask.longest
    return 1


def training_slice(data: Dataset) -> shards.Tokens:
    """Return the first tokens of the training part, as many as the validation part has."""
    count = min(len(data.validation), len(data.training))
    return shards.in_memory(data.training.read(0, count), data.tokenizer.vocabulary_size)


def require_room(context_length: int, num_tokens: int) -> None:
    """Refuse a context that is longer than the training part can be.

    Raises:
        UserError: it is longer than so many tokens.
    """
    if context_length >= num_tokens:
        raise UserError(
            f"model.context_length = {context_length} is longer than the training part; at most {num_tokens - 1} fit."
        )


def fit_context(config: RunConfig, num_tokens: int, *, fixed: bool, notify: Callable[[str], None]) -> RunConfig:
    """Return the config with a context that the training part has room for.

    Raises:
        UserError: the user named a context that is longer than the text.
    """
    wanted = config.model.context_length
    if fixed:
        require_room(wanted, num_tokens)
    longest = max(1, num_tokens // FEWEST_WINDOWS)
    if fixed or wanted <= longest:
        return config
    notify(
        f"The text is short ({num_tokens:,} training tokens), so the context is {counted(longest, 'token')}, "
        f"not {wanted}; --model.context_length sets it."
    )
    return replace(config, model=replace(config.model, context_length=longest))
