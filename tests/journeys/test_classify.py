"""A classifier from its table to its choices, through the command line."""

from __future__ import annotations

import io
import json
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest

from clearhead.text.tales_sentiment import sentiments

if TYPE_CHECKING:
    from conftest import Terminal


SMALL = [
    *("--task", "classify", "--threads", "1", "--model.num_layers", "1", "--model.num_heads", "2"),
    *("--model.width", "12", "--train.sequences_per_step", "16", "--train.evaluate_every", "5"),
]


@pytest.fixture
def table(terminal: Terminal) -> Path:
    return terminal.write("said.tsv", "".join(f"{said.text}\t{said.label}\n" for said in sentiments(150, 3)))


@pytest.fixture
def classifier(terminal: Terminal, table: Path) -> str:
    terminal.do("train", table, *SMALL, "--steps", "6", "--quiet")
    return "said-1"


def test_training_tells_accuracy_and_what_to_do_next(terminal: Terminal, table: Path) -> None:
    answer = terminal.do("train", table, *SMALL, "--steps", "6")
    for said in ("guessing among 2 labels", "accuracy", "bag of words", "most frequent label", "nats per label"):
        assert said in answer.out
    assert 'classify said-1 "a text of yours"' in answer.out
    page = (terminal.folder / "runs" / "said-1" / "report.html").read_text()
    for said in ("nats per label", "accuracy", "What is taken for what", "How sure", "What it chooses"):
        assert said in page
    shown = terminal.do("runs", "show", "said-1", "--json").json
    assert shown["config"]["task"]["kind"] == "classify"
    assert shown["metrics"]["accuracy"] > 0


@pytest.mark.slow
def test_stop_and_resume(terminal: Terminal, table: Path) -> None:
    terminal.do("train", table, *SMALL, "--steps", "6", "--stop-after", "3", "--quiet")
    resumed = terminal.do("train", "--resume", "said-1")
    assert "exact" in resumed.err
    assert terminal.do("train", table, *SMALL, "--steps", "6", "--json").json["step"] == 6


def test_a_classifier_is_used_and_scored(
    terminal: Terminal, classifier: str, table: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked = terminal.do("look", "attention", classifier, "The cake was good.", "--json").json
    assert looked["arrays"]["allowed"]["values"] == [[True] * 5] * 5
    assert "chooses a label" in terminal.refused("look", "lens", classifier)
    label, probability = terminal.do("classify", classifier, "The cake was good.").out.split()
    assert label in ("bad", "good")
    assert 0.5 <= float(probability) <= 1.0
    terminal.write("lines.txt", "The cake was good.\n\nThe hat was bad.\n")
    lines = terminal.do("classify", classifier, "--file", "lines.txt").out.splitlines()
    assert [line.split("\t")[2] for line in lines] == ["The cake was good.", "The hat was bad."]
    found = terminal.do("classify", classifier, "--file", "lines.txt", "--json").json
    assert [each["label"] for each in found] == [line.split("\t")[0] for line in lines]
    assert sum(found[0]["probabilities"].values()) == pytest.approx(1.0)
    monkeypatch.setattr("sys.stdin", SimpleNamespace(buffer=io.BytesIO(b"The hat was bad.\n")))
    assert terminal.do("classify", classifier, "-").out.split("\t")[0] == lines[1].split("\t")[0]
    own = terminal.do("eval", classifier, "--json").json
    assert {"metrics", "confusion", "calibration", "baselines", "nats_per_token"} <= set(own)
    assert terminal.do("eval", classifier, table, "--json").json["tokens_scored"] == 150
    printed = terminal.do("eval", classifier).out
    for said in ("accuracy", "bag of words", "How often a label", "calibration error"):
        assert said in printed
    assert f"{own['metrics']['accuracy']:.2%}" in printed
    assert "⟨" not in printed  # no invisible character stood in a table
    assert "has the label 'fine'" in terminal.refused("eval", classifier, terminal.write("x.tsv", "a\tfine\n"))


def test_mistakes_are_told_in_a_sentence(terminal: Terminal, classifier: str, trained: str, table: Path) -> None:
    assert "was trained with --task classify" in terminal.refused("sample", classifier)
    assert "was trained with --task lm" in terminal.refused("classify", trained, "x")
    assert "give a TEXT" in terminal.refused("classify", classifier)
    assert "is empty" in terminal.refused("classify", classifier, " ")
    assert "no column grade" in terminal.refused("train", table, *SMALL, "--task.label", "grade")


def test_the_tales_sentences_are_written(terminal: Terminal) -> None:
    written = terminal.do("data", "tales", "--kind", "sentiment", "--bytes", "3000", "--seed", "3").out
    header, *rows = written.splitlines()
    assert header == "text\tlabel"
    assert rows == [f"{said.text}\t{said.label}" for said in list(sentiments(200, 3))[: len(rows)]]
    objects = terminal.do("data", "tales", "--kind", "sentiment", "--bytes", "300", "--jsonl").out.splitlines()
    assert set(json.loads(objects[0])) == {"text", "label"}
