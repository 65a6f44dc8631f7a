from __future__ import annotations

import json
from pathlib import Path

import pytest

from clearhead.cli.main import main
from clearhead.text.tales_language import pairs

SMALL = (
    *("--model.width", "20", "--model.num-heads", "2", "--model.num-encoder-layers", "1"),
    *("--model.num-decoder-layers", "1", "--steps", "3", "--threads", "1", "--tokenizer", "word", "-q"),
)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Train on two files side by side."""
    folder = tmp_path_factory.mktemp("translate")
    made = list(pairs(41, 3))
    (folder / "all.en").write_text("".join(f"{pair.source}\n" for pair in made))
    (folder / "all.xx").write_text("".join(f"{pair.target}\n" for pair in made))
    path = folder / "run"
    arguments = [str(folder / "all.en"), str(folder / "all.xx"), "--task", "translate", "--run", str(path), *SMALL]
    assert main(["train", *arguments]) == 0
    return path


def test_a_text_a_file_and_their_scores(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    assert main(["translate", str(run), "The fox found a kite.", "--beam", "3"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 1
    files = [str(run.parent / name) for name in ("all.en", "all.xx")]
    pytest.importorskip("sacrebleu")
    assert main(["translate", str(run), "--file", files[0], "--against", files[1], "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert len(found["translations"]) == 41
    assert "tok:none" in found["scores"]["signature"]
    assert main(["eval", str(run), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["metrics"]["exact"] == 0.0
    assert main(["eval", str(run)]) == 0
    assert "tok:none" in capsys.readouterr().out
    assert main(["eval", str(run), "--json", *files]) == 0
    other = json.loads(capsys.readouterr().out)
    assert other["split"] == " ".join(files)
    assert other["metrics"] == {name: found["scores"][name] for name in ("bleu", "chrf", "exact")}


def test_what_is_written_is_aligned_with_what_is_read(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    assert main(["look", "attention", str(run), "The fox found a kite.", "--json"]) == 0
    view = json.loads(capsys.readouterr().out)
    assert view["labels"]["key"][-1] == "<|end|>"
    assert "".join(view["labels"]["key"][:-1]) == " The fox found a kite."
    assert view["arrays"]["alignment"]["shape"] == view["arrays"]["pattern"]["shape"]
    assert main(["look", "tokens", str(run), "--json"]) == 0
    assert main(["look", "next-token", str(run), "The fox"]) == 2
    assert "translates and continues no text" in capsys.readouterr().err


def test_mistakes_are_one_sentence(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    short = tmp_path / "short.xx"
    short.write_text("one line\n")
    empty = tmp_path / "empty.en"
    empty.write_text("")
    for arguments, said in {
        ("translate", str(run), "a fox", "--beam", "0"): "--beam",
        ("translate", str(run), "a fox and a hen", "--against", str(short), "--file", str(short)): "TEXT",
        ("translate", str(run), "--file", str(run.parent / "all.en"), "--against", str(short)): "1 line for 41 texts",
        ("translate", str(run), "--file", str(empty), "--against", str(empty)): "There is no text to translate",
        ("sample", str(run)): "clearhead translate",
        ("train", str(short), "--task", "translate"): "short.xx",
    }.items():
        assert main(list(arguments)) == 2
        assert said in capsys.readouterr().err


def test_pairs_can_be_made(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data", "tales", "--kind", "pairs", "--bytes", "300", "--seed", "3"]) == 0
    header, *rows = capsys.readouterr().out.splitlines()
    assert header == "source\ttarget"
    assert rows == [f"{pair.source}\t{pair.target}" for pair in pairs(len(rows), 3)]
    assert main(["data", "tales", "--kind", "pairs", "--bytes", "300", "--seed", "3", "--jsonl"]) == 0
    assert [json.loads(line)["source"] for line in capsys.readouterr().out.splitlines()] == [
        row.split("\t")[0] for row in rows
    ]
