"""What is looked at: a model with its tokenizer, and a text as that model reads it."""

from __future__ import annotations

import json
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import cast

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from clearhead.core.config import build
from clearhead.core.errors import UserError
from clearhead.core.run import VALIDATION_FILE, VALIDATION_ROWS_FILE, Run
from clearhead.core.words import counted
from clearhead.generation.beam import Search
from clearhead.generation.classifier import Classifier, encode_rows
from clearhead.generation.engine import prompt_ids
from clearhead.generation.translator import Translator, end_of, shifted, source_ids, translate_rows
from clearhead.generation.writer import Writer
from clearhead.look.recording import Trace, trace
from clearhead.model.attention import Attention, Mixer
from clearhead.model.config import GptConfig, PerDocumentConfig
from clearhead.model.encoder import Encoder
from clearhead.model.encoder_decoder import DecoderBlock, EncoderDecoder
from clearhead.model.ensemble import Ensemble
from clearhead.model.tap import Tap
from clearhead.model.transformer import GPT
from clearhead.show.readable import visible
from clearhead.store.load import Loaded, load
from clearhead.text.config import TextConfig
from clearhead.text.corpus import normalize
from clearhead.text.rows import Rows
from clearhead.text.tokenizer import Tokenizer

WHOLE = 2**15
"""How many tokens of the validation part are read where a subject takes more than one window."""

LARGEST_KEPT = 2**28
"""How many bytes of a pass are kept for the next look."""

INSTEAD = "clearhead look next-token and look surprisal show what it does"
FOR_ALL = "tokens, shapes, parameters, embeddings, analogy, dimensions and attention"
FOR_ENCODERS = FOR_ALL.replace(" and ", ", ") + " and heads"
"""What models that predict no next token can be looked at by, and what an encoder can."""


@dataclass(frozen=True, slots=True)
class Specimen:
    """A model with its tokenizer, and the run it comes from where there is one.

    Args:
        latest: where the latest pass is kept, so that the same look at another head takes none; for a model whose
            weights stay as they are. Without it every look is a pass of its own.
    """

    model: nn.Module
    tokenizer: Tokenizer
    loaded: Loaded | None = None
    latest: dict[tuple[object, ...], Trace] | None = None

    @property
    def context_length(self) -> int:
        """The most positions that the model reads."""
        return int(self.model.context_length)  # type: ignore[arg-type]

    @property
    def gpt(self) -> GPT:
        """The model, where it is a GPT.

        Raises:
            UserError: it has no layers that add to a stream.
        """
        if not isinstance(self.model, GPT):
            raise UserError(f"A {self.kind} has no blocks to look into; {INSTEAD}.")
        return self.model

    @property
    def kind(self) -> str:
        """What the model is called."""
        return type(self.model).__name__

    @property
    def mixers(self) -> list[Mixer]:
        """What its positions gather by, layer by layer; in an encoder-decoder, what the target gathers of the source.

        Raises:
            UserError: they do not gather at all.
        """
        if isinstance(self.model, EncoderDecoder):
            return [cast(DecoderBlock, block).cross for block in self.model.blocks]
        body = self.model.body if isinstance(self.model, Encoder) else self.model
        if not isinstance(body, GPT):
            raise UserError(f"A {self.kind} has no attention; {INSTEAD}.")
        return body.mixers

    def attention(self, layer: int) -> Attention:
        """Return the attention of a layer.

        Raises:
            UserError: there is no such layer, or its positions gather by something else.
        """
        mixers = self.mixers
        mixer = mixers[require_index("layer", layer, len(mixers))]
        if not isinstance(mixer, Attention):
            raise UserError(f"Positions of this model gather by {type(mixer).__name__}, which has no heads; {INSTEAD}.")
        return mixer

    @property
    def document_end(self) -> int | None:
        """The id that begins each document, where the model's mask keeps documents apart."""
        config = getattr(self.model, "config", None)
        apart = isinstance(config, GptConfig) and isinstance(config.mask, PerDocumentConfig)
        return self.tokenizer.end if apart else None

    def text(self, ids: Sequence[int] | Tensor) -> list[str]:
        """Return each id as a piece of text; one that is no text of its own is spelled out."""
        return [self._piece(int(id_)) for id_ in ids]

    def vocabulary(self) -> list[str]:
        """Return every id as a piece of text."""
        return self.text(range(self.tokenizer.vocabulary_size))

    def ids(self, text: str) -> list[int]:
        """Return a text's ids as the model reads it."""
        return self._encoded(self.normalized(text))

    def normalized(self, text: str) -> str:
        """Return a text after the steps that the run's own text went through."""
        if self.loaded is None:
            return text
        config = build(TextConfig, self.loaded.description["config"]["text"], where="text")
        return normalize(text, config.normalize)

    def rows(self) -> list[str]:
        """Return what the model reads of each row of the run's validation part; none where it is one text."""
        path = None if self.loaded is None else self.loaded.run.path / VALIDATION_ROWS_FILE
        if path is None or not path.exists():
            return []
        with path.open(encoding="utf-8") as lines:
            return [next(iter(json.loads(line).values())) for line in lines]

    def validation(self) -> Int[np.ndarray, " N"]:
        """Return the ids of the run's validation part; of rows, of what the model reads of each.

        Raises:
            UserError: the model does not come from a run that has one.
        """
        path = None if self.loaded is None else self.loaded.run.path / VALIDATION_FILE
        if path is not None and path.exists():
            return np.fromfile(path, dtype="<i4").astype(np.int64)
        rows = self.rows()
        if not rows:
            raise UserError('This model comes without a text of its own; give one in quotes, such as "Once upon".')
        return np.array([id_ for row in rows for id_ in self._encoded(row)])

    def _encoded(self, text: str) -> list[int]:
        if isinstance(self.model, EncoderDecoder):
            return list(map(int, source_ids(self.tokenizer, text.strip())))
        if isinstance(self.model, Encoder):
            return list(map(int, encode_rows([text.strip()], self.tokenizer, self.context_length).ids))
        return list(prompt_ids(self.tokenizer, text))

    def _piece(self, id_: int) -> str:
        text = self.tokenizer.decode([id_])
        return self.tokenizer.token_text(id_) if not text or "\ufffd" in text else text


