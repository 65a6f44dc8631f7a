"""A trained encoder-decoder: sources in, targets out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np
import torch
from jaxtyping import Int32

from clearhead.core.config import build
from clearhead.core.errors import UserError
from clearhead.generation.beam import Hypothesis, Search, batches_by_length, best_targets
from clearhead.model.encoder_decoder import EncoderDecoder
from clearhead.model.masks import Full, Padded
from clearhead.store.load import Loaded, require_task
from clearhead.text.config import TextConfig
from clearhead.text.corpus import normalize
from clearhead.text.rows import Rows
from clearhead.text.tokenizer import Tokenizer

TOKENS_AT_ONCE = 2**12
"""How many source tokens, padding included and counted once for each beam, are read at once."""


@dataclass(frozen=True, slots=True)
class Translation:
    """A source, the target written for it, and the target's log-probability in nats, its end included."""

    source: str
    target: str
    log_probability: float


@dataclass(frozen=True)
class Translator:
    """A trained model, ready to translate."""

    loaded: Loaded

    def __post_init__(self) -> None:
        require_task(self.loaded, "translate")

    def translate(self, texts: Sequence[str], search: Search) -> list[Translation]:
        """Return a translation of each text.

        Raises:
            UserError: there is no text; one is empty or too long, or has a character that the tokenizer does not know.
        """
        if not texts:
            raise UserError("There is no text to translate; give at least one.")
        config = build(TextConfig, self.loaded.description["config"]["text"], where="text")
        read = [normalize(text, config.normalize).strip() for text in texts]
        tokenizer, model = self.loaded.tokenizer, cast(EncoderDecoder, self.loaded.model)
        sources = Rows.of(source_ids(tokenizer, text) for text in read)
        for number, (text, length) in enumerate(zip(read, sources.lengths, strict=True), start=1):
            if not text:
                raise UserError(f"Text {number} is empty, and there is nothing to translate; leave it out.")
            if length > model.context_length:
                raise UserError(
                    f"Text {number} has {length} tokens and the model reads at most {model.context_length}; divide it."
                )
        found = translate_rows(model, tokenizer, sources, search)
        return [
            Translation(text, target_text(tokenizer, hypothesis), hypothesis.log_probability)
            for text, hypothesis in zip(texts, found, strict=True)
        ]


def translate_rows(model: EncoderDecoder, tokenizer: Tokenizer, sources: Rows, search: Search) -> list[Hypothesis]:
    """Return the best target for each source, those of similar length together, dropout off."""
    found: dict[int, Hypothesis] = {}
    was_training = model.training
    model.eval()
    device = next(model.parameters()).device
    for chosen in batches_by_length(sources.lengths.tolist(), max(1, TOKENS_AT_ONCE // search.beam)):
        ids, lengths = sources.padded(np.array(chosen))
        read, counted = (torch.from_numpy(each).long().to(device) for each in (ids, lengths))
        found.update(zip(chosen, best_targets(model, read, counted, end_of(tokenizer), search), strict=True))
    model.train(was_training)
    return [found[row] for row in range(len(sources))]


def end_of(tokenizer: Tokenizer) -> int:
    """Return the id that targets begin after and end with, which every tokenizer of pairs has."""
    assert tokenizer.end is not None
    return tokenizer.end


def word_ids(tokenizer: Tokenizer, text: str) -> Int32[np.ndarray, " N"]:
    """Return the ids of a text after a space, so that a word has the same id at the beginning as elsewhere."""
    return tokenizer.encode(f" {text}")


def source_ids(tokenizer: Tokenizer, text: str) -> Int32[np.ndarray, " N"]:
    """Return what an encoder reads of a text: its ids and an end."""
    return np.append(word_ids(tokenizer, text), np.int32(end_of(tokenizer)))


def target_text(tokenizer: Tokenizer, hypothesis: Hypothesis) -> str:
    """Return the text of a target."""
    return tokenizer.decode(np.array(hypothesis.ids, dtype=np.int32)).strip()


def target_nats(model: EncoderDecoder, sources: Rows, targets: Rows, end: int) -> Iterator[tuple[int, float]]:
    """Yield each pair's number and what its target costs: the nats of its tokens, the last of which is its end."""
    device = next(model.parameters()).device
    for chosen in batches_by_length(targets.lengths.tolist(), TOKENS_AT_ONCE):
        rows = np.array(chosen)
        (source, source_lengths), (target, lengths) = sources.padded(rows), targets.padded(rows)
        read, wanted = (torch.from_numpy(each).long().to(device) for each in (source, target))
        states = model.encode(read, Padded(Full(), torch.from_numpy(source_lengths).to(device)))
        logits = model(shifted(wanted, end), source=states)
        picked = logits.float().log_softmax(dim=-1).gather(2, wanted[..., None])[..., 0]
        counted = torch.arange(target.shape[1]) < torch.from_numpy(lengths)[:, None]
        nats = -(picked.cpu() * counted).double().sum(dim=1)
        yield from zip(chosen, nats.tolist(), strict=True)


def shifted(targets: torch.Tensor, end: int) -> torch.Tensor:
    """Return what the decoder reads to predict some targets: the end, then all but the last."""
    return torch.cat((torch.full_like(targets[:, :1], end), targets[:, :-1]), dim=1)
