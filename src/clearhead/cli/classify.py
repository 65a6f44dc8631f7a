"""Choose labels with a trained classifier: for a text, or for each line of a file or of standard input."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from clearhead.cli.arguments import Parser
from clearhead.cli.terminal import console, harmless, print_json


def run(parser: Parser, arguments: Sequence[str]) -> int:
    """Classify, and print a line for each text."""
    parser.add_argument("run", metavar="RUN", help="which model")
    parser.add_argument("text", nargs="?", metavar="TEXT", help="what to classify; - reads standard input")
    parser.add_argument("--file", metavar="FILE", help="a file with a text a line, in place of TEXT")
    parser.add_argument("--json", action="store_true", help="print the probabilities of all labels, as JSON")
    args = parser.parse(arguments)
    if (args.text is None) == (args.file is None):
        parser.error("give a TEXT, or - for standard input, or --file FILE")
    from clearhead.core.runtime import use_threads
    from clearhead.generation.classifier import Classifier
    from clearhead.store.load import load

    use_threads(1)  # a few short texts are too little work to be shared
    classifier = Classifier(load(args.run))
    for notice in classifier.loaded.notices:
        console(stderr=True).print(notice)
    choices = classifier.classify(read_texts(args.text, args.file))
    if args.json:
        print_json([asdict(choice) for choice in choices])
        return 0
    as_shown = harmless if sys.stdout.isatty() else str
    for choice in choices:
        alone = choice.text if len(choices) > 1 else ""
        print("\t".join([choice.label, f"{choice.probability:.3f}", *([as_shown(alone)] if alone else [])]))
    return 0


def read_texts(text: str | None, file: str | None) -> list[str]:
    """Return the texts to classify; lines without a text are passed over."""
    from clearhead.text.config import TextConfig
    from clearhead.text.records import lines_of, named_input

    if file is None and text != "-":
        return [text or ""]
    lines = lines_of(named_input("-" if file is None else str(Path(file))), TextConfig())
    return [line.strip() for line in lines if not line.isspace()]
