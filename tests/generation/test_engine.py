"""Writing: the cache changes nothing, samples do not disturb each other, and texts end where they should."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from clearhead.core.errors import UserError
from clearhead.generation.engine import (
    Request,
    StopText,
    Token,
    generate,
    prompt_ids,
    sample_seed,
    window_start,
    write,
)
from clearhead.generation.sampling import Sampling, distribution, draw
from clearhead.model.build import build_model
from clearhead.model.cache import Cache
from clearhead.model.config import BigramConfig, GptConfig, LearnedConfig, ModelConfig, NoPositionsConfig
from clearhead.model.transformer import GPT
from clearhead.text.tokenizer import ByteTokenizer, CharTokenizer, Tokenizer

CONTEXT = 7
LETTERS = CharTokenizer("\nabcdefghij", unknown="refuse", end=False)
STORIES = CharTokenizer("\nabcdefghij", unknown="refuse", end=True)

MODELS: Mapping[str, ModelConfig] = {
    "rotary": GptConfig(num_layers=2, num_heads=2, width=12, context_length=CONTEXT),
    "learned": GptConfig(
        num_layers=2, num_heads=4, num_kv_heads=2, width=20, context_length=CONTEXT, positions=LearnedConfig()
    ),
    "explicit": GptConfig(
        num_layers=2, num_heads=1, width=6, context_length=CONTEXT, positions=NoPositionsConfig(), kernel="explicit"
    ),
    "bigram": BigramConfig(context_length=CONTEXT),
}


def lively(model: nn.Module) -> nn.Module:
    """Give a new model, whose head may be zero, weights that make every position's logits differ."""
    random = torch.Generator().manual_seed(11)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(0.7 * torch.randn(parameter.shape, generator=random))
    return model.eval()


def model_of(kind: str, tokenizer: Tokenizer = LETTERS) -> nn.Module:
    return lively(build_model(MODELS[kind], tokenizer.vocabulary_size))


class NextInLine(nn.Module):
    """A user's own module: after each token comes the one that a table names, with certainty."""

    def __init__(self, following: Sequence[int], context_length: int = CONTEXT) -> None:
        super().__init__()
        self.context_length = context_length
        self.table = nn.Parameter(100.0 * nn.functional.one_hot(torch.tensor(following)).float())

    def forward(self, tokens: Tensor) -> Tensor:
        assert tokens.size(1) <= self.context_length
        return self.table[tokens]


def saying(tokenizer: Tokenizer, text: str, then: int | None = None) -> NextInLine:
    """Return a model that says the different characters of `text` in their order, then `then` or the first again."""
    line = [int(id_) for id_ in tokenizer.encode(text)]
    following = list(range(tokenizer.vocabulary_size))
    for token, successor in zip(line, [*line[1:], line[0] if then is None else then], strict=True):
        following[token] = successor
    return NextInLine(following)


def ids_by_sample(model: nn.Module, tokenizer: Tokenizer, request: Request) -> list[list[int]]:
    ids: list[list[int]] = [[] for _ in range(request.samples)]
    for token in generate(model, tokenizer, request):
        ids[token.sample].append(token.id)
    return ids


def slowly(model: nn.Module, request: Request, number: int) -> list[int]:
    """Write one sample by the definition: read the whole window, draw, append."""
    random = torch.Generator().manual_seed(sample_seed(request.seed, number))
    ids = list(request.prompt)
    for _ in range(request.num_tokens):
        window = torch.tensor([ids[window_start(len(ids), CONTEXT) :]])
        with torch.no_grad():
            logits = model(window)[:, -1]
        uniform = torch.rand((1,), generator=random, dtype=torch.float64)
        ids.append(int(draw(distribution(logits, window, request.sampling), uniform)))
    return ids[len(request.prompt) :]


# The cache.


def agrees_with_its_uncached_self(model: nn.Module, prompt_length: int) -> bool:
    prompt = [(3 * place) % LETTERS.vocabulary_size for place in range(prompt_length)]
    sampling = Sampling(temperature=0.9, top_p=0.95, repetition_penalty=1.1)
    cached, uncached = (
        ids_by_sample(
            model,
            LETTERS,
            Request(prompt=prompt, samples=3, num_tokens=31, sampling=sampling, seed=5, use_cache=use_cache),
        )
        for use_cache in (True, False)
    )
    return cached == uncached


@pytest.mark.parametrize("prompt_length", [1, 5, CONTEXT, CONTEXT + 1, 19])
@pytest.mark.parametrize("kind", MODELS)
def test_the_cache_changes_nothing(kind: str, prompt_length: int) -> None:
    assert agrees_with_its_uncached_self(model_of(kind), prompt_length)


class Amnesiac(GPT):
    """Broken: its cache is emptied before every call, so each token is read alone."""

    def forward(self, tokens: Tensor, *, cache: Cache | None = None, **others: object) -> Tensor:  # type: ignore[override]
        if cache is not None:
            cache.clear()
        return super().forward(tokens, cache=cache)


