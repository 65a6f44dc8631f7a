"""A small text and places of its own for the tests that make whole runs."""

from pathlib import Path

import pytest

from clearhead.training import assess


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with `text.txt`; runs and cache lie below it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CLEARHEAD_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("CLEARHEAD_RUNS", str(tmp_path / "runs"))
    monkeypatch.setattr(assess, "COPY_SAMPLE_TOKENS", 60)  # less to write than a user gets, for the sake of time
    (tmp_path / "text.txt").write_text("".join(f"line {i} of {i * i % 97} and {i % 7}\n" for i in range(300)))
    return tmp_path
