"""Public texts by name: fetched once from a fixed address, resumed where a connection broke off, checked by hash."""

from __future__ import annotations

import http
import http.client
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Literal

from clearhead.core import files
from clearhead.core.errors import UserError, nearest

ATTEMPTS = 4
TIMEOUT_SECONDS = 30.0
BLOCK_BYTES = 1 << 16

Progress = Callable[[int, int], None]


@dataclass(frozen=True, kw_only=True, slots=True)
class Dataset:
    """A text that never changes: its address names a commit, and its content is known by its hash."""

    address: str
    file_name: str
    bytes: int
    sha256: str
    licence: str
    description: str


DATASETS = {
    "shakespeare": Dataset(
        address="https://raw.githubusercontent.com/karpathy/char-rnn/6f9487a6fe5b420b7ca9afb0d7c078e37c1d1b4e"
        "/data/tinyshakespeare/input.txt",
        file_name="shakespeare.txt",
        bytes=1_115_394,
        sha256="86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed",
        licence="public domain",
        description="40,000 lines from Shakespeare's plays, with the speakers' names; 65 different characters",
    ),
}


def get(name: str, folder: Path, *, progress: Progress | None = None) -> Path:
    """Return a public text's file in a folder, fetched first if it is not there.

    Raises:
        UserError: there is no such text, it cannot be fetched, or another file has its place.
    """
    if name not in DATASETS:
        raise UserError(f'There is no text "{name}"; known are: {", ".join(DATASETS)}.{nearest(name, DATASETS)}')
    dataset = DATASETS[name]
    target = folder / dataset.file_name
    return fetch(dataset.address, dataset.sha256, target, size_bytes=dataset.bytes, progress=progress)


def fetch(
    address: str,
    sha256: str,
    target: Path,
    *,
    size_bytes: int,
    progress: Progress | None = None,
    first_pause_seconds: float = 0.5,
) -> Path:
    """Fetch a file of known size and hash; it appears at `target` only when it is whole.

    What came before a connection broke off stays in a `.part` file beside it, and the next try, in this call or a
    later one, asks for the rest.

    Args:
        progress: told how many bytes are there, and of how many.
        first_pause_seconds: how long to wait before the second try; the wait doubles with each further one.

    Raises:
        UserError: `target` is another file, the server or the disk refuses, what came has another hash, or the
            connection broke off at each of the tries.
    """
    if target.exists():
        if files.sha256(target) == sha256:
            return target
        raise UserError(f'"{target}" exists and is another file; move it away or name another folder.')
    part = _Part(address, target.with_name(f"{target.name}.part"), size_bytes, progress or (lambda done, total: None))
    trouble = ""
    for attempt in range(ATTEMPTS):
        time.sleep(first_pause_seconds * 2 ** (attempt - 1) if attempt else 0)
        was_begun = part.size() > 0
        try:
            part.complete()
        except _BrokenOff as error:
            trouble = str(error)
            continue
        if files.sha256(part.path) == sha256:
            return part.move_to(target)
        part.path.unlink()
        if not was_begun:
            raise UserError(
                f"What {address} sends is not the text that was expected: its SHA-256 differs, so it was removed; "
                "try again from another network or fetch the text yourself."
            )
        trouble = "the beginning that was stored did not fit the rest"
    raise UserError(f"Cannot fetch {address}: {trouble}; check the connection and run it again to go on.")


class _BrokenOff(Exception):
    """The connection could not be made or ended early; another try may succeed."""


@dataclass(frozen=True, slots=True)
class _Part:
    """A file of which the beginning may be there."""

    address: str
    path: Path
    size_bytes: int
    progress: Progress

    def size(self) -> int:
        return self.path.stat().st_size if self.path.exists() else 0

    def complete(self) -> None:
        """Fetch what is missing.

        Raises:
            _BrokenOff: it is still not complete.
            UserError: the server or the disk refuses.
        """
        if self.size() > self.size_bytes:
            self.path.unlink()
        start = self.size()
        if start == self.size_bytes:
            return
        try:
            with self._request(start) as response:
                self._receive(response, start)
        except urllib.error.HTTPError as error:
            error.close()
            self._refused(error.code, error.reason)
        except urllib.error.URLError as error:
            raise _BrokenOff(f"no answer ({error.reason})") from error
        except (http.client.HTTPException, OSError) as error:
            raise _BrokenOff(f"the connection broke off ({error or type(error).__name__})") from error
        if self.size() < self.size_bytes:
            raise _BrokenOff(f"only {self.size()} of {self.size_bytes} bytes came")

    def move_to(self, target: Path) -> Path:
        files.sync(self.path)
        self.path.replace(target)
        files.sync(target.parent)
        return target

    def _request(self, start: int) -> http.client.HTTPResponse:
        headers = {"User-Agent": "clearhead", **({"Range": f"bytes={start}-"} if start else {})}
        request = urllib.request.Request(self.address, headers=headers)
        response: http.client.HTTPResponse = urllib.request.urlopen(request, timeout=TIMEOUT_SECONDS)
        return response

    def _refused(self, status: int, reason: str) -> None:
        if status == http.HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
            self.path.unlink(missing_ok=True)
        elif status < 500 and status != http.HTTPStatus.TOO_MANY_REQUESTS:
            raise UserError(f"{self.address} cannot be fetched: the server answers {status} {reason}; try it later.")
        raise _BrokenOff(f"the server answers {status} {reason}")

    def _receive(self, response: http.client.HTTPResponse, start: int) -> None:
        """Append the answer, or begin anew where the server sends the whole file or another stretch of it."""
        continues = response.status == http.HTTPStatus.PARTIAL_CONTENT
        if continues and not (response.headers["Content-Range"] or "").startswith(f"bytes {start}-"):
            self.path.unlink(missing_ok=True)
            raise _BrokenOff("the server sent another stretch than was asked for")
        done = start if continues else 0
        with self._opened("ab" if continues else "wb") as stream:
            # One block more than was announced is enough to tell that this is another file.
            while done <= self.size_bytes and (block := response.read(BLOCK_BYTES)):
                self._write(stream, block)
                done += len(block)
                self.progress(done, self.size_bytes)

    def _opened(self, mode: Literal["ab", "wb"]) -> IO[bytes]:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            return self.path.open(mode)
        except OSError as error:
            raise files.cannot_write(self.path, error) from error

    def _write(self, stream: IO[bytes], block: bytes) -> None:
        try:
            stream.write(block)
            stream.flush()
        except OSError as error:
            raise files.cannot_write(self.path, error) from error
