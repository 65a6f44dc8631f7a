"""What is exported loads elsewhere, computes the same there, and comes back the same."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from clearhead.convert import export as exporting
from clearhead.convert import parity
from clearhead.convert.export import export_folder
from clearhead.convert.folder import import_folder
from clearhead.convert.parity import probe_strings, prompt_of
from clearhead.core.errors import UserError
from clearhead.core.files import sha256, verify_folder
from clearhead.model import shapes
from clearhead.model.config import GptConfig
from clearhead.store.load import Loaded, load
from clearhead.text.bpe import BpeTokenizer
from clearhead.text.tokenizer import ByteTokenizer, CharTokenizer, Tokenizer

TEXT = "The cat's 12 eggs were new, she said.\nÀ la carte, 数 of them! So it sang.\n" * 9
SMALL = {"num_layers": 2, "num_heads": 4, "width": 24, "context_length": 11}
CHAR = CharTokenizer.train([TEXT], unknown="refuse", end=False)
MODELS: dict[str, tuple[GptConfig, Tokenizer]] = {
    "gpt2-bpe": (replace(shapes.gpt2(), **SMALL), BpeTokenizer.train([TEXT], vocabulary_size=290, end=True)),
    "llama-char": (replace(shapes.llama(), **SMALL, num_kv_heads=2), CHAR),
    "lecture-byte": (replace(shapes.lecture(), **SMALL), ByteTokenizer(end=True)),
}


@pytest.fixture(scope="module", params=list(MODELS))
def exported(
    request: pytest.FixtureRequest, make_run: Callable[..., Loaded], tmp_path_factory: pytest.TempPathFactory
) -> tuple[Loaded, Path, dict[str, Any]]:
    loaded = make_run(*MODELS[request.param], request.param, licence="CC0-1.0")
    folder = tmp_path_factory.mktemp("exported") / "model"
    return loaded, folder, export_folder(loaded, folder)


def test_transformers_computes_the_same(exported: tuple[Loaded, Path, Any]) -> None:
    loaded, folder, _ = exported
    theirs = AutoModelForCausalLM.from_pretrained(folder, local_files_only=True)
    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    strings = probe_strings(loaded)
    assert len(strings) == 1000
    assert len(set(strings)) > 800
    assert tokenizer(strings)["input_ids"] == [loaded.tokenizer.encode(string).tolist() for string in strings]
    assert tokenizer.decode(tokenizer("So it  sang .").input_ids) == "So it  sang ."
    assert len(tokenizer) == loaded.tokenizer.vocabulary_size
    assert tokenizer.eos_token_id == loaded.tokenizer.end
    tokens = torch.arange(22).view(2, 11)
    assert (theirs(tokens).logits - loaded.model(tokens)).abs().max() <= 1e-5
    everything = {"attention_mask": torch.ones(2, 4, dtype=torch.long), "pad_token_id": 0}
    greedy = theirs.generate(tokens[:, :4], **everything, max_new_tokens=1, do_sample=False)
    assert greedy[:, 4].tolist() == loaded.model(tokens[:, :4])[:, -1].argmax(dim=-1).tolist()


def test_the_certificate_says_what_was_measured(exported: tuple[Loaded, Path, Any]) -> None:
    _, folder, certificate = exported
    verify_folder(folder)
    assert json.loads((folder / "parity.json").read_text()) == certificate
    assert certificate["parity"]["strings"] == 1000
    assert certificate["parity"]["different"] == 0
    assert certificate["parity"]["largest_difference"] <= 1e-5
    assert certificate["parity"]["tokens_compared"] >= 8 * 11
    assert certificate["step"] == 7
    assert {"transformers", "torch", "clearhead"} <= certificate["versions"].keys()
    for name, digest in certificate["sha256"].items():
        assert sha256(folder / name) == digest
    assert {"config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"} == set(certificate["sha256"])


def test_the_card_says_what_it_is(exported: tuple[Loaded, Path, Any]) -> None:
    loaded, folder, certificate = exported
    card = (folder / "README.md").read_text()
    assert card.startswith('---\nlicense: "cc0-1.0"\nlibrary_name: "transformers"\n')
    for said in ("tale.txt", "CC0-1.0", "| this model | 1.2345 | 1.5000 |", certificate["versions"]["transformers"]):
        assert said in card
    assert "secret folder" not in card
    assert f"tokenizer({prompt_of(loaded)!r}" in card


def test_a_prompt_leaves_room_for_a_token(exported: tuple[Loaded, Path, Any]) -> None:
    loaded, _, _ = exported
    whole = prompt_of(loaded)
    for context_length in (3, 5):
        narrow: Any = torch.nn.Identity()
        narrow.context_length = context_length
        prompt = prompt_of(replace(loaded, model=narrow))
        assert whole.startswith(prompt)
        assert 0 < len(loaded.tokenizer.encode(prompt)) < context_length


def test_it_comes_back_the_same(exported: tuple[Loaded, Path, Any], tmp_path: Path) -> None:
    loaded, folder, _ = exported
    back = load(str(import_folder(folder, tmp_path / "back").path))
    tokens = torch.arange(22).view(2, 11)
    assert torch.allclose(back.model(tokens), loaded.model(tokens), atol=1e-6)
    assert back.tokenizer.encode("So it sang.").tolist() == loaded.tokenizer.encode("So it sang.").tolist()
    assert back.tokenizer.vocabulary_size == loaded.tokenizer.vocabulary_size


# What is refused.


def test_what_transformers_lacks_is_refused_by_name(make_run: Callable[..., Loaded], tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"cannot express .*model\.qk_norm = true and .*; train with --preset llama"):
        export_folder(make_run(replace(shapes.tiny(), **SMALL), CHAR), tmp_path / "out")
    assert not list(tmp_path.iterdir())


def test_a_folder_that_exists_is_left_alone(make_run: Callable[..., Loaded], tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    with pytest.raises(UserError, match="exists already"):
        export_folder(make_run(*MODELS["llama-char"]), tmp_path / "out")
    assert not list((tmp_path / "out").iterdir())


def another_activation(config: GptConfig, *rest: Any) -> Any:
    settings, tensors = TO_TRANSFORMERS(config, *rest)
    return settings | {"hidden_act": "relu"}, tensors


TO_TRANSFORMERS = exporting.to_transformers


def test_an_export_that_computes_something_else_is_not_written(
    make_run: Callable[..., Loaded], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exporting, "to_transformers", another_activation)
    with pytest.raises(UserError, match="the logits of transformers differ by"):
        export_folder(make_run(*MODELS["llama-char"]), tmp_path / "out")
    assert not list(tmp_path.iterdir())


def test_an_export_with_other_ids_is_not_written(
    make_run: Callable[..., Loaded], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    turned = replace(shapes.llama(), **SMALL), CharTokenizer(CHAR.characters[::-1], unknown="refuse", end=False)
    written = exporting.to_tokenizer_json(turned[1])
    monkeypatch.setattr(exporting, "to_tokenizer_json", lambda _: written)
    with pytest.raises(UserError, match="other ids than this program does"):
        export_folder(make_run(*MODELS["llama-char"]), tmp_path / "out")
    assert not list(tmp_path.iterdir())


def test_without_transformers_a_sentence_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "transformers", None)
    with pytest.raises(UserError, match=r"pip install 'clearhead\[hf\]'"):
        parity.transformers_library()
