"""Models leave the program and come back: export and import as their users meet them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from conftest import Terminal


@pytest.mark.parametrize("preset", ["llama", "gpt2"])
def test_out_to_transformers_and_back(preset: str, terminal: Terminal) -> None:
    text = terminal.write("tale.txt", "The cat had seven eggs.\nSo it sang all day.\n" * 60)
    terminal.train(text, "--preset", preset, "--steps", "2", "--run", "runs/mine", "--model.convolution", "1")
    out = terminal.do("export", "mine", "hf").out
    assert out.startswith("Written: mine-hf\n")
    assert "1,000 strings have the same ids" in out
    made = terminal.do("import", "hf", "mine-hf", "--json").json
    assert made["run"] == "mine-hf-1"
    assert made["imported"]["model_type"] == preset
    same = [terminal.do("sample", run, "The", "--num-tokens", "9", "--quiet").out for run in ("mine", "mine-hf-1")]
    assert same[0] == same[1]
    scored = [terminal.do("eval", run, text, "--json").json["nats_per_token"] for run in ("mine", "mine-hf-1")]
    assert scored[0] == pytest.approx(scored[1], abs=1e-5)
    assert "imported" in terminal.do("runs", "show", "mine-hf-1").out
    assert "imported" in terminal.do("runs", "list").out
    assert "imported" in (terminal.folder / "runs" / "mine-hf-1" / "report.html").read_text()
    assert "was imported" in terminal.refused("train", "--resume", "mine-hf-1")
    assert "exists already" in terminal.refused("export", "mine", "hf")
    assert "exists already" in terminal.refused("import", "hf", "mine-hf", "--run", "runs/mine")


def test_eject_and_run_without_the_program(trained: str, terminal: Terminal) -> None:
    told = terminal.do("export", trained, "eject", "--to", "alone", "--json").json
    assert 80 <= told["lines"] <= 200
    assert told["parity"]["largest_difference"] <= 1e-5
    # Isolated from here: the file stands on its own.
    done = subprocess.run(
        [sys.executable, "-W", "error", "model.py", "The cat"],
        cwd=terminal.folder / "alone",
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.startswith("The cat")
    assert len(done.stdout) >= 300


def test_what_cannot_leave_is_refused_in_a_sentence(trained: str, terminal: Terminal) -> None:
    said = terminal.refused("export", trained, "hf")
    assert "model.qk_norm = true" in said
    assert "--preset llama" in said
    assert "clearhead export RUN eject" in said
    assert "must be one of 'hf', 'eject'" in terminal.refused("export", trained, "onnx")


def test_what_cannot_come_in_is_refused_in_a_sentence(terminal: Terminal) -> None:
    terminal.write("theirs/config.json", '{"model_type": "gpt2"}')
    terminal.write("theirs/pytorch_model.bin", b"\x80\x02}q\x00.")
    assert "is a pickle" in terminal.refused("import", "hf", "theirs")
    assert "There is no folder" in terminal.refused("import", "hf", Path("nowhere"))
    assert "has no action gguf" in terminal.refused("import", "gguf", "theirs")