Source = str | Path | Run | Writer | Classifier | Translator | Loaded | Specimen
"""What a subject can be looked at in: the name of a run, or what `clearhead.load` gives."""


def specimen_of(source: Source, *, writes: bool = True) -> Specimen:
    """Open what is to be looked at.

    Args:
        writes: whether it has to be a model that says a next token for every place.

    Raises:
        UserError: there is no such run, or the model is of another kind.
    """
    specimen = source if isinstance(source, Specimen) else _opened(source)
    if writes and isinstance(specimen.model, Encoder | EncoderDecoder):
        chooses = isinstance(specimen.model, Encoder)
        does, shown = ("chooses a label", FOR_ENCODERS) if chooses else ("translates", FOR_ALL)
        raise UserError(f"This model {does} and continues no text; it can be looked at by {shown}.")
    return specimen


def _opened(source: str | Path | Run | Writer | Classifier | Translator | Loaded) -> Specimen:
    if isinstance(source, str | Path | Run):
        source = load(str(source.path if isinstance(source, Run) else source))
        for notice in source.notices:
            warnings.warn(notice, stacklevel=4)
    loaded = source if isinstance(source, Loaded) else source.loaded
    return specimen_in(loaded)


def specimen_in(loaded: Loaded, latest: dict[tuple[object, ...], Trace] | None = None) -> Specimen:
    """Return what is looked at of an opened run: its model, and of an ensemble the first encoder."""
    model = loaded.model.encoders[0] if isinstance(loaded.model, Ensemble) else loaded.model
    return Specimen(model, loaded.tokenizer, loaded, latest)


