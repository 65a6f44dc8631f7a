"""Tokenizers: see a text as tokens, compare many, train one, export one, leave out what a run does not use."""

from __future__ import annotations

import argparse
import re
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from clearhead.cli.arguments import Parser, add_unknown_flag, choose_action, dotted_flags, positive, require_sections
from clearhead.cli.terminal import console, print_json, program, tell_left_out
from clearhead.core.errors import UserError
from clearhead.core.words import counted
from clearhead.show.readable import visible

if TYPE_CHECKING:
    from clearhead.core.run import Run
    from clearhead.text.compare import Compared
    from clearhead.text.config import TextConfig
    from clearhead.text.tokenizer import Tokenizer
    from clearhead.training.config import RunConfig

ACTIONS = {
    "show": "Show a text in pieces with their ids, by a run's tokenizer or by one trained on the text itself.",
    "compare": "Put one text under all tokenizers at hand, and weigh their vocabularies.",
    "train": "Train a tokenizer on a text's training part, to be used by several runs.",
    "export": "Write a tokenizer of byte pairs as a file of ranks for tiktoken.",
    "compact": "Write a run again without the ids that its training text does not use.",
}
SHOWN_PIECES = 2000
SHOWN_IDS = 200


def run(parser: Parser, arguments: Sequence[str]) -> int:
    """Show, compare, train, export or leave out."""
    action, parser, rest = choose_action(parser, arguments, ACTIONS)
    actions = {"show": show, "compare": compare, "train": train, "export": export, "compact": compact}
    actions[action](parser, rest)
    return 0


def show(parser: Parser, arguments: Sequence[str]) -> None:
    """Print a text as tokens."""
    rest, pairs = dotted_flags(arguments)
    parser.add_argument("text", metavar="TEXT", help="a file, - for standard input, or the text itself in quotes")
    parser.add_argument("--run", metavar="RUN", help="by the tokenizer of this run")
    add_tokenizer_flags(parser, "trained on the text (char)")
    add_unknown_flag(parser)
    parser.add_argument("--json", action="store_true", help="print ids and pieces as JSON")
    args = parser.parse(rest)
    require_sections(pairs, parser.prog, "text", "tokenizer")
    text, tokenizer = text_and_tokenizer(args, pairs)
    if args.unknown == "drop":
        text, num_dropped = tokenizer.drop_unknown(text)
        tell_left_out(num_dropped)
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
        print_tokens(figures, ids, pieces)


def add_tokenizer_flags(parser: Parser, how: str) -> None:
    """Declare the short flags that choose a new tokenizer; the others are its settings, such as --tokenizer.path."""
    parser.add_argument("--tokenizer", metavar="KIND", help=f"char, byte, word, bpe, sentencepiece, ...; {how}")
    parser.add_argument("--vocabulary-size", type=positive, metavar="N", help="for word, bpe and sentencepiece")
    parser.epilog = (
        "Settings of tokenizers and of texts are flags too: "
        "--tokenizer.algorithm bpe, --tokenizer.path tokenizer.json, --text.encoding cp1252."
    )


def text_and_tokenizer(args: argparse.Namespace, pairs: list[tuple[str, str]]) -> tuple[str, Tokenizer]:
    """Return the text, and a run's tokenizer or a new one trained on the text."""
    from clearhead.core.config import build, merge, parse_flags
    from clearhead.core.run import select
    from clearhead.text.compare import make
    from clearhead.text.config import CharConfig, TextConfig
    from clearhead.text.tokenizer import load_tokenizer
    from clearhead.training.config import RunConfig

    if not args.run:
        chosen = settings(args, pairs)
        text = read_text(args.text, chosen.text)
        return text, make(chosen.tokenizer or CharConfig(), text)
    given = [flag for flag in ("tokenizer", "vocabulary_size") if getattr(args, flag)]
    given += [name for name, _ in pairs if name.startswith("tokenizer")]
    if given:
        flag = given[0].replace("_", "-")
        raise UserError(f"--{flag} is for a new tokenizer, and --run brings its own; give one of them.")
    trained = select(args.run, "best").run
    own = build(TextConfig, trained.describe()["config"]["text"], where="text")
    config = merge(RunConfig(text=own), parse_flags(pairs)).text
    return read_text(args.text, config), load_tokenizer(trained.tokenizer)


def settings(args: argparse.Namespace, pairs: list[tuple[str, str]]) -> RunConfig:
    """Return the settings of texts and of the tokenizer that the flags choose; no tokenizer where they choose none."""
    from clearhead.core.config import merge, parse_flags
    from clearhead.training.config import RunConfig

    short = {"tokenizer.kind": args.tokenizer, "tokenizer.vocabulary_size": args.vocabulary_size}
    given = [(key, str(value)) for key, value in short.items() if value is not None]
    if given and all(key != "tokenizer.kind" for key, _ in [*given, *pairs]):
        given.append(("tokenizer.kind", "bpe"))
    return merge(RunConfig(), parse_flags([*given, *pairs]))


