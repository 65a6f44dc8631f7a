"""A folder that transformers saved becomes a run like any other, or is refused in a sentence."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedModel

from clearhead.convert import folder as importing
from clearhead.convert.folder import import_folder
from clearhead.convert.tokenizer_json import to_tokenizer_json
from clearhead.core.errors import DamagedFile, UserError
from clearhead.generation.writer import Writer
from clearhead.store.integrity import inspect
from clearhead.store.load import load
from clearhead.text.tokenizer import CharTokenizer
from clearhead.training import fit
from clearhead.training.assess import assess
from clearhead.training.compact import compact_run
from clearhead.training.reproduce import reproduce

CHARACTERS = "\n abcdefghij"
TOKENS = torch.arange(12)[None] % 7


@pytest.fixture
def theirs() -> PreTrainedModel:
    torch.manual_seed(1)
    sizes = {"hidden_size": 12, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = LlamaConfig(vocab_size=12, max_position_embeddings=12, initializer_range=0.5, **sizes)
    return LlamaForCausalLM(config).eval()


@pytest.fixture
def saved(theirs: PreTrainedModel, tmp_path: Path) -> Path:
    """Return a folder as transformers and our own tokenizer write it."""
    path = tmp_path / "theirs"
    theirs.save_pretrained(path)
    tokenizer = CharTokenizer(CHARACTERS, unknown="refuse", end=False)
    (path / "tokenizer.json").write_text(json.dumps(to_tokenizer_json(tokenizer)))
    return path


def change(path: Path, **values: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def logits(path: Path) -> torch.Tensor:
    return load(str(path)).model(TOKENS)


def test_the_run_computes_what_transformers_computes(theirs: PreTrainedModel, saved: Path, tmp_path: Path) -> None:
    run = import_folder(saved, tmp_path / "run")
    run.verify()
    assert (logits(run.path) - theirs(TOKENS).logits).abs().max() <= 1e-5
    described = run.describe()
    assert described["parameters"]["total"] == theirs.num_parameters()
    assert described["imported"]["sha256"].keys() == {"config.json", "model.safetensors"}


def test_the_run_writes_and_is_scored_but_not_resumed(saved: Path, tmp_path: Path) -> None:
    loaded = load(str(import_folder(saved, tmp_path / "run").path))
    writer = Writer(loaded)
    assert len(writer.generate("abc", num_tokens=9)[0]) == 9
    assert writer.score("abcdef").nats.shape == (5,)
    text = tmp_path / "text.txt"
    text.write_text("abc def ghij\n" * 9)
    assert assess(loaded, text)["tokens_scored"] == 9 * 13 - 1
    with pytest.raises(UserError, match=r"name a text: clearhead eval run my\.txt"):
        assess(loaded)
    with pytest.raises(UserError, match="was imported and has no training to go on with"):
        fit.resume(importing.runs.select(str(loaded.run.path), "last"))
    assert inspect(loaded.run).troubles == ()
    with pytest.raises(UserError, match="was imported and has no training to be repeated"):
        reproduce(loaded.run, tmp_path / "again")
    with pytest.raises(UserError, match="does not record which ids its training text has"):
        compact_run(str(loaded.run.path))


def test_shards_are_read(saved: Path, theirs: PreTrainedModel, tmp_path: Path) -> None:
    theirs.save_pretrained(tmp_path / "shards", max_shard_size="2KB")
    (saved / "tokenizer.json").rename(tmp_path / "shards" / "tokenizer.json")
    assert len(list((tmp_path / "shards").glob("*.safetensors"))) > 1
    run = import_folder(tmp_path / "shards", tmp_path / "run")
    assert (logits(run.path) - theirs(TOKENS).logits).abs().max() <= 1e-5


def test_weights_of_16_bits_are_read_exactly(saved: Path, tmp_path: Path) -> None:
    halves = {name: tensor.bfloat16() for name, tensor in load_file(saved / "model.safetensors").items()}
    save_file(halves, saved / "model.safetensors")
    found = load(str(import_folder(saved, tmp_path / "run").path)).model.embedding.weight
    assert torch.equal(found, halves["model.embed_tokens.weight"].float())


def test_ids_that_the_tokenizer_lacks_are_left_out(theirs: PreTrainedModel, saved: Path, tmp_path: Path) -> None:
    fewer = CharTokenizer(CHARACTERS[:9], unknown="refuse", end=False)
    (saved / "tokenizer.json").write_text(json.dumps(to_tokenizer_json(fewer)))
    found = logits(import_folder(saved, tmp_path / "run").path)
    assert (found - theirs(TOKENS).logits[..., :9]).abs().max() <= 1e-5


def test_more_ids_than_the_model_has_are_refused(saved: Path, tmp_path: Path) -> None:
    more = CharTokenizer(CHARACTERS + "xyz", unknown="refuse", end=False)
    (saved / "tokenizer.json").write_text(json.dumps(to_tokenizer_json(more)))
    with pytest.raises(UserError, match="has 15 ids, and the model only 12"):
        import_folder(saved, tmp_path / "run")


# What is refused. Nothing is left behind.


def test_a_pickle_is_refused_in_a_sentence(saved: Path, tmp_path: Path) -> None:
    (saved / "model.safetensors").rename(saved / "pytorch_model.bin")
    with pytest.raises(UserError, match=r"pytorch_model\.bin is a pickle, which can run code when it is read"):
        import_folder(saved, tmp_path / "run")


@pytest.mark.parametrize("name", ["../theirs/model.safetensors", "/etc/passwd", "model.bin", ""])
def test_an_index_reads_only_its_own_folder(saved: Path, tmp_path: Path, name: str) -> None:
    (saved / "model.safetensors").rename(saved / "other.safetensors")
    (saved / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"lm_head.weight": name}}))
    with pytest.raises(UserError, match="which is no safetensors file of this folder"):
        import_folder(saved, tmp_path / "run")


def test_missing_and_damaged_files_are_named(saved: Path, tmp_path: Path) -> None:
    wanted = {"tokenizer.json": "neither tokenizer.json", "model.safetensors": "has no model.safetensors"}
    for name, sentence in wanted.items():
        (saved / name).rename(tmp_path / "away")
        with pytest.raises(UserError, match=sentence):
            import_folder(saved, tmp_path / "run")
        (tmp_path / "away").rename(saved / name)
    (saved / "model.safetensors").write_bytes(b"x" * 40)
    with pytest.raises(DamagedFile, match=r"model\.safetensors cannot be read"):
        import_folder(saved, tmp_path / "run")
    with pytest.raises(UserError, match="There is no folder"):
        import_folder(tmp_path / "nowhere", tmp_path / "run")
    assert not list(tmp_path.glob("run*"))


def test_another_family_is_refused_by_name(saved: Path, tmp_path: Path) -> None:
    change(saved / "config.json", model_type="gpt_neox")
    with pytest.raises(UserError, match="model_type = 'gpt_neox' cannot be imported"):
        import_folder(saved, tmp_path / "run")


def test_a_run_that_exists_is_left_alone(saved: Path, tmp_path: Path) -> None:
    import_folder(saved, tmp_path / "run")
    with pytest.raises(UserError, match="exists already"):
        import_folder(saved, tmp_path / "run")


def test_a_crash_leaves_no_run(saved: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def crash(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(importing.checkpoint, "save", crash)
    with pytest.raises(KeyboardInterrupt):
        import_folder(saved, tmp_path / "run")
    assert not list(tmp_path.glob("run*"))
