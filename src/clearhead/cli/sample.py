"""Write with a trained model: RUN is a path, a name below ./runs or `last`, then maybe @STEP, @best or @last."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from clearhead.cli.arguments import Parser, add_unknown_flag, number, whole
from clearhead.cli.terminal import console, harmless, print_json, print_written, rule, tell_left_out

if TYPE_CHECKING:
    from clearhead.generation.engine import Request
    from clearhead.generation.writer import Prompt, Writer


def run(parser: Parser, arguments: Sequence[str]) -> int:
    """Stream text."""
    add_arguments(parser)
    args = parser.parse(arguments)
    from clearhead.core.runtime import choose_device, use_threads
    from clearhead.generation.engine import worth_sharing
    from clearhead.generation.writer import Writer
    from clearhead.store.load import load

    device = choose_device(args.device)
    writer = Writer(load(args.run))
    writer.loaded.model.to(device)
    use_threads(None if worth_sharing(writer.loaded.model, args.samples) else 1)
    for notice in writer.loaded.notices:
        console(stderr=True).print(notice)
    prompt = read_prompt(writer, args)
    request = request_of(prompt, args)
    if args.json:
        print_as_json(writer, request, prompt)
    elif request.samples > 1:
        print_together(writer, request, "" if args.quiet else prompt.text)
    else:
        print_streaming(writer, request, "" if args.quiet else prompt.text)
    return 0


def add_arguments(parser: Parser) -> None:
    """Declare the flags."""
    add = parser.add_argument
    add("run", metavar="RUN", help="which model")
    add("prompt", nargs="?", default="", metavar="PROMPT", help="what to continue; - reads standard input")
    add("--num-tokens", type=whole, default=500, metavar="N", help="how many tokens to write at most (500)")
    add("--samples", type=whole, default=1, metavar="N", help="how many texts, side by side (1)")
    add("--temperature", type=number, default=1.0, metavar="T", help="0 takes the likeliest token each time (1)")
    add("--top-k", type=whole, metavar="K", help="only the K likeliest tokens (all)")
    add("--top-p", type=number, default=1.0, metavar="P", help="only the likeliest tokens that together reach P (1)")
    add("--min-p", type=number, default=0.0, metavar="P", help="only tokens P times as likely as the likeliest (0)")
    add("--repetition-penalty", type=number, default=1.0, metavar="R", help="above 1, less of what was said (1)")
    add("--stop", action="append", default=[], metavar="TEXT", help="end before this; can be given several times")
    add("--seed", type=whole, default=1, metavar="N", help="the same seed writes the same text (1)")
    add("--no-cache", action="store_true", help="read the whole window each time: same text, slower")
    add_unknown_flag(parser)
    add(
        "--weights",
        choices=["fp32", "bf16", "int8"],
        default="fp32",
        help="rounded ones are faster in a large model: int8 for few samples, bf16 for many; see eval (fp32)",
    )
    add("--compile", action="store_true", help="compile the step: by numba for one long text, or as a graph of a GPU's")
    add("--device", default="cpu", metavar="NAME", help="cpu, cuda or mps; a small model is fastest on the CPU (cpu)")
    add("--json", action="store_true", help="print the texts as JSON")
    add("-q", "--quiet", action="store_true", help="print the written text without the prompt")
    parser.epilog = 'Such as: clearhead sample last "Once upon" --temperature 0.8 --samples 3'


def read_prompt(writer: Writer, args: argparse.Namespace) -> Prompt:
    """Return the prompt as the model reads it, and say if something of it was left out."""
    given = sys.stdin.buffer.read() if args.prompt == "-" else args.prompt.encode(errors="surrogateescape")
    prompt = writer.read(given.decode(errors="replace"), drop_unknown=args.unknown == "drop")
    tell_left_out(prompt.num_dropped)
    return prompt


def request_of(prompt: Prompt, args: argparse.Namespace) -> Request:
    """Return what the flags ask for."""
    from clearhead.generation.engine import Request
    from clearhead.generation.sampling import Sampling

    return Request(
        prompt=prompt.ids,
        samples=args.samples,
        num_tokens=args.num_tokens,
        sampling=Sampling(
            temperature=args.temperature,
            top_k=args.top_k,
            top_p=args.top_p,
            min_p=args.min_p,
            repetition_penalty=args.repetition_penalty,
        ),
        stop=tuple(args.stop),
        seed=args.seed,
        use_cache=not args.no_cache,
        weights=args.weights,
        compile=args.compile,
    )


def print_streaming(writer: Writer, request: Request, prompt: str) -> None:
    """Print one text as it comes."""
    as_shown = harmless if sys.stdout.isatty() else str
    tokens = writer.stream(request)
    print(as_shown(prompt), end="", flush=True)
    for token in tokens:
        print(as_shown(token.text), end="", flush=True)
    print()


@dataclass
class Written:
    """A sample, as far as it has come."""

    text: str = ""
    finished: str = ""
    tokens: int = 0


def write_all(writer: Writer, request: Request) -> list[Written]:
    """Return all samples when they are done."""
    samples = [Written() for _ in range(request.samples)]
    for token in writer.stream(request):
        sample = samples[token.sample]
        sample.text += token.text
        sample.finished = token.finished
        sample.tokens += 1
    return samples


def print_together(writer: Writer, request: Request, prompt: str) -> None:
    """Print several texts under headings."""
    out = console()
    for place, sample in enumerate(write_all(writer, request), 1):
        rule(out, f"sample {place}")
        print_written(out, prompt + sample.text)


def print_as_json(writer: Writer, request: Request, prompt: Prompt) -> None:
    """Print what was written, and how and after how many tokens each text ended."""
    samples = [{"prompt": prompt.text} | asdict(sample) for sample in write_all(writer, request)]
    print_json({"run": writer.loaded.run.name, "step": writer.loaded.step, "seed": request.seed, "samples": samples})
