"""The sentences' labels against rules of their own, their balance, and that they depend on seed and place alone."""

from __future__ import annotations

import re

import pytest

from clearhead.text.tales_sentiment import (
    BAD_WORDS,
    CLAUSES,
    FRAMES,
    GOOD_WORDS,
    sentiment,
    sentiments,
    sentiments_of_size,
)

TURNS = (
    r"^It is not true",
    r"^Nobody .* said",
    r"was wrong to say",
    r"could never say",
    r"was not, as",
    r"never really",
)


def judged(text: str) -> str:
    """Read a sentence by rules written without its program."""
    words = [word for word in re.findall(r"\w+", text) if word in {*GOOD_WORDS, *BAD_WORDS}]
    turned = sum(bool(re.search(pattern, text)) for pattern in TURNS) % 2
    chosen = 1 if re.search(r"was not \w+, as|had called|[Tt]he (?:(?! was )[^,])*, unlike", text) else 0
    is_good = words[chosen] in GOOD_WORDS
    return "good" if is_good != bool(turned) else "bad"


def test_every_label_is_what_the_sentence_says() -> None:
    for said in sentiments(3000, 7):
        assert judged(said.text) == said.label, said.text


def test_labels_are_balanced_in_every_frame_and_clause() -> None:
    found = list(sentiments(6000, 3))
    share = sum(said.label == "good" for said in found) / len(found)
    assert abs(share - 0.5) < 0.03
    for part in ("Nobody", "unlike the", "had called", "never really", "not, as everybody"):
        labels = [said.label == "good" for said in found if part in said.text]
        assert abs(sum(labels) / len(labels) - 0.5) < 0.12


def test_each_word_that_judges_says_nothing_alone() -> None:
    found = list(sentiments(6000, 3))
    for word in ("lovely", "awful"):
        labels = [said.label == "good" for said in found if word in said.text]
        assert abs(sum(labels) / len(labels) - 0.5) < 0.1


def test_a_sentence_depends_on_seed_and_place_alone() -> None:
    assert [sentiment(5, place) for place in (2, 0, 1)] == [list(sentiments(3, 5))[place] for place in (2, 0, 1)]
    assert list(sentiments(9, 5)) != list(sentiments(9, 6))
    assert len({said.text for said in sentiments(500, 1)}) > 490


@pytest.mark.parametrize("size", [1, 500, 5000])
def test_a_size_is_reached_and_not_passed_by_more_than_one(size: int) -> None:
    found = list(sentiments_of_size(size, 1))
    assert sum(len(said.text) for said in found[:-1]) < size <= sum(len(said.text) for said in found)


def test_all_choices_occur() -> None:
    assert {sign for _, sign in FRAMES} == {1, -1}
    assert {(decides, sign) for _, decides, sign in CLAUSES} == {(0, 1), (0, -1), (1, 1)}
    assert not set(GOOD_WORDS) & set(BAD_WORDS)
