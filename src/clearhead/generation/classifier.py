"""A trained classifier: which label fits a text, and how sure the model is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from jaxtyping import Float64, Int32, Int64
from torch import nn

from clearhead.core.config import build
from clearhead.core.errors import DamagedFile, UserError
from clearhead.core.run import DATA_FILE, Run, part
from clearhead.model.masks import Padded
from clearhead.store.load import Loaded, require_task
from clearhead.text.config import TextConfig
from clearhead.text.corpus import normalize
from clearhead.text.rows import Rows
from clearhead.text.tokenizer import Tokenizer

TOKENS_AT_ONCE = 2**13
"""How many tokens, padding included, one forward pass may read."""


@dataclass(frozen=True, slots=True)
class Choice:
    """The likeliest label of a text, and the probability of every label, the likeliest first."""

    text: str
    label: str
    probabilities: dict[str, float]

    @property
    def probability(self) -> float:
        """How likely the label is, as the model has it."""
        return self.probabilities[self.label]


@dataclass(frozen=True)
class Classifier:
    """A trained model, ready to choose labels."""

    loaded: Loaded

    def __post_init__(self) -> None:
        require_task(self.loaded, "classify")

    @cached_property
    def labels(self) -> tuple[str, ...]:
        """The labels that there are to choose from."""
        return stored_labels(self.loaded.run)

    def classify(self, texts: Sequence[str]) -> list[Choice]:
        """Return the label of each text.

        Raises:
            UserError: a text is empty, or has a character that the tokenizer does not know.
        """
        config = build(TextConfig, self.loaded.description["config"]["text"], where="text")
        read = [normalize(text, config.normalize).strip() for text in texts]
        if "" in read:
            raise UserError(f"Text {read.index('') + 1} is empty, and nothing can be said of it; leave it out.")
        model = self.loaded.model
        rows = encode_rows(read, self.loaded.tokenizer, int(model.context_length))  # type: ignore[arg-type]
        nats = class_nats(model, rows)
        return [self._choice(text, row) for text, row in zip(texts, np.exp(-nats), strict=True)]

    def _choice(self, text: str, probabilities: Float64[np.ndarray, " N"]) -> Choice:
        order = np.argsort(-probabilities, kind="stable")
        named = {self.labels[index]: float(probabilities[index]) for index in order}
        return Choice(text, self.labels[order[0]], named)


def stored_labels(run: Run) -> tuple[str, ...]:
    """Return what each class of a run's model stands for.

    Raises:
        DamagedFile: it is not stored for each of them.
    """
    labels: list[str] = part(run.data(), "labels", kind=list)
    if len(labels) != part(run.describe(), "config", "model", "num_classes", kind=int):
        raise DamagedFile(f"{run.path / DATA_FILE} does not name the classes of the model one by one.")
    return tuple(labels)


def encode_rows(texts: Sequence[str], tokenizer: Tokenizer, context_length: int) -> Rows:
    """Return the ids of each text, as many as the context holds.

    Each begins with a space, so that a word has the same id at the beginning as elsewhere.
    """
    return Rows.of(tokenizer.encode(f" {text}")[:context_length] for text in texts)


def class_nats(model: nn.Module, rows: Rows) -> Float64[np.ndarray, "B N"]:
    """Return what each class of each row would cost, -ln of its probability, dropout off."""
    if not len(rows):
        raise UserError("There is no text to classify; give at least one.")
    was_training = model.training
    model.eval()
    order = np.argsort(rows.lengths, kind="stable")
    costs: list[Float64[np.ndarray, "_ N"]] = []
    with torch.no_grad():
        for chosen in groups(order, rows.lengths):
            tokens, lengths = rows.padded(chosen)
            logits = padded_logits(model, tokens, lengths)
            costs.append(-logits.double().log_softmax(dim=-1).cpu().numpy())
    model.train(was_training)
    found = np.concatenate(costs)
    back: Float64[np.ndarray, "B N"] = found[np.argsort(order, kind="stable")]
    return back


def padded_logits(model: nn.Module, tokens: Int32[np.ndarray, "B T"], lengths: Int64[np.ndarray, " B"]) -> torch.Tensor:
    """Return a classifier's logits of rows that are padded at their ends."""
    device = next(model.parameters()).device
    mask = Padded(model.mask, torch.from_numpy(lengths).to(device))  # type: ignore[arg-type]
    logits: torch.Tensor = model(torch.from_numpy(tokens).to(device), mask=mask)
    return logits


def groups(order: Int64[np.ndarray, " B"], lengths: Int64[np.ndarray, " B"]) -> list[Int64[np.ndarray, " _"]]:
    """Cut rows, which are given from short to long, into groups that one forward pass takes."""
    cuts, first = [], 0
    for place, row in enumerate(order):
        if (place + 1 - first) * lengths[row] > TOKENS_AT_ONCE and place > first:
            cuts.append(place)
            first = place
    return np.split(order, cuts)