def read_text(name: str, config: TextConfig) -> str:
    """Return what a file or standard input holds, or the argument itself where no file is called so."""
    from clearhead.text.corpus import normalize, read
    from clearhead.text.inputs import nearest_file

    if name == "-" or is_file(name):
        return "".join(piece.text for piece in read([name], config).pieces())
    if not name:
        raise UserError('There is no text to show; name a file, or put a text in quotes, such as "to be".')
    if looks_like_path(name):
        notice = f'There is no file "{name}", so it is taken as the text itself.{nearest_file(Path(name))}'
        console(stderr=True).print(visible(notice, keep=" "), soft_wrap=True)
    return normalize(name.encode(errors="surrogateescape").decode(errors="replace"), config.normalize)


def looks_like_path(name: str) -> bool:
    """Say whether a text in one word may be meant as a file: it has an ending of letters, or folders before it."""
    return not re.search(r"\s", name) and bool(re.search(r"\w\.[A-Za-z]\w{0,5}$|\w/\w", name))


def is_file(name: str) -> bool:
    """Say whether the argument names a file; a long text is no name."""
    try:
        return Path(name).is_file()
    except OSError:
        return False


def print_tokens(figures: dict[str, Any], ids: list[int], pieces: list[str]) -> None:
    """Print the tokens in alternating colours, their ids, and what they amount to."""
    from clearhead.show.readable import count
    from clearhead.show.terminal import token_chips

    out = console()
    out.print(token_chips(pieces[:SHOWN_PIECES]))
    if len(pieces) > SHOWN_PIECES:
        out.print(f"... and {count(len(pieces) - SHOWN_PIECES)} more")
    out.print(" ".join(str(id_) for id_ in ids[:SHOWN_IDS]) + (" ..." if len(ids) > SHOWN_IDS else ""))
    size = f"{counted(figures['characters'], 'character')} and {counted(figures['bytes'], 'byte')}"
    out.print(
        f"{figures['tokenizer']}: {size} are {counted(figures['tokens'], 'token')}, "
        f"{counted(figures['different'], 'different one')} of a vocabulary of {count(figures['vocabulary_size'])}."
    )


def compare(parser: Parser, arguments: Sequence[str]) -> None:
    """Print one text under all tokenizers at hand."""
    rest, pairs = dotted_flags(arguments)
    parser.add_argument("text", metavar="TEXT", help="a file, - for standard input, or the text itself in quotes")
    parser.add_argument(
        "--also", action="append", default=[], metavar="PATH", help="a tokenizer.json, a file of ranks, a saved folder"
    )
    parser.add_argument("--preset", default="modern", metavar="NAME", help="the model to weigh against (modern)")
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")
    parser.epilog = "Settings of texts are flags too: --text.encoding cp1252."
    args = parser.parse(rest)
    require_sections(pairs, parser.prog, "text")
    from clearhead.core.config import merge, parse_flags
    from clearhead.text import compare as comparing
    from clearhead.training.recipes import recipe

    model, config = recipe(args.preset).model, merge(recipe(args.preset), parse_flags(pairs)).text
    text = read_text(args.text, config)
    fields = ("num_layers", "width", "context_length", "tied_head")
    shape = comparing.Shape(**{name: getattr(model, name) for name in fields})
    progress = console(stderr=True)
    rows = []
    for row in comparing.compare(text, args.also, shape):
        rows.append(row)
        if progress.is_terminal:
            progress.print(f"{row.name:<24}", end="\r")
    if args.json:
        print_json([asdict(row) for row in rows])
    else:
        print_comparison(rows, shape)


def print_comparison(rows: Sequence[Compared], shape: Any) -> None:
    """Print the figures as a table, and below it the first line under each tokenizer."""
    from clearhead.show.readable import count
    from clearhead.show.terminal import table, token_chips

    out = console()
    title = f"Weighed against {shape.num_layers} layers of width {shape.width} with a context of {shape.context_length}"
    columns = ("tokenizer", "ids", "tokens", "bytes per token", "unused", "embedding", "characters seen", "seconds")
    cells = [
        (
            row.name if row.lossless else f"{row.name} (lossy)",
            count(row.vocabulary_size),
            count(row.tokens),
            f"{row.bytes_per_token:.2f}",
            count(row.unused),
            f"{row.embedding_share:.0%}",
            count(round(row.characters_in_context)),
            f"{row.seconds:.2f}",
        )
        for row in rows
    ]
    out.print(table(title, columns, cells))
    for row in rows:
        out.print(f"{row.name}:")
        out.print(token_chips(row.pieces))


