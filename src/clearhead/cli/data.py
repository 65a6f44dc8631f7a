"""Texts: what can be had by name, fetching it, and the built-in stories."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from clearhead.cli.arguments import Parser, choose_action, number, whole
from clearhead.cli.terminal import console, print_json
from clearhead.core.errors import UserError

KINDS = ("stories", "sentiment", "pairs")
ACTIONS = {
    "list": "Name the texts that can be had.",
    "get": "Fetch a text from the network, and say where it lies.",
    "tales": "Write built-in stories to standard output, divided by blank lines; or sentences (--kind).",
}


def run(parser: Parser, arguments: Sequence[str]) -> int:
    """List, fetch or make."""
    action, parser, rest = choose_action(parser, arguments, ACTIONS)
    {"list": list_texts, "get": get_text, "tales": write_tales}[action](parser, rest)
    return 0


def list_texts(parser: Parser, arguments: Sequence[str]) -> None:
    """Print the texts that can be had by name."""
    parser.add_argument("--json", action="store_true", help="print as JSON")
    args = parser.parse(arguments)
    from clearhead.show.readable import byte_size
    from clearhead.show.terminal import table
    from clearhead.text.download import DATASETS

    if args.json:
        print_json([{"name": name, **asdict(dataset)} for name, dataset in DATASETS.items()])
        return
    rows = [("tales", "any", "MIT", "short stories from a program; built in: clearhead data tales")]
    rows += [(name, byte_size(each.bytes), each.licence, each.description) for name, each in DATASETS.items()]
    console().print(table("Texts", ("name", "size", "licence", "what"), rows))


def get_text(parser: Parser, arguments: Sequence[str]) -> None:
    """Fetch a text."""
    parser.add_argument("name", metavar="NAME", help="which text; clearhead data list names them")
    parser.add_argument("--folder", default=".", metavar="DIR", help="where to put it (here)")
    args = parser.parse(arguments)
    from clearhead.text.download import get

    if args.name == "tales":
        raise UserError("The tales are built in; clearhead data tales > tales.txt writes some.")
    out = console(stderr=True)

    def tell(done: int, total: int) -> None:
        if out.is_terminal:
            out.print(f"{done / total:.0%}", end="\r")

    print(get(args.name, Path(args.folder), progress=tell))


def write_tales(parser: Parser, arguments: Sequence[str]) -> None:
    """Print tales, divided by blank lines or as JSON lines."""
    parser.add_argument("--bytes", type=number, default=3e6, metavar="N", help="how much, such as 1e9 (3e6)")
    parser.add_argument("--seed", type=whole, default=1, metavar="N", help="which collection (1)")
    parser.add_argument("--jsonl", action="store_true", help="print a JSON object a line, each a document")
    parser.add_argument("--kind", choices=KINDS, default="stories", help=f"{', '.join(KINDS)} (stories)")
    args = parser.parse(arguments)
    from clearhead.text.tales import tales

    if not 1 <= args.bytes <= 1e15:
        raise UserError(f"--bytes must be from 1 to 1e15, not {args.bytes:g}.")
    if args.kind == "sentiment":
        write_sentiments(int(args.bytes), args.seed, as_objects=args.jsonl)
        return
    if args.kind == "pairs":
        write_pairs(int(args.bytes), args.seed, as_objects=args.jsonl)
        return
    for place, tale in enumerate(tales(int(args.bytes), args.seed)):
        if args.jsonl:
            sys.stdout.write(json.dumps({"text": tale.text}) + "\n")
        else:
            sys.stdout.write(("\n\n" if place else "") + tale.text)
    if not args.jsonl:
        sys.stdout.write("\n")


def write_sentiments(num_bytes: int, seed: int, *, as_objects: bool) -> None:
    """Print sentences with their sentiment, as tab-separated rows with a header or as JSON lines."""
    from clearhead.text.tales_sentiment import sentiments_of_size

    if not as_objects:
        sys.stdout.write("text\tlabel\n")
    for said in sentiments_of_size(num_bytes, seed):
        sys.stdout.write(json.dumps(asdict(said)) + "\n" if as_objects else f"{said.text}\t{said.label}\n")


def write_pairs(num_bytes: int, seed: int, *, as_objects: bool) -> None:
    """Print sentences in English and in the invented language, as tab-separated rows with a header or as JSON lines."""
    from clearhead.text.tales_language import pairs_of_size

    if not as_objects:
        sys.stdout.write("source\ttarget\n")
    for pair in pairs_of_size(num_bytes, seed):
        sys.stdout.write(json.dumps(asdict(pair)) + "\n" if as_objects else f"{pair.source}\t{pair.target}\n")
