"""Write a trained model for other programs: a folder for transformers (hf), or one readable file of code (eject)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from clearhead.cli.arguments import Parser
from clearhead.cli.terminal import console, print_json

if TYPE_CHECKING:
    from clearhead.store.load import Loaded

SAID = {
    "hf": "AutoModelForCausalLM and AutoTokenizer load it. Checked with transformers {transformers}: logits differ by "
    "at most {largest_difference:.2g} on {tokens_compared:,} tokens; {strings:,} strings have the same ids.",
    "eject": "model.py has {lines} lines and needs {needs}; its logits differ by at most {largest_difference:.2g}.\n"
    'Try: python {folder}/model.py "{prompt}"',
}


def run(parser: Parser, arguments: Sequence[str]) -> int:
    """Export."""
    parser.add_argument("run", metavar="RUN", help="which model")
    parser.add_argument("format", choices=["hf", "eject"], help="a folder for transformers, or one file of code")
    parser.add_argument("--to", metavar="DIR", help="the new folder (the run's name with -hf or -eject)")
    parser.add_argument("--json", action="store_true", help="print what was measured as JSON")
    args = parser.parse(arguments)
    from clearhead.store.load import load

    loaded = load(args.run)
    for notice in loaded.notices:
        console(stderr=True).print(notice)
    folder = Path(args.to or f"{loaded.run.name}-{args.format}")
    result = export(loaded, folder, args.format) | {"folder": str(folder)}
    if args.json:
        print_json(result)
    else:
        out = console()
        out.print(f"Written: {folder}", soft_wrap=True)
        out.print(SAID[args.format].format(**result | result["parity"] | result["versions"]), soft_wrap=True)
    return 0


def export(loaded: Loaded, folder: Path, format_: str) -> dict[str, Any]:
    """Write the folder and return its certificate."""
    if format_ == "hf":
        from clearhead.convert.export import export_folder

        return export_folder(loaded, folder)
    from clearhead.convert.eject import eject

    return eject(loaded, folder)
