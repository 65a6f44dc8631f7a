from __future__ import annotations

import os
import subprocess
import sys
import unicodedata
from pathlib import Path

import numpy as np
import pytest
import tokenizers
from hypothesis import given, settings
from hypothesis import strategies as st

from clearhead.core.errors import DamagedFile, UserError
from clearhead.text.bpe import BpeTokenizer, suited_vocabulary_size
from clearhead.text.tokenizer import END, load_tokenizer

TEXT = "The cat sat on the mat.\n\n  The dog's seen it all, sat on 317 cats; trăm năm trong cõi người ta.\n" * 5
TOKENIZER = BpeTokenizer.train([TEXT], vocabulary_size=293, end=True)


def by_library(tokenizer: BpeTokenizer, text: str) -> list[int]:
    """The ids by the library alone, from the whole text at once."""
    ids: list[int] = tokenizers.Tokenizer.from_str(tokenizer.library_json).encode(text).ids
    return ids


@settings(max_examples=300, deadline=None)
@given(
    text=st.lists(
        st.text(max_size=7)
        | st.text(" \t\n\x0b\x1c\x1f\x85\xa0\u180e\u2003\u200b\u3000", max_size=5)
        | st.sampled_from(["cat", " the", "'s", "!", "7", "\n", "  "]),
        max_size=17,
    ).map("".join)
)
def test_segments_give_the_ids_of_the_whole(text: str) -> None:
    assert TOKENIZER.encode(text).tolist() == by_library(TOKENIZER, text)


def test_segments_are_cut_where_the_library_sees_white_space() -> None:
    """Every separator and control character, between words and around spaces."""
    odd = [chr(code) for code in range(0x110000) if unicodedata.category(chr(code)) in ("Zs", "Zl", "Zp", "Cc", "Cf")]
    text = "".join(f"a{c}b {c} c{c}{c}!{c} \n{c}d" for c in odd)
    assert TOKENIZER.encode(text).tolist() == by_library(TOKENIZER, text)


def test_bytes_come_first_then_merges_then_the_end() -> None:
    singles = {TOKENIZER.decode_bytes([token]) for token in range(256)}
    assert singles == {bytes([value]) for value in range(256)}
    assert all(TOKENIZER.byte_lengths[256:292] > 1)
    assert TOKENIZER.end == 292
    assert TOKENIZER.vocabulary_size == 293


def test_each_merge_joins_two_earlier_tokens() -> None:
    tokens = [TOKENIZER.decode_bytes([token]) for token in range(TOKENIZER.vocabulary_size - 1)]
    for token, joined in enumerate(tokens[256:], start=256):
        assert any(joined[:cut] in tokens[:token] and joined[cut:] in tokens[:token] for cut in range(1, len(joined)))


def test_the_first_merge_is_the_most_frequent_pair() -> None:
    assert BpeTokenizer.train(["ab ab xab y"], vocabulary_size=257, end=False).decode([256]) == "ab"


def test_the_end_spelled_in_text_is_ordinary_text() -> None:
    tokenizer = BpeTokenizer.train([END * 23], vocabulary_size=401, end=True)
    ids = tokenizer.encode(f"a{END}b")
    assert tokenizer.end not in ids
    assert tokenizer.decode(ids) == f"a{END}b"


@pytest.mark.parametrize("text", ["", "a", "xyz", "aaaa", "\ud800"])
@pytest.mark.parametrize("end", [False, True])
def test_small_texts_shorten_the_vocabulary(text: str, end: bool) -> None:
    tokenizer = BpeTokenizer.train([text], vocabulary_size=8192, end=end)
    assert 256 + end <= tokenizer.vocabulary_size <= 260
    assert tokenizer.decode(tokenizer.encode("chữ")) == "chữ"


def test_pairs_seen_once_are_not_merged() -> None:
    assert BpeTokenizer.train(["abcdefgh"], vocabulary_size=307, end=False).vocabulary_size == 256


@pytest.mark.parametrize("size", [256, 0, -3])
def test_a_vocabulary_without_room_is_refused(size: int) -> None:
    with pytest.raises(UserError, match=f"is {size}, but .* at least 257"):
        BpeTokenizer.train([TEXT], vocabulary_size=size, end=False)


def test_the_smallest_vocabulary_is_the_bytes_and_the_end() -> None:
    tokenizer = BpeTokenizer.train([TEXT], vocabulary_size=257, end=True)
    assert tokenizer.vocabulary_size == 257
    assert tokenizer.end == 256


@pytest.mark.parametrize(
    ("megabytes", "size"),
    [(0, 512), (1, 512), (3.9, 512), (4, 1024), (15.9, 1024), (16, 2048), (64, 4096), (256, 8192), (100_000, 8192)],
)
def test_the_vocabulary_grows_with_the_root_of_the_text(megabytes: float, size: int) -> None:
    assert suited_vocabulary_size(int(megabytes * 1_000_000)) == size


def test_training_twice_gives_the_same() -> None:
    again = BpeTokenizer.train([TEXT], vocabulary_size=293, end=True)
    assert again.fingerprint == TOKENIZER.fingerprint


def test_one_long_run_trains_and_encodes() -> None:
    run = "".join(np.random.default_rng(5).choice(list("ACGT"), size=100_003))
    tokenizer = BpeTokenizer.train([run], vocabulary_size=307, end=False)
    ids = tokenizer.encode(run)
    assert len(ids) < 50_000
    assert tokenizer.decode(ids) == run


def test_a_token_of_half_a_character_is_shown_in_bytes() -> None:
    tokenizer = BpeTokenizer.train(["ữ ự ử ừ"], vocabulary_size=259, end=False)
    first = "ữ".encode()[:2]
    assert tokenizer.decode_bytes([257]) == first or tokenizer.decode_bytes([256]) == first
    assert {tokenizer.token_text(256), tokenizer.token_text(257)} >= {"<0xE1><0xBB>"}


def test_another_tokenizers_library_file_is_refused(tmp_path: Path) -> None:
    TOKENIZER.save(tmp_path / "one")
    BpeTokenizer.train([TEXT], vocabulary_size=307, end=True).save(tmp_path / "other")
    (tmp_path / "other" / "bpe.json").replace(tmp_path / "one" / "bpe.json")
    with pytest.raises(DamagedFile, match=r"bpe\.json"):
        load_tokenizer(tmp_path / "one")


def test_forking_after_training_neither_warns_nor_hangs() -> None:
    program = """
import os, signal
from clearhead.text.bpe import BpeTokenizer
tokenizer = BpeTokenizer.train(["the cat sat"] * 300, vocabulary_size=263, end=True)
child = os.fork()
if child == 0:
    signal.alarm(20)
    BpeTokenizer.train(["the dog sat"] * 300, vocabulary_size=263, end=True).encode("the cat")
    os._exit(0)
print(os.waitpid(child, 0)[1])
"""
    environment = {name: value for name, value in os.environ.items() if name != "TOKENIZERS_PARALLELISM"}
    environment["PYTHONPATH"] = os.pathsep.join(sys.path)
    command = [sys.executable, "-W", "ignore::DeprecationWarning", "-c", program]
    ran = subprocess.run(command, check=False, env=environment, capture_output=True, text=True, timeout=60)
    assert (ran.stdout, ran.stderr) == ("0\n", "")
