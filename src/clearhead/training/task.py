"""What a run learns, as one object: its data, its batches, its objective, how it is scored and what it shows.

Each kind of task is one class in a file of its own, chosen by `task.kind` where a run is created or opened.
Nothing else asks which it is.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Protocol, runtime_checkable

from torch import Tensor, nn

from clearhead.core.errors import UserError
from clearhead.core.run import Run
from clearhead.generation.products import Weights
from clearhead.store.load import Loaded
from clearhead.text.batches import Batch
from clearhead.text.corpus import Corpus
from clearhead.text.tokenizer import Tokenizer
from clearhead.training.config import RunConfig
from clearhead.training.evaluate import Evaluation
from clearhead.training.objective import Loss

Evaluate = Callable[[nn.Module, bool], Mapping[str, Evaluation]]
"""Scores a model by split name; the flag asks for evenly spaced parts of each only."""

Sample = Callable[[nn.Module], list[tuple[str, str, int]]]
"""Lets a model show what it can do: (what it was given, what it made of it, seed) each."""


@runtime_checkable
class BatchSource(Protocol):
    """The micro-batches of each training step, by the step's number alone."""

    def __call__(self, step: int) -> Sequence[Batch[Any]]: ...

    def resized(self, sequences_per_step: int) -> BatchSource:
        """Return batches of so many sequences a step."""
        ...

    @property
    def sequences_per_step(self) -> int:
        """How many sequences a step reads, at most."""
        ...

    @property
    def tokens_per_step(self) -> int:
        """How many tokens a step reads, on average."""
        ...

    @property
    def sequences_per_epoch(self) -> int:
        """How many sequences count as one pass over the training part."""
        ...


@runtime_checkable
class Data(Protocol):
    """What every task's data have.

    Args:
        sources: data.json's content: what was read, its hashes, the split.
    """

    @property
    def tokenizer(self) -> Tokenizer: ...

    @property
    def sources(self) -> dict[str, Any]: ...


@dataclass(frozen=True, slots=True)
class Reading:
    """What a new run is made from.

    Args:
        names: what the user named; nothing means the built-in data of the task.
        keep_stdin_at: where standard input is stored.
        fixed_context: the user named the context length, so data that do not suit it are refused.
        notify: told in a sentence about each choice made on the user's behalf.
        plan: settles, once a text is read, what its user left open.
    """

    names: Sequence[str | Path]
    keep_stdin_at: Path | None
    fixed_context: bool
    notify: Callable[[str], None]
    plan: Callable[[Corpus], RunConfig] | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Further:
    """What a language model may be asked beside the rule.

    Args:
        stride: the score with windows that move on by so many targets.
        weights: the score with rounded weights.
        changes: settings by which another text is read, where they differ from those of the run's own.
        drop_unknown: leave out the characters of another text that the tokenizer does not know.
    """

    stride: int | None = None
    weights: Weights | None = None
    changes: Mapping[str, Any] = field(default_factory=dict)
    drop_unknown: bool = False

    def require_nothing(self) -> None:
        """Refuse what is asked further.

        Raises:
            UserError: something is asked.
        """
        if self != Further():
            raise UserError(
                "--stride, --weights, --unknown and --text.* ask about a language model; this run was trained for "
                "something else, so leave them out."
            )


class Task(ABC):
    """Data with what is to be learned from them.

    Attributes:
        kind: its name, as in `task.kind`.
        unit: what one target is, such as "token".
        alternative: what a target is one of, such as "id".
        built_in: what a run without a text is called after.
        data: what is learned from.
    """

    kind: ClassVar[str]
    unit: ClassVar[str]
    alternative: ClassVar[str]
    built_in: ClassVar[str]
    data: Data

    @classmethod
    @abstractmethod
    def read(cls, reading: Reading, config: RunConfig) -> tuple[Task, RunConfig]:
        """Read the data, and settle what they decide: tokenizer, context, number of classes.

        Raises:
            UserError: the data or the settings do not suit the task.
        """

    @classmethod
    @abstractmethod
    def reopen(cls, run: Run, config: RunConfig) -> Task:
        """Bring a run's data back.

        Raises:
            UserError: they are gone or are not what the run was trained on.
        """

    @classmethod
    @abstractmethod
    def assess(cls, loaded: Loaded, texts: Sequence[str], further: Further) -> dict[str, Any]:
        """Score a trained model by the whole rule, on its validation part or on the data of the files that are named.

        Raises:
            UserError: the data do not suit the task, or what is asked further does not.
        """

    @property
    @abstractmethod
    def choices(self) -> int:
        """How many values a target can have: guessing among them costs its logarithm."""

    @property
    @abstractmethod
    def evaluated_tokens(self) -> int:
        """About how many tokens an evaluation during the run reads."""

    @abstractmethod
    def objective(self, model: nn.Module, batch: Batch[Tensor]) -> Loss:
        """Return the loss of a batch."""

    @abstractmethod
    def batches(self, config: RunConfig) -> BatchSource:
        """Return the training batches that a config describes."""

    @abstractmethod
    def evaluation(self, config: RunConfig) -> Evaluate:
        """Return what scores the validation part, and beside it as much of the training part."""

    @abstractmethod
    def sampling(self, config: RunConfig) -> Sample:
        """Return what lets the model show something small during training, always the same."""

    @abstractmethod
    def compared_with(self, config: RunConfig) -> dict[str, Any]:
        """Count what the scores are compared with, by the name under which it is told: `baselines` among them."""

    @abstractmethod
    def demonstrate(self, model: nn.Module) -> list[str]:
        """Return what a trained model makes of something, to be shown at the end."""

    @abstractmethod
    def store(self, folder: Path) -> None:
        """Write what a run keeps of its data: the part that it is validated on."""
