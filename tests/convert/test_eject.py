"""Ejected code is read by people and run without this program, and computes the same."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch

from clearhead.convert import eject as ejecting
from clearhead.convert.eject import eject, render, self_test
from clearhead.core.errors import UserError
from clearhead.model import shapes
from clearhead.model.config import (
    BigramConfig,
    FeedForwardConfig,
    GptConfig,
    LayerNormConfig,
    NoPositionsConfig,
    RMSNormConfig,
    SwiGLUConfig,
)
from clearhead.store.load import Loaded
from clearhead.text.bpe import BpeTokenizer
from clearhead.text.tokenizer import ByteTokenizer, CharTokenizer, Tokenizer, WordTokenizer

TEXT = 'The cat\'s 12 eggs\nwere "new", she said.\nÀ la carte, 数 of them! So it sang.\n' * 9
LETTERS = "".join(chr(code) for code in (*range(32, 127), *range(0x400, 0x460), 10, 0x2028))
STRINGS = ["", "The eggs", "\n\n", "Àé数\U0001f95a <|end|>", "it's  12\t"]
SMALL = {"num_layers": 2, "num_heads": 4, "width": 24, "context_length": 11}

CHAR = CharTokenizer.train([TEXT], unknown="refuse", end=False)
SPELLING = CharTokenizer(LETTERS, unknown="bytes", end=True)
BPE = BpeTokenizer.train([TEXT], vocabulary_size=290, end=True)

MODELS: dict[str, tuple[GptConfig, Tokenizer]] = {
    "tiny": (replace(shapes.tiny(), **SMALL), CHAR),
    "modern": (replace(shapes.modern(), **SMALL, num_kv_heads=1), SPELLING),
    "lecture": (replace(shapes.lecture_large(), **SMALL), CharTokenizer('\n" .Tehcnatgs', unknown="refuse", end=False)),
    "gpt2": (replace(shapes.gpt2(), **SMALL), BPE),
    "llama": (replace(shapes.llama(), **SMALL, num_kv_heads=2), ByteTokenizer(end=False)),
    "every-other-part": (
        replace(
            shapes.modern(),
            **SMALL,
            positions=NoPositionsConfig(),
            norm=LayerNormConfig(bias=False, epsilon=0.01),
            feed_forward=FeedForwardConfig(factor=1.7),
            convolution=2,
            bias=True,
            tied_head=True,
            logit_softcap=2.5,
        ),
        ByteTokenizer(end=True),
    ),
    "one-of-each": (
        replace(
            shapes.llama(1, 1, 14, 7),
            num_kv_heads=1,
            norm=RMSNormConfig(epsilon=0.3, gain=True),
            feed_forward=SwiGLUConfig(factor=0.1),
            qk_norm=True,
            tied_head=True,
        ),
        CHAR,
    ),
}

DRIVER = """
import json, runpy, sys
sys.modules["clearhead"] = None
import torch
found = {}
for folder, strings, tokens in json.load(sys.stdin):
    code = runpy.run_path(f"{folder}/model.py", run_name="ejected")
    ids = [code["encode"](string) for string in strings]
    decoded = [code["decode"](each) for each in ids]
    found[folder] = {"ids": ids, "decoded": decoded, "logits": code["load"]()(torch.tensor(tokens)).tolist()}
    sys.argv = ["model.py", "--test"]
    try:
        runpy.run_path(f"{folder}/model.py", run_name="__main__")
    except SystemExit as ended:
        assert not ended.code
print(json.dumps(found))
"""


@dataclass(frozen=True)
class Ejected:
    """An ejected folder, the run it was made of, and what its code answers."""

    folder: Path
    loaded: Loaded
    result: dict[str, Any]
    strings: list[str]
    tokens: torch.Tensor
    answer: dict[str, Any]


@pytest.fixture(scope="module")
def without_self_test() -> Iterator[None]:
    """Spare the process that each folder is tested with; one process tests them all here."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ejecting, "self_test", lambda code: "The logits differ by at most 0.")
        yield


