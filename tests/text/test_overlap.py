from __future__ import annotations

import sys
from collections.abc import Iterator
from unittest.mock import patch

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clearhead.text import overlap as module
from clearhead.text.overlap import Copy, Overlap, copies, overlap

# --- the same definitions, tried out stretch by stretch


def slow_fold(text: str) -> list[tuple[str, int]]:
    """The folded characters of a text and where each stands."""
    folded: list[tuple[str, int]] = []
    for place, character in enumerate(text):
        if not character.isspace():
            one = character.casefold()
            folded.append((one if len(one) == 1 else character, place))
        elif place == 0 or not text[place - 1].isspace():
            folded.append((" ", place))
    return folded


def spelled(folded: list[tuple[str, int]]) -> str:
    return "".join(character for character, _ in folded)


def slow_overlap(training: str, validation: str, length: int) -> Overlap:
    known, folded = spelled(slow_fold(training)), slow_fold(validation)
    text = spelled(folded)
    repeated = [text[i : i + length] in known for i in range(len(text) - length + 1)]
    covered = {i + step for i, is_repeated in enumerate(repeated) if is_repeated for step in range(length)}
    runs, start = [], 0
    for i, is_repeated in enumerate([*repeated, False]):
        if not is_repeated:
            if i > start:
                runs.append((start, i + length - 2))
            start = i + 1
    runs.sort(key=lambda run: run[0] - run[1])
    shown = dict.fromkeys(validation[folded[first][1] : folded[last][1] + 1] for first, last in runs)
    return Overlap(len(covered) / max(1, len(text)), tuple(shown)[:3], len(text))


def slow_copies(training: str, text: str, length: int) -> list[Copy]:
    source, folded = slow_fold(training), slow_fold(text)
    known, wanted = spelled(source), spelled(folded)
    found = []
    reached = 0
    for start in range(len(wanted)):
        stop = start
        while stop < len(wanted) and wanted[start : stop + 1] in known:
            stop += 1
        if stop - start >= length and stop > reached:
            first, last = folded[start][1], folded[stop - 1][1]
            found.append(Copy(first, last + 1 - first, source[known.index(wanted[start:stop])][1]))
        reached = max(reached, stop)
    return found


def pieces(text: str, size: int) -> Iterator[str]:
    return (text[start : start + size] for start in range(0, len(text), size))


small_texts = st.text(alphabet="aAb \n", max_size=60)
cuts = st.sampled_from([1, 3, 7, 100])


@settings(max_examples=250, deadline=None)
@given(training=small_texts, text=small_texts, length=st.integers(1, 6), piece_size=cuts, block_size=cuts)
def test_both_meters_agree_with_the_slow_ones(
    training: str, text: str, length: int, piece_size: int, block_size: int
) -> None:
    with patch.object(module, "_BLOCK_CHARACTERS", block_size):
        found = overlap(pieces(training, piece_size), pieces(text, piece_size), length)
        assert found == slow_overlap(training, text, length)
        assert copies(pieces(training, piece_size), text, length) == slow_copies(training, text, length)


def letters(num_characters: int, seed: int) -> str:
    rng = np.random.default_rng(seed)
    return "".join(rng.choice(list("abcdefgh ijklmnop qrstuvwxyz"), num_characters))


# --- planted copies


@pytest.mark.parametrize("piece_size", [13, 997, 10**6])
def test_planted_copies_are_found_across_the_borders_of_pieces(piece_size: int) -> None:
    training, own = letters(20_011, seed=1), letters(5_003, seed=2)
    first, second = training[10_000:10_059].upper(), training[3_001:3_402]
    text = f"{own[:701]}#{first}#{own[701:2003]}#{second}#{own[2003:]}"
    with patch.object(module, "_BLOCK_CHARACTERS", 1009):
        found = copies(pieces(training, piece_size), text)
        measured = overlap(pieces(training, piece_size), [text])
    assert found == [Copy(702, 59, 10_000), Copy(702 + 59 + 1304, 401, 3_001)]
    assert measured.longest == (second, first)
    assert measured == slow_overlap(training, text, 50)


def test_a_stretch_one_character_too_short_does_not_count() -> None:
    training = letters(5_003, seed=3).replace(" ", "x")
    around = letters(1_009, seed=4).upper().replace(" ", "Y")
    for size, number in ((49, 0), (50, 1)):
        text = "#" + around + "#" + training[2000 : 2000 + size] + "#" + around[::-1]
        assert len(copies([training], text)) == number
        assert overlap([training], [text]).share == number * 50 / len(text)


