"""A trained model as a Python object."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from clearhead.core.errors import UserError
from clearhead.core.run import Run
from clearhead.generation.engine import Request, prompt_ids, write
from clearhead.generation.sampling import Sampling
from clearhead.generation.score import text_nats
from clearhead.generation.writer import Writer
from clearhead.store.load import Loaded
from clearhead.text.tokenizer import CharTokenizer, Tokenizer

LETTERS = CharTokenizer("\nabcdeé", unknown="refuse", end=False)
STORIES = CharTokenizer("\nabcdeé", unknown="refuse", end=True)


class Table(nn.Module):
    """A bigram table of random logits."""

    def __init__(self, vocabulary_size: int) -> None:
        super().__init__()
        self.context_length = 5
        random = torch.Generator().manual_seed(5)
        self.logits = nn.Parameter(torch.randn(vocabulary_size, vocabulary_size, generator=random))

    def forward(self, tokens: Tensor) -> Tensor:
        return self.logits[tokens]


def writer_of(tokenizer: Tokenizer = LETTERS, normalize: tuple[str, ...] = ()) -> Writer:
    description = {"config": {"text": {"normalize": list(normalize)}}}
    return Writer(Loaded(Run(Path("runs/x")), 1, Table(tokenizer.vocabulary_size), tokenizer, description, ()))


def test_generate_is_the_engine_with_names() -> None:
    writer = writer_of()
    texts = writer.generate("ab", samples=3, num_tokens=11, seed=4, stop=("e",), top_k=4, temperature=0.7)
    request = Request(
        prompt=prompt_ids(LETTERS, "ab"),
        samples=3,
        num_tokens=11,
        seed=4,
        stop=("e",),
        sampling=Sampling(top_k=4, temperature=0.7),
    )
    assert texts == write(writer.loaded.model, LETTERS, request)
    assert texts == writer.generate(
        "ab", samples=3, num_tokens=11, seed=4, stop=("e",), top_k=4, temperature=0.7, use_cache=False
    )
    assert len(set(texts)) == 3


def test_a_stream_is_the_same_text_in_pieces() -> None:
    writer = writer_of()
    pieces = writer.stream(Request(prompt=writer.read("ab").ids, num_tokens=13))
    assert "".join(token.text for token in pieces) == writer.generate("ab", num_tokens=13)[0]


def test_an_unknown_character_is_refused_or_dropped() -> None:
    writer = writer_of()
    with pytest.raises(UserError, match=r"'z' \(U\+007A\).*--unknown drop"):
        writer.read("azbz")
    with pytest.raises(UserError, match="'z'"):
        writer.generate("azbz")
    prompt = writer.read("azbz", drop_unknown=True)
    assert (prompt.text, list(prompt.ids), prompt.num_dropped) == ("ab", [1, 2], 2)


def test_prompts_pass_the_steps_that_the_text_passed() -> None:
    decomposed = "ae\u0301\r\n"
    assert writer_of(normalize=("lf", "nfc")).read(decomposed).text == "a\u00e9\n"
    with pytest.raises(UserError, match="U\\+0301"):
        writer_of().read(decomposed)


def test_a_misspelled_setting_is_a_programming_error() -> None:
    with pytest.raises(TypeError, match="temprature"):
        writer_of().generate("ab", temprature=0.5)


def test_a_number_out_of_range_is_named() -> None:
    with pytest.raises(UserError, match="temperature must be 0 or more"):
        writer_of().generate("ab", temperature=-1.0)


def test_a_text_without_documents_is_scored_from_its_second_token() -> None:
    writer = writer_of()
    scored = writer.score("abcé\nd")
    assert scored.tokens == ["b", "c", "é", "\\n", "d"]
    assert np.array_equal(scored.nats, text_nats(writer.loaded.model, LETTERS.encode("abcé\nd")))


def test_where_there_are_documents_the_first_token_is_scored_too() -> None:
    writer = writer_of(STORIES)
    scored = writer.score("ab")
    assert scored.tokens == ["a", "b"]
    assert STORIES.end is not None
    with torch.no_grad():
        first = writer.loaded.model(torch.tensor([[STORIES.end]]))[0, 0].log_softmax(-1)[1]
    assert scored.nats[0] == pytest.approx(-float(first))


@pytest.mark.parametrize(("tokenizer", "text"), [(LETTERS, ""), (LETTERS, "a"), (STORIES, "")])
def test_a_text_without_a_token_to_score_is_refused(tokenizer: Tokenizer, text: str) -> None:
    with pytest.raises(UserError, match="too short"):
        writer_of(tokenizer).score(text)


def test_one_letter_is_enough_where_there_are_documents() -> None:
    assert writer_of(STORIES).score("a").tokens == ["a"]


def test_a_writer_does_not_change() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        writer_of().loaded = None  # type: ignore[misc]
