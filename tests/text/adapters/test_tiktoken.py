from __future__ import annotations

import base64
import hashlib
import json
import sys
from pathlib import Path

import pytest
import tiktoken.load
import tiktoken.registry
from hypothesis import given, settings
from hypothesis import strategies as st

from clearhead.core.errors import UserError
from clearhead.text.adapters.tiktoken import GPT2_PATTERN, TiktokenTokenizer, export, ranks_of
from clearhead.text.bpe import BpeTokenizer, byte_alphabet
from clearhead.text.config import TiktokenConfig
from clearhead.text.tokenizer import END, ByteTokenizer, load_tokenizer

TEXT = "The cat sat on the mat.\n\n  The dog's seen it all, sat on 317 cats; trăm năm trong cõi người ta.\n" * 5
BPE = BpeTokenizer.train([TEXT], vocabulary_size=293, end=True)
RANKS = {BPE.decode_bytes([token]): token for token in range(292)}
EXPORTED = TiktokenTokenizer(RANKS, pattern=GPT2_PATTERN, specials={}, end=False)
URL = "https://example.invalid/tiny.tiktoken"


def read(path: Path, *, end: bool = False, **fields: str) -> TiktokenTokenizer:
    return TiktokenTokenizer.read(TiktokenConfig(path=str(path), **fields), end=end)


# Our own pairs as ranks.


@settings(max_examples=200, deadline=None)
@given(
    text=st.lists(
        st.text(max_size=7) | st.text(" \t\n\x1c\x85\xa0\u2003\u3000", max_size=5) | st.sampled_from(["cat", " the"]),
        max_size=17,
    ).map("".join)
)
def test_exported_ranks_give_the_same_ids(text: str) -> None:
    assert EXPORTED.encode(text).tolist() == BPE.encode(text).tolist()


def test_exported_ranks_are_read_back_as_a_file(tmp_path: Path) -> None:
    path = tmp_path / "ours.tiktoken"
    assert export(BPE, [TEXT, "cat"], path) == len(BPE.encode(TEXT)) + len(BPE.encode("cat"))
    assert path.read_bytes() == ranks_of(BPE)
    tokenizer = read(path, end=True)
    assert tokenizer.encode(TEXT).tolist() == BPE.encode(TEXT).tolist()
    assert tokenizer.specials == BPE.specials
    assert ranks_of(tokenizer) == ranks_of(BPE)
    assert tiktoken.load.load_tiktoken_bpe(str(path)) == RANKS


def test_two_pairs_with_one_union_are_told_apart(tmp_path: Path) -> None:
    """We know "abc" only as ab+c; tiktoken also makes it of a+bc where bc comes first."""
    alphabet = [*byte_alphabet()]
    merges = [("b", "c"), ("a", "b"), ("ab", "c")]
    vocabulary = {token: id_ for id_, token in enumerate([*alphabet, *("".join(pair) for pair in merges)])}
    library = json.loads(BPE.library_json)
    library["model"].update(vocab=vocabulary, merges=[list(pair) for pair in merges])
    ours = BpeTokenizer(json.dumps(library), end=False)
    assert ours.encode("abc").size == 2
    export(ours, ["bc ab"], tmp_path / "x.tiktoken")
    with pytest.raises(UserError, match="not written: tiktoken would give a text other ids"):
        export(ours, ["bc ab", "abc"], tmp_path / "y.tiktoken")
    assert not (tmp_path / "y.tiktoken").exists()


def test_only_pairs_have_ranks() -> None:
    with pytest.raises(UserError, match='kind "byte" has no ranks'):
        ranks_of(ByteTokenizer(end=False))


# Files.


@pytest.fixture
def merges(tmp_path: Path) -> Path:
    """Our own pairs as `vocab.bpe` and `encoder.json`, in the order of GPT-2's bytes."""
    pairs = [tuple(pair) for pair in json.loads(BPE.library_json)["model"]["merges"]]
    tokens = [*byte_alphabet(), *("".join(pair) for pair in pairs)]
    path = tmp_path / "small-vocab.bpe"
    path.write_text("#version: 0.2\n" + "".join(f"{first} {second}\n" for first, second in pairs))
    spelled = {token: id_ for id_, token in enumerate([*tokens, "<|endoftext|>"])}
    (tmp_path / "small-encoder.json").write_text(json.dumps(spelled))
    return path


@pytest.mark.parametrize("end", [False, True])
def test_gpt2_files_bring_their_end_of_text(merges: Path, end: bool) -> None:
    tokenizer = read(merges, end=end)
    pieces = [BPE.decode_bytes([token]) for token in BPE.encode(TEXT)]
    assert [tokenizer.decode_bytes([token]) for token in tokenizer.encode(TEXT)] == pieces
    assert tokenizer.vocabulary_size == 293
    assert tokenizer.specials == {"<|endoftext|>": 292, **({END: 292} if end else {})}
    assert tokenizer.end == (292 if end else None)
    spelled = "a<|endoftext|>b"
    assert 292 not in tokenizer.encode(spelled)
    assert tokenizer.decode(tokenizer.encode(spelled)) == spelled
    assert tokenizer.decode([292]) == ""
    assert tokenizer.byte_lengths[292] == 0


