"""Write with a trained model: RUN is a path, a name below ./runs or `last`, then maybe @STEP, @best or @last."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from clearhead.cli.main import Parser
from clearhead.cli.terminal import console, print_json
from clearhead.core.errors import UserError


def run(parser: Parser, arguments: Sequence[str]) -> int:
    """Stream text."""
    add_arguments(parser)
    args = parser.parse(arguments)
    from clearhead import load
    from clearhead.core.runtime import choose_threads
    from clearhead.generation.engine import Request
    from clearhead.generation.sampling import Sampling

    sampling = Sampling(
        temperature=args.temperature,
        top_k=args.top_k,
        top_p=args.top_p,
        min_p=args.min_p,
        repetition_penalty=args.repetition_penalty,
    )
    if args.num_tokens < 1 or args.samples < 1:
        raise UserError("--num-tokens and --samples must be at least 1.")
    choose_threads(1)
    writer = load(args.run)
    for notice in writer.loaded.notices:
        console(stderr=True).print(notice, soft_wrap=True)
    prompt = known_part(writer, sys.stdin.read() if args.prompt == "-" else args.prompt, args.unknown)
    request = Request(
        prompt=writer.request(prompt),
        samples=args.samples,
        num_tokens=args.num_tokens,
        sampling=sampling,
        stop=tuple(args.stop),
        seed=args.seed,
        use_cache=not args.no_cache,
    )
    if args.json or args.samples > 1:
        write_together(writer, request, prompt, args)
    else:
        write_streaming(writer, request, prompt, args)
    return 0


def add_arguments(parser: Parser) -> None:
    """Declare the flags."""
    parser.add_argument("run", metavar="RUN", help="which model")
    parser.add_argument(
        "prompt", nargs="?", default="", metavar="PROMPT", help="what to continue; - reads standard input"
    )
    parser.add_argument("--num-tokens", type=int, default=500, help="how many tokens to write at most (500)")
    parser.add_argument("--samples", type=int, default=1, help="how many texts, side by side (1)")
    parser.add_argument("--temperature", type=float, default=1.0, help="0 takes the likeliest token each time (1)")
    parser.add_argument("--top-k", type=int, help="only the K likeliest tokens")
    parser.add_argument("--top-p", type=float, default=1.0, help="only the likeliest tokens that together reach P (1)")
    parser.add_argument("--min-p", type=float, default=0.0, help="only tokens P times as likely as the likeliest (0)")
    parser.add_argument("--repetition-penalty", type=float, default=1.0, help="above 1, less of what was said (1)")
    parser.add_argument("--stop", action="append", default=[], metavar="TEXT", help="end before this; can be repeated")
    parser.add_argument("--seed", type=int, default=1, help="the same seed writes the same text (1)")
    parser.add_argument("--no-cache", action="store_true", help="read the whole window each time: same text")
    parser.add_argument("--unknown", choices=["refuse", "drop"], default="refuse", help="a prompt's unknown characters")
    parser.add_argument("--json", action="store_true", help="print the texts as JSON")
    parser.add_argument("-q", "--quiet", action="store_true", help="print the written text without the prompt")


def known_part(writer: object, prompt: str, unknown: str) -> str:
    """Return the prompt, prepared as the run's text was, without characters that may be dropped."""
    from clearhead.generation.writer import Writer

    assert isinstance(writer, Writer)
    text = writer.prepare(prompt)
    if unknown == "drop":
        text, dropped = writer.loaded.tokenizer.drop_unknown(text)
        if dropped:
            console(stderr=True).print(f"{dropped} unknown characters of the prompt were left out.")
    return text


def write_streaming(writer: object, request: object, prompt: str, args: argparse.Namespace) -> None:
    """Print one text as it comes."""
    from clearhead.generation.engine import Request
    from clearhead.generation.writer import Writer

    assert isinstance(writer, Writer)
    assert isinstance(request, Request)
    if not args.quiet:
        print(prompt, end="", flush=True)
    for token in writer.stream(request):
        print(token.text, end="", flush=True)
    print()


def write_together(writer: object, request: object, prompt: str, args: argparse.Namespace) -> None:
    """Print several texts, or one as JSON, when they are done."""
    from clearhead.generation.engine import Request
    from clearhead.generation.writer import Writer

    assert isinstance(writer, Writer)
    assert isinstance(request, Request)
    texts, ends, lengths = [""] * request.samples, [""] * request.samples, [0] * request.samples
    for token in writer.stream(request):
        texts[token.sample] += token.text
        lengths[token.sample] += 1
        ends[token.sample] = token.finished
    if args.json:
        rows = [
            {"prompt": prompt, "text": text, "finished": end, "tokens": length}
            for text, end, length in zip(texts, ends, lengths, strict=True)
        ]
        print_json({"run": writer.loaded.run.name, "step": writer.loaded.step, "seed": request.seed, "samples": rows})
        return
    for number, text in enumerate(texts, 1):
        console().rule(f"sample {number}", style="dim")
        print(("" if args.quiet else prompt) + text)