def train(parser: Parser, arguments: Sequence[str]) -> None:
    """Train a tokenizer and save it."""
    rest, pairs = dotted_flags(arguments)
    parser.add_argument("texts", nargs="+", metavar="TEXT", help="what to train on")
    parser.add_argument("--to", required=True, metavar="DIR", help="the folder to write")
    add_tokenizer_flags(parser, "by the size of the text")
    parser.add_argument("--json", action="store_true", help="print as JSON")
    args = parser.parse(rest)
    require_sections(pairs, parser.prog, "text", "tokenizer")
    from clearhead.training.dataset import train_saved_tokenizer

    chosen = settings(args, pairs)
    tokenizer = train_saved_tokenizer(args.texts, chosen.tokenizer, chosen.text, Path(args.to))
    figures = {
        "tokenizer": tokenizer.kind,
        "vocabulary_size": tokenizer.vocabulary_size,
        "fingerprint": tokenizer.fingerprint,
        "path": args.to,
    }
    if args.json:
        print_json(figures)
        return
    console().print(f"{tokenizer.kind}, {counted(tokenizer.vocabulary_size, 'id')}, in {args.to}")
    words = ["train", *args.texts, "--tokenizer.kind", "saved", "--tokenizer.path", args.to]
    words += [word for name, value in pairs if name.startswith("text") for word in (f"--{name}", value)]
    console().print(f"Next:  {program()} {shlex.join(words)}")


def export(parser: Parser, arguments: Sequence[str]) -> None:
    """Write a run's byte pairs in another program's form."""
    parser.add_argument("run", metavar="RUN", help="whose tokenizer")
    parser.add_argument("--format", choices=["tiktoken"], default="tiktoken", help="the form (tiktoken)")
    parser.add_argument("--to", required=True, metavar="FILE", help="the file to write, such as mine.tiktoken")
    parser.add_argument("--json", action="store_true", help="print as JSON")
    args = parser.parse(arguments)
    from clearhead.core.run import select
    from clearhead.text.adapters.tiktoken import GPT2_PATTERN
    from clearhead.text.adapters.tiktoken import export as write_ranks
    from clearhead.text.tokenizer import load_tokenizer

    trained = select(args.run, "best").run
    tokenizer = load_tokenizer(trained.tokenizer)
    compared = write_ranks(tokenizer, texts_of(trained), Path(args.to))
    if args.json:
        print_json({"path": args.to, "pattern": GPT2_PATTERN, "tokens_compared": compared})
        return
    console().print(f"{args.to}: {counted(compared, 'token')} of the run's text have the same ids.")
    console().print(f"Text is split by this pattern before pairs are merged:  {GPT2_PATTERN}")


def texts_of(trained: Run) -> Iterator[str]:
    """Yield a run's training text where it is still there, and its validation text."""
    import numpy as np

    from clearhead.core.run import VALIDATION_FILE
    from clearhead.text.tokenizer import load_tokenizer
    from clearhead.training.dataset import reopen

    tokenizer = load_tokenizer(trained.tokenizer)
    validation = np.fromfile(trained.path / VALIDATION_FILE, dtype="<i4").astype(np.int32)
    yield tokenizer.decode(validation)
    try:
        data = reopen(tokenizer, validation, trained.data(), trained.path)
    except UserError as error:
        console(stderr=True).print(f"Only the validation part is compared: {error}")
    else:
        yield from data.training_text()


def compact(parser: Parser, arguments: Sequence[str]) -> None:
    """Write a run again with a smaller vocabulary."""
    parser.add_argument("run", metavar="RUN", help="which run; with @STEP, which of its steps")
    parser.add_argument("--to", metavar="DIR", help="the new run; without it, a new folder below ./runs")
    parser.add_argument("--json", action="store_true", help="print as JSON")
    args = parser.parse(arguments)
    from clearhead.core.run import select
    from clearhead.training.compact import compact_run

    before = select(args.run, "best").run.describe()
    made = compact_run(args.run, Path(args.to) if args.to else None)
    after = made.describe()
    if args.json:
        sizes = {"before": before["vocabulary_size"], "after": after["vocabulary_size"]}
        parameters = {"before": before["parameters"]["total"], "after": after["parameters"]["total"]}
        print_json({"run": str(made.path), "vocabulary_size": sizes, "parameters": parameters})
        return
    console().print(
        f"{made.path}: {counted(after['vocabulary_size'], 'id')} instead of {before['vocabulary_size']}, "
        f"{after['parameters']['total']} parameters instead of {before['parameters']['total']}"
    )
    console().print(f"Next:  {program()} sample {shlex.quote(str(made.path))}")
