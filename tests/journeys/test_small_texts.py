"""Texts with little in them: a poem, a sentence, one character again and again."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from clearhead.training.language import FEWEST_WINDOWS
from clearhead.training.recipes import recipe

if TYPE_CHECKING:
    from conftest import Terminal

POEM = """Over the hill the seven went,
and none of them knew where;
the wind was old, the road was bent,
and all was in the air.
"""
TINY = ("--preset", "tiny", "--model.num_layers", "1", "--model.num_heads", "2", "--model.width", "12", "--steps", "1")


@pytest.mark.parametrize("tokenizer", ["char", "byte", "bpe", "word"])
def test_a_poem_gets_a_shorter_context_and_one_notice(tokenizer: str, terminal: Terminal) -> None:
    terminal.write("poem.txt", POEM)
    told = terminal.do("train", "poem.txt", *TINY, "--tokenizer", tokenizer, "--dry-run")
    (notice,) = told.err.splitlines()
    said = re.match(r"The text is short \((\d+) training tokens\), so the context is (\d+) tokens, not 64", notice)
    assert said, notice
    tokens, context = map(int, said.groups())
    assert context == tokens // FEWEST_WINDOWS
    assert f"; {tokens} to train on" in told.out
    assert f", context {context}, " in told.out


def test_two_kilobytes_are_enough_for_the_default(terminal: Terminal) -> None:
    context = recipe("modern").model.context_length
    for size, wanted in ((2000, context), (1900, 1900 * 9 // 10 // FEWEST_WINDOWS)):
        terminal.write("my.txt", (POEM * 20)[:size])
        told = terminal.do("train", "my.txt", *TINY, "--preset", "modern", "--dry-run")
        assert f"context {wanted}, " in told.out
        assert ("The text is short" in told.err) == (wanted < context)


def test_a_named_context_is_kept_or_refused(terminal: Terminal) -> None:
    terminal.write("poem.txt", POEM)
    fitting = len(POEM) * 9 // 10 - 1
    assert f"at most {fitting} fit." in terminal.refused(
        "train", "poem.txt", "--model.context_length", str(fitting + 1)
    )
    told = terminal.do("train", "poem.txt", *TINY, "--model.context_length", str(fitting), "--dry-run")
    assert f"context {fitting}, " in told.out
    assert told.err == ""


@pytest.mark.parametrize(
    ("text", "tokenizer", "sentence"),
    [
        ("a", "char", "The text has 1 character and at least 64 are needed; 2,000 or more are worth training on."),
        (POEM[:30], "char", "The text has 30 characters and at least 64 are needed;"),
        ("a" * 500, "word", "the training part is 1 token and .* each needs at least 2; .* --tokenizer char."),
    ],
)
def test_a_text_too_short_for_anything_costs_a_sentence(
    text: str, tokenizer: str, sentence: str, terminal: Terminal
) -> None:
    terminal.write("my.txt", text)
    said = terminal.refused("train", "my.txt", "--tokenizer", tokenizer)
    assert re.search(sentence, said), said


def test_a_text_of_one_character_costs_nothing_everywhere(terminal: Terminal) -> None:
    terminal.write("a.txt", "a" * 500)
    ended = terminal.train("a.txt", "--steps", "2")
    assert "char, 1 id;" in ended.out
    assert "guessing among 1 id costs ln 1 = 0.000" in ended.out
    assert "0.0000 nats per token" in terminal.do("runs", "show", "last").out
    assert (terminal.folder / "runs/a-1/report.html").exists()
    told = terminal.do("eval", "last").out
    assert "0.0000" in told
    assert "-0.0000" not in told
    scored = terminal.do("eval", "last", "--json").json
    assert {values["nats_per_token"] for values in scored["baselines"].values()} == {scored["nats_per_token"]} == {0.0}
