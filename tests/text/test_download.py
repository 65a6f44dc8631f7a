"""A text arrives whole from servers that break off, ignore ranges, corrupt or refuse, or is refused in a sentence."""

from __future__ import annotations

import hashlib
import io
import re
import socket
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest

from clearhead.core.errors import UserError
from clearhead.text import download
from clearhead.text.download import DATASETS, Dataset, fetch, get

CONTENT = np.random.default_rng(5).bytes(300_007)
SHA256 = hashlib.sha256(CONTENT).hexdigest()


@dataclass
class Server:
    """What the server does with each request, and which ranges were asked for."""

    address: str = ""
    content: bytes = CONTENT
    ranges: bool = True
    status: int = 200
    breaks_after: list[int] = field(default_factory=list)
    asked: list[str | None] = field(default_factory=list)
    shifted_by: int = 0

    def answer(self, handler: BaseHTTPRequestHandler) -> None:
        asked = handler.headers["Range"]
        self.asked.append(asked)
        if self.status != 200:
            handler.send_error(self.status)
            return
        start = int(re.fullmatch(r"bytes=(\d+)-", asked).group(1)) + self.shifted_by if asked and self.ranges else 0
        if start > len(self.content):
            handler.send_error(416)
            return
        body = self.content[start:]
        handler.send_response(206 if start else 200)
        if start:
            handler.send_header("Content-Range", f"bytes {start}-{len(self.content) - 1}/{len(self.content)}")
        handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        handler.wfile.write(body[: self.breaks_after.pop(0)] if self.breaks_after else body)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    behaviour = Server()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            behaviour.answer(self)

        def log_message(self, *_: object) -> None:
            pass

    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        behaviour.address = f"http://127.0.0.1:{running.server_address[1]}/text"
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield behaviour
        running.shutdown()
        thread.join()


@pytest.fixture
def fetched(server: Server, tmp_path: Path) -> Callable[[], Path]:
    def fetch_quickly() -> Path:
        return fetch(server.address, SHA256, tmp_path / "text.txt", size_bytes=len(CONTENT), first_pause_seconds=0.001)

    return fetch_quickly


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_text_is_fetched_once(server: Server, fetched: Callable[[], Path], tmp_path: Path) -> None:
    assert fetched().read_bytes() == CONTENT
    assert fetched().read_bytes() == CONTENT
    assert server.asked == [None]
    assert names(tmp_path) == ["text.txt"]


