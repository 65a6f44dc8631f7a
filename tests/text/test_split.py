"""Training and validation never overlap, are never empty, and together are the whole text."""

from __future__ import annotations

import hashlib
import random
from collections import Counter
from collections.abc import Iterable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clearhead.core.errors import UserError
from clearhead.text import corpus as corpora
from clearhead.text.corpus import Piece, from_documents
from clearhead.text.split import LARGEST_VALIDATION_BYTES, Split, split


def split_documents(documents: list[str]) -> Split:
    return split(from_documents(documents, "documents"))


def joined(pieces: Iterable[Piece]) -> str:
    return "".join(piece.text for piece in pieces)


def documents_in(pieces: Iterable[Piece]) -> Counter[str]:
    """Return the documents of a part that must consist of whole ones."""
    documents, begun = Counter[str](), ""
    for piece in pieces:
        begun += piece.text
        if piece.ends_document:
            documents[begun] += 1
            begun = ""
    assert begun == ""
    return documents


def check_sizes(parts: Split) -> None:
    training, validation = joined(parts.training()), joined(parts.validation())
    assert (parts.training_characters, parts.training_bytes) == (len(training), len(training.encode()))
    assert (parts.validation_characters, parts.validation_bytes) == (len(validation), len(validation.encode()))
    assert training
    assert validation
    assert f"{len(training):,}" in parts.description
    assert f"{len(validation):,}" in parts.description


