"""See inside a trained model. SUBJECT is one of the list that `clearhead look` prints."""

from __future__ import annotations

import argparse
import inspect
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from clearhead.cli.arguments import Parser, add_unknown_flag, number, whole
from clearhead.cli.terminal import console, print_json, tell_left_out
from clearhead.core.errors import UserError
from clearhead.look.catalogue import SUBJECTS, module_of

if TYPE_CHECKING:
    from clearhead.show.view import View

FILES = ("npz", "html", "csv", "svg", "png")
OPTIONS: dict[str, tuple[Callable[[str], Any], str, str]] = {
    "layer": (whole, "N", "which layer, from 0"),
    "head": (whole, "N", "which head of the layer, from 0"),
    "position": (whole, "N", "at which token of the text, from 0; -1 is the last"),
    "token": (str, "TEXT", "which next token, instead of the likeliest"),
    "instead": (str, "TEXT", "which token it is held against"),
    "other": (str, "TEXT", "another text (patch) or another RUN (compare, dimensions) to hold it against"),
    "dimension": (whole, "N", "which dimension of the embedding, from 0"),
    "temperature": (number, "T", "as in clearhead sample"),
    "top_k": (whole, "K", "as in clearhead sample"),
    "top_p": (number, "P", "as in clearhead sample"),
    "min_p": (number, "P", "as in clearhead sample"),
    "seed": (whole, "N", "where chance has a part"),
}
"""What some subjects take, under the name that their function has for it."""


def run(parser: Parser, arguments: Sequence[str]) -> int:
    """Print a view, or the list of subjects."""
    add_arguments(parser)
    args = parser.parse(arguments)
    if args.subject is None:
        list_subjects(as_json=args.json)
        return 0
    module_of(args.subject)
    if args.run is None:
        raise UserError(f"clearhead look {args.subject} needs a RUN, such as last.")
    view = look(args)
    for kind in FILES:
        if getattr(args, kind):
            view.save(with_ending(getattr(args, kind), kind))
    if args.json:
        print_json(view.to_json())
    else:
        view.show(console())
    return 0


def add_arguments(parser: Parser) -> None:
    """Declare the flags."""
    add = parser.add_argument
    add("subject", nargs="?", metavar="SUBJECT", help="what to look at; without it, the subjects are listed")
    add("run", nargs="?", metavar="RUN", help="in which model")
    add("prompt", nargs="?", metavar="PROMPT", help="reading what; without it, the validation text's beginning")
    add_unknown_flag(parser)
    for name, (read, metavar, help_) in OPTIONS.items():
        add(f"--{name.replace('_', '-')}", type=read, metavar=metavar, help=help_)
    add("--json", action="store_true", help="print arrays, axes, labels and caption as JSON")
    for kind in FILES:
        add(f"--{kind}", metavar="FILE", help=f"also write it as {kind}")
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = 'Such as: clearhead look attention last "Once upon a time" --layer 1 --head 2 --html head.html'


def list_subjects(*, as_json: bool) -> None:
    """Print each subject with its sentence."""
    from clearhead.show.terminal import table

    if as_json:
        print_json([{"subject": name, "about": about} for name, about in SUBJECTS.items()])
        return
    console().print(table("", ("subject", "what is seen"), SUBJECTS.items()))
    console().print('Such as: clearhead look next-token last "Once upon"')


def look(args: argparse.Namespace) -> View:
    """Open the run and call the subject's function with what was given."""
    import clearhead.look as looking
    from clearhead.core.runtime import use_threads
    from clearhead.look.specimen import specimen_of
    from clearhead.store.load import load

    function = getattr(looking, module_of(args.subject))
    takes = inspect.signature(function).parameters
    given = {name: getattr(args, name) for name in ("prompt", *OPTIONS) if getattr(args, name) is not None}
    for name in given:
        if name not in takes:
            known = [f"--{each.replace('_', '-')}" for each in OPTIONS if each in takes]
            called = "PROMPT" if name == "prompt" else f"--{name.replace('_', '-')}"
            takes_instead = f"takes {', '.join(known)}" if known else "takes no such flag"
            raise UserError(f"clearhead look {args.subject} has no use for {called}; it {takes_instead}.")
    use_threads()
    loaded = load(args.run)
    for notice in loaded.notices:
        console(stderr=True).print(notice)
    specimen = specimen_of(loaded, writes=False)
    if args.unknown == "drop" and args.prompt is not None:
        given["prompt"], num_dropped = specimen.tokenizer.drop_unknown(specimen.normalized(args.prompt))
        tell_left_out(num_dropped)
    view: View = function(specimen, **given)
    return view


def with_ending(path: str, kind: str) -> str:
    """Return the path of a file whose ending says what it is.

    Raises:
        UserError: it has another ending.
    """
    if not path.endswith(f".{kind}"):
        raise UserError(f"--{kind} {path} would write {kind} under another ending; call it {path}.{kind}.")
    return path