@dataclass(frozen=True, eq=False)
class Reading:
    """A text as a model reads it; an encoder-decoder also writes as it reads.

    Args:
        pieces: the text of each token.
        note: what was left out, with a space before it; empty where nothing was.
    """

    specimen: Specimen
    tokens: Int[Tensor, "1 T"]
    pieces: list[str]
    note: str

    def __len__(self) -> int:
        return len(self.pieces)

    def trace(self, *names: str, edits: Sequence[Tap] = ()) -> Trace:
        """Record one pass over the text, or give the specimen's latest if it is the same; see `recording.trace`."""
        latest, key = self.specimen.latest, (names, *self.tokens[0].tolist())
        kept = None if latest is None or edits else latest.get(key)
        if kept is not None:
            return kept
        found = self._recorded(names, edits)
        if latest is not None and not edits and found.num_bytes <= LARGEST_KEPT:
            latest.clear()
            latest[key] = found
        return found

    def _recorded(self, names: Sequence[str], edits: Sequence[Tap] = ()) -> Trace:
        if isinstance(self.specimen.model, EncoderDecoder):
            target = shifted(self.written, end_of(self.specimen.tokenizer))
            return trace(self.specimen.model, target, names or ("logits",), edits, source=self.tokens)
        return trace(self.specimen.model, self.tokens, names or ("logits",), edits)

    @cached_property
    def written(self) -> Int[Tensor, "1 T"]:
        """Return what an encoder-decoder makes of the text: each time the likeliest token, and the end."""
        model, tokenizer = self.specimen.model, self.specimen.tokenizer
        assert isinstance(model, EncoderDecoder)
        rows = Rows.of([self.tokens[0].int().cpu().numpy()])
        found = translate_rows(model, tokenizer, rows, Search(beam=1))[0]
        return torch.tensor([[*found.ids, end_of(tokenizer)]], device=self.tokens.device)

    def log_probabilities(self, logits: Float[Tensor, "1 T V"]) -> Float[Tensor, "T V"]:
        """Return the log-probability of every next token at every position."""
        return logits[0].double().log_softmax(dim=-1)

    def position(self, position: int) -> int:
        """Return a position counted from the start, also where it was counted from the end (-1 is the last).

        Raises:
            UserError: the text has no such position.
        """
        if not -len(self) <= position < len(self):
            raise UserError(f"The text has positions 0 to {len(self) - 1} as tokens, so there is no {position}.")
        return position % len(self)


def read(
    source: Source,
    prompt: str | None = None,
    *,
    at_least: int = 1,
    beginning: int | None = None,
    whole: bool = False,
    writes: bool = True,
) -> Reading:
    """Return a text as a model reads it: the prompt, else the beginning of the run's validation part, or its first row.

    A text that is longer than the context is read from its end, unless the whole is asked for.

    Args:
        at_least: how many tokens there have to be.
        writes: see `specimen_of`.
        beginning: how much of the validation part is read; as much as the context holds unless given.

    Raises:
        UserError: the text is too short, has a character that the tokenizer refuses, or there is none.
    """
    specimen = specimen_of(source, writes=writes)
    rows = specimen.rows() if prompt is None else []
    if prompt is not None or rows:
        ids = specimen.ids(rows[0] if prompt is None else prompt)
    else:
        longest = WHOLE if whole else min(beginning or specimen.context_length, specimen.context_length)
        ids = specimen.validation()[:longest].tolist()
    if len(ids) < at_least:
        raise UserError(
            f"The text has {counted(len(ids), 'token')}, and this takes at least {at_least}; give a longer one."
        )
    note = ""
    if specimen.loaded is not None and isinstance(specimen.loaded.model, Ensemble):
        note = f" This is the first of the {len(specimen.loaded.model.encoders)} encoders that choose together."
    if len(ids) > specimen.context_length and not whole:
        note += f" Read were the last {specimen.context_length} of {len(ids)} tokens: the context holds no more."
        ids = ids[-specimen.context_length :]
    device = next(specimen.model.parameters()).device
    return Reading(specimen, torch.tensor([ids], device=device), specimen.text(ids), note)


def windows(specimen: Specimen, count: int) -> Int[Tensor, "B T"]:
    """Return the first windows of the run's validation part, each as long as the context, fewer where it is short.

    Raises:
        UserError: the model does not come from a run that has one, or it is too short.
    """
    ids, length = specimen.validation(), specimen.context_length
    length = min(length, len(ids))
    if length < 2:
        raise UserError("The run's validation part is too short; give a text in quotes.")
    rows = torch.from_numpy(ids[: len(ids) // length * length]).view(-1, length)[:count]
    return rows.to(next(specimen.model.parameters()).device)


def require_index(name: str, index: int, count: int) -> int:
    """Return an index that was counted from 0, or from the end by negative numbers.

    Raises:
        UserError: there is no such one.
    """
    if not -count <= index < count:
        raise UserError(f"There is no {name} {index}: the model has {name}s 0 to {count - 1}.")
    return index % count


def quoted(piece: str) -> str:
    """Return a piece of text in quotes with nothing invisible in it."""
    return f"“{visible(piece)}”"


def numbers(tensor: Tensor) -> Float[np.ndarray, " ..."]:
    """Return a tensor as an array."""
    array: Float[np.ndarray, " ..."] = tensor.detach().float().cpu().numpy()
    return array