@pytest.fixture(scope="module")
def ejected(
    make_run: Callable[..., Loaded], tmp_path_factory: pytest.TempPathFactory, without_self_test: None
) -> dict[str, Ejected]:
    """Eject every model, and ask all of them in one process that has no clearhead."""
    made, root = {}, tmp_path_factory.mktemp("ejected")
    for name, (config, tokenizer) in MODELS.items():
        loaded = make_run(config, tokenizer, name)
        folder = root / f"{name}-eject"
        strings = [tokenizer.drop_unknown(string)[0] for string in STRINGS]
        generator = torch.Generator().manual_seed(2)
        tokens = torch.randint(tokenizer.vocabulary_size, (2, config.context_length), generator=generator)
        made[name] = Ejected(folder, loaded, eject(loaded, folder), strings, tokens, {})
    asked = [(str(each.folder), each.strings, each.tokens.tolist()) for each in made.values()]
    command = [sys.executable, "-W", "error", "-c", DRIVER]
    done = subprocess.run(command, input=json.dumps(asked), text=True, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    answers = json.loads(done.stdout.splitlines()[-1])
    return {name: replace(each, answer=answers[str(each.folder)]) for name, each in made.items()}


def test_every_model_computes_the_same_and_reads_well(ejected: dict[str, Ejected]) -> None:
    for name, each in ejected.items():
        logits = each.loaded.model(each.tokens)
        assert (torch.tensor(each.answer["logits"]) - logits).abs().max() <= 1e-5, name
        tokenizer = each.loaded.tokenizer
        assert each.answer["ids"] == [tokenizer.encode(string).tolist() for string in each.strings], name
        assert each.answer["decoded"] == each.strings, name
        code = (each.folder / "model.py").read_text()
        assert 80 <= code.count("\n") == each.result["lines"] <= 200, name
        assert "#:" not in code
    ruff = [sys.executable, "-m", "ruff"]
    for check in (["check", "--isolated", "--select", "E,F,W,I,UP,B"], ["format", "--isolated", "--check"]):
        files = [str(each.folder / "model.py") for each in ejected.values()]
        assert subprocess.run([*ruff, *check, *files], capture_output=True, check=False).returncode == 0


def test_only_parts_in_use_are_written(ejected: dict[str, Ejected]) -> None:
    code = {name: (each.folder / "model.py").read_text() for name, each in ejected.items()}
    words = ["def rotate", "class Convolution", "NUM_KV_HEADS", "self.gate", "F.relu", "F.gelu", "tanh(logits", "END"]
    used = {name: [word for word in words if word in text] for name, text in code.items()}
    assert used == {
        "tiny": ["def rotate", "class Convolution", "self.gate", "tanh(logits"],
        "modern": ["def rotate", "class Convolution", "NUM_KV_HEADS", "self.gate", "tanh(logits", "END"],
        "lecture": ["F.relu"],
        "gpt2": ["F.gelu", "END"],
        "llama": ["def rotate", "NUM_KV_HEADS", "self.gate"],
        "every-other-part": ["class Convolution", "F.relu", "tanh(logits", "END"],
        "one-of-each": ["def rotate", "self.gate"],
    }


def test_the_folder_holds_what_it_needs_and_a_card(ejected: dict[str, Ejected]) -> None:
    always = {"model.py", "model.safetensors", "test.safetensors", "README.md", "manifest.json"}
    extra = {name: {file.name for file in each.folder.iterdir()} - always for name, each in ejected.items()}
    stored = {"modern": {"characters.txt"}, "gpt2": {"tokenizer.json"}}
    assert extra == {name: stored.get(name, set()) for name in ejected}
    card = (ejected["tiny"].folder / "README.md").read_text()
    assert "1.2345" in card
    assert "tale.txt" in card
    assert "secret folder" not in card


def test_code_that_computes_something_else_fails_its_own_test(ejected: dict[str, Ejected], tmp_path: Path) -> None:
    folder = shutil.copytree(ejected["tiny"].folder, tmp_path / "broken")
    code = (folder / "model.py").read_text()
    (folder / "model.py").write_text(code.replace("triu(1)", "triu(2)"))
    with pytest.raises(UserError, match="does not compute the same"):
        self_test(folder / "model.py")


def test_what_the_code_has_no_words_for_is_refused_by_name(make_run: Callable[..., Loaded], tmp_path: Path) -> None:
    words = WordTokenizer.train([TEXT], vocabulary_size=50, unknown="bytes", end=False)
    with pytest.raises(UserError, match='tokenizer of kind "word"'):
        eject(make_run(replace(shapes.tiny(), **SMALL), words, "words"), tmp_path / "out")
    with pytest.raises(UserError, match='is a model of kind "bigram"'):
        eject(make_run(BigramConfig(), CHAR, "bigram"), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_part_that_the_code_does_not_know_is_refused(
    make_run: Callable[..., Loaded], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ejecting, "PARTS", ejecting.PARTS - {"qk_norm"})
    with pytest.raises(UserError, match=r"model\.qk_norm = false cannot be ejected"):
        eject(make_run(replace(shapes.llama(), **SMALL), CHAR), tmp_path / "out")


def test_no_name_of_a_text_becomes_code(
    make_run: Callable[..., Loaded], tmp_path: Path, without_self_test: None
) -> None:
    sources = [{"name": '"""\nimport os\n"""\\', "bytes": 1}]
    loaded = make_run(replace(shapes.tiny(), **SMALL), CHAR, sources=sources)
    eject(loaded, tmp_path / "out")
    code = (tmp_path / "out" / "model.py").read_text()
    assert "import os" not in code
    compile(code, "model.py", "exec")


def test_the_choices_of_a_template() -> None:
    template = "a  #: one\nb  #: not one\n  #: if two\nc\n  #: end\nd = $value\n"
    assert render(template, {"one": True, "two": False}, {"value": 3}) == "a\nd = 3\n"
    assert render(template, {"one": False, "two": True}, {"value": 3}) == "b\nc\nd = 3\n"
