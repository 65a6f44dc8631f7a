"""Measure how good a trained model is, on its own validation part or on another text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

from clearhead.cli.arguments import Parser, add_unknown_flag, dotted_flags, positive, require_sections
from clearhead.cli.terminal import bar, console, print_json, tell_left_out
from clearhead.core.errors import UserError
from clearhead.core.words import counted

MOST_LABELS = 12
"""The confusion of so many labels is printed; all of it is in --json."""


def run(parser: Parser, arguments: Sequence[str]) -> int:
    """Score, and print what came out."""
    rest, pairs = dotted_flags(arguments)
    parser.add_argument("run", metavar="RUN", help="which model")
    parser.add_argument("texts", nargs="*", metavar="TEXT", help="what to score in place of the validation part")
    parser.add_argument(
        "--stride", type=positive, metavar="N", help="also score with windows that move on by N targets"
    )
    add_unknown_flag(parser)
    parser.add_argument(
        "--weights", choices=["bf16", "int8"], help="also score with weights rounded so, as sample --weights reads"
    )
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")
    parser.epilog = "TEXT is read as the run's own was, unless a setting says otherwise: --text.encoding cp1252."
    args = parser.parse(rest)
    require_sections(pairs, parser.prog, "text")
    if not args.texts and (pairs or args.unknown == "drop"):
        raise UserError("--unknown and --text.* say how a TEXT is read; name one, such as my.txt.")
    from clearhead.core.config import parse_flags
    from clearhead.core.runtime import use_threads
    from clearhead.store.load import load
    from clearhead.training.task import Further
    from clearhead.training.tasks import TASKS

    use_threads()
    loaded = load(args.run)
    further = Further(
        stride=args.stride,
        weights=args.weights,
        changes=parse_flags(pairs),
        drop_unknown=args.unknown == "drop",
    )
    task = loaded.description.get("task", "lm")
    result = TASKS[task].assess(loaded, args.texts, further)
    tell_left_out(result.get("characters_left_out", 0))
    for notice in loaded.notices:
        console(stderr=True).print(notice)
    if args.json:
        print_json(result)
    else:
        SHOWN[task](result)
    return 0


def show(result: Mapping[str, Any]) -> None:
    """Print an assessment as tables."""
    from clearhead.show.terminal import table

    out = console()
    rows = [(f"{result['run']}@{result['step']}", result["nats_per_token"], result["bits_per_byte"])]
    if "nats_per_token_sliding" in result:
        rows.append(("with sliding windows", result["nats_per_token_sliding"], None))
    if "nats_per_token_rounded" in result:
        rows.append((f"with weights in {result['weights']}", result["nats_per_token_rounded"], None))
    for name, values in (result["baselines"] or {}).items():
        rows.append((name, values["nats_per_token"], values["bits_per_byte"]))
    if result["floor"]:
        rows.append(("floor", result["floor"]["nats_per_token"], result["floor"]["bits_per_byte"]))
    cells = [(name, f"{nats:.4f}", "" if bits is None else f"{bits:.4f}") for name, nats, bits in rows]
    title = f"{counted(result['tokens_scored'], 'token')} of {result['split']}"
    out.print(table(title, ("", "nats per token", "bits per byte"), cells))
    out.print(f"Standard error {result['standard_error']:.4f} nats per token; perplexity {result['perplexity']:.2f}.")
    show_positions(result["by_position"])
    if result["copied"] is not None:
        out.print(f"Of a sample of 1,000 tokens, {result['copied']:.1%} stands word for word in the training text.")


def show_labels(result: Mapping[str, Any]) -> None:
    """Print an assessment of a classifier as tables."""
    from clearhead.show.readable import count, percent
    from clearhead.show.terminal import table

    out, metrics = console(), result["metrics"]
    rows = [(f"{result['run']}@{result['step']}", metrics["accuracy"], result["nats_per_token"])]
    rows += [
        (name, each["metrics"]["accuracy"], each["nats_per_token"])
        for name, each in (result["baselines"] or {}).items()
    ]
    cells = [(name, f"{accuracy:.2%}", f"{nats:.4f}") for name, accuracy, nats in rows]
    title = f"{count(result['tokens_scored'])} texts of {result['split']}"
    out.print(table(title, ("", "accuracy", "nats per label"), cells))
    low, high = percent(metrics["accuracy_low"], 1), percent(metrics["accuracy_high"], 1)
    out.print(f"By chance of the texts, the accuracy lies between {low} and {high} (95\u00a0%).")
    labels, counts = result["confusion"]["labels"][:MOST_LABELS], result["confusion"]["counts"]
    lines = [(label, *map(str, counts[place][:MOST_LABELS])) for place, label in enumerate(labels)]
    out.print(table("How often a label (row) was taken for another (column)", ("", *labels), lines))
    bins = [
        (f"{each['low']:.0%} to {each['high']:.0%}", str(each["count"]), f"{each['probability']:.1%}", right)
        for each in result["calibration"]["bins"]
        for right in [f"{each['accuracy']:.1%}"]
    ]
    out.print(table("How sure, and how often right", ("sure", "texts", "mean", "right"), bins))
    error = percent(result["calibration"]["error"], 1)
    out.print(f"Between how sure it is and how often it is right lie {error} on average (calibration error).")


def show_pairs(result: Mapping[str, Any]) -> None:
    """Print an assessment of a translator."""
    from clearhead.show.readable import count
    from clearhead.show.terminal import table

    out, metrics = console(), result["metrics"]
    rows = [(f"{result['run']}@{result['step']}", result["nats_per_token"], result["bits_per_byte"])]
    rows += [
        (name, each["nats_per_token"], each["bits_per_byte"]) for name, each in (result["baselines"] or {}).items()
    ]
    cells = [(name, f"{nats:.4f}", "" if bits is None else f"{bits:.4f}") for name, nats, bits in rows]
    title = f"{count(result['tokens_scored'])} tokens of {result['split']}"
    out.print(table(title, ("", "nats per token", "bits per byte"), cells))
    out.print(", ".join(f"{name} {value:.4g}" for name, value in metrics.items()))
    if result["translation"]["signature"]:
        out.print(f"BLEU by sacrebleu: {result['translation']['signature']}")


SHOWN = {"lm": show, "classify": show_labels, "translate": show_pairs}


def show_positions(nats: Sequence[float]) -> None:
    """Print the mean loss in each eighth of the window, so that one sees what context is worth."""
    out = console()
    out.print("Loss by position in the window:")
    edges = sorted({round(len(nats) * part / 8) for part in range(9)})
    means = [(first + 1, end, sum(nats[first:end]) / (end - first)) for first, end in pairwise(edges)]
    highest = max(mean for _, _, mean in means) or 1.0
    for first, end, mean in means:
        out.print(f"  {first:>5} to {end:<5} {mean:7.4f}  {bar(out, mean / highest)}")
