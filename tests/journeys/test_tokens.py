"""Tokenizers by the command line: compared, trained for several runs, from elsewhere, exported, made smaller."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import tiktoken.load

from clearhead.cli.main import main
from clearhead.store.load import load

if TYPE_CHECKING:
    from conftest import Terminal

RANKS = {bytes([value]): value for value in range(256)} | {b"So": 256, b" eggs": 257}


@pytest.fixture
def text(terminal: Terminal, shared_runs: Path) -> Path:
    return terminal.write("my.txt", (shared_runs.parent / "story.txt").read_text())


def ranks_file(terminal: Terminal) -> Path:
    from clearhead.text.adapters.tiktoken import _spell_ranks

    return terminal.write("mine.tiktoken", _spell_ranks(RANKS))


def test_one_text_under_many_tokenizers(terminal: Terminal, text: Path) -> None:
    rows = terminal.do("tokens", "compare", text, "--also", ranks_file(terminal), "--json").json
    found = {row["name"]: row for row in rows}
    assert {"char", "byte", "word", "bpe 512", "unigram", "sentencepiece bpe", "mine.tiktoken"} <= set(found)
    size = len(text.read_bytes())
    for row in rows:
        assert row["lossless"]
        assert row["bytes_per_token"] == pytest.approx(size / row["tokens"])
        assert row["characters_in_context"] == pytest.approx(256 * size / row["tokens"])
        assert 0 < row["embedding_share"] < 1
    assert found["byte"]["tokens"] == size
    assert found["char"]["unused"] == 0
    assert found["byte"]["unused"] == 256 - found["char"]["vocabulary_size"]
    # 6 layers of width 192 hold 12 x 6 x 192^2 parameters besides a head and an embedding of 256 rows each.
    assert found["byte"]["embedding_share"] == pytest.approx(1 / (1 + 12 * 6 * 192 / (2 * 256)))
    # Small sizes of one kind that the text cannot fill are the same tokenizer, which is listed once.
    assert len({(row["vocabulary_size"], row["tokens"]) for row in rows}) == len(rows)


def test_a_comparison_shows_the_first_line(terminal: Terminal) -> None:
    lines = terminal.do("tokens", "compare", "to be or not to be\nthat").out.splitlines()
    assert lines[lines.index("byte:") + 1] == "t|o|␣|b|e|␣|o|r|␣|n|o|t|␣|t|o|␣|b|e"
    assert lines[lines.index("word:") + 1] == "to|␣be|␣or|␣not|␣to|␣be"


def test_a_trained_tokenizer_serves_several_runs(terminal: Terminal, text: Path) -> None:
    told = terminal.do(
        "tokens", "train", text, "--tokenizer", "sentencepiece", "--vocabulary-size", "283", "--to", "pieces", "--json"
    ).json
    assert told["vocabulary_size"] <= 283
    for _ in range(2):
        terminal.train(text, "--steps", "2", "--tokenizer.kind", "saved", "--tokenizer.path", "pieces")
        loaded = load("last")
        assert loaded.tokenizer.fingerprint == told["fingerprint"]
        assert loaded.description["tokenizer"]["kind"] == "sentencepiece"
    assert "pieces exists already" in terminal.refused("tokens", "train", str(text), "--to", "pieces")
    assert "Next:" in terminal.do("tokens", "train", text, "--tokenizer.kind", "bpe", "--to", "pairs").out


def test_tokenizers_from_elsewhere_train(terminal: Terminal, text: Path) -> None:
    path = ranks_file(terminal)
    terminal.train(text, "--steps", "2", "--tokenizer", "tiktoken", "--tokenizer.path", str(path))
    assert load("last").tokenizer.vocabulary_size == 258
    terminal.do("sample", "last", "So", "--num-tokens", "5")
    terminal.train(text, "--steps", "2", "--tokenizer", "bpe", "--tokenizer.vocabulary_size", "300")
    library = load("last").run.tokenizer / "bpe.json"
    ids = load("last").tokenizer.encode("So it sang.").tolist()
    terminal.train(text, "--steps", "2", "--tokenizer", "huggingface", "--tokenizer.path", str(library))
    path.unlink()
    assert load("last").tokenizer.encode("So it sang.").tolist() == ids
    assert load("last").tokenizer.kind == "huggingface"


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        ("tiktoken", "needs either tokenizer.name, such as gpt2, or tokenizer.path"),
        ("huggingface", "tokenizer.path is missing; give it text"),
        ("huggingface --tokenizer.path my.txt", '"my.txt" is not a tokenizer.json'),
        ("tiktoken --tokenizer.path my.txt", '"my.txt" is not a file of ranks'),
        ("tiktoken --tokenizer.name gpt22", 'Did you mean "gpt2"'),
        ("saved --tokenizer.path here", "here/tokenizer.json is missing"),
        ("sentencepiece --tokenizer.vocabulary_size 100", "at least 260"),
        ("sentencepiece --tokenizer.algorithm word", '"unigram" or "bpe", not \'word\''),
    ],
)
def test_what_cannot_be_read_is_one_sentence(flags: str, sentence: str, terminal: Terminal, text: Path) -> None:
    assert sentence in terminal.refused("train", text.name, "--steps", "2", "--tokenizer", *flags.split())


def test_an_encoding_that_is_not_cached_is_one_sentence(
    terminal: Terminal, text: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TIKTOKEN_CACHE_DIR", str(terminal.folder / "nothing"))
    monkeypatch.setattr(tiktoken.registry, "ENCODINGS", {})
    sentence = terminal.refused("train", text.name, "--tokenizer", "tiktoken", "--tokenizer.name", "o200k_base")
    assert "nothing is fetched here" in sentence


def test_our_pairs_are_exported_as_ranks(terminal: Terminal, text: Path) -> None:
    terminal.train(text, "--steps", "2", "--tokenizer", "bpe")
    told = terminal.do("tokens", "export", "last", "--format", "tiktoken", "--to", "ours.tiktoken", "--json").json
    loaded = load("last")
    split = loaded.run.data()["split"]
    assert told["tokens_compared"] >= split["training_tokens"] + split["validation_tokens"]
    theirs = tiktoken.Encoding(
        "ours",
        pat_str=told["pattern"],
        mergeable_ranks=tiktoken.load.load_tiktoken_bpe("ours.tiktoken"),
        special_tokens={},
    )
    assert theirs.encode_ordinary(text.read_text()) == loaded.tokenizer.encode(text.read_text()).tolist()
    text.unlink()
    answer = terminal.do("tokens", "export", "last", "--to", "again.tiktoken")
    assert "Only the validation part is compared" in answer.err
    assert Path("again.tiktoken").read_bytes() == Path("ours.tiktoken").read_bytes()


def test_a_run_without_pairs_exports_no_ranks(terminal: Terminal, trained: str) -> None:
    assert 'kind "char" has no ranks' in terminal.refused("tokens", "export", trained, "--to", "x.tiktoken")


def test_a_run_that_uses_every_id_cannot_be_made_smaller(terminal: Terminal, text: Path) -> None:
    terminal.train(text, "--steps", "2", "--tokenizer", "byte")
    assert "nothing to leave out" in terminal.refused("tokens", "compact", "last")


def test_unused_ids_leave_a_run(terminal: Terminal, text: Path) -> None:
    words = [f" word{number}" for number in range(97)]
    terminal.write("words.txt", "".join(words * 5))
    terminal.do("tokens", "train", "words.txt", "--tokenizer", "word", "--to", "words")
    terminal.train(text, "--steps", "2", "--tokenizer", "saved", "--tokenizer.path", "words")
    told = terminal.do("tokens", "compact", "last", "--to", "small", "--json").json
    sizes = told["vocabulary_size"]
    assert sizes["before"] - 97 >= sizes["after"] >= 256
    lost = told["parameters"]["before"] - told["parameters"]["after"]
    assert lost == 2 * 12 * (sizes["before"] - sizes["after"])
    assert json.loads(Path("small/run.json").read_text())["compacted_from"]["step"] == 2
    for verb in ("sample", "eval"):
        assert main([verb, "small", *(["--num-tokens", "9"] if verb == "sample" else [])]) == 0
    assert "small exists already" in terminal.refused("tokens", "compact", "last", "--to", "small")
    assert f"instead of {sizes['before']}" in terminal.do("tokens", "compact", "my-1").out
