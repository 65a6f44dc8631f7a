"""See a text as tokens: `clearhead tokens show TEXT [--run RUN | --tokenizer KIND]`."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from clearhead.cli.main import Parser
from clearhead.cli.terminal import console, print_json
from clearhead.core.errors import UserError

if TYPE_CHECKING:
    from clearhead.text.tokenizer import Tokenizer

SHOWN_CHARACTERS = 2000


def run(parser: Parser, arguments: Sequence[str]) -> int:
    """Show."""
    parser.add_argument("action", choices=["show"], help="what to do")
    parser.add_argument("text", metavar="TEXT", help="a file, or the text itself in quotes")
    parser.add_argument("--run", metavar="RUN", help="by the tokenizer of this run")
    parser.add_argument("--tokenizer", default="char", help="char, byte, word or bpe, trained on the text (char)")
    parser.add_argument("--vocabulary-size", type=int, help="for word and bpe")
    parser.add_argument("--json", action="store_true", help="print ids and pieces as JSON")
    args = parser.parse(arguments)
    text = Path(args.text).read_text(errors="replace") if is_file(args.text) else args.text
    tokenizer = tokenizer_of(args, text)
    ids = tokenizer.encode(text)
    pieces = [tokenizer.token_text(int(id_)) for id_ in ids]
    figures = {
        "tokenizer": tokenizer.kind,
        "vocabulary_size": tokenizer.vocabulary_size,
        "characters": len(text),
        "bytes": len(text.encode(errors="replace")),
        "tokens": len(ids),
        "different": len(np.unique(ids)),
        "lossless": tokenizer.decode(ids) == text,
    }
    if args.json:
        print_json(figures | {"ids": ids.tolist(), "pieces": pieces})
    else:
        show(figures, ids.tolist(), pieces)
    return 0


def is_file(name: str) -> bool:
    """Say whether the argument names a file; a long text is no name."""
    try:
        return Path(name).is_file()
    except OSError:
        return False


def tokenizer_of(args: argparse.Namespace, text: str) -> Tokenizer:
    """Return a run's tokenizer, or a new one trained on the text."""
    from clearhead.core.config import build
    from clearhead.core.run import select
    from clearhead.text.config import BpeConfig, ByteConfig, CharConfig, TokenizerConfig, WordConfig
    from clearhead.text.tokenizer import load_tokenizer, train_tokenizer

    if args.run:
        return load_tokenizer(select(args.run, "best").run.tokenizer)
    configs: tuple[type[TokenizerConfig], ...] = (CharConfig, ByteConfig, WordConfig, BpeConfig)
    kinds = {config().kind: config for config in configs}
    if args.tokenizer not in kinds:
        raise UserError(f"There is no tokenizer {args.tokenizer}; there are {', '.join(kinds)}.")
    values = {} if args.vocabulary_size is None else {"vocabulary_size": args.vocabulary_size}
    config = build(kinds[args.tokenizer], values, where="tokenizer")
    size = len(text.encode(errors="replace"))
    return train_tokenizer(config, lambda: iter([text]), lambda: iter([]), end=False, training_bytes=size)


def show(figures: dict[str, object], ids: list[int], pieces: list[str]) -> None:
    """Print the tokens in alternating colours, their ids, and what they amount to."""
    from clearhead.show.terminal import token_chips

    out = console()
    out.print(token_chips(pieces[:SHOWN_CHARACTERS]))
    out.print(" ".join(str(id_) for id_ in ids[:200]) + (" ..." if len(ids) > 200 else ""), soft_wrap=True)
    out.print(
        f"{figures['tokenizer']}: {figures['characters']} characters and {figures['bytes']} bytes "
        f"are {figures['tokens']} tokens, {figures['different']} different ones "
        f"of a vocabulary of {figures['vocabulary_size']}.",
        soft_wrap=True,
    )
