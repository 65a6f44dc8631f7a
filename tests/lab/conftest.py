"""A small text for studies."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture
def text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The path of a text; runs and cache lie beside it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CLEARHEAD_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("CLEARHEAD_RUNS", str(tmp_path / "runs"))
    file = tmp_path / "my.txt"
    file.write_text("".join(f"line {i} of {i * i % 97} and {i % 7}\n" for i in range(120)))
    return str(file)
