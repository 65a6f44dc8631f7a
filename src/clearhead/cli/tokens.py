"""See a text as tokens."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from clearhead.cli.arguments import Parser, choose_action, positive
from clearhead.cli.terminal import console, print_json
from clearhead.core.errors import UserError

if TYPE_CHECKING:
    from clearhead.text.config import TextConfig
    from clearhead.text.tokenizer import Tokenizer

ACTIONS = {"show": "Show a text in pieces with their ids, by a run's tokenizer or by one trained on the text itself."}
SHOWN_PIECES = 2000
SHOWN_IDS = 200


def run(parser: Parser, arguments: Sequence[str]) -> int:
    """Show."""
    _, parser, rest = choose_action(parser, arguments, ACTIONS)
    add_arguments(parser)
    args = parser.parse(rest)
    text, tokenizer = text_and_tokenizer(args)
    ids = tokenizer.encode(text).tolist()
    pieces = [tokenizer.token_text(id_) for id_ in ids]
    figures = {
        "tokenizer": tokenizer.kind,
        "vocabulary_size": tokenizer.vocabulary_size,
        "characters": len(text),
        "bytes": len(text.encode()),
        "tokens": len(ids),
        "different": len(set(ids)),
        "lossless": tokenizer.decode(ids) == text,
    }
    if args.json:
        print_json(figures | {"ids": ids, "pieces": pieces})
    else:
        show(figures, ids, pieces)
    return 0


def add_arguments(parser: Parser) -> None:
    """Declare the flags."""
    parser.add_argument("text", metavar="TEXT", help="a file, - for standard input, or the text itself in quotes")
    either = parser.add_mutually_exclusive_group()
    either.add_argument("--run", metavar="RUN", help="by the tokenizer of this run")
    either.add_argument("--tokenizer", metavar="KIND", help="char, byte, word or bpe, trained on the text (char)")
    parser.add_argument("--vocabulary-size", type=positive, metavar="N", help="for word and bpe")
    parser.add_argument("--json", action="store_true", help="print ids and pieces as JSON")


def text_and_tokenizer(args: argparse.Namespace) -> tuple[str, Tokenizer]:
    """Return the text, and a run's tokenizer or a new one trained on the text."""
    from clearhead.core.config import build
    from clearhead.core.run import select
    from clearhead.text.config import TextConfig
    from clearhead.text.corpus import normalize
    from clearhead.text.tokenizer import load_tokenizer

    if not args.run:
        text = read_text(args.text, TextConfig())
        return text, new_tokenizer(args, text)
    if args.vocabulary_size:
        raise UserError("--vocabulary-size is for a new tokenizer, and --run brings its own; give one of them.")
    trained = select(args.run, "best").run
    config = build(TextConfig, trained.describe()["config"]["text"], where="text")
    return normalize(read_text(args.text, config), config.normalize), load_tokenizer(trained.tokenizer)


def read_text(name: str, config: TextConfig) -> str:
    """Return what a file or standard input holds, or the argument itself where no file is called so."""
    from clearhead.text.corpus import read

    if name == "-" or is_file(name):
        return "".join(piece.text for piece in read([name], config).pieces())
    if not name:
        raise UserError('There is no text to show; name a file, or put a text in quotes, such as "to be".')
    return name.encode(errors="surrogateescape").decode(errors="replace")


def is_file(name: str) -> bool:
    """Say whether the argument names a file; a long text is no name."""
    try:
        return Path(name).is_file()
    except OSError:
        return False


def new_tokenizer(args: argparse.Namespace, text: str) -> Tokenizer:
    """Return a tokenizer trained on the text."""
    from clearhead.core.config import build
    from clearhead.text.config import BpeConfig, ByteConfig, CharConfig, TokenizerConfig, WordConfig
    from clearhead.text.tokenizer import train_tokenizer

    configs: tuple[type[TokenizerConfig], ...] = (CharConfig, ByteConfig, WordConfig, BpeConfig)
    kinds = {config().kind: config for config in configs}
    kind = args.tokenizer or "char"
    if kind not in kinds:
        raise UserError(f"There is no tokenizer {kind}; there are {', '.join(kinds)}.")
    values = {"vocabulary_size": args.vocabulary_size} if args.vocabulary_size else {}
    config = build(kinds[kind], values, where="tokenizer")
    return train_tokenizer(config, lambda: iter([text]), lambda: iter([]), end=False, training_bytes=len(text.encode()))


def show(figures: dict[str, Any], ids: list[int], pieces: list[str]) -> None:
    """Print the tokens in alternating colours, their ids, and what they amount to."""
    from clearhead.show.readable import count
    from clearhead.show.terminal import token_chips

    out = console()
    out.print(token_chips(pieces[:SHOWN_PIECES]))
    if len(pieces) > SHOWN_PIECES:
        out.print(f"... and {count(len(pieces) - SHOWN_PIECES)} more")
    out.print(" ".join(str(id_) for id_ in ids[:SHOWN_IDS]) + (" ..." if len(ids) > SHOWN_IDS else ""))
    out.print(
        f"{figures['tokenizer']}: {count(figures['characters'])} characters and {count(figures['bytes'])} bytes "
        f"are {count(figures['tokens'])} tokens, {count(figures['different'])} different ones "
        f"of a vocabulary of {count(figures['vocabulary_size'])}."
    )
