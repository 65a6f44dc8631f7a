"""Every form in which text is named is found, in a fixed order, and read as it was when it was named."""

from __future__ import annotations

import gc
import gzip
import io
import os
import sys
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import pytest

from clearhead.core.errors import UserError
from clearhead.text import inputs
from clearhead.text.inputs import Input, file_input, files_below, files_matching, missing, standard_input

CONTENT = b"A line.\r\nAnother \xff line.\n" * 31


def content(read: Input) -> bytes:
    return b"".join(read.blocks())


def pipe_in(monkeypatch: pytest.MonkeyPatch, data: bytes) -> None:
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(data)))


def test_a_file_is_read_again_and_again(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(CONTENT)
    read = file_input(tmp_path / "a")
    first, second = read.blocks(), read.blocks()
    assert b"".join(first) == b"".join(second) == content(read) == CONTENT
    assert read.size_and_sha256()[0] == len(CONTENT)


def test_gzip_is_known_by_its_content_and_hashed_as_stored(tmp_path: Path) -> None:
    packed = gzip.compress(CONTENT) + gzip.compress(CONTENT)
    (tmp_path / "a.txt").write_bytes(packed)
    (tmp_path / "b.gz").write_bytes(CONTENT)
    read = file_input(tmp_path / "a.txt")
    assert content(read) == CONTENT * 2
    assert read.size_and_sha256()[0] == len(packed)
    assert content(file_input(tmp_path / "b.gz")) == CONTENT
    (tmp_path / "c.GZ").write_bytes(packed)
    misnamed = [file_input(tmp_path / name).is_misnamed for name in ("a.txt", "b.gz", "c.GZ")]
    assert misnamed == [False, True, False]


@pytest.mark.parametrize("damage", ["cut", "flip", "tail"])
def test_a_damaged_gzip_file_is_refused_by_name(tmp_path: Path, damage: str) -> None:
    packed = bytearray(gzip.compress(CONTENT))
    if damage == "cut":
        del packed[-11:]
    elif damage == "flip":
        packed[23] ^= 0xFF
    else:
        packed += b"tail"
    (tmp_path / "a.gz").write_bytes(packed)
    with pytest.raises(UserError, match=r"a\.gz.* is not a whole gzip file"):
        content(file_input(tmp_path / "a.gz"))


def test_a_file_that_changes_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(CONTENT)
    read = file_input(tmp_path / "a")
    (tmp_path / "a").write_bytes(CONTENT + b"more")
    with pytest.raises(UserError, match="changed"):
        content(read)
    (tmp_path / "a").unlink()
    with pytest.raises(UserError, match="Cannot read"):
        content(read)


def test_standard_input_stays_in_memory_if_it_is_small(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(inputs.tempfile, "tempdir", str(tmp_path))
    pipe_in(monkeypatch, CONTENT)
    read = standard_input(None)
    assert content(read) == content(read) == CONTENT
    assert list(tmp_path.iterdir()) == []


def test_standard_input_goes_to_a_temporary_file_if_it_is_large(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(inputs.tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(inputs, "STDIN_BYTES_IN_MEMORY", 17)
    pipe_in(monkeypatch, CONTENT)
    read = standard_input(None)
    assert content(read) == content(read) == CONTENT
    assert len(list(tmp_path.iterdir())) == 1
    del read
    gc.collect()
    assert list(tmp_path.iterdir()) == []


def test_standard_input_is_kept_where_it_should_be(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    pipe_in(monkeypatch, CONTENT)
    read = standard_input(tmp_path / "stdin.txt")
    assert content(read) == (tmp_path / "stdin.txt").read_bytes() == CONTENT
    assert [path.name for path in tmp_path.iterdir()] == ["stdin.txt"]
    assert read.label == "Standard input"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk_is_said_and_leaves_nothing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def full(descriptor: int, mode: str) -> io.FileIO:
        os.close(descriptor)
        return io.FileIO("/dev/full", mode.replace("b", ""))

    pipe_in(monkeypatch, CONTENT)
    monkeypatch.setattr(inputs.os, "fdopen", full)
    with pytest.raises(UserError, match="No space left"):
        standard_input(tmp_path / "stdin.txt")
    assert list(tmp_path.iterdir()) == []


def test_what_trained_runs_wrote_is_passed_over(tmp_path: Path) -> None:
    for name in ("a.txt", "runs/one/run.json", "runs/one/report.html", "runs/one/tokenizer/t.json", "runs/notes.txt"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(name)
    listed, passed = files_below(tmp_path)
    assert [str(path.relative_to(tmp_path)) for path in listed] == ["a.txt", "runs/notes.txt"]
    assert passed == Counter({"holding a run": 1})


def test_a_folder_is_listed_sorted_without_what_is_hidden(tmp_path: Path) -> None:
    for name in ("b/z.txt", "b/a.txt", "a.txt", "c.py", ".git/config", "b/.hidden"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(name)
    os.mkfifo(tmp_path / "pipe")
    found, passed = files_below(tmp_path)
    assert [path.relative_to(tmp_path).as_posix() for path in found] == ["a.txt", "b/a.txt", "b/z.txt", "c.py"]
    assert passed == Counter({"hidden": 2, "neither file nor folder": 1})


def test_loops_of_links_end(tmp_path: Path) -> None:
    (tmp_path / "inner").mkdir()
    (tmp_path / "inner" / "a.txt").write_text("a")
    (tmp_path / "inner" / "up").symlink_to(tmp_path, target_is_directory=True)
    (tmp_path / "self").symlink_to(tmp_path / "self")
    found, passed = files_below(tmp_path)
    assert found == [tmp_path / "inner" / "a.txt"]
    assert passed["neither file nor folder"] == 1


def test_a_link_to_a_folder_elsewhere_is_followed(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "a.txt").write_text("a")
    (tmp_path / "root").mkdir()
    (tmp_path / "root" / "link").symlink_to(tmp_path / "elsewhere", target_is_directory=True)
    assert files_below(tmp_path / "root")[0] == [tmp_path / "root" / "link" / "a.txt"]


def test_a_glob_finds_files_and_folders(tmp_path: Path) -> None:
    for name in ("x1/b.txt", "x1/a.txt", "x2.txt", "y.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(name)
    found, _ = files_matching(tmp_path / "x*")
    assert [path.relative_to(tmp_path).as_posix() for path in found] == ["x1/a.txt", "x1/b.txt", "x2.txt"]
    found, _ = files_matching(tmp_path / "**" / "?.txt")
    assert [path.name for path in found] == ["a.txt", "b.txt", "y.txt"]
    with pytest.raises(UserError, match="No file or folder matches"):
        files_matching(tmp_path / "*.md")


def test_the_nearest_name_beside_a_missing_one_is_told(tmp_path: Path) -> None:
    for name in ("shakespeare.md", "shakespeare.txt", "o.txt", "a.txt"):
        (tmp_path / name).write_text("x")
    meant = f'Did you mean "{tmp_path / "shakespeare.txt"}"?'
    for typed in ("shakspeare.txt", "shakespeare.tx", "shakespear.txt", "shakes.txt"):
        assert str(missing(tmp_path / typed)).endswith(meant)
    for typed in ("nope.txt", "b.txt"):
        assert str(missing(tmp_path / typed)).endswith(f'{typed}".')
    assert str(missing(tmp_path / "no" / "where.txt")).endswith('where.txt".')
