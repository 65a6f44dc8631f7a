"""What is expected of a run: measured in two ways, and only where the law knows its kind."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from clearhead.core.config import merge
from clearhead.text.corpus import from_documents, read
from clearhead.text.split import split
from clearhead.text.tales import tales
from clearhead.training import expectation, fit
from clearhead.training.expectation import Expectation, TextMeasure, expect, is_covered, measure_text
from clearhead.training.recipes import recipe
from clearhead.training.watch import expect_run

SMALL: dict[str, Any] = {
    "model.num_layers": 1,
    "model.num_heads": 1,
    "model.width": 8,
    "model.context_length": 13,
    "train.sequences_per_step": 3,
    "train.steps": 7,
    "train.evaluate_every": 7,
}


@pytest.mark.parametrize("tokenizer", [{"kind": "char"}, {"kind": "bpe", "vocabulary_size": 277}])
@pytest.mark.parametrize("documents", [1, 23])
def test_a_run_expects_what_its_text_promised(
    place: Path, monkeypatch: pytest.MonkeyPatch, tokenizer: dict[str, Any], documents: int
) -> None:
    monkeypatch.setattr(expectation, "SMALLEST_COVERED", 1)
    texts = []
    for number in range(documents):
        texts.append(place / f"{number}.txt")
        texts[-1].write_text((place / "text.txt").read_text().replace("line", f"row {number}"))
    config = merge(recipe("tiny"), {**SMALL, "tokenizer": tokenizer})
    session = fit.create(texts, config)
    text = measure_text(split(read(texts, config.text)))
    parameters = sum(parameter.numel() for parameter in session.model.parameters())
    parts = session.data.sources["split"]
    reach = parts["training_bytes"] / parts["training_tokens"]
    assert expect_run(session) == expect(text, parameters=parameters, tokens=7 * 3 * 13, bytes_per_token=reach)


def test_a_text_that_repeats_itself_is_expected_to_be_easier() -> None:
    stories = [tale.text for tale in tales(60_000, 3)]
    texts = "".join(stories[:9] * 40), "".join(stories)
    easy, hard = (measure_text(split(from_documents([text], "tales"))) for text in texts)
    assert easy.counted_bits_per_byte < 0.5 * hard.counted_bits_per_byte


def test_more_tokens_and_more_parameters_promise_more() -> None:
    text = TextMeasure(training_bytes=10**9, counted_bits_per_byte=2.0)
    first = expect(text, parameters=10**6, tokens=10**6, bytes_per_token=2.0)
    longer = expect(text, parameters=10**6, tokens=3 * 10**6, bytes_per_token=2.0)
    larger = expect(text, parameters=3 * 10**6, tokens=10**6, bytes_per_token=2.0)
    assert max(longer.bits_per_byte, larger.bits_per_byte) < first.bits_per_byte


def test_learning_by_heart_is_foreseen_and_dropout_helps() -> None:
    text = TextMeasure(training_bytes=10**5, counted_bits_per_byte=2.0)
    once, often = (expect(text, parameters=10**6, tokens=tokens, bytes_per_token=1.0) for tokens in (10**5, 10**7))
    held = expect(text, parameters=10**6, tokens=10**7, bytes_per_token=1.0, dropout=0.2)
    assert once.bits_per_byte < often.bits_per_byte > held.bits_per_byte


@pytest.mark.parametrize(
    ("preset", "changes", "known"),
    [
        ("tiny", {}, True),
        ("tales", {}, True),
        ("modern", {"model.width": 384}, True),
        ("modern", {"model.qk_norm": False}, False),
        ("modern", {"optimizer.learning_rate": 0.4}, False),
        ("modern", {"optimizer.kind": "adamw"}, False),
        ("gpt2", {}, False),
        ("modern", {"model": {"kind": "bigram"}}, False),
    ],
)
def test_only_runs_of_the_known_kind_are_covered(preset: str, changes: dict[str, Any], known: bool) -> None:
    assert is_covered(merge(recipe(preset), changes), 10**6) is known


def test_of_little_text_nothing_is_expected(place: Path) -> None:
    assert is_covered(recipe("tiny"), expectation.SMALLEST_COVERED)
    assert not is_covered(recipe("tiny"), expectation.SMALLEST_COVERED - 1)
    assert expect_run(fit.create([place / "text.txt"], merge(recipe("tiny"), SMALL))) is None


def test_a_run_of_another_kind_expects_nothing(place: Path) -> None:
    session = fit.create([place / "text.txt"], merge(recipe("lecture"), {**SMALL, "model.width": 4}))
    assert expect_run(session) is None


@pytest.mark.parametrize(("measured", "said"), [(1.7, "better"), (1.8, "as"), (2.2, "as"), (2.3, "worse")])
def test_the_verdict_is_by_the_band(measured: float, said: str) -> None:
    assert Expectation(2.0, 1.8, 2.2).verdict(measured).startswith(said)
