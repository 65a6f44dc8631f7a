"""Values as people read them."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clearhead.show import readable


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(0.34, "0.3 s"), (9.97, "10 s"), (59.6, "1 min"), (103, "1 min 43 s"), (3600, "1 h"), (90061, "1 d 1 h")],
)
def test_duration_names_the_two_largest_units(seconds: float, said: str) -> None:
    assert readable.duration(seconds) == said


@pytest.mark.parametrize(("seconds", "said"), [(0.4, "0:00"), (103, "1:43"), (4000, "1:06:40")])
def test_clock(seconds: float, said: str) -> None:
    assert readable.clock(seconds) == said


@pytest.mark.parametrize(
    ("number", "said"), [(7, "7"), (999.4, "999"), (999.6, "1k"), (804_864, "805k"), (124e6, "124M"), (2e15, "2e+03T")]
)
def test_short_count_has_at_most_three_digits(number: float, said: str) -> None:
    assert readable.short_count(number) == said


def test_sizes_counts_and_shares() -> None:
    assert readable.byte_size(1_115_394) == "1.12 MB"
    assert readable.byte_size(13) == "13 bytes"
    assert readable.byte_size(1) == "1 byte"
    assert readable.count(1_115_394) == "1,115,394"
    assert readable.percent(0.0131, 1) == "1.3\u00a0%"
    assert [readable.fixed(value) for value in (1.23456, float("nan"), None, 2)] == ["1.235", "", "", "2.000"]


def test_a_sentence_ends() -> None:
    assert [readable.sentence(text) for text in ("so", "so.", "so?")] == ["so.", "so.", "so?"]


def test_white_space_and_controls_become_visible() -> None:
    assert readable.visible("a b\n\t\x1b[31m\x7f\u200b") == "a·b↵→␛[31m␡⟨200B⟩"


@given(st.text(st.characters()))
@settings(max_examples=300, deadline=None)
def test_nothing_invisible_is_left(text: str) -> None:
    shown = readable.visible(text)
    assert not any(unicodedata.category(character) in {"Cc", "Cf", "Cs", "Zs", "Zl", "Zp"} for character in shown)


@given(st.text(st.characters()), st.integers(2, 40))
@settings(max_examples=200, deadline=None)
def test_one_line_is_short_and_has_no_line_end(text: str, length: int) -> None:
    line = readable.one_line(text, length)
    assert len(line) <= length
    assert len(line.splitlines()) <= 1


def test_one_line_cuts_at_a_word_and_keeps_joined_letters() -> None:
    assert readable.one_line("one two  three\nfour", 12) == "one two…"
    assert readable.one_line("می\u200cخواهم", 40) == "می\u200cخواهم"
