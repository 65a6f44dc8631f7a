"""How good a trained model is on its validation part or on another text, and beside what."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int32

from clearhead.core import run as runs
from clearhead.core.config import build, merge
from clearhead.core.errors import UserError
from clearhead.core.events import read
from clearhead.generation.engine import Request, prompt_ids, write
from clearhead.generation.folded import Rounded
from clearhead.generation.products import Weights
from clearhead.generation.score import text_nats
from clearhead.store.load import Loaded
from clearhead.text import corpus as corpora
from clearhead.text import shards
from clearhead.text.config import TextConfig
from clearhead.text.corpus import Piece
from clearhead.text.overlap import copies
from clearhead.training import dataset
from clearhead.training.config import RunConfig
from clearhead.training.evaluate import Evaluator

COPY_SAMPLE_TOKENS = 1000
COPY_LENGTH = 50
"""A stretch of a sample this long that also stands in the training text counts as copied."""


@dataclass(frozen=True, slots=True)
class Target:
    """A stretch of ids to score, what it is called, and how many unknown characters were left out of it."""

    split: str
    ids: Int32[np.ndarray, " N"]
    num_dropped: int = 0


def assess(
    loaded: Loaded,
    text: str | Path | None = None,
    *,
    stride: int | None = None,
    weights: Weights | None = None,
    changes: Mapping[str, Any] | None = None,
    drop_unknown: bool = False,
) -> dict[str, Any]:
    """Score a model by the evaluation rule, on its validation part unless another text is named.

    Args:
        stride: also score with windows that move on by so many targets, as `nats_per_token_sliding`.
        changes: settings by which another text is read, where they differ from those of the run's own.
        drop_unknown: leave out the characters of another text that the tokenizer does not know.
        weights: also score with rounded weights, as `nats_per_token_rounded`.

    Returns:
        run, step, split, characters_left_out, tokens_scored, nats_per_token, standard_error, bits_per_byte,
        by_position, baselines and, for the validation part, copied: the share of a long sample that stands in the
        training text.
    """
    tokenizer, model = loaded.tokenizer, loaded.model
    context = int(model.context_length)  # type: ignore[arg-type]
    if stride is not None and not 1 <= stride <= context:
        raise UserError(f"--stride must be from 1 to the context length, {context}, not {stride}.")
    target = own_target(loaded) if text is None else read_target(loaded, text, changes or {}, drop_unknown)
    if len(target.ids) < 2:
        raise UserError("The text is too short to be scored: it needs at least two tokens.")
    byte_lengths = tokenizer.byte_lengths if tokenizer.lossless else None
    tokens = shards.in_memory(target.ids, tokenizer.vocabulary_size)
    end = dataset.document_end(getattr(model, "config", None), tokenizer)
    evaluator = Evaluator(tokens, context, byte_lengths, end)
    score = evaluator.score(model)
    result = {
        "run": loaded.run.name,
        "step": loaded.step,
        "split": target.split,
        "characters_left_out": target.num_dropped,
        "context_length": context,
        "tokens_scored": score.tokens_scored,
        "nats_per_token": score.nats_per_token,
        "standard_error": score.standard_error,
        "bits_per_byte": score.bits_per_byte,
        "perplexity": math.exp(score.nats_per_token),
        "by_position": score.by_position.tolist(),
    }
    if stride is not None:
        result["nats_per_token_sliding"] = float(text_nats(model, target.ids, stride=stride, end=end).mean())
    if weights is not None:
        rounded = evaluator.score(Rounded(model, weights).eval())
        result |= {"weights": weights, "nats_per_token_rounded": rounded.nats_per_token}
    return result | compare(loaded, target)


def own_target(loaded: Loaded) -> Target:
    """Return the ids of the run's validation part."""
    stored = np.fromfile(loaded.run.path / runs.VALIDATION_FILE, dtype="<i4")
    if "imported" in loaded.description:
        name = loaded.run.name
        raise UserError(f"{name} was imported without a validation part; name a text: clearhead eval {name} my.txt.")
    return Target("validation", stored.astype(np.int32))


def read_target(loaded: Loaded, text: str | Path, changes: Mapping[str, Any], drop_unknown: bool) -> Target:
    """Return the ids of a text that is read as the run's own was, but for the changes."""
    own = build(TextConfig, loaded.description["config"]["text"], where="text")
    corpus = corpora.read([text], merge(RunConfig(text=own), changes).text)
    num_dropped = 0

    def known(pieces: Iterator[Piece]) -> Iterator[Piece]:
        nonlocal num_dropped
        for piece in pieces:
            kept, dropped = loaded.tokenizer.drop_unknown(piece.text)
            num_dropped += dropped
            yield Piece(kept, piece.ends_document)

    pieces = known(corpus.pieces()) if drop_unknown else corpus.pieces()
    ids = np.concatenate(list(shards.token_stream(loaded.tokenizer, pieces)))
    return Target(str(text), ids, num_dropped)


def compare(loaded: Loaded, target: Target) -> dict[str, Any]:
    """Return what n-gram models score on the same ids, and how much of a sample is copied; null without the text."""
    sources = loaded.run.data()
    measured = {line["name"]: line["values"] for line in read(loaded.run.path) if line["event"] == "measured"}
    found: dict[str, Any] = {"baselines": None, "floor": None, "copied": None}
    try:
        data = dataset.reopen(loaded.tokenizer, target.ids, sources, loaded.run.path)
    except UserError:
        if target.split == "validation":
            found["baselines"] = measured.get("baselines")
        return found
    if target.split == "validation":
        found["floor"] = measured.get("floor")
        found["copied"] = copied_share(loaded, data)
    found["baselines"] = (target.split == "validation" and measured.get("baselines")) or dataset.measure_baselines(data)
    return found


def copied_share(loaded: Loaded, data: dataset.Dataset) -> float:
    """Return the share of a long sample's characters inside stretches that also stand in the training text."""
    request = Request(prompt=prompt_ids(loaded.tokenizer, ""), num_tokens=COPY_SAMPLE_TOKENS)
    sample = write(loaded.model, loaded.tokenizer, request)[0]
    marked = np.zeros(len(sample), dtype=bool)
    for copy in copies(data.training_text(), sample, COPY_LENGTH):
        marked[copy.start : copy.start + copy.length] = True
    return float(marked.mean()) if len(sample) else 0.0
