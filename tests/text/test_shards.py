"""Ids come back from disk as they were written, whatever the shards, and damage is refused or made good."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clearhead.core.errors import DamagedFile, NewerFormat, UserError
from clearhead.core.files import verify_folder
from clearhead.text import shards
from clearhead.text.corpus import Piece, from_documents
from clearhead.text.shards import Tokens, build, cache_folder, cached, in_memory, open_tokens, token_stream, verify
from clearhead.text.split import Split, split
from clearhead.text.tokenizer import END, ByteTokenizer, CharTokenizer

IDS = np.random.default_rng(7).integers(0, 499, 1009).astype(np.int32)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("CLEARHEAD_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def written(folder: Path, ids: np.ndarray, vocabulary_size: int = 499) -> Tokens:
    return build(folder, np.array_split(ids, 13), vocabulary_size, {"text": "abc"})


def test_what_is_written_is_read(tmp_path: Path) -> None:
    tokens = written(tmp_path / "ids", IDS)
    assert len(tokens) == len(IDS)
    assert tokens.read(0, len(IDS)).dtype == np.int32
    assert (tokens.read(0, len(IDS)) == IDS).all()
    assert (open_tokens(tmp_path / "ids").read(31, 577) == IDS[31:577]).all()
    index = json.loads((tmp_path / "ids" / "shards.json").read_text())
    assert index["provenance"] == {"text": "abc"}
    assert (index["format"], index["dtype"], index["counts"]) == (1, "uint16", [1009])
    assert index["vocabulary_size"] == 499
    verify(tmp_path / "ids")
    verify_folder(tmp_path / "ids")


def test_the_file_is_raw_and_little_endian(tmp_path: Path) -> None:
    written(tmp_path / "ids", IDS)
    assert (tmp_path / "ids" / "tokens-00000.bin").read_bytes() == IDS.astype("<u2").tobytes()


@pytest.mark.parametrize(("vocabulary_size", "dtype"), [(65_536, np.uint16), (65_537, np.uint32)])
def test_ids_take_16_bits_where_they_fit(tmp_path: Path, vocabulary_size: int, dtype: type) -> None:
    ids = np.array([0, vocabulary_size - 1, 3], dtype=np.int32)
    for tokens in (written(tmp_path / "ids", ids, vocabulary_size), in_memory(ids, vocabulary_size)):
        assert tokens.dtype == dtype
        assert tokens.read(0, 3).tolist() == ids.tolist()


@pytest.mark.parametrize("wrong", [499, 70_000, -1])
def test_an_id_beyond_the_vocabulary_is_named(tmp_path: Path, wrong: int) -> None:
    ids = IDS.copy()
    ids[17] = wrong
    with pytest.raises(UserError, match=f"Token id {wrong} is not in the vocabulary of 499"):
        written(tmp_path / "ids", ids)
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(UserError, match=f"{wrong}"):
        in_memory(ids, 499)


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_windows_are_the_same_from_one_shard_or_many(data: st.DataObject) -> None:
    sizes = data.draw(st.lists(st.integers(1, 97), min_size=1, max_size=7))
    ids = IDS[: sum(sizes)]
    many = Tokens(np.split(ids.astype(np.uint16), np.cumsum(sizes)[:-1]), ["-"] * len(sizes))
    one = in_memory(ids, 499)
    length = data.draw(st.integers(1, len(ids)))
    starts = np.array(data.draw(st.lists(st.integers(0, len(ids) - length), max_size=5)), dtype=np.int64)
    expected = np.array([ids[start : start + length] for start in starts], dtype=np.int32).reshape(-1, length)
    for tokens in (one, many):
        gathered = tokens.gather(starts, length)
        assert gathered.dtype == np.int32
        assert (gathered == expected).all()
        assert gathered.shape == expected.shape


def test_long_windows_are_the_same_too() -> None:
    ids = np.random.default_rng(3).integers(0, 70_000, 5003).astype(np.int32)
    tokens = in_memory(ids, 70_001)
    for length in (1024, 1025, 3001):
        assert (tokens.gather(np.array([7, 1999]), length) == [ids[7 : 7 + length], ids[1999 : 1999 + length]]).all()


def test_windows_of_a_text_that_may_not_stay_in_memory_are_read_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shards, "RESIDENT_BYTES", 211)
    monkeypatch.setattr(shards, "_MAPPED_AROUND_BYTES", 70)
    forgotten = []
    tokens = Tokens([IDS.astype(np.uint16)], ["-"], forget=lambda: forgotten.append(True))
    starts = np.arange(0, 130, 13)
    assert (tokens.gather(starts, 5) == IDS[starts[:, None] + np.arange(5)]).all()
    assert len(forgotten) == 3


@pytest.mark.parametrize(("start", "length"), [(-1, 3), (1007, 3), (0, 1010)])
def test_windows_beyond_the_end_are_refused(start: int, length: int) -> None:
    tokens = in_memory(IDS, 499)
    with pytest.raises(IndexError):
        tokens.gather(np.array([5, start]), length)
    with pytest.raises(IndexError):
        tokens.read(start, start + length)


def test_many_shards_are_written_and_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shards, "SHARD_TOKENS", 101)
    tokens = written(tmp_path / "ids", IDS)
    assert len(list((tmp_path / "ids").glob("tokens-*.bin"))) == len(tokens.sha256s) == 10
    assert (tokens.read(0, len(IDS)) == IDS).all()
    assert (tokens.gather(np.array([0, 99, 101, 807]), 202)[2] == IDS[101:303]).all()
    verify(tmp_path / "ids")


def test_the_hash_is_that_of_the_ids_in_memory(tmp_path: Path) -> None:
    assert written(tmp_path / "ids", IDS).sha256s == in_memory(IDS, 499).sha256s


DAMAGES = {
    "cut": (
        r"tokens-00000\.bin has 2,017 bytes where 2,018",
        lambda folder: os.truncate(folder / "tokens-00000.bin", 2017),
    ),
    "gone": (r"tokens-00000\.bin is missing", lambda folder: (folder / "tokens-00000.bin").unlink()),
    "no index": (r"shards\.json is missing", lambda folder: (folder / "shards.json").unlink()),
    "half an index": (r"shards\.json is not valid JSON", lambda folder: os.truncate(folder / "shards.json", 31)),
    "another index": (r"shards\.json does not describe", lambda folder: change_index(folder, dtype="float64")),
    "no counts": (r"shards\.json does not describe", lambda folder: change_index(folder, counts=[])),
    "odd counts": (r"shards\.json does not describe", lambda folder: change_index(folder, counts=["1009"])),
}


def change_index(folder: Path, **changes: object) -> None:
    index = json.loads((folder / "shards.json").read_text())
    (folder / "shards.json").write_text(json.dumps({**index, **changes}))


@pytest.mark.parametrize("damage", DAMAGES)
def test_damage_is_refused_by_name(tmp_path: Path, damage: str) -> None:
    sentence, harm = DAMAGES[damage]
    written(tmp_path / "ids", IDS)
    harm(tmp_path / "ids")
    with pytest.raises(DamagedFile, match=sentence):
        open_tokens(tmp_path / "ids")


def test_a_flipped_bit_is_found_by_the_hash(tmp_path: Path) -> None:
    written(tmp_path / "ids", IDS)
    flip(tmp_path / "ids" / "tokens-00000.bin")
    open_tokens(tmp_path / "ids")
    with pytest.raises(DamagedFile, match=r"tokens-00000\.bin is not what was written"):
        verify(tmp_path / "ids")


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[97] ^= 1
    path.write_bytes(data)


def test_a_newer_format_is_refused(tmp_path: Path) -> None:
    written(tmp_path / "ids", IDS)
    change_index(tmp_path / "ids", format=2)
    with pytest.raises(NewerFormat, match="newer version"):
        open_tokens(tmp_path / "ids")


def test_an_existing_folder_is_left_alone(tmp_path: Path) -> None:
    written(tmp_path / "ids", IDS)
    with pytest.raises(UserError, match="exists already"):
        written(tmp_path / "ids", IDS[::-1])
    assert (open_tokens(tmp_path / "ids").read(0, 1009) == IDS).all()


def ids_of(tokenizer: ByteTokenizer, pieces: list[Piece]) -> list[int]:
    return np.concatenate(list(token_stream(tokenizer, pieces))).tolist()


def test_documents_stand_between_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    tokenizer = ByteTokenizer(end=True)
    end = tokenizer.specials[END]
    pieces = [Piece("a", False), Piece("b", True), Piece("c", True), Piece("d", False)]
    expected = [end, *b"ab", end, *b"c", end, *b"d"]
    assert ids_of(tokenizer, pieces) == expected
    assert ids_of(ByteTokenizer(end=False), pieces) == [*b"abcd"]
    monkeypatch.setattr(shards, "_STREAM_TOKENS", 2)
    assert ids_of(tokenizer, pieces) == expected
    assert len(list(token_stream(tokenizer, pieces))) > 1


def text(documents: int = 29) -> Split:
    return split(from_documents([f"Document {number}, with its words.\n" for number in range(documents)], "test"))


def test_the_streams_of_both_parts_hold_every_document_once() -> None:
    parts, tokenizer = text(), ByteTokenizer(end=True)
    training = ids_of(tokenizer, list(parts.training()))
    validation = ids_of(tokenizer, list(parts.validation()))
    assert training[0] == validation[0] == training[-1] == tokenizer.end
    assert training.count(tokenizer.end) + validation.count(tokenizer.end) == 29 + 2
    assert len(tokenizer.decode_bytes(training)) == parts.training_bytes
    assert len(tokenizer.decode_bytes(validation)) == parts.validation_bytes


def test_a_cut_document_is_not_ended_in_training() -> None:
    parts, tokenizer = text(7), ByteTokenizer(end=True)
    training = ids_of(tokenizer, list(parts.training()))
    validation = ids_of(tokenizer, list(parts.validation()))
    assert training[-1] != tokenizer.end
    assert validation[0] == tokenizer.end
    assert training.count(tokenizer.end) + validation.count(tokenizer.end) == 7 + 2


def test_the_cache_is_filled_once(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    parts, tokenizer = text(), ByteTokenizer(end=True)
    first = cached(parts, tokenizer)
    expected = ids_of(tokenizer, list(parts.training()))
    assert first.read(0, len(first)).tolist() == expected

    def refuse(*_: object) -> Iterator[np.ndarray]:
        raise AssertionError("built again")

    with monkeypatch.context() as patch:
        patch.setattr(shards, "token_stream", refuse)
        assert cached(parts, tokenizer).sha256s == first.sha256s
        with pytest.raises(AssertionError, match="built again"):
            cached(parts, tokenizer, part="validation")
    cached(parts, tokenizer, part="validation")
    cached(parts, CharTokenizer.train(parts.training_text(), unknown="bytes", end=True))
    cached(text(31), tokenizer)
    assert len(list((cache / "shards").iterdir())) == 4


@pytest.mark.parametrize("damage", [*DAMAGES, "flip", "newer"])
def test_a_damaged_cache_is_made_good(cache: Path, damage: str) -> None:
    parts, tokenizer = text(97), ByteTokenizer(end=True)
    expected = cached(parts, tokenizer).sha256s
    (folder,) = (cache / "shards").iterdir()
    if damage == "cut":
        os.truncate(folder / "tokens-00000.bin", 97)
    elif damage == "flip":
        flip(folder / "tokens-00000.bin")
    elif damage == "newer":
        change_index(folder, format=2)
    else:
        DAMAGES[damage][1](folder)
    tokens = cached(parts, tokenizer)
    assert tokens.sha256s == expected
    verify(folder)
    assert tokens.read(0, len(tokens)).tolist() == ids_of(tokenizer, list(parts.training()))


def test_of_two_that_build_at_once_both_end_well(monkeypatch: pytest.MonkeyPatch) -> None:
    parts, tokenizer = text(), ByteTokenizer(end=True)
    build_alone = shards.build
    others: list[Tokens] = []

    def overtaken(*arguments: object) -> Tokens:
        if not others:
            others.append(build_alone(*arguments))
        return build_alone(*arguments)

    monkeypatch.setattr(shards, "build", overtaken)
    tokens = cached(parts, tokenizer)
    assert tokens.sha256s == others[0].sha256s


def test_a_cache_that_takes_nothing_is_an_error(cache: Path) -> None:
    cache.write_text("a file where a folder should be")
    with pytest.raises(UserError, match="Cannot write"):
        cached(text(), ByteTokenizer(end=True))


def test_the_cache_lies_where_the_system_wants_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert cache_folder() == tmp_path / "cache"
    monkeypatch.delenv("CLEARHEAD_CACHE")
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache_folder() == tmp_path / "xdg" / "clearhead"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache_folder() == tmp_path / ".cache" / "clearhead"
    monkeypatch.setattr(sys, "platform", "darwin")
    assert cache_folder() == tmp_path / "Library" / "Caches" / "clearhead"


RESIDENT = """
    import sys
    from pathlib import Path
    import numpy as np
    from clearhead.text import shards

    def resident_file_megabytes():
        status = Path("/proc/self/status").read_text()
        return int(status.split("RssFile:")[1].split()[0]) / 1024

    shards.RESIDENT_BYTES = int(sys.argv[2])
    tokens = shards.open_tokens(Path(sys.argv[1]))
    before = resident_file_megabytes()
    chance = np.random.default_rng(1)
    most = 0.0
    for step in range(200):
        tokens.gather(chance.integers(0, len(tokens) - 65, 3), 65)
        most = max(most, resident_file_megabytes() - before)
    print(most)
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads Linux's account of memory")
def test_what_was_read_does_not_stay_in_memory(tmp_path: Path) -> None:
    build(tmp_path / "ids", [np.zeros(1 << 22, np.int32)] * 8, 499, {})

    def most_megabytes(resident_bytes: int) -> float:
        command = [sys.executable, "-c", textwrap.dedent(RESIDENT), str(tmp_path / "ids"), str(resident_bytes)]
        return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)

    limited = most_megabytes(8 << 20)
    assert limited < 24
    assert most_megabytes(1 << 40) > limited + 8


@given(ids=st.lists(st.integers(0, 12), min_size=1, max_size=19))
def test_unseen_ranges_hold_what_does_not_occur(ids: list[int]) -> None:
    unseen = shards.unseen_ids(shards.in_memory(np.array(ids), 13), 13)
    ranges = shards.ranges_of(unseen)
    assert unseen.tolist() == shards.ids_of(ranges, 13).tolist() == sorted(set(range(13)) - set(ids))
    assert all(first > last + 1 for (_, last), (first, _) in pairwise(ranges))
