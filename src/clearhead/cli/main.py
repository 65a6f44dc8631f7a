"""The command `clearhead`: finds the verb, and turns what goes wrong into a sentence and an exit code."""

from __future__ import annotations

import importlib
import io
import os
import sys
from collections.abc import Sequence
from importlib import metadata

from clearhead.cli.arguments import Parser
from clearhead.core.errors import UserError, is_out_of_memory, nearest

VERBS = {
    "train": "train a model on texts",
    "plan": "say what training would do in a given time, and how well",
    "sample": "write with a trained model",
    "classify": "choose labels with a trained classifier",
    "translate": "translate with a trained model",
    "eval": "measure how good a trained model is",
    "look": "see inside a trained model",
    "tokens": "see a text as tokens; compare, train, export tokenizers",
    "data": "list, fetch and make texts",
    "export": "write a trained model for other programs",
    "import": "make a run of a model from elsewhere",
    "lab": "answer questions by experiments",
    "bench": "measure how fast it learns and writes here, beside peers",
    "runs": "list, show, verify, reproduce, measure and remove what was trained",
    "ui": "train, write and look inside in the browser",
    "doctor": "check what this machine computes, how fast, and what is missing",
    "config": "print all settings as commented TOML",
}
MODULES = {"eval": "evaluate", "import": "importing"}

USAGE = """clearhead trains a GPT on your own text, and shows what happens inside it.

usage: clearhead VERB ...     clearhead VERB --help tells more

{verbs}

Begin with:  clearhead train my.txt      then:  clearhead sample last
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command line and return its exit code.

    0 done, 2 a user's mistake or a system that refuses (a full disk, say), 130 or 143 interrupted, 141 nobody reads.
    """
    settle_streams()
    try:
        exit_code = dispatch(list(sys.argv[1:] if arguments is None else arguments))
        sys.stdout.flush()
    except UserError as error:
        return fail(str(error))
    except KeyboardInterrupt:
        print(end="\n" if sys.stderr.isatty() else "", file=sys.stderr)
        return fail("interrupted.", 130)
    except BrokenPipeError:
        abandon_output()
        return 141
    except OSError as error:
        abandon_output()
        return fail(f"The system refuses {error.filename or 'to go on'}: {error.strerror or error}.")
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        return fail("There is not enough memory; a smaller model, context or --train.sequences_per_step takes less.")
    return exit_code


def dispatch(given: Sequence[str]) -> int:
    """Run the verb that a command line begins with."""
    if given[:1] == ["help"]:
        given = [*given[1:2], "--help"]
    if not given or given[0] in ("-h", "--help"):
        print(usage())
        return 0 if given else 2
    if given[0] == "--version":
        print(metadata.version("clearhead"))
        return 0
    verb = given[0]
    if verb not in VERBS:
        raise UserError(f"There is no verb {verb}; clearhead --help lists them.{nearest(verb, VERBS)}")
    module = importlib.import_module(f"clearhead.cli.{MODULES.get(verb, verb)}")
    exit_code: int = module.run(Parser(prog=f"clearhead {verb}", description=module.__doc__), given[1:])
    return exit_code


def usage() -> str:
    """Return what `clearhead --help` prints."""
    return USAGE.format(verbs="\n".join(f"  {verb:<8} {help_}" for verb, help_ in VERBS.items()))


def settle_streams() -> None:
    """Write UTF-8 into files and pipes on every system, and let no character end the program."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(encoding=None if stream.isatty() else "utf-8", errors="replace")


def fail(sentence: str, exit_code: int = 2) -> int:
    """Say in one line, in which nothing is invisible, what went wrong."""
    from clearhead.show.readable import visible

    print(f"clearhead: {visible(sentence, keep=' ')}", file=sys.stderr)
    return exit_code


def abandon_output() -> None:
    """Drop what could not be written, lest Python complain about it once more at its end."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
