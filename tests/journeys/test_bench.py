"""The benchmark from the command line."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from clearhead.cli.bench import without_folder
from clearhead.lab.bench import catalogue
from clearhead.lab.bench.workload import Repeat, Sample, Variant, Workload

NANOGPT_MODEL = """
import torch
from dataclasses import dataclass

@dataclass
class GPTConfig:
    block_size: int
    vocab_size: int
    n_layer: int
    n_head: int
    n_embd: int
    dropout: float
    bias: bool

class GPT(torch.nn.Module):
    def __init__(self, config):
        super().__init__()
        print("number of parameters: few")
        self.config, self.table = config, torch.nn.Embedding(config.vocab_size, config.vocab_size)

    def forward(self, tokens, targets):
        logits = self.table(tokens)
        return logits, torch.nn.functional.cross_entropy(logits.flatten(0, 1), targets.flatten())

    def configure_optimizers(self, decay, rate, betas, device):
        return torch.optim.AdamW(self.parameters(), lr=rate, betas=betas, weight_decay=decay)

    def generate(self, tokens, count):
        for _ in range(count):
            tokens = torch.cat((tokens, torch.multinomial(self.table(tokens[:, -1]).softmax(-1), 1)), dim=1)
        return tokens
"""

NANOGPT = {
    "model.py": NANOGPT_MODEL,
    "configurator.py": "",
    "config/train_shakespeare_char.py": "",
    "data/shakespeare_char/prepare.py": """
import os
from array import array
here = os.path.dirname(__file__)
text = open(os.path.join(here, "input.txt")).read()
letters = sorted(set(text))
array("H", map(letters.index, text[len(text) * 9 // 10:])).tofile(open(os.path.join(here, "val.bin"), "wb"))
""",
    "train.py": """
print("step 0: train loss 4.2, val loss 4.3")
print("iter 0: loss 4.2, time 50.00ms, mfu -100.00%")
""",
    "sample.py": """
from model import GPT, GPTConfig
model = GPT(GPTConfig(64, 128, 1, 1, 8, 0.0, False)).eval()
print("---------------")
""",
}


@contextmanager
def instant() -> Iterator[Repeat]:
    yield lambda number: Sample(figures={"seconds": 1.0 + number})


FAKE = Workload(
    name="fake-one",
    group="fake",
    question="How soon?",
    figure="seconds",
    best="lowest",
    variants=lambda _: [Variant(name="ours", prepare=instant)],
    minutes=1.0,
)


def test_the_workloads_are_listed(terminal: Any) -> None:
    assert [each["workload"] for each in terminal.do("bench", "list", "--json").json] == list(catalogue.WORKLOADS)
    assert "decode-0.8M-1" in terminal.do("bench", "list").out


def test_figures_are_printed_kept_and_reported(terminal: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(catalogue.WORKLOADS, FAKE.name, FAKE)
    shown = terminal.do("bench", "fake", "--repetitions", "3", "--out", "kept.json").out
    assert "3.00 (2.00 to 4.00)" in shown
    (found,) = terminal.do("bench", "fake-one", "--json", "--repetitions", "1").json
    assert found["variants"][0]["summary"]["seconds"]["median"] == 2.0
    assert terminal.do("bench", "report", "kept.json", "--to", "page.md").out.strip() == "page.md"
    assert "3.00 (2.00 to 4.00)" in terminal.folder.joinpath("page.md").read_text()


def test_what_is_long_or_lacks_its_text_is_left_out(terminal: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(catalogue, "WORKLOADS", {name: catalogue.WORKLOADS[name] for name in ("level-1.898", "hour")})
    answer = terminal.do("bench", "--json")
    assert answer.json == []
    assert "level-1.898 is left out. There is no shakespeare.txt" in answer.err
    assert "hour" not in answer.err


def test_mistakes_get_a_sentence(terminal: Any) -> None:
    text = terminal.write("shakespeare.txt", "To be, or not.\n" * 50)
    assert 'Did you mean "decode"' in terminal.refused("bench", "decod")
    assert "is not tiny Shakespeare" in terminal.refused("bench", "level")
    assert "is no checkout of nanoGPT" in terminal.refused("bench", "decode-0.8M-1", "--nanogpt", text.parent)
    assert "There are no figures in none.json" in terminal.refused("bench", "report", "none.json")
    terminal.write("other.json", json.dumps({"format": 1}))
    assert "holds no figures" in terminal.refused("bench", "report", "other.json")


@pytest.mark.slow
def test_everything_that_is_not_long_can_be_measured(terminal: Any) -> None:
    for name, source in NANOGPT.items():
        terminal.folder.joinpath("peer", name).parent.mkdir(parents=True, exist_ok=True)
        terminal.folder.joinpath("peer", name).write_text(source)
    text = terminal.write("text.txt", "".join(f"The hen had {i * i % 97} eggs.\n" for i in range(150)))
    names = ("train-0.8M-12", "shares", "decode-0.8M-1", "start", "memory", "level")
    answer = terminal.do(
        *("bench", *names, "--quick", "--threads", "1", "--json", "--text", text),
        *("--nanogpt", "peer", "--transformers", "--train.steps", "2"),
    )
    found = {each["workload"]: each for each in answer.json}
    assert len(found) == 8
    trained = {each["variant"] for each in found["train-0.8M-12"]["variants"]}
    assert trained >= {"ours, fp32", "nanoGPT", "transformers"}
    assert {each["peer"] for each in found["level-1.898"]["ratios"]} == {"nanoGPT"}


@pytest.mark.parametrize(
    ("word", "published"),
    [
        ("/somewhere/else/nanoGPT", "nanoGPT"),
        ("--out=/somewhere/bench.json", "--out=bench.json"),
        ("../nanoGPT", "../nanoGPT"),
        ("--train.steps=110", "--train.steps=110"),
        ("train", "train"),
    ],
)
def test_a_published_command_says_nothing_of_the_folders_of_its_machine(word: str, published: str) -> None:
    assert without_folder(word) == published
