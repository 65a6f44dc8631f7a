"""Translate with a trained model: a text, or each line of a file or of standard input."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import asdict

from clearhead.cli.arguments import Parser, number, positive
from clearhead.cli.terminal import console, harmless, print_json
from clearhead.core.errors import UserError
from clearhead.core.words import counted


def run(parser: Parser, arguments: Sequence[str]) -> int:
    """Translate, and print a line for each text; with --against, also how good the lines are."""
    add = parser.add_argument
    add("run", metavar="RUN", help="which model")
    add("text", nargs="?", metavar="TEXT", help="what to translate; - reads standard input")
    add("--file", metavar="FILE", help="a file with a text a line, in place of TEXT")
    add("--against", metavar="FILE", help="right translations, a line each: also print BLEU, chrF and exact matches")
    add("--beam", type=positive, default=1, metavar="N", help="targets kept side by side (1: the likeliest token)")
    add("--length-penalty", type=number, default=0.6, metavar="A", help="above 0, long targets count more (0.6)")
    add("--json", action="store_true", help="print sources, targets and log-probabilities as JSON")
    args = parser.parse(arguments)
    if (args.text is None) == (args.file is None):
        parser.error("give a TEXT, or - for standard input, or --file FILE")

    from clearhead.core.runtime import use_threads
    from clearhead.generation.beam import Search
    from clearhead.generation.translator import Translator
    from clearhead.store.load import load

    search = Search(beam=args.beam, length_penalty=args.length_penalty)
    use_threads(1 if args.file is None else None)
    translator = Translator(load(args.run))
    for notice in translator.loaded.notices:
        console(stderr=True).print(notice)
    texts = [args.text] if args.file is None and args.text != "-" else lines_of("-" if args.file is None else args.file)
    found = translator.translate(texts, search)
    scores = None if args.against is None else compared([each.target for each in found], args.against)
    if args.json:
        print_json({"translations": [asdict(each) for each in found], **({"scores": scores} if scores else {})})
        return 0
    as_shown = harmless if sys.stdout.isatty() else str
    for each in found:
        print(as_shown(each.target))
    if scores:
        out = console(stderr=True)
        out.print("  ".join(f"{name} {value:.4g}" for name, value in scores.items() if name != "signature"))
        out.print(scores["signature"])
    return 0


def lines_of(name: str) -> list[str]:
    """Return the lines of a file or of standard input."""
    from clearhead.text.config import TextConfig
    from clearhead.text.records import lines_of, named_input

    return [line.rstrip("\r\n") for line in lines_of(named_input(name), TextConfig())]


def compared(written: list[str], right_file: str) -> dict[str, float | str]:
    """Return how good translations are, and how that was computed."""
    from clearhead.training.pair_score import overlap_of

    right = [line.strip() for line in lines_of(right_file)]
    if len(right) != len(written):
        lines, texts = counted(len(right), "line"), counted(len(written), "text")
        raise UserError(f"{right_file} has {lines} for {texts}; line by line the two must belong together.")
    overlap = overlap_of(written, right)
    return {**overlap.metrics, "signature": overlap.signature}
