from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import tokenizers
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken, decoders, models, normalizers, pre_tokenizers, processors, trainers

from clearhead.core.errors import UserError
from clearhead.text.adapters.huggingface import HuggingFaceTokenizer
from clearhead.text.tokenizer import END, load_tokenizer

TEXT = "The cat sat on the mat.\n\n  The dog's seen it all, sat on 317 cats; trăm năm trong cõi người ta.\n" * 5


def byte_level() -> tokenizers.Tokenizer:
    """A file as GPT-2 and Llama 3 have it: bytes, a split of its own, a start that its library puts in front."""
    library = tokenizers.Tokenizer(models.BPE())
    split = pre_tokenizers.Split(tokenizers.Regex(r"\s?\p{L}+|\p{N}{1,3}|[^\s\p{L}\p{N}]+\n*|\s+"), "isolated")
    library.pre_tokenizer = pre_tokenizers.Sequence(
        [split, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
    )
    library.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=307, initial_alphabet=alphabet, show_progress=False)
    library.train_from_iterator([TEXT], trainer)
    library.add_special_tokens(["<|start|>", "<|endoftext|>"])
    library.add_tokens([AddedToken("    ", normalized=False)])
    start = ("<|start|>", library.token_to_id("<|start|>"))
    library.post_processor = processors.TemplateProcessing(single="<|start|> $A", special_tokens=[start])
    library.enable_truncation(3)
    return library


def pieces() -> tokenizers.Tokenizer:
    """A file as Llama 2 has it: spaces as U+2581, one put in front, bytes for what is not known."""
    library = tokenizers.Tokenizer(models.BPE(byte_fallback=True, unk_token="<unk>", fuse_unk=True))
    library.normalizer = normalizers.Sequence([normalizers.Prepend("\u2581"), normalizers.Replace(" ", "\u2581")])
    library.decoder = decoders.Sequence(
        [decoders.Replace("\u2581", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    byte_tokens = [f"<0x{value:02X}>" for value in range(256)]
    trainer = trainers.BpeTrainer(vocab_size=331, special_tokens=["<unk>", "</s>", *byte_tokens], show_progress=False)
    library.train_from_iterator([TEXT], trainer)
    described = json.loads(library.to_str())
    described["added_tokens"] = described["added_tokens"][:2]
    return tokenizers.Tokenizer.from_str(json.dumps(described))


BYTE_LEVEL, PIECES = byte_level(), pieces()
TOKENIZER = HuggingFaceTokenizer(BYTE_LEVEL.to_str(), end=True)
START = BYTE_LEVEL.token_to_id("<|start|>")
ANY = st.lists(st.text(max_size=7) | st.sampled_from([TEXT[:61], "    ", "<|endoftext|>", "</s>"]), max_size=7)


def plain(library: tokenizers.Tokenizer) -> tokenizers.Tokenizer:
    """The same library's tokenizer as it has to be asked: whole, nothing around, specials as text."""
    copy = tokenizers.Tokenizer.from_str(library.to_str())
    copy.no_truncation()
    copy.encode_special_tokens = True
    return copy


@settings(max_examples=200, deadline=None)
@given(text=ANY.map("".join))
def test_a_byte_level_file_is_lossless_and_gives_the_library_s_ids(text: str) -> None:
    ids = TOKENIZER.encode(text)
    assert ids.tolist() == plain(BYTE_LEVEL).encode(text, add_special_tokens=False).ids
    assert TOKENIZER.decode(ids) == text
    assert not {START, START + 1} & set(ids.tolist())


@settings(max_examples=200, deadline=None)
@given(text=ANY.map("".join))
def test_a_file_of_pieces_gives_the_library_s_ids_and_text(text: str) -> None:
    tokenizer = HuggingFaceTokenizer(PIECES.to_str(), end=False)
    library = plain(PIECES)
    ids = tokenizer.encode(text)
    assert ids.tolist() == library.encode(text, add_special_tokens=False).ids
    assert tokenizer.decode(ids).removeprefix(" ") == library.decode(ids.tolist())
    assert not {0, 1} & set(ids.tolist())


def test_specials_and_sizes_come_from_the_file() -> None:
    assert TOKENIZER.vocabulary_size == START + 3
    assert TOKENIZER.specials == {"<|start|>": START, "<|endoftext|>": START + 1, END: START + 1}
    assert TOKENIZER.lossless
    assert TOKENIZER.byte_lengths[START:].tolist() == [0, 0, 4]
    assert TOKENIZER.encode("a    b").tolist()[1] == START + 2
    assert HuggingFaceTokenizer(PIECES.to_str(), end=True).end == 1
    assert HuggingFaceTokenizer(PIECES.to_str(), end=False).end is None


def changed(**parts: Any) -> str:
    return json.dumps({**json.loads(BYTE_LEVEL.to_str()), **parts})


def test_what_changes_text_is_not_called_lossless() -> None:
    in_front = {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True}
    widened = {"id": START + 2, "content": "    ", "single_word": False, "lstrip": True, "rstrip": False}
    assert not HuggingFaceTokenizer(PIECES.to_str(), end=False).lossless
    assert not HuggingFaceTokenizer(changed(normalizer={"type": "NFC"}), end=False).lossless
    assert not HuggingFaceTokenizer(changed(pre_tokenizer=in_front), end=False).lossless
    added = [{**widened, "normalized": False, "special": False}]
    assert not HuggingFaceTokenizer(changed(added_tokens=added), end=False).lossless


@pytest.mark.parametrize("decoder", [None, {"type": "WordPiece", "prefix": "##", "cleanup": True}])
def test_other_families_are_refused_by_name(decoder: dict[str, Any] | None, tmp_path: Path) -> None:
    path = tmp_path / "tokenizer.json"
    path.write_text(changed(decoder=decoder))
    with pytest.raises(UserError, match=f"decoder {decoder['type'] if decoder else 'none'} is not handled"):
        HuggingFaceTokenizer.read(path, end=False)


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"model": 3}'])
def test_what_is_no_such_file_is_refused(content: str, tmp_path: Path) -> None:
    path = tmp_path / "tokenizer.json"
    path.write_text(content)
    with pytest.raises(UserError, match=r"tokenizer\.json\" is not a tokenizer\.json"):
        HuggingFaceTokenizer.read(path, end=False)
    with pytest.raises(UserError, match="Cannot read"):
        HuggingFaceTokenizer.read(tmp_path / "none.json", end=False)


def test_it_is_saved_with_the_file_as_it_was(tmp_path: Path) -> None:
    TOKENIZER.save(tmp_path)
    back = load_tokenizer(tmp_path)
    assert (tmp_path / "huggingface.json").read_text() == BYTE_LEVEL.to_str()
    assert back.fingerprint == TOKENIZER.fingerprint
    assert back.specials == TOKENIZER.specials
    assert back.encode(TEXT).tolist() == TOKENIZER.encode(TEXT).tolist()
