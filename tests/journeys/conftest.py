"""A place to type commands in, and one small trained run that the journeys share."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from clearhead.cli.main import main
from clearhead.text import origin
from clearhead.training import assess, language

SMALL = [
    *("--preset", "tiny", "--threads", "1"),
    *("--model.num_layers", "1", "--model.num_heads", "2", "--model.width", "12", "--model.context_length", "17"),
    *("--train.sequences_per_step", "5", "--train.sample_tokens", "3", "--train.keep", "newest"),
]
"""Flags that make a model which trains in an instant."""

STEPS = 20


def story(lines: int) -> str:
    """Return a text of few letters with something to learn in it."""
    animals = ["cat", "dog", "hen", "fox"]
    return "".join(f"The {animals[i % 4]} had {i * i % 97} eggs.\nSo it sang.\n" for i in range(lines))


@dataclass(frozen=True, slots=True)
class Answer:
    """What a command printed, and its exit code."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """Everything on standard output, as one JSON value."""
        return json.loads(self.out)


@dataclass(frozen=True, slots=True)
class Terminal:
    """A folder in which commands are typed."""

    folder: Path
    capture: pytest.CaptureFixture[str]
    small: tuple[str, ...] = tuple(SMALL)

    def type(self, *arguments: str | Path) -> Answer:
        """Run a command line, as the shell would, in this process."""
        self.capture.readouterr()
        try:
            code = main([str(argument) for argument in arguments])
        except SystemExit as ended:  # argparse's way after --help
            code = int(ended.code or 0)
        printed = self.capture.readouterr()
        return Answer(code, printed.out, printed.err)

    def do(self, *arguments: str | Path) -> Answer:
        """Run a command that must succeed."""
        answer = self.type(*arguments)
        assert answer.code == 0, answer.err
        assert "Traceback" not in answer.err
        return answer

    def refused(self, *arguments: str | Path) -> str:
        """Run a command that must be refused in one sentence, with nothing changed; return the sentence."""
        before = self.contents()
        answer = self.type(*arguments)
        sentences = [line for line in answer.err.splitlines() if line.startswith("clearhead: ")]
        assert (answer.code, len(sentences)) == (2, 1), answer
        assert answer.err.endswith(f"{sentences[0]}\n")
        assert "Traceback" not in answer.err
        assert self.contents() == before
        return sentences[0].removeprefix("clearhead: ")

    def train(self, *arguments: str | Path, evaluate_every: int = 2) -> Answer:
        """Train a small model for a moment."""
        return self.do("train", *SMALL, "--train.evaluate_every", str(evaluate_every), *arguments)

    def write(self, name: str, content: str | bytes) -> Path:
        """Put a file there."""
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    def contents(self) -> dict[str, str]:
        """Return every file there, with the hash of what is in it."""
        files = sorted(path for path in self.folder.rglob("*") if path.is_file())
        return {str(file.relative_to(self.folder)): hashlib.sha256(file.read_bytes()).hexdigest() for file in files}


@pytest.fixture(autouse=True)
def brief_endings(monkeypatch: pytest.MonkeyPatch) -> None:
    """Read and write less than a user gets, for the sake of time."""
    monkeypatch.setattr(origin, "TALES_BYTES", 60_000)
    monkeypatch.setattr(assess, "COPY_SAMPLE_TOKENS", 60)
    monkeypatch.setattr(language, "END_SAMPLE_TOKENS", 40)


@pytest.fixture(scope="session")
def shared_runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The runs folder with the one run `story-1` in it, and its text beside it."""
    folder = tmp_path_factory.mktemp("shared")
    (folder / "story.txt").write_text(story(300))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CLEARHEAD_RUNS", str(folder / "runs"))
        patch.setenv("CLEARHEAD_CACHE", str(folder / "cache"))
        flags: Sequence[str] = [*SMALL, "--steps", str(STEPS), "--train.evaluate_every", "5", "--quiet"]
        assert main(["train", str(folder / "story.txt"), *flags]) == 0
    return folder / "runs"


@pytest.fixture
def terminal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Terminal:
    """A terminal in an empty folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CLEARHEAD_RUNS", "runs")
    monkeypatch.setenv("CLEARHEAD_CACHE", str(tmp_path.parent / f"{tmp_path.name}-cache"))
    monkeypatch.delenv("COLUMNS", raising=False)
    return Terminal(tmp_path, capsys)


@pytest.fixture
def trained(shared_runs: Path) -> str:
    """The shared run, for commands that leave it as it is."""
    return str(shared_runs / "story-1")


@pytest.fixture
def own_run(shared_runs: Path, terminal: Terminal) -> Path:
    """A copy of the shared run to do what one likes with, `story-1` in the terminal's runs folder."""
    return shutil.copytree(shared_runs / "story-1", terminal.folder / "runs" / "story-1")
