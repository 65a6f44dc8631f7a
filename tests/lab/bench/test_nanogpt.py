"""nanoGPT as a peer, played by a folder that only looks like it."""

from __future__ import annotations

import importlib
import sys
from functools import partial
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from clearhead.core.errors import UserError
from clearhead.lab.bench import nanogpt, speed
from clearhead.lab.bench.workload import Request
from clearhead.model.build import build_model
from clearhead.model.config import GptConfig
from clearhead.text import shards
from clearhead.training.evaluate import Evaluator

SCRIPTS = {
    "model.py": "",
    "configurator.py": "",
    "config/train_shakespeare_char.py": "",
    "sample.py": "import tiktoken",
    "data/shakespeare_char/prepare.py": """
import os, requests
here = os.path.dirname(__file__)
open(os.path.join(here, "val.bin"), "w").write(open(os.path.join(here, "input.txt")).read())
""",
    "train.py": """
import sys
if "--fail=True" in sys.argv:
    raise SystemExit("it does not work")
print("step 0: train loss 4.2000, val loss 4.3000")
print("iter 0: loss 4.2, time 500.00ms, mfu -100.00%")
print("iter 1: loss 4.1, time 40.00ms, mfu -100.00%")
print("iter 2: loss 4.0, time 60.00ms, mfu -100.00%")
print("step 3: train loss 3.9000, val loss 4.0000")
print("iter 3: loss 3.9, time 700.00ms, mfu 0.10%")
print(open("data/shakespeare_char/val.bin").read())
print(" ".join(sys.argv[1:]))
""",
}


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    folder = tmp_path / "nanoGPT"
    for name, source in SCRIPTS.items():
        folder.joinpath(name).parent.mkdir(parents=True, exist_ok=True)
        folder.joinpath(name).write_text(source)
    return folder


def test_its_commands_run_in_a_copy_with_our_text(checkout: Path, tmp_path: Path) -> None:
    text = tmp_path / "my.txt"
    text.write_text("to be or not")
    with nanogpt.prepared(checkout, text, threads=1) as peer:
        ended = peer.train("--max_iters=3", word="iter 1:")
        assert "to be or not" in ended.said
        assert "config/train_shakespeare_char.py --device=cpu" in ended.said
        assert ended.said.strip().endswith("--max_iters=3")
        assert ended.until_said is not None
        assert 0 < ended.until_said <= ended.seconds
        peer.sample()
        with pytest.raises(UserError, match="exit code 1: it does not work"):
            peer.train("--fail=True")
        copy = peer.folder
    assert not copy.exists()
    assert {str(path.relative_to(checkout)) for path in checkout.rglob("*.*")} == set(SCRIPTS)


def test_its_log_is_read_without_its_evaluations(checkout: Path, tmp_path: Path) -> None:
    text = tmp_path / "my.txt"
    text.write_text("to be")
    with nanogpt.prepared(checkout, text, threads=1) as peer:
        log = nanogpt.read_log(peer.train().said)
    # Steps 0 and 3 hold evaluations, so they count as the median of all: (60 + 500) / 2 ms.
    assert log.step_seconds == pytest.approx(0.28 + 0.04 + 0.06 + 0.28)
    assert list(log.curve) == [(0.0, 4.3), (pytest.approx(0.38), 4.0)]


@pytest.mark.parametrize(
    "variants", [partial(speed.training_on_gpu, "124M", 2, 3), partial(speed.decoding_on_gpu, "124M", 2)]
)
def test_on_a_gpu_it_is_told_the_device_that_we_are(variants: Any, checkout: Path) -> None:
    found = variants(Request(threads=1, nanogpt=checkout))
    assert {each.ours for each in found} == {True, False}
    assert {each.prepare.args[1]["device"] for each in found} == {"cuda"}


def test_another_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"it has no train.py"):
        nanogpt.require_nanogpt(tmp_path)


class TheirGpt(torch.nn.Module):
    """Our model as nanoGPT's is called: its loss is a mean."""

    def __init__(self, inner: Any) -> None:
        super().__init__()
        self.inner, self.config = inner, SimpleNamespace(block_size=inner.context_length)

    def forward(self, tokens: torch.Tensor, targets: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        assert tokens.size(1) <= self.config.block_size
        logits = self.inner(tokens)
        return logits, F.cross_entropy(logits.flatten(0, 1), targets.flatten())


@pytest.mark.parametrize("num_tokens", [12, 23, 7 * 64 + 3, 7 * 71 + 1])
def test_its_models_are_scored_by_our_rule(monkeypatch: pytest.MonkeyPatch, num_tokens: int) -> None:
    stub: Any = ModuleType("model")
    stub.GPT = stub.GPTConfig = None
    monkeypatch.setitem(sys.modules, "model", stub)
    peer = importlib.import_module("clearhead.lab.bench.nanogpt_worker")
    config = GptConfig(num_layers=1, num_heads=1, width=6, context_length=7, initialization="normal", tied_head=True)
    model = build_model(config, 13, seed=3).eval()
    tokens = np.random.default_rng(1).integers(13, size=num_tokens)
    ours = Evaluator(shards.in_memory(tokens.astype(np.int32), 13), 7, None).score(model)
    assert peer.mean_nats(TheirGpt(model), tokens) == pytest.approx(ours.nats_per_token, abs=1e-6)
    # A rule that forgets the short last window, or scores the first token too, is another one.
    assert peer.mean_nats(TheirGpt(model), tokens[:-1]) != pytest.approx(ours.nats_per_token, abs=1e-6)
