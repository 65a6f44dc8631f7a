"""Whether transformers, reading what was written, computes the same: measured, not promised."""

from __future__ import annotations

import contextlib
import random
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from clearhead.core.errors import UserError
from clearhead.core.run import VALIDATION_FILE
from clearhead.store.load import Loaded
from clearhead.text.tales import tales

STRINGS = 1000
ODD_STRINGS = 300
LONGEST_PIECE = 200
ROWS = 4
MOST_LOGITS = 1 << 25
"""Of a large vocabulary, fewer windows are compared, so that memory stays small."""

TOLERANCE = 1e-4
"""The largest difference of logits, as a share of the largest logit, that rounding explains."""

ODD_PARTS = [
    *(
        "a",
        "The",
        " the",
        "  ",
        "\n",
        "\r\n",
        "\t",
        "\u00a0",
        "\u3000",
        "'s",
        "don't",
        "...",
        "0",
        "1234567890",
        "<|end|>",
    ),
    *(
        "<unk>",
        "<s>",
        "</s>",
        "<|endoftext|>",
        "<0x41>",
        "é",
        "e\u0301",
        "Đường",
        "ß",
        "ЖЗ",
        "שלום",
        "السلام",
        "日本語",
        "한국",
    ),
    *("👩‍👩‍👧", "🏳️‍🌈", "𝔘", "\ufeff", "\u200b", "\ufffd", "\x00", "\x1f", "{}[]()", "\\n", "%s", "▁", "Ġ", "Ċ"),
]
"""Pieces that tokenizers have stumbled over: white space, accents, scripts, joined emoji, controls, specials' names."""


@dataclass(frozen=True, slots=True)
class Parity:
    """How far the two are apart.

    Args:
        different: of how many strings the ids differ.
    """

    strings: int
    characters: int
    different: int
    tokens_compared: int
    largest_difference: float
    largest_logit: float


def transformers_library() -> ModuleType:
    """Return the library transformers, which an export is checked with.

    Raises:
        UserError: it is not installed.
    """
    try:
        import transformers
    except ImportError:
        raise UserError(
            "An export is checked with the library transformers, which is not installed; "
            "pip install 'clearhead[hf]' brings it."
        ) from None
    return transformers


def measure(loaded: Loaded, folder: Path) -> Parity:
    """Load an exported folder with transformers and compare ids and logits with ours.

    Raises:
        UserError: they differ by more than rounding explains.
    """
    transformers = transformers_library()
    with _quiet(transformers):
        tokenizer = transformers.AutoTokenizer.from_pretrained(folder, local_files_only=True)
        model = transformers.AutoModelForCausalLM.from_pretrained(
            folder, local_files_only=True, use_safetensors=True, dtype=torch.float32
        )
        strings = probe_strings(loaded)
        found = tokenizer(strings, add_special_tokens=False)["input_ids"]
    different = [
        text for text, ids in zip(strings, found, strict=True) if ids != loaded.tokenizer.encode(text).tolist()
    ]
    if different:
        raise UserError(f"Nothing was exported: transformers gives {different[0]!r} other ids than this program does.")
    tokens = probe_tokens(loaded)
    with torch.inference_mode():
        theirs, ours = model.eval()(tokens).logits, loaded.model(tokens)
    difference, largest = float((theirs - ours).abs().max()), float(ours.abs().max())
    if not difference <= TOLERANCE * max(1.0, largest):
        raise UserError(
            f"Nothing was exported: the logits of transformers differ by {difference:.2g}, more than rounding explains."
        )
    return Parity(len(strings), sum(map(len, strings)), len(different), tokens.numel(), difference, largest)


def probe_strings(loaded: Loaded) -> list[str]:
    """Return 1,000 strings that the run's tokenizer takes: pieces of its validation part, and odd ones."""
    draw = random.Random(1)
    text = sample_text(loaded)
    starts = [draw.randrange(max(1, len(text))) for _ in range(STRINGS - ODD_STRINGS)]
    plain = [text[start : start + draw.randint(1, LONGEST_PIECE)] for start in starts]
    odd = ["".join(draw.choices(ODD_PARTS, k=draw.randint(0, 12))) for _ in range(ODD_STRINGS)]
    return [loaded.tokenizer.drop_unknown(string)[0] for string in [*plain, *odd]]


def sample_text(loaded: Loaded) -> str:
    """Return the start of a run's validation part, or built-in tales where it has none."""
    ids = validation_ids(loaded)[: 1 << 16]
    return loaded.tokenizer.decode(ids) if len(ids) else "\n\n".join(tale.text for tale in tales(100_000, seed=1))


def prompt_of(loaded: Loaded) -> str:
    """Return a few words of that text, or as much of them as leaves room in the context for a token to follow.

    They are from the start of a line if possible, and have letters and single spaces alone.
    """
    text = loaded.tokenizer.drop_unknown(sample_text(loaded))[0]
    found = re.search(r"(?<=\n)\w{1,12}(?: \w{1,12}){1,2}", text) or re.search(r"\w{1,12}(?: \w{1,12}){0,2}", text)
    prompt = found[0] if found else ""
    while len(loaded.tokenizer.encode(prompt)) >= int(loaded.model.context_length):  # type: ignore[arg-type]
        prompt = prompt[:-1].rstrip()
    return prompt


def validation_ids(loaded: Loaded) -> np.ndarray[Any, np.dtype[np.int32]]:
    """Return the ids of a run's validation part; none of an imported run."""
    return np.fromfile(loaded.run.path / VALIDATION_FILE, dtype="<i4").astype(np.int32)


def probe_tokens(loaded: Loaded) -> Int[Tensor, "B T"]:
    """Return windows as long as the context: of the validation part as far as it goes, and of ids at random."""
    context = int(loaded.model.context_length)  # type: ignore[arg-type]
    rows = max(1, min(ROWS, MOST_LOGITS // (context * loaded.tokenizer.vocabulary_size)))
    generator = torch.Generator().manual_seed(1)
    drawn = torch.randint(loaded.tokenizer.vocabulary_size, (rows, context), generator=generator)
    ids = torch.from_numpy(validation_ids(loaded)[: rows * context].astype(np.int64))
    return torch.cat((ids[: len(ids) // context * context].view(-1, context), drawn))


@contextlib.contextmanager
def _quiet(transformers: Any) -> Iterator[None]:
    """Keep the library from drawing bars and giving advice inside the block."""
    logging = transformers.utils.logging
    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()
