"""Make a run of a model from elsewhere, so that it can be sampled, scored and looked into like one trained here."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path

from clearhead.cli.arguments import Parser, choose_action
from clearhead.cli.terminal import console, print_json
from clearhead.core.words import counted

ACTIONS = {"hf": "Import a GPT-2 or a Llama from a folder in the format of Hugging Face: safetensors, no network."}


def run(parser: Parser, arguments: Sequence[str]) -> int:
    """Import."""
    _, parser, rest = choose_action(parser, arguments, ACTIONS)
    parser.add_argument("path", metavar="PATH", help="a folder with config.json, model.safetensors and tokenizer.json")
    parser.add_argument("--run", metavar="DIR", help="the new run's folder (a fresh name below ./runs)")
    parser.add_argument("--json", action="store_true", help="print as JSON")
    args = parser.parse(rest)
    from clearhead.convert.folder import import_folder
    from clearhead.show.readable import count

    command = shlex.join(["clearhead", "import", "hf", *rest])
    made = import_folder(Path(args.path), Path(args.run) if args.run else None, command=command)
    described = made.describe()
    if args.json:
        wanted = ("parameters", "vocabulary_size", "tokenizer", "imported")
        print_json({"run": made.name, "path": str(made.path)} | {name: described[name] for name in wanted})
        return 0
    console().print(
        f"Imported: {made.path}, a {described['imported']['model_type']} of {count(described['parameters']['total'])} "
        f"parameters over {counted(described['vocabulary_size'], 'id')}.\nTry: clearhead sample {made.name}",
        soft_wrap=True,
    )
    return 0
