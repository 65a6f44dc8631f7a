"""Files are whole or not there."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from safetensors import SafetensorError

from clearhead.core import events, files
from clearhead.core.errors import DamagedFile, NewerFormat, UserError


def test_a_failed_write_leaves_what_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.txt"
    files.write_atomically(path, "old")

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(UserError, match="No space left"):
        files.write_atomically(path, "new")
    assert path.read_text() == "old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.txt"]


def test_a_full_disk_is_told_without_what_a_library_says_around_it() -> None:
    told = SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")
    sentence = "Cannot write a.bin: No space left on device{}; what was stored before is untouched."
    assert str(files.cannot_write(Path("a.bin"), told)) == sentence.format(" (os error 28)")
    assert str(files.cannot_write(Path("a.bin"), OSError(28, "No space left on device"))) == sentence.format("")


def test_a_folder_appears_with_its_hashes(tmp_path: Path) -> None:
    with files.new_folder(tmp_path / "f") as folder:
        (folder / "inner").mkdir()
        (folder / "inner" / "x").write_bytes(b"123")
        assert not (tmp_path / "f").exists()
    assert files.manifest(tmp_path / "f")["inner/x"]["bytes"] == 3
    files.verify_folder(tmp_path / "f")


def test_a_failed_folder_leaves_nothing(tmp_path: Path) -> None:
    def fail() -> None:
        with files.new_folder(tmp_path / "f") as folder:
            (folder / "x").write_bytes(b"123")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert list(tmp_path.iterdir()) == []


def test_a_folder_is_not_overwritten(tmp_path: Path) -> None:
    (tmp_path / "f").mkdir()
    with pytest.raises(UserError, match="exists already"), files.new_folder(tmp_path / "f"):
        pass


@pytest.mark.parametrize("content", [b"", b"12", b"124", b"1234"])
def test_a_changed_file_is_named(tmp_path: Path, content: bytes) -> None:
    with files.new_folder(tmp_path / "f") as folder:
        (folder / "x").write_bytes(b"123")
    (tmp_path / "f" / "x").write_bytes(content)
    with pytest.raises(DamagedFile, match="x is not what was written"):
        files.verify_folder(tmp_path / "f")


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with files.new_folder(tmp_path / "f") as folder:
        (folder / "x").write_bytes(b"123")
    (tmp_path / "f" / "x").unlink()
    with pytest.raises(DamagedFile, match="x is missing"):
        files.verify_folder(tmp_path / "f")


@pytest.mark.parametrize("content", ["", "[]", "{", '{"files": 3}', '{"files": {"x": 3}}', "[" * 100_000])
def test_what_is_no_manifest_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / files.MANIFEST).write_text(content)
    with pytest.raises(DamagedFile, match="manifest"):
        files.verify_folder(tmp_path)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no pipes with names")
def test_a_pipe_in_the_place_of_a_file_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / files.MANIFEST)
    with pytest.raises(DamagedFile, match=r"manifest\.json is not a file"):
        files.verify_folder(tmp_path)
    os.mkfifo(tmp_path / events.FILE)
    for read in (events.verify, events.Journal):
        with pytest.raises(DamagedFile, match=r"events\.jsonl is not a file"):
            read(tmp_path)


def test_a_dropped_file_is_no_longer_missed(tmp_path: Path) -> None:
    with files.new_folder(tmp_path / "f") as folder:
        (folder / "x").write_bytes(b"123")
        (folder / "y").write_bytes(b"456")
    files.drop_file(tmp_path / "f", "y")
    files.verify_folder(tmp_path / "f")
    assert not (tmp_path / "f" / "y").exists()


HOLD = """
import sys, time
from pathlib import Path
from clearhead.core.files import lock
with lock(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


def test_a_held_folder_names_its_holder_until_that_dies(tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path)], stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == b"held\n"
        with pytest.raises(UserError, match=str(other.pid)), files.lock(tmp_path):
            pass
        other.kill()
    with files.lock(tmp_path):
        pass


@pytest.mark.parametrize(
    "change", [(b'"format": 1', b'"format":  1'), (b'"bytes": 3', b'"bytes": 4'), (b'"x"', b'"y"')]
)
def test_a_changed_manifest_is_refused(tmp_path: Path, change: tuple[bytes, bytes]) -> None:
    with files.new_folder(tmp_path / "f") as folder:
        (folder / "x").write_bytes(b"123")
    path = tmp_path / "f" / files.MANIFEST
    path.write_bytes(path.read_bytes().replace(*change))
    with pytest.raises(DamagedFile):
        files.verify_folder(tmp_path / "f")


@pytest.mark.parametrize("name", ["../x", "a/../../x", "/etc/hosts", "a\0"])
def test_a_manifest_lists_only_what_lies_below(tmp_path: Path, name: str) -> None:
    entry = {"bytes": 1, "sha256": "0"}
    (tmp_path / files.MANIFEST).write_text(files.to_json({"format": 1, "files": {name: entry}}))
    with pytest.raises(DamagedFile, match="not a manifest"):
        files.verify_folder(tmp_path)


def test_a_manifest_of_a_newer_format_is_refused(tmp_path: Path) -> None:
    (tmp_path / files.MANIFEST).write_text(files.to_json({"format": 2, "files": {}}))
    with pytest.raises(NewerFormat, match="format 2"):
        files.verify_folder(tmp_path)


def test_a_name_that_is_not_utf8_comes_back(tmp_path: Path) -> None:
    name = os.fsdecode(b"caf\xe9.txt")
    files.write_atomically(tmp_path / "a.json", files.to_json({"name": name, "text": "\\ud800 é"}))
    assert files.read_json(tmp_path / "a.json") == {"name": name, "text": "\\ud800 é"}


def test_a_removed_folder_is_gone_in_one_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "f").mkdir()
    (tmp_path / "f" / "x").write_bytes(b"123")

    def killed(_: Path) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(shutil, "rmtree", killed)
        with pytest.raises(KeyboardInterrupt):
            files.remove_folder(tmp_path / "f")
    assert not (tmp_path / "f").exists()
    assert [".tmp-" in entry.name for entry in tmp_path.iterdir()] == [True]
    (tmp_path / "f").mkdir()
    files.remove_folder(tmp_path / "f")
    assert not (tmp_path / "f").exists()


def test_a_lock_holds_where_its_number_finds_no_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> int:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", full)
        with files.lock(tmp_path):
            patch.undo()
            with pytest.raises(UserError, match="number unknown"), files.lock(tmp_path):
                pass
