"""Texts: `data list`, `data get NAME` fetches one from the network, `data tales` writes built-in stories."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from clearhead.cli.main import Parser
from clearhead.cli.terminal import console, print_json
from clearhead.core.errors import UserError


def run(parser: Parser, arguments: Sequence[str]) -> int:
    """List, fetch or make."""
    parser.add_argument("action", choices=["list", "get", "tales"], help="what to do")
    parser.add_argument("name", nargs="?", metavar="NAME", help="for get: which text")
    parser.add_argument("--folder", default=".", help="for get: where to put it (.)")
    parser.add_argument("--bytes", type=float, default=3e6, help="for tales: how much, such as 1e9 (3e6)")
    parser.add_argument("--seed", type=int, default=1, help="for tales: which collection (1)")
    parser.add_argument("--jsonl", action="store_true", help="for tales: a JSON object a line, each a document")
    parser.add_argument("--json", action="store_true", help="for list: as JSON")
    args = parser.parse(arguments)
    return {"list": list_texts, "get": get_text, "tales": write_tales}[args.action](args)


def list_texts(args: argparse.Namespace) -> int:
    """Print the texts that can be had by name."""
    from dataclasses import asdict

    from clearhead.show.readable import byte_size
    from clearhead.show.terminal import table
    from clearhead.text.download import DATASETS

    if args.json:
        print_json([{"name": name, **asdict(dataset)} for name, dataset in DATASETS.items()])
        return 0
    rows = [("tales", "3 MB or more", "MIT", "short stories from a program; built in, no network")]
    rows += [(name, byte_size(each.bytes), each.licence, each.description) for name, each in DATASETS.items()]
    console().print(table("Texts", ("name", "size", "licence", "what"), rows))
    return 0


def get_text(args: argparse.Namespace) -> int:
    """Fetch a text."""
    from clearhead.text.download import get

    if not args.name:
        raise UserError("Name a text to get, such as clearhead data get shakespeare.")
    out = console(stderr=True)

    def tell(done: int, total: int) -> None:
        if out.is_terminal:
            out.print(f"{done / total:.0%}", end="\r")

    print(get(args.name, Path(args.folder), progress=tell))
    return 0


def write_tales(args: argparse.Namespace) -> int:
    """Print tales, divided by blank lines or as JSON lines."""
    from clearhead.text.tales import tales

    if not 1 <= args.bytes <= 1e15:
        raise UserError("--bytes must be at least 1.")
    for number, tale in enumerate(tales(int(args.bytes), args.seed)):
        if args.jsonl:
            sys.stdout.write(json.dumps({"text": tale.text}) + "\n")
        else:
            sys.stdout.write(("\n\n" if number else "") + tale.text)
    if not args.jsonl:
        sys.stdout.write("\n")
    return 0
