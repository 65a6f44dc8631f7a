"""Files that are either whole or not there: atomic writes, hashes, manifests and a lock."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from clearhead.core.errors import CannotWrite, DamagedFile, UserError, newer_format
from clearhead.core.words import counted

MANIFEST = "manifest.json"
MANIFEST_FORMAT = 1


def sha256(path: Path) -> str:
    """Return the SHA-256 of a file's bytes, in hex."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def to_json(value: object) -> str:
    """Return strict JSON (no NaN, no infinity) with sorted keys, ended by a line feed."""
    return encodable(json.dumps(value, indent=1, sort_keys=True, allow_nan=False, ensure_ascii=False)) + "\n"


def encodable(json_text: str) -> str:
    """Return JSON in which a lone surrogate, which UTF-8 cannot hold, stands as its escape.

    Such a character means a byte of a file's name or of an argument that is not UTF-8.
    """
    return json_text.encode("utf-8", "backslashreplace").decode()


def read_json(path: Path) -> Any:
    """Return the value stored in a JSON file.

    Raises:
        DamagedFile: the file is missing, not UTF-8 or not JSON.
    """
    require_file(path)
    try:
        return json.loads(path.read_bytes())
    except FileNotFoundError:
        raise DamagedFile(f"{path} is missing.") from None
    except (ValueError, RecursionError):
        raise DamagedFile(f"{path} is not valid JSON: it was cut short or changed.") from None


def require_file(path: Path) -> None:
    """Refuse what stands in a file's place and may never end, such as a pipe or a device.

    Raises:
        DamagedFile: names it.
    """
    if path.exists() and not path.is_file():
        raise DamagedFile(f"{path} is not a file.")