def test_no_overlap_is_0_and_the_same_text_is_1() -> None:
    text, other = letters(3_001, seed=5), letters(3_001, seed=6)
    assert overlap([other], [text]).share == 0
    assert overlap([other], [text]).longest == ()
    assert overlap([text], [text]) == Overlap(1.0, (text,), len(slow_fold(text)))


@pytest.mark.parametrize(("training", "text"), [("", "abc" * 40), ("abc" * 40, ""), ("", ""), ("abc" * 40, "abc")])
def test_texts_shorter_than_a_stretch_share_nothing(training: str, text: str) -> None:
    assert overlap([training], [text]) == Overlap(0.0, (), len(text))
    assert copies(iter([]), text) == copies([training], text) == []


def test_one_character_over_and_over_is_one_copy() -> None:
    assert overlap(["a" * 300_000], ["A" * 200_000]).share == 1
    assert copies(["a" * 1_000], "b" + "a" * 200) == [Copy(1, 200, 0)]


def test_a_copy_within_a_longer_one_is_not_told_twice() -> None:
    sentence = letters(211, seed=7)
    training = sentence[50:120] + "|" + sentence + "|" + sentence[100:170]
    assert copies([training], "<" + sentence + ">") == [Copy(1, 211, 71)]


# --- folding


def test_case_and_white_space_are_folded_and_reports_keep_the_spelling() -> None:
    training = "It was THE best\n\n  of times, it was\tthe worst of times"
    text = "x It  was the Best of  times,  it was the worst OF times y"
    (stretch,) = overlap([training], [text], 40).longest
    assert stretch == text[2:-2]
    (copy,) = copies([training], text, 40)
    assert text[copy.start : copy.start + copy.length] == stretch
    assert copy.source_offset == 0
    shifted = "\n \n" + training
    assert copies([shifted], "It" + text[4:], 40)[0].source_offset == 3


@pytest.mark.parametrize("text", ["Đường phố", "ÀÉÎ ſ", "ΣΑΣ ς", "ẞ ß ŉ İ", "𐐀𐐨 🙂", "a\u3000\x1c\u00a0b", "\ud800x"])
def test_folding_agrees_with_the_slow_one(text: str) -> None:
    codes, offsets = module._fold(text, after_space=False)
    assert list(zip(map(chr, codes), offsets, strict=True)) == slow_fold(text)


def test_no_case_or_white_space_lies_above_the_table() -> None:
    table = module._fold_table()
    above = "".join(map(chr, range(0x1F000, sys.maxunicode + 1)))
    assert above.casefold() == above
    assert len(above.split()) == 1
    assert table[0x1F000] == 0x1F000
    assert table[sys.maxunicode] == sys.maxunicode


# --- hashes


def slow_hash(stretch: str) -> int:
    total = 0
    for character in stretch:
        total = (total * 0x9E3779B97F4A7C15 + ord(character)) % 2**64
    return total


@pytest.mark.parametrize("length", [1, 2, 3, 7, 31, 32, 50, 97])
def test_hashes_put_together_by_doubling_equal_horners_rule(length: int) -> None:
    text = letters(101, seed=length)
    hashes = module._hashes(module._fold(text, after_space=False)[0], length)
    folded = spelled(slow_fold(text))
    assert hashes.tolist() == [slow_hash(folded[i : i + length]) for i in range(len(folded) - length + 1)]


def colliding(codes: np.ndarray, length: int) -> np.ndarray:
    """A hash that sees only whether a stretch begins with an even code."""
    return codes[: max(0, len(codes) - length + 1)].astype(np.uint64) % 2


def reports_only_the_truth(training: str, text: str) -> bool:
    truth = slow_overlap(training, text, 5)
    known = spelled(slow_fold(training))
    told = [text[copy.start : copy.start + copy.length] for copy in copies([training], text, 5)]
    return overlap([training], [text], 5).share <= truth.share and all(spelled(slow_fold(one)) in known for one in told)


def test_colliding_hashes_never_make_a_false_report() -> None:
    training, text = letters(211, seed=8), letters(97, seed=9)
    planted = training[:7] + text
    with patch.object(module, "_hashes", colliding):
        assert reports_only_the_truth(training, text)
        assert reports_only_the_truth(training, planted)
        assert overlap([training], [planted], 5).share > 0
        with patch.object(module._Index, "confirmed", lambda self, codes, places, kinds: np.ones(len(places), bool)):
            assert not reports_only_the_truth(training, text)
