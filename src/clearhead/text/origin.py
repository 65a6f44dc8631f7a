"""The text that a run is trained on: read for the first time, and brought back later."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from clearhead.core.config import build
from clearhead.core.errors import UserError
from clearhead.core.run import part
from clearhead.text import corpus as corpora
from clearhead.text.config import TextConfig
from clearhead.text.corpus import Corpus
from clearhead.text.split import split
from clearhead.text.tales import tales

TALES_BYTES = 3_000_000
TALES_SEED = 1


def read_texts(names: Sequence[str | Path], config: TextConfig, keep_stdin_at: Path | None = None) -> Corpus:
    """Read the named texts, or the built-in tales where none is named."""
    if names:
        return corpora.read(names, config, keep_stdin_at=keep_stdin_at)
    return corpora.from_documents([tale.text for tale in tales(TALES_BYTES, TALES_SEED)], "tales")


def reopen(sources: Mapping[str, Any], run: Path) -> Corpus:
    """Bring the text of a run back.

    Args:
        sources: the run's data.json.
        run: the run's folder, which keeps what came by standard input.

    Raises:
        UserError: the files are gone or are not what the run was trained on.
    """
    if sources["fingerprint"] is None:
        raise UserError(f"{run} was imported, so the text that it was trained on is not here.")
    kept = run / "stdin.txt"
    names = [str(kept) if name == "-" else str(name) for name in part(sources, "names", kind=list)]
    corpus = read_texts(names, build(TextConfig, part(sources, "text"), where="text"))
    part(sources, "split")
    if corpus.fingerprint != part(sources, "fingerprint", kind=str):
        raise UserError(
            f"The text of {run} has changed since the run began ({', '.join(names) or 'the tales'}); "
            "bring the old text back, or train a new run."
        )
    return corpus


def training_text(sources: Mapping[str, Any], run: Path) -> Iterator[str]:
    """Yield the training part of a run's text, as it was before it became tokens.

    Raises:
        UserError: the files are gone or are not what the run was trained on.
    """
    yield from split(reopen(sources, run)).training_text()