@pytest.mark.parametrize("characters", [64, 65, 1009, 1_115_394])
def test_a_single_text_is_cut_at_nine_tenths_of_its_characters(characters: int) -> None:
    text = ("aü漢😀\n" * (characters // 5 + 1))[:characters]
    parts = split_documents([text])
    cut = int(0.9 * characters)
    assert (joined(parts.training()), joined(parts.validation())) == (text[:cut], text[cut:])
    assert not parts.has_documents
    check_sizes(parts)


def test_shakespeare_is_cut_as_everywhere() -> None:
    parts = split_documents(["x" * 1_115_394])
    assert (parts.training_characters, parts.validation_characters) == (1_003_854, 111_540)


@pytest.mark.parametrize("line", ["A plain line of text.\n", "漢字かな交じり文。\n"])
def test_of_a_large_text_the_last_256_kib_are_held_out(line: str) -> None:
    text = line * (3_000_000 // len(line.encode()))
    parts = split_documents([text])
    assert joined(parts.training()) + joined(parts.validation()) == text
    assert LARGEST_VALIDATION_BYTES - 4 < parts.validation_bytes <= LARGEST_VALIDATION_BYTES
    check_sizes(parts)


def test_the_two_rules_for_a_single_text_meet() -> None:
    below, above = "x" * (10 * LARGEST_VALIDATION_BYTES), "x" * (10 * LARGEST_VALIDATION_BYTES + 1)
    assert split_documents([below]).validation_bytes == split_documents([above]).validation_bytes


def test_few_documents_count_as_one_text_and_keep_their_borders() -> None:
    documents = [f"Document {number} has its own words.\n" for number in range(19)]
    parts = split_documents(documents)
    assert parts.has_documents
    training, validation = list(parts.training()), list(parts.validation())
    assert joined(training) + joined(validation) == "".join(documents)
    assert [piece.ends_document for piece in training] == [True] * (len(training) - 1) + [False]
    assert all(piece.ends_document for piece in validation)
    assert training[-1].text + validation[0].text in documents


def test_a_cut_between_documents_cuts_none() -> None:
    parts = split_documents(["x" * 90, "y" * 10])
    assert list(parts.training()) == [Piece("x" * 90, ends_document=True)]
    assert list(parts.validation()) == [Piece("y" * 10, ends_document=True)]


def test_a_cut_inside_a_document_of_several_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(corpora, "PIECE_CHARACTERS", 31)
    text = "word and " * 113
    for length in range(len(text) - 41, len(text)):
        parts = split_documents([text[:length]])
        training, validation = list(parts.training()), list(parts.validation())
        assert joined(training) + joined(validation) == text[:length]
        assert not any(piece.ends_document for piece in (*training, *validation[:-1]))
        assert validation[-1].ends_document
        assert all(piece.text for piece in (*training, *validation))


TEXT = st.characters(codec="utf-8")
DOCUMENTS = st.lists(st.text(TEXT, min_size=4, max_size=40), min_size=20, max_size=40, unique=True)


@settings(max_examples=60, deadline=None)
@given(DOCUMENTS, st.lists(st.integers(0, 19), max_size=5), st.randoms(use_true_random=False))
def test_documents_are_chosen_by_content(documents: list[str], copied: list[int], chance: random.Random) -> None:
    documents = documents + [documents[index] for index in copied]
    bound = sum(len(document.encode()) for document in documents) // 10
    sizes = {document: count * len(document.encode()) for document, count in Counter(documents).items()}
    parts = split_documents(documents)
    training, validation = documents_in(parts.training()), documents_in(parts.validation())
    assert training + validation == Counter(documents)
    assert not training.keys() & validation.keys()
    assert parts.validation_bytes <= bound
    check_sizes(parts)
    shuffled = documents.copy()
    chance.shuffle(shuffled)
    assert documents_in(split_documents(shuffled).validation()) == validation
    assert set(validation) == chosen_by_hand(sizes, bound)


def chosen_by_hand(sizes: dict[str, int], left: int) -> set[str]:
    chosen = set()
    for document in sorted(sizes, key=lambda text: hashlib.sha256(text.encode()).digest()):
        if sizes[document] <= left:
            chosen.add(document)
            left -= sizes[document]
    return chosen


@settings(max_examples=50, deadline=None)
@given(st.lists(st.text(TEXT, min_size=1, max_size=40), max_size=40))
def test_the_parts_are_the_whole_whatever_the_documents(documents: list[str]) -> None:
    documents = ["Enough to be split. " * 4, *documents]
    parts = split_documents(documents)
    whole = Counter("".join(documents))
    assert Counter(joined(parts.training())) + Counter(joined(parts.validation())) == whole
    check_sizes(parts)


def test_at_most_256_kib_of_many_documents_are_held_out() -> None:
    documents = [f"{number} " * 997 for number in range(1009)]
    parts = split_documents(documents)
    assert LARGEST_VALIDATION_BYTES - 5000 < parts.validation_bytes <= LARGEST_VALIDATION_BYTES
    assert parts.validation_bytes < parts.training_bytes // 10


@pytest.mark.parametrize(
    "documents", [["The same tale for everyone.\n"] * 23, [f"{number} " * 150_000 for number in range(21)]]
)
def test_where_no_document_is_small_enough_they_count_as_one_text(documents: list[str]) -> None:
    parts = split_documents(documents)
    assert joined(parts.training()) + joined(parts.validation()) == "".join(documents)
    assert parts.validation_bytes <= LARGEST_VALIDATION_BYTES
    check_sizes(parts)


def test_too_little_text_is_refused_with_how_much_is_needed() -> None:
    with pytest.raises(UserError, match="has 63 characters and at least 64 are needed"):
        split_documents(["x" * 63])
    assert split_documents(["x" * 64]).validation_characters == 7


def test_plain_text_can_be_limited_by_bytes() -> None:
    parts = split_documents(["aü漢😀" * 40, "b" * 40])
    assert "".join(parts.training_text()) == joined(parts.training())
    assert "".join(parts.validation_text()) == joined(parts.validation())
    for limit in range(parts.training_bytes + 2):
        limited = "".join(parts.training_text(limit))
        assert joined(parts.training()).startswith(limited)
        assert limit - 4 < len(limited.encode()) <= limit or limited == joined(parts.training())
        assert all(parts.training_text(limit))


def test_the_fingerprint_stands_for_the_text() -> None:
    one, two = split_documents(["x" * 100]), split_documents(["x" * 101])
    assert one.fingerprint == split_documents(["x" * 100]).fingerprint != two.fingerprint