def test_progress_is_told(server: Server, tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []
    target = tmp_path / "new" / "folder" / "text.txt"
    fetch(server.address, SHA256, target, size_bytes=len(CONTENT), progress=lambda *now: told.append(now))
    assert told == sorted(told)
    assert told[-1] == (len(CONTENT), len(CONTENT))


def test_a_broken_connection_is_resumed(server: Server, fetched: Callable[[], Path], tmp_path: Path) -> None:
    server.breaks_after = [70_001, 50_021]
    assert fetched().read_bytes() == CONTENT
    assert server.asked == [None, "bytes=70001-", "bytes=120022-"]
    assert names(tmp_path) == ["text.txt"]


def test_a_later_call_goes_on(server: Server, fetched: Callable[[], Path], tmp_path: Path) -> None:
    server.breaks_after = [10_007] * download.ATTEMPTS
    with pytest.raises(UserError, match="only 40028 of 300007 bytes came; check the connection"):
        fetched()
    assert names(tmp_path) == ["text.txt.part"]
    assert fetched().read_bytes() == CONTENT
    assert server.asked[-1] == "bytes=40028-"


def test_a_server_without_ranges_is_asked_from_the_start(server: Server, fetched: Callable[[], Path]) -> None:
    server.ranges = False
    server.breaks_after = [70_001]
    assert fetched().read_bytes() == CONTENT
    assert server.asked == [None, "bytes=70001-"]


def test_a_wrong_stretch_is_not_used(server: Server, fetched: Callable[[], Path]) -> None:
    server.shifted_by = 11
    server.breaks_after = [70_001]
    assert fetched().read_bytes() == CONTENT
    assert server.asked == [None, "bytes=70001-", None]


@pytest.mark.parametrize("corrupted", [CONTENT[:-1] + b"x", CONTENT + b"more", CONTENT[::-1]])
def test_another_content_is_refused_and_removed(
    server: Server, fetched: Callable[[], Path], tmp_path: Path, corrupted: bytes
) -> None:
    server.content = corrupted
    with pytest.raises(UserError, match="its SHA-256 differs, so it was removed"):
        fetched()
    assert names(tmp_path) == []


def test_an_endless_answer_is_not_read_to_its_end(server: Server, fetched: Callable[[], Path], tmp_path: Path) -> None:
    written: list[int] = []
    server.content = CONTENT * 20
    sizes = download._Part._write

    def noting(part: download._Part, stream: io.BufferedWriter, block: bytes) -> None:
        sizes(part, stream, block)
        written.append(len(block))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(download._Part, "_write", noting)
        with pytest.raises(UserError, match="SHA-256 differs"):
            fetched()
    assert sum(written) <= len(CONTENT) + download.BLOCK_BYTES


@pytest.mark.parametrize("begun", [b"not the beginning", b"y" * 300_007, b"z" * 300_008])
def test_a_wrong_beginning_is_thrown_away(
    server: Server, fetched: Callable[[], Path], tmp_path: Path, begun: bytes
) -> None:
    (tmp_path / "text.txt.part").write_bytes(begun)
    assert fetched().read_bytes() == CONTENT
    assert server.asked[-1] is None


def test_a_complete_beginning_needs_no_server(fetched: Callable[[], Path], server: Server, tmp_path: Path) -> None:
    (tmp_path / "text.txt.part").write_bytes(CONTENT)
    assert fetched().read_bytes() == CONTENT
    assert server.asked == []


def test_a_missing_page_is_said_at_once(server: Server, fetched: Callable[[], Path], tmp_path: Path) -> None:
    server.status = 404
    with pytest.raises(UserError, match="cannot be fetched: the server answers 404 Not Found"):
        fetched()
    assert len(server.asked) == 1
    assert names(tmp_path) == []


@pytest.mark.parametrize("status", [503, 429, 416])
def test_a_busy_server_is_asked_a_few_times(server: Server, fetched: Callable[[], Path], status: int) -> None:
    server.status = status
    with pytest.raises(UserError, match=f"the server answers {status}"):
        fetched()
    assert len(server.asked) == download.ATTEMPTS


def test_without_a_network_one_sentence_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{unused.getsockname()[1]}/text"
        with pytest.raises(UserError, match=r"Cannot fetch http.*no answer .*; check the connection"):
            fetch(address, SHA256, tmp_path / "text.txt", size_bytes=7, first_pause_seconds=0.001)
    assert names(tmp_path) == []


def test_another_file_in_the_place_is_left_alone(fetched: Callable[[], Path], server: Server, tmp_path: Path) -> None:
    (tmp_path / "text.txt").write_text("my own")
    with pytest.raises(UserError, match="exists and is another file"):
        fetched()
    assert (tmp_path / "text.txt").read_text() == "my own"
    assert server.asked == []


def test_a_disk_that_takes_nothing_is_said(server: Server, fetched: Callable[[], Path], tmp_path: Path) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("needs /dev/full")
    (tmp_path / "text.txt.part").symlink_to("/dev/full")
    with pytest.raises(UserError, match=r"Cannot write .*: No space left on device"):
        fetched()


def test_texts_are_got_by_name(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    poem = Dataset(
        address=server.address, file_name="poem.txt", bytes=len(CONTENT), sha256=SHA256, licence="-", description="-"
    )
    monkeypatch.setitem(DATASETS, "poem", poem)
    assert get("poem", tmp_path).read_bytes() == CONTENT
    assert names(tmp_path) == ["poem.txt"]
    with pytest.raises(UserError, match=r'There is no text "shakspeare".*Did you mean "shakespeare"'):
        get("shakspeare", tmp_path)


def test_what_can_be_got_is_pinned() -> None:
    for dataset in DATASETS.values():
        assert re.search(r"/[0-9a-f]{40}/", dataset.address)
        assert dataset.address.startswith("https://")
        assert len(dataset.sha256) == 64