class Hoarder(GPT):
    """Broken: its cache outlives the windows, so the second one sees what it should not."""

    def new_cache(self, batch: int, capacity: int | None = None) -> Cache:
        cache = super().new_cache(batch, 10 * CONTEXT)
        cache.clear = lambda: setattr(cache, "_offset", 0)  # type: ignore[method-assign]
        return cache


@pytest.mark.parametrize("broken", [Amnesiac, Hoarder])
def test_a_broken_cache_is_caught(broken: type[GPT]) -> None:
    config = MODELS["explicit"]
    assert isinstance(config, GptConfig)
    assert not agrees_with_its_uncached_self(lively(broken(config, LETTERS.vocabulary_size)), 5)


@given(st.integers(1, 23), st.integers(1, 200))
@settings(max_examples=100, deadline=None)
def test_a_full_window_restarts_on_its_last_half(context_length: int, num_tokens: int) -> None:
    start = 0
    for length in range(1, num_tokens + 1):
        if length - start > context_length:
            start = length - 1 - context_length // 2
    assert window_start(num_tokens, context_length) == start


def test_a_context_of_one_token_is_enough() -> None:
    model = lively(build_model(GptConfig(num_layers=1, num_heads=1, width=6, context_length=1), 11))
    request = Request(prompt=[3, 4, 5], num_tokens=13)
    assert ids_by_sample(model, LETTERS, request) == ids_by_sample(
        model, LETTERS, Request(prompt=[5], num_tokens=13, use_cache=False)
    )


# Samples.


@pytest.mark.parametrize("use_cache", [True, False])
def test_samples_of_a_batch_are_what_each_would_be_alone(use_cache: bool) -> None:
    model = model_of("rotary")
    request = Request(prompt=[1, 2, 3], samples=5, num_tokens=17, seed=3, use_cache=use_cache)
    assert ids_by_sample(model, LETTERS, request) == [slowly(model, request, number) for number in range(5)]


def test_a_sample_does_not_depend_on_how_many_others_there_are() -> None:
    model = model_of("learned")
    few, many = (
        write(model, LETTERS, Request(prompt=[1, 2], samples=samples, num_tokens=17, seed=3)) for samples in (2, 5)
    )
    assert few == many[:2]
    assert len(set(many)) == 5


def test_another_seed_writes_another_text() -> None:
    model = model_of("bigram")
    texts = {write(model, LETTERS, Request(prompt=[1], num_tokens=29, seed=seed))[0] for seed in range(7)}
    assert len(texts) == 7


def test_a_finished_sample_says_no_more_and_the_others_go_on() -> None:
    model = model_of("bigram", STORIES)
    assert STORIES.end is not None
    request = Request(prompt=[STORIES.end, 4], samples=7, num_tokens=23, seed=2)
    tokens = list(generate(model, STORIES, request))
    for number in range(7):
        own = [token for token in tokens if token.sample == number]
        assert [token.finished != "" for token in own] == [False] * (len(own) - 1) + [True]
        assert (own[-1].finished == "end") == (own[-1].id == STORIES.end)
        assert own[-1].finished in ("end", "length")
        assert [token.id for token in own] == slowly(model, request, number)[: len(own)]
    assert {token.finished for token in tokens} == {"", "end", "length"}


def test_tokens_carry_the_probability_of_the_filtered_distribution() -> None:
    model, sampling = model_of("bigram"), Sampling(top_k=3, temperature=0.5)
    (token,) = generate(model, LETTERS, Request(prompt=[6], num_tokens=1, sampling=sampling))
    with torch.no_grad():
        probabilities = distribution(model(torch.tensor([[6]]))[:, -1], torch.tensor([[6]]), sampling)
    assert token.probability == float(probabilities[0, token.id]) > 0
    assert int((probabilities > 0).sum()) == 3


# Ends.


def told(model: nn.Module, tokenizer: Tokenizer, prompt: str, **others: object) -> tuple[list[str], str]:
    """Return the pieces of one sample's text as they are shown, and why it ended."""
    request = Request(prompt=prompt_ids(tokenizer, prompt), **{"num_tokens": 8, **others})  # type: ignore[arg-type]
    tokens = list(generate(model, tokenizer, request))
    assert all(token.finished == "" for token in tokens[:-1])
    return [token.text for token in tokens], tokens[-1].finished


def test_a_module_without_a_cache_writes() -> None:
    assert told(saying(LETTERS, "abcde"), LETTERS, "a") == (["b", "c", "d", "e", "a", "b", "c", "d"], "length")


@pytest.mark.parametrize("count", [1, 2, 13])
def test_no_more_tokens_than_asked_for(count: int) -> None:
    pieces, finished = told(saying(LETTERS, "abc"), LETTERS, "a", num_tokens=count)
    assert (len(pieces), finished) == (count, "length")


def test_a_stop_string_is_held_back_and_left_out() -> None:
    assert told(saying(LETTERS, "abcdef"), LETTERS, "a", stop=("cde",)) == (["b", "", "", ""], "stop")