def test_a_saved_tokenizer_keeps_its_specials(merges: Path, tmp_path: Path) -> None:
    tokenizer = read(merges, end=True)
    tokenizer.save(tmp_path / "saved")
    back = load_tokenizer(tmp_path / "saved")
    assert back.fingerprint == tokenizer.fingerprint
    assert back.specials == tokenizer.specials
    assert back.encode(TEXT).tolist() == tokenizer.encode(TEXT).tolist()


def test_gpt2_merges_need_no_second_file(merges: Path) -> None:
    with_json = read(merges)
    merges.with_name("small-encoder.json").unlink()
    alone = read(merges, end=True)
    assert alone.encode(TEXT).tolist() == with_json.encode(TEXT).tolist()
    assert alone.specials == {END: 292}


def test_what_the_library_refuses_is_told(tmp_path: Path) -> None:
    path = tmp_path / "own.tiktoken"
    singles = [f"{base64.b64encode(bytes([value])).decode()} {value}\n" for value in range(256)]
    for extra, pattern in (("", "("), ("YWE= -1\n", None), ("YWE= 99999999999\n", None)):
        path.write_text("".join([*singles, extra]))
        with pytest.raises(UserError, match=r"tiktoken refuses the ranks or tokenizer\.pattern"):
            TiktokenTokenizer.read(TiktokenConfig(path=str(path), pattern=pattern), end=False)


def test_a_json_with_other_ids_is_refused(merges: Path) -> None:
    beside = merges.with_name("small-encoder.json")
    spelled = json.loads(beside.read_bytes())
    spelled["a"], spelled["b"] = spelled["b"], spelled["a"]
    beside.write_text(json.dumps(spelled))
    with pytest.raises(UserError, match="does not fit it"):
        read(merges)


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        ("x.tiktoken", b"YQ== 0\n", "each of the 256 bytes"),
        ("x.tiktoken", b"YQ==\n", "not a file of ranks"),
        ("x.tiktoken", b"\xff\xfe 3\n", "not a file of ranks"),
        ("x.tiktoken", b"", "each of the 256 bytes"),
        ("vocab.bpe", b"\xff", "not a file of ranks"),
        ("vocab.bpe", "\u4e00 a\n".encode(), "not a file of ranks"),
    ],
)
def test_what_is_no_file_of_ranks_is_refused(name: str, content: bytes, sentence: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=sentence):
        read(tmp_path / name)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"Cannot read .*none\.tiktoken"):
        read(tmp_path / "none.tiktoken")


@pytest.mark.parametrize("config", [TiktokenConfig(), TiktokenConfig(name="gpt2", path="x")])
def test_a_name_or_a_path_is_needed(config: TiktokenConfig) -> None:
    with pytest.raises(UserError, match=r"either tokenizer\.name"):
        TiktokenTokenizer.read(config, end=False)


@pytest.mark.parametrize("character", [" ", "\n", "\u3000", "a", "\u0300"])
def test_long_runs_do_not_overflow_the_library(character: str) -> None:
    tokenizer = TiktokenTokenizer({bytes([b]): b for b in range(256)}, pattern=GPT2_PATTERN, specials={}, end=False)
    text = f"a {character * 300_007}b"
    assert tokenizer.decode(tokenizer.encode(text)) == text


# Names.


def test_a_name_that_is_not_cached_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TIKTOKEN_CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(tiktoken.registry, "ENCODINGS", {})
    fetch = tiktoken.load.read_file
    with pytest.raises(UserError, match=r"nothing is fetched here.*--tokenizer\.path"):
        TiktokenTokenizer.read(TiktokenConfig(name="cl100k_base"), end=False)
    assert tiktoken.load.read_file is fetch


def test_an_unknown_name_gets_the_nearest() -> None:
    with pytest.raises(UserError, match='Did you mean "cl100k_base"'):
        TiktokenTokenizer.read(TiktokenConfig(name="cl100k"), end=False)


def test_a_cached_name_is_read_offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def tiny() -> dict[str, object]:
        ranks = tiktoken.load.load_tiktoken_bpe(URL)
        specials = {"<|endoftext|>": 307, "<|other|>": 311}
        return {"name": "tiny", "pat_str": GPT2_PATTERN, "mergeable_ranks": ranks, "special_tokens": specials}

    tiktoken.list_encoding_names()
    monkeypatch.setitem(tiktoken.registry.ENCODING_CONSTRUCTORS, "tiny", tiny)
    monkeypatch.setattr(tiktoken.registry, "ENCODINGS", {})
    monkeypatch.setenv("TIKTOKEN_CACHE_DIR", str(tmp_path))
    (tmp_path / hashlib.sha1(URL.encode()).hexdigest()).write_bytes(ranks_of(BPE))
    tokenizer = TiktokenTokenizer.read(TiktokenConfig(name="tiny"), end=True)
    assert tokenizer.encode(TEXT).tolist() == BPE.encode(TEXT).tolist()
    assert tokenizer.vocabulary_size == 312
    assert tokenizer.end == 307
    assert tokenizer.decode([292, 311, 307]) == ""
    assert tokenizer.encode("<|other|>").max() < 292


def test_without_the_library_one_sentence_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tiktoken", None)
    with pytest.raises(UserError, match=r"pip install 'clearhead\[tiktoken\]'"):
        TiktokenTokenizer.read(TiktokenConfig(name="gpt2"), end=False)
