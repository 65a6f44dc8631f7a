"""The study of tokenizers: same text, same time, and a fair measure."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from clearhead.lab.studies import tokenizers
from clearhead.lab.study import Request, run_study
from clearhead.text.tales import tales

CHANGES = {
    "model": {"num_layers": 1, "num_heads": 2, "width": 12, "context_length": 17},
    "train": {"threads": 1, "sequences_per_step": 5, "sample_tokens": 3},
}


@pytest.fixture
def text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("CLEARHEAD_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("CLEARHEAD_RUNS", str(tmp_path / "runs"))
    monkeypatch.setattr(tokenizers, "PAIRS", (tokenizers.PAIRS[0], tokenizers.arm("bpe 311", kind="bpe")))
    monkeypatch.setattr(tokenizers, "OTHERS", tokenizers.OTHERS[:1])
    path = tmp_path / "my.txt"
    path.write_text("\n".join(tale.text for tale in tales(20_000, seed=1)))
    return path


def test_every_tokenizer_gets_the_same_part_of_the_time(text: Path) -> None:
    ran = tokenizers.experiment(Request(texts=(str(text),), seeds=2, minutes=3.0))
    assert {ran.config(arm, 1).train.minutes for arm in ran.arms} == {3.0 / (3 * 2)}
    assert {ran.config(arm, 1).train.steps for arm in ran.arms} == {None}
    kinds = [ran.config(arm, 1).tokenizer for arm in ran.arms]
    assert [config.kind for config in kinds if config] == ["char", "byte", "bpe"]


def test_the_study_sets_bits_per_byte_against_length(text: Path) -> None:
    asked = Request(texts=(str(text),), seeds=1, steps=3, changes=CHANGES)
    result = run_study(tokenizers.STUDY, asked)
    assert result.answer is not None
    rows = {row["tokenizer"]: row for row in result.answer.to_json()["rows"]}
    assert list(rows) == ["char", "byte", "bpe 311"]
    assert rows["byte"]["bytes per token"] == pytest.approx(1, abs=0.01)
    assert rows["byte"]["ids"] == 256
    assert rows["bpe 311"]["bytes per token"] > 1.2
    assert rows["char"]["ids"] == len(set(text.read_text()))
    for row in rows.values():
        # An untrained model takes about log2(V) bits for each token.
        expected = np.log2(row["ids"]) / row["bytes per token"]
        assert row["bits per byte"] == pytest.approx(expected, rel=0.2)
        assert 0 < row["±"] < row["bits per byte"]
        assert row["MB read"] == pytest.approx(3 * 5 * 17 * row["bytes per token"] / 1e6)
    best = min(rows, key=lambda name: rows[name]["bits per byte"])
    assert result.answer.said[0].startswith(f"{best} ended lowest")
    assert result.answer.chart is not None
    assert [line.name for line in result.answer.chart.lines] == ["byte pairs", "char"]
    assert len(result.answer.chart.lines[0].x) == 2
    assert "as many steps" in result.answer.notes[0]


def test_nothing_is_said_of_runs_that_broke_off(text: Path) -> None:
    nan = tokenizers.Estimate(float("nan"), float("nan"), float("nan"), float("nan"), 1)
    assert tokenizers.said({}, {"char": nan}) == ("No run came to its end.",)
