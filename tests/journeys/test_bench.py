"""The benchmark from the command line."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest
import torch

from clearhead.cli.bench import without_folder
from clearhead.lab.bench import catalogue, runner, stored
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


def beside_peer(_: Any) -> list[Variant]:
    return [Variant(name="ours", prepare=instant), Variant(name="peer", ours=False, prepare=instant)]


def test_better_figures_are_not_lost_unasked(terminal: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(catalogue.WORKLOADS, FAKE.name, replace(FAKE, variants=beside_peer))
    again = ("bench", FAKE.name, "--out", "kept.json")
    terminal.do(*again, "--quick")
    assert "has figures of fake-one already" in terminal.do(*again, "--repetitions", "3").err
    assert "holds figures of full length" in terminal.refused(*again, "--quick")
    assert "holds figures of full length" in terminal.refused(*again, "--quick", "--replace")
    assert "has 3 repetitions of fake-one, and these would be 2" in terminal.refused(*again, "--repetitions", "2")
    monkeypatch.setitem(catalogue.WORKLOADS, FAKE.name, FAKE)
    assert "has figures of peer in fake-one" in terminal.refused(*again, "--repetitions", "3")
    terminal.do(*again, "--repetitions", "2", "--replace")
    assert len(stored.read(terminal.folder / "kept.json")[FAKE.name]["variants"][0]["samples"]) == 2
    assert "give both, or neither" in terminal.refused("bench", FAKE.name, "--replace")


def never(*_: Any, **__: Any) -> Any:
    raise AssertionError("it was measured")


def test_a_place_that_takes_no_figures_is_refused_before_anything_is_measured(
    terminal: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(catalogue.WORKLOADS, FAKE.name, FAKE)
    monkeypatch.setattr(runner, "interleaved", never)
    terminal.write("other.json", json.dumps({"format": 1}))
    terminal.write("text.txt", "To be")
    for out, sentence in {
        "none/kept.json": "There is no folder none",
        terminal.folder: "is a folder",
        "": "is a folder",
        "text.txt": "is not valid JSON",
        "other.json": "holds no figures",
    }.items():
        assert sentence in terminal.refused("bench", FAKE.name, "--out", out)


def test_a_page_is_not_written_by_half(terminal: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(catalogue.WORKLOADS, FAKE.name, replace(FAKE, variants=trained))
    terminal.do("bench", FAKE.name, "--out", "kept.json")
    terminal.folder.joinpath("pages").mkdir()
    assert "pages is a folder" in terminal.refused("bench", "report", "kept.json", "--to", "pages")
    assert "There is no folder none" in terminal.refused("bench", "report", "kept.json", "--to", "none/page.md")
    assert "holds the figures themselves" in terminal.refused("bench", "report", "kept.json", "--to", "./kept.json")
    terminal.folder.joinpath("page-fake-one.svg").mkdir()
    assert "page-fake-one.svg is a folder" in terminal.refused("bench", "report", "kept.json", "--to", "page.md")


@contextmanager
def ended_badly() -> Iterator[Repeat]:
    figures = {"seconds": 1.0, "step_seconds": 2.0, "nats_per_character": math.nan}
    yield lambda _: Sample(figures=figures, curve=[(1.0, 3.0), (2.0, math.nan)])


def trained(_: Any) -> list[Variant]:
    return [Variant(name="ours", prepare=ended_badly), Variant(name="peer", ours=False, prepare=ended_badly)]


def test_a_loss_that_is_no_number_is_told(terminal: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    workload = replace(FAKE, variants=trained, figure="nats_per_character")
    monkeypatch.setitem(catalogue.WORKLOADS, FAKE.name, workload)
    out = terminal.do("bench", FAKE.name, "--repetitions", "1", "--out", "kept.json").out
    assert "The nats per character of peer and ours cannot be compared" in out
    assert "1 repetition in" in out
    terminal.do("bench", "report", "kept.json", "--to", "page.md")
    assert "| peer | not a number |" in terminal.folder.joinpath("page.md").read_text()


def test_what_is_long_or_lacks_its_text_is_left_out(terminal: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(catalogue, "WORKLOADS", {name: catalogue.WORKLOADS[name] for name in ("level-1.898", "hour")})
    answer = terminal.do("bench", "--json")
    assert answer.json == []
    assert "level-1.898 is left out. There is no shakespeare.txt" in answer.err
    assert "hour" not in answer.err


def test_what_needs_a_gpu_is_measured_on_one_or_not_at_all(terminal: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    on_gpu = replace(FAKE, name="fake-gpu", needs_gpu=True)
    monkeypatch.setattr(catalogue, "WORKLOADS", {each.name: each for each in (FAKE, on_gpu)})
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    answer = terminal.do("bench", "--repetitions", "1", "--json")
    assert [each["workload"] for each in answer.json] == ["fake-one"]
    assert "Left out are fake-gpu: torch finds no CUDA GPU here." in answer.err
    assert "fake-gpu: torch finds no CUDA GPU here. Leave them out." in terminal.refused("bench", "fake-gpu")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda _: "a large GPU")
    assert "a large GPU" in terminal.do("bench", "fake-gpu", "--repetitions", "1").out


def test_a_peer_that_no_chosen_workload_has_is_told(terminal: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(catalogue.WORKLOADS, FAKE.name, FAKE)
    answer = terminal.do("bench", FAKE.name, "--transformers", "--repetitions", "1")
    assert "transformers is not measured: none of the chosen workloads has it." in answer.err
    assert "not measured" not in terminal.do("bench", FAKE.name, "--repetitions", "1").err


def test_mistakes_get_a_sentence(terminal: Any) -> None:
    text = terminal.write("shakespeare.txt", "To be, or not.\n" * 50)
    assert 'Did you mean "decode"' in terminal.refused("bench", "decod")
    assert "is not tiny Shakespeare" in terminal.refused("bench", "level")
    assert "is no checkout of nanoGPT" in terminal.refused("bench", "decode-0.8M-1", "--nanogpt", text.parent)
    assert "There are no figures in none.json" in terminal.refused("bench", "report", "none.json")
    terminal.write("other.json", json.dumps({"format": 1}))
    assert "holds no figures" in terminal.refused("bench", "report", "other.json")


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ("start-help --train.stepz 3", "Nothing that is measured here has a use for --train.stepz"),
        ("level --train.stepz 3", 'Did you mean "train.steps"'),
        ("level --train.steps abc", "train.steps must be a whole number"),
        ("level --train.steps 3 --train.steps 4", "train.steps is given twice"),
        ("level --train.threads 4096", "must lie between 1 and"),
        ("level --train.device nowhere", "The device nowhere is not available"),
        ("budget level --train.tokens 4096", "leave --train.tokens out"),
        ("start-help --threads 4096", "--threads must lie between 1 and"),
        ("start-help --nanogpt .", "is no checkout of nanoGPT"),
    ],
)
def test_settings_are_checked_before_anything_is_measured(
    terminal: Any, monkeypatch: pytest.MonkeyPatch, words: str, sentence: str
) -> None:
    monkeypatch.setattr(runner, "interleaved", never)
    terminal.write("shakespeare.txt", "To be, or not.\n" * 50)
    assert sentence in terminal.refused("bench", *words.split(), "--quick", "--out", "kept.json")


@pytest.mark.slow
def test_everything_that_is_not_long_can_be_measured(terminal: Any) -> None:
    for name, source in NANOGPT.items():
        terminal.folder.joinpath("peer", name).parent.mkdir(parents=True, exist_ok=True)
        terminal.folder.joinpath("peer", name).write_text(source)
    text = terminal.write("text.txt", "".join(f"The hen had {i * i % 97} eggs.\n" for i in range(150)))
    names = ("train-0.8M-12", "shares", "decode-0.8M-1", "start", "memory", "level", "budget")
    answer = terminal.do(
        *("bench", *names, "--quick", "--threads", "1", "--json", "--text", text),
        *("--nanogpt", "peer", "--transformers", "--train.sample_tokens", "2"),
    )
    found = {each["workload"]: each for each in answer.json}
    assert len(found) == 9
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