def sync(path: Path) -> None:
    """Ask the system to put a file's or a folder's content on the disk."""
    if os.name == "nt":  # Windows syncs neither folders nor what is open for reading.
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_atomically(path: Path, content: bytes | str) -> None:
    """Write a file so that after a crash the old content or the new one stands there, never a mix."""
    data = content.encode() if isinstance(content, str) else content
    temporary = path.with_name(f"{path.name}.tmp-{uuid.uuid4().hex[:8]}")
    try:
        with temporary.open("wb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        temporary.replace(path)
        sync(path.parent)
    except OSError as error:
        raise cannot_write(path, error) from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink()


def make_folder(path: Path) -> None:
    """Make a folder, and those above it that are missing, so that a power loss does not take them back."""
    missing = [folder for folder in (path, *path.parents) if not folder.exists()]
    if missing:
        path.mkdir(parents=True, exist_ok=True)
    for folder in missing:
        sync(folder.parent)


def cannot_write(path: Path, error: Exception) -> CannotWrite:
    """Return the sentence for a file that the system would not take."""
    # A library without `strerror` puts its own steps before the system's words, each with a colon.
    reason = getattr(error, "strerror", None) or str(error).rpartition(": ")[2]
    return CannotWrite(f"Cannot write {path}: {reason}; what was stored before is untouched.")


@contextlib.contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """Give a temporary folder to fill; when the block ends it gets a manifest and appears at `path` at once.

    Everything is hashed and synced before the rename, so a folder without `.tmp-` in its name is whole.

    Raises:
        UserError: `path` exists already, or the disk takes no more.
    """
    if path.exists():
        raise UserError(f"{path} exists already; name another folder.")
    temporary = path.with_name(f"{path.name}.tmp-{uuid.uuid4().hex[:8]}")
    try:
        make_folder(path.parent)
        temporary.mkdir()
        yield temporary
        write_manifest(temporary)
        temporary.rename(path)
        sync(path.parent)
    except OSError as error:
        shutil.rmtree(temporary, ignore_errors=True)
        raise cannot_write(path, error) from error
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise


def write_manifest(folder: Path) -> None:
    """Hash and sync every file below `folder` and write the list as its manifest."""
    listed = {}
    for file in sorted(file for file in folder.rglob("*") if file.is_file()):
        listed[file.relative_to(folder).as_posix()] = {"bytes": file.stat().st_size, "sha256": sha256(file)}
        sync(file)
    write_atomically(folder / MANIFEST, to_json({"format": MANIFEST_FORMAT, "files": listed}))
    for inner in (entry for entry in folder.rglob("*") if entry.is_dir()):
        sync(inner)
    sync(folder)


def manifest(folder: Path) -> dict[str, dict[str, Any]]:
    """Return what a folder's manifest lists: each file's bytes and SHA-256.

    A manifest is accepted only as it was written, byte for byte, so that a change of it is seen too.

    Raises:
        DamagedFile: there is no manifest, or it is not one. NewerFormat: a newer version wrote it.
    """
    path = folder / MANIFEST
    content = read_json(path)
    if isinstance(content, dict) and isinstance(content.get("format"), int) and content["format"] > MANIFEST_FORMAT:
        raise newer_format(path, content["format"], MANIFEST_FORMAT)
    if not _is_manifest(content) or to_json(content).encode() != path.read_bytes():
        raise DamagedFile(f"{path} is not a manifest as it was written.")
    files: dict[str, dict[str, Any]] = content["files"]
    return files


def _is_manifest(content: Any) -> bool:
    if not isinstance(content, dict) or content.keys() != {"format", "files"} or content["format"] != MANIFEST_FORMAT:
        return False
    files = content["files"]
    return isinstance(files, dict) and all(
        isinstance(entry, dict) and entry.keys() == {"bytes", "sha256"} and _lies_below(name)
        for name, entry in files.items()
    )


def _lies_below(name: str) -> bool:
    """Say whether a listed name stays inside its folder."""
    path = PurePosixPath(name)
    return not path.is_absolute() and ".." not in path.parts and "\0" not in name


def verify_folder(folder: Path) -> None:
    """Check that every file which the manifest lists is there, unchanged.

    Files that the manifest does not list are not looked at: a run's folder grows after its manifest is written.

    Raises:
        DamagedFile: names the first file that is missing or differs.
    """
    for name, entry in manifest(folder).items():
        verify_file(folder / name, entry)


def verify_file(file: Path, entry: Mapping[str, Any]) -> None:
    """Check a file against its entry in a manifest.

    Raises:
        DamagedFile: it is missing or differs.
    """
    if not file.is_file():
        raise DamagedFile(f"{file} is missing.")
    if file.stat().st_size != entry["bytes"]:
        raise DamagedFile(
            f"{file} is not what was written: it has {counted(file.stat().st_size, 'byte')}, not {entry['bytes']}."
        )
    if sha256(file) != entry["sha256"]:
        raise DamagedFile(f"{file} is not what was written: its SHA-256 differs from the manifest's.")


def remove_folder(folder: Path) -> None:
    """Remove a folder so that after a crash it stands there whole or not at all, but for a temporary one."""
    doomed = folder.with_name(f"{folder.name}.tmp-{uuid.uuid4().hex[:8]}")
    folder.rename(doomed)
    sync(folder.parent)
    shutil.rmtree(doomed)


def drop_file(folder: Path, name: str) -> None:
    """Take a file out of a folder's manifest, then off the disk: in that order, so a crash leaves no false claim."""
    left = {other: entry for other, entry in manifest(folder).items() if other != name}
    write_atomically(folder / MANIFEST, to_json({"format": MANIFEST_FORMAT, "files": left}))
    (folder / name).unlink()


@contextlib.contextmanager
def lock(folder: Path) -> Iterator[None]:
    """Hold a folder for this process alone, for the length of a block; a crash lets it go.

    Raises:
        UserError: another process holds it; its number is named.
    """
    path = folder / "lock"
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    except OSError as error:
        raise cannot_write(path, error) from error
    try:
        if not _try_lock(descriptor):
            holder = os.read(descriptor, 32).decode(errors="replace").strip() or "unknown"
            raise UserError(f"{folder} is being trained by another process (number {holder}); wait for it or stop it.")
        with contextlib.suppress(OSError):  # A full disk takes no number; the lock holds all the same.
            os.ftruncate(descriptor, 0)
            os.write(descriptor, str(os.getpid()).encode())
        yield
    finally:
        os.close(descriptor)


def _try_lock(descriptor: int) -> bool:
    try:
        import fcntl
    except ImportError:  # Windows has no flock; two writers are not kept apart there.
        return True
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