def test_what_only_looked_like_a_stop_string_is_shown() -> None:
    pieces, finished = told(saying(LETTERS, "abcdef"), LETTERS, "a", stop=("cdx", "fab!"), num_tokens=6)
    assert (pieces, finished) == (["b", "", "", "cde", "", "fa"], "length")


def test_the_first_of_several_stop_strings_ends_the_text() -> None:
    pieces, finished = told(saying(LETTERS, "abcdef"), LETTERS, "a", stop=("ef", "cd", "de"))
    assert ("".join(pieces), finished) == ("b", "stop")


def test_an_empty_stop_string_stops_nothing() -> None:
    assert told(saying(LETTERS, "ab"), LETTERS, "a", stop=("",))[1] == "length"


def test_the_end_of_a_document_ends_the_text_and_shows_what_was_held() -> None:
    model = saying(STORIES, "abcd", then=STORIES.end)
    assert told(model, STORIES, "a", stop=("cdx",)) == (["b", "", "", "cd"], "end")


def test_half_a_character_waits_for_its_other_half() -> None:
    tokenizer = ByteTokenizer(end=False)
    c3, a9 = tokenizer.encode("é").tolist()
    following = list(range(256))
    following[ord("x")], following[c3], following[a9] = c3, a9, ord("x")
    model = NextInLine(following)
    assert told(model, tokenizer, "x", num_tokens=3) == (["", "é", "x"], "length")
    assert told(model, tokenizer, "x", num_tokens=4) == (["", "é", "x", "\ufffd"], "length")
    assert told(model, tokenizer, "x", stop=("é",)) == (["", ""], "stop")


@given(
    st.lists(st.text("abc", max_size=4), max_size=9),
    st.lists(st.text("abc", min_size=1, max_size=4), max_size=3),
)
@settings(max_examples=300, deadline=None)
def test_stop_strings_by_their_definition(pieces: list[str], stop: list[str]) -> None:
    stopper, said, shown = StopText(tuple(stop)), "", ""
    for piece in pieces:
        said += piece
        text, stopped = stopper.push(piece)
        shown += text
        places = [said.find(each) for each in stop if each in said]
        assert stopped == bool(places)
        if stopped:
            assert shown == said[: min(places)]
            return
        # As much is shown as cannot be the beginning of a stop string.
        waits = [end for each in stop for end in range(1, len(each)) if said.endswith(each[:end])]
        assert shown == said[: len(said) - max(waits, default=0)]
    assert shown + stopper.flush() == said


# Prompts and requests.


def test_a_prompt_begins_a_document_where_there_are_documents() -> None:
    assert prompt_ids(STORIES, "ab") == [STORIES.end, 1, 2]
    assert prompt_ids(STORIES, "") == [STORIES.end]


def test_an_empty_prompt_is_a_line_end_where_there_are_none() -> None:
    assert prompt_ids(LETTERS, "ab") == [1, 2]
    assert prompt_ids(LETTERS, "") == [0]
    assert prompt_ids(ByteTokenizer(end=False), "") == [ord("\n")]


def test_without_a_line_end_an_empty_prompt_is_the_first_token() -> None:
    assert prompt_ids(CharTokenizer("xyz", unknown="refuse", end=False), "") == [0]


def test_a_character_spelled_in_bytes_is_no_line_end() -> None:
    tokenizer = CharTokenizer("xyz", unknown="bytes", end=False)
    assert tokenizer.decode(prompt_ids(tokenizer, "")) == "\n"


def test_an_unknown_character_is_named() -> None:
    with pytest.raises(UserError, match=r"'z' \(U\+007A\)"):
        prompt_ids(LETTERS, "az")


@pytest.mark.parametrize(("name", "value"), [("samples", 0), ("num_tokens", 0), ("num_tokens", -3), ("seed", -1)])
def test_numbers_that_are_too_small_are_refused(name: str, value: int) -> None:
    with pytest.raises(UserError, match=f"^{name} must be at least [01], not {value}"):
        Request(prompt=[1], **{name: value})  # type: ignore[arg-type]


def test_whoever_reads_the_stream_keeps_gradients() -> None:
    model = model_of("bigram")
    for _ in generate(model, LETTERS, Request(prompt=[1], num_tokens=2)):
        assert torch.is_grad_enabled()
    assert torch.is_grad_enabled()


def test_tokens_come_as_they_are_drawn() -> None:
    stream = generate(saying(LETTERS, "abc"), LETTERS, Request(prompt=[1], num_tokens=1000))
    assert isinstance(stream, Iterator)
    first = next(stream)
    assert isinstance(first, Token)
    assert (first.text, first.finished, first.sample) == ("b", "", 0)


def test_ids_that_training_never_saw_are_not_written() -> None:
    tokenizer = CharTokenizer("\nabcdefghij", unknown="bytes", end=False)
    model = model_of("rotary", tokenizer)
    request = Request(prompt=tokenizer.encode("é").tolist(), num_tokens=61)
    assert max(token.id for token in generate(model, tokenizer, request)) >= 11
    tokenizer.unseen = np.arange(11, tokenizer.vocabulary_size, dtype=np.int32)
    assert max(token.id for token in generate(model, tokenizer, request)) < 11
