"""The loss to expect of a run before it begins, from its text, its size and its length, and whether it came true.

The text is measured by counting: a 5-gram model of its byte-pair pieces. How far a transformer comes below that depends
on how much text it reads, on how large it is, and on how often it reads the same text; the law below was fitted to runs
that `docs/log.md` lists under "Planning".
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

from clearhead.model.config import GptConfig
from clearhead.text.bpe import BpeTokenizer
from clearhead.text.ngrams import baselines
from clearhead.text.split import Split
from clearhead.training.config import MuonConfig, RunConfig
from clearhead.training.recipes import recipe

MEASURED_TRAINING_BYTES = 1_000_000
EXCERPTS = 16
"""So many places of a text are read where it is larger than what is measured."""

COUNTED_PIECES = 1024
COUNTED_ORDER = 5

EXPONENT = 0.3
LAW = {"floor": 0.612, "size": 0.152, "reading": 0.345, "harm": 0.119, "dropout": 1.7, "distant": 0.22}
HARMLESS_PRESSURE = 2.36
"""From here on a run begins to learn its text by heart."""

DROPOUT_RELIEF, DECAY_RELIEF = 5.6, 1.26
"""How fast the harm of repetition falls with dropout and with weight decay."""

DROPOUT_EXPONENT = 0.61
"""How fast what dropout costs falls with what is read."""

FREE = ("num_layers", "num_heads", "width", "context_length", "dropout", "positions")
"""What may differ between the models that the law knows."""

SMALLEST_COVERED = 300_000
"""Of a text with fewer bytes to train on the law says too much: by a sixth at 100 kB."""

BAND = 0.15
"""How far, as a share, a run may come to lie from what is expected. Runs of one text lie within 5 % of the law, once
one factor for that text is known; of five texts that factor was up to 12 % off what counting says."""


@dataclass(frozen=True, slots=True)
class TextMeasure:
    """What is known of a text before anything is trained on it.

    Args:
        counted_bits_per_byte: of a 5-gram model of 1,024 pieces, counted on a megabyte of the training part.
    """

    training_bytes: int
    counted_bits_per_byte: float


@dataclass(frozen=True, slots=True)
class Expectation:
    """The bits per byte that a run should end with on its validation part, and the band around them."""

    bits_per_byte: float
    lowest: float
    highest: float

    @classmethod
    def around(cls, bits_per_byte: float) -> Expectation:
        """Return an expectation with the band that the law was found to need."""
        return cls(bits_per_byte, bits_per_byte / (1 + BAND), bits_per_byte * (1 + BAND))

    def __str__(self) -> str:
        return f"{self.bits_per_byte:.2f} bits per byte ({self.lowest:.2f} to {self.highest:.2f})"

    def verdict(self, measured: float) -> str:
        """Say whether it came true."""
        if measured < self.lowest:
            return "better than expected"
        return "as expected" if measured <= self.highest else "worse than expected"


def measure_text(parts: Split) -> TextMeasure:
    """Measure a text that is split already; under a second for a megabyte."""
    where = spread(parts.training_bytes, MEASURED_TRAINING_BYTES)
    training = cut_out((text.encode() for text in parts.training_text()), where)
    return measure_bytes(training, "".join(parts.validation_text()).encode(), parts.training_bytes)


def measure_bytes(training: bytes, validation: bytes, training_bytes: int) -> TextMeasure:
    """Measure a text whose training part has `training_bytes` by excerpts from it, and by its validation part."""
    return TextMeasure(training_bytes, counted_bits_per_byte(training, validation))


def spread(total: int, wanted: int) -> list[tuple[int, int]]:
    """Return where excerpts that together hold `wanted` of `total` begin and end: one is all, or they lie evenly.

    A text's beginning may be unlike what follows: of files of code, one after another, it is another project.
    """
    if total <= wanted:
        return [(0, total)]
    length = wanted // EXCERPTS
    starts = (number * (total - length) // (EXCERPTS - 1) for number in range(EXCERPTS))
    return [(start, start + length) for start in starts]


def cut_out(pieces: Iterable[bytes], where: Sequence[tuple[int, int]]) -> bytes:
    """Return the bytes of a stream that lie between the given places, which ascend."""
    found, read = [], 0
    for piece in pieces:
        found += [piece[max(0, start - read) : max(0, end - read)] for start, end in where]
        read += len(piece)
        if read >= where[-1][1]:
            break
    return b"".join(found)


@lru_cache(maxsize=1)
def counted_bits_per_byte(training: bytes, validation: bytes) -> float:
    """Return what a 5-gram model of pieces scores on the validation bytes."""
    read, scored = (part.decode(errors="ignore") for part in (training, validation))
    pieces = BpeTokenizer.train([read], vocabulary_size=COUNTED_PIECES, end=False)
    counted, seen = pieces.encode(read), pieces.encode(scored)
    found = baselines(counted, seen, pieces.vocabulary_size, pieces.byte_lengths, orders=(COUNTED_ORDER,))[0]
    assert found.bits_per_byte is not None
    return found.bits_per_byte


def is_covered(config: RunConfig, training_bytes: int) -> bool:
    """Say whether the law knows a run: the preset's parts in any size, its way to train, and enough text."""
    if training_bytes < SMALLEST_COVERED:
        return False
    known = recipe("modern")
    if not (isinstance(config.model, GptConfig) and isinstance(known.model, GptConfig)):
        return False
    free = {name: getattr(config.model, name) for name in FREE}
    decay = getattr(config.optimizer, "weight_decay", 0.0)
    assert isinstance(known.optimizer, MuonConfig)
    return (
        config.model == replace(known.model, **free)
        and config.optimizer == replace(known.optimizer, weight_decay=decay)
        and config.schedule == known.schedule
    )


def expect(
    text: TextMeasure,
    *,
    parameters: int,
    tokens: int,
    bytes_per_token: float,
    dropout: float = 0.0,
    decay: float = 0.0,
) -> Expectation:
    """Return the loss to expect of a run that reads so many tokens.

    loss / counted = counted / (counted + distant) times
    floor + size / N^0.3 + reading / R^0.3 + dropout d^2 / R^0.61 + harm exp(-5.6 d - 1.26 w) ln(pressure / 2.36)^2,
    with N in millions of parameters, R in megabytes, read again and again, d the dropout, w the weight decay, and harm
    only where the pressure is above 2.36. The first factor is because what makes a text easy is often further apart
    than five pieces.
    Source: Hoffmann et al. 2022, section 3.3, for the form of the first three terms. Departs: exponents alike.
    """
    read = tokens * bytes_per_token / 1e6
    pressure = repetition_pressure(parameters, read * 1e6 / text.training_bytes)
    relief = math.exp(-DROPOUT_RELIEF * dropout - DECAY_RELIEF * decay)
    harm = LAW["harm"] * math.log(max(1.0, pressure / HARMLESS_PRESSURE)) ** 2 * relief
    dropped = LAW["dropout"] * dropout**2 * read**-DROPOUT_EXPONENT
    learned = LAW["floor"] + LAW["size"] * (parameters / 1e6) ** -EXPONENT + LAW["reading"] * read**-EXPONENT
    share = learned + dropped + harm
    counted = text.counted_bits_per_byte
    return Expectation.around(counted * share * counted / (counted + LAW["distant"]))


def repetition_pressure(parameters: int, epochs: float) -> float:
    """Return how hard a model is driven to learn its text by heart: the larger it is, the fewer epochs it needs."""
    return epochs * float((parameters / 1e6) ** (1 / 3))
