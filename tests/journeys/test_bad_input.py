"""What users get wrong costs one sentence and exit code 2, and leaves what existed as it was."""

from __future__ import annotations

import contextlib
import io
import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from clearhead.core.files import MANIFEST
from clearhead.core.run import Run

if TYPE_CHECKING:
    from conftest import Terminal

TEXT = "my.txt"


@pytest.fixture
def desk(terminal: Terminal) -> Terminal:
    """A terminal with a text beside it."""
    terminal.write(TEXT, "".join(f"Row {i} of {i * i % 31}.\n" for i in range(150)))
    return terminal


def check(terminal: Terminal, command: str, sentence: str) -> None:
    said = terminal.refused(*command.split())
    assert re.search(sentence, said), said
    assert said.endswith((".", "?", '"?'))


# Words that do not exist.


@pytest.mark.parametrize(
    ("command", "sentence"),
    [
        ("trian my.txt", 'no verb trian.*Did you mean "train"'),
        ("--steps 3", "no verb --steps"),
        ("train my.txt --stpes 3", 'does not know --stpes.*"--steps"'),
        ("train my.txt --stpes=3", 'does not know --stpes.*"--steps"'),
        ("train my.txt --step 3", 'does not know --step.*"--steps"'),
        ("train my.txt --pre tiny", "does not know --pre"),
        ("sample last --temp 1", 'does not know --temp.*"--temperature"'),
        ("sample last --num_tokens 1", 'does not know --num_tokens.*"--num-tokens"'),
        ("sample last To be", "no use for 'be'; a text with spaces needs quotes"),
        ("sample last -- To --seed 3", "--seed stands after --"),
        ("eval last --jsn", 'does not know --jsn.*"--json"'),
        ("config --lst", 'does not know --lst.*"--list"'),
        ("data lst", 'no action lst; there is list, get, tales.*"list"'),
        ("data tales --jsnl", 'clearhead data tales does not know --jsnl.*"--jsonl"'),
        ("data list --bytes 9", "clearhead data list does not know --bytes"),
        ("data get shakespear", 'no text "shakespear".*"shakespeare"'),
        ("data get tales", "built in; clearhead data tales"),
        ("runs shw last", 'no action shw.*"show"'),
        ("tokens shwo x", 'no action shwo; there is show, compare.*Did you mean "show"'),
        ("train my.txt --width 12", 'does not know --width.*"--model.width"'),
        ("train my.txt --n_embd 12", 'does not know --n_embd.*"--model.width"'),
        ("train my.txt --batch-size 12", 'does not know --batch-size.*"--train.sequences_per_step"'),
        ("train my.txt --model.n_embd 12", "model.n_embd is called model.width here"),
        ("train my.txt --model.block_size 12", "model.block_size is called model.context_length here"),
        ("train my.txt --heads 2", 'does not know --heads.*"--model.num_heads"'),
        ("train my.txt --model.heads 2", "model.heads is called model.num_heads here"),
        ("train my.txt --model.widht 12", 'no model.widht.*"model.width"'),
        ("train my.txt --modle.width 12", 'no modle.*"model"'),
        ("train my.txt --preset tny", 'no preset tny.*"tiny"'),
        ("config --preset lecture-big", 'no preset lecture-big.*"lecture'),
        ("train my.txt --tokenizer xyz", 'tokenizer.kind must be "char", .*"huggingface" or "saved", not \'xyz\''),
        ("tokens show hi --tokenizer xyz", "tokenizer.kind must be .*\"bpe\".*not 'xyz'"),
        ("train my.txt --model.positions.kind rotery", 'or "fourier", not \'rotery\'. Did you mean "rotary"'),
        ("train my.txt --device abacus", "device abacus is not available here; --device cpu is"),
        ("sample last --device abacus", "device abacus is not available here; --device cpu is"),
        ("train my.txt --task sing", "There is no task sing; there are lm, classify"),
        ("train my.txt --task classify", "is no table of rows"),
        ("train my.txt --task classify --preset tiny", "--task classify trains an encoder"),
        ("train my.txt --model.kind encoder", "An encoder reads what a language model is to predict"),
        ("sample last --unknown keep", "--unknown must be one of 'refuse', 'drop', not 'keep'"),
    ],
)
def test_unknown_words_are_named_with_the_nearest(command: str, sentence: str, desk: Terminal) -> None:
    check(desk, command, sentence)


@pytest.mark.parametrize(
    ("command", "sentence"),
    [
        ("sample", "sample needs RUN"),
        ("eval", "eval needs RUN"),
        ("data", "data needs list|get|tales".replace("|", r"\|")),
        ("data get", "data get needs NAME"),
        ("runs show", "runs show needs RUN"),
        ("tokens show", "tokens show needs TEXT"),
        ("train my.txt --steps", "--steps needs a value"),
        ("train my.txt --model.width", "--model.width needs a value, such as"),
    ],
)
def test_what_is_missing_is_named(command: str, sentence: str, desk: Terminal) -> None:
    check(desk, command, sentence)


@pytest.mark.parametrize(
    ("command", "sentence"),
    [
        ("train my.txt --steps 3 --train.steps 4", "--steps and --train.steps are the same setting"),
        ("train my.txt --tokenizer char --tokenizer.kind byte", "--tokenizer and --tokenizer.kind are the same"),
        ("train my.txt --train.seed 3 --train.seed 4", "train.seed is given twice"),
        ("train my.txt --steps 3 --minutes 4", "only one of steps, tokens, epochs and minutes, not steps and minutes"),
        ("train my.txt --range-test", "together with --dry-run"),
        ("train --resume last --dry-run", "--dry-run is about a new run"),
        ("tokens show hi --run last --tokenizer char", "--tokenizer is for a new tokenizer"),
        ("tokens show hi --run last --vocabulary-size 300", "--vocabulary-size is for a new tokenizer"),
        ("train my.txt --tokenizer char --tokenizer.vocabulary_size 300", "tokenizer.vocabulary_size needs"),
    ],
)
def test_flags_that_do_not_go_together(command: str, sentence: str, desk: Terminal) -> None:
    check(desk, command, sentence)


# Numbers.


@pytest.mark.parametrize("flag", ["steps", "tokens", "epochs", "minutes", "threads", "stop-after"])
@pytest.mark.parametrize("value", ["nan", "-1", "0", "many", "inf", "''"])
def test_a_length_must_be_a_number_above_zero(flag: str, value: str, desk: Terminal) -> None:
    check(desk, f"train {TEXT} --{flag} {value}", flag)


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        ("--steps 2.5", "train.steps must be a whole number or none, not 2.5"),
        ("--steps 99999999999999999999", "a number of more than 64 bits"),
        ("--seed -1", "seed must be between 0 and"),
        ("--seed one", "train.seed must be a whole number"),
        ("--threads 4096", "--threads must lie between 1 and"),
        ("--train.micro_batches 99", "micro_batches = 99 is more than sequences_per_step"),
        ("--train.averaging 1.0", "averaging is a decay between 0 and 1"),
        ("--model.dropout 1.0", "dropout must be at least 0 and below 1"),
        ("--model.width 0", "width must be at least 1, not 0"),
        ("--model.num_layers -2", "num_layers must be at least 1, not -2"),
        ("--model.num_heads 5", "num_heads = 5 does not divide width = 192; the nearest .* are 4 and 6"),
        ("--model.num_heads 6 --model.num_kv_heads 4", "num_kv_heads = 4 does not divide num_heads = 6; .* 3 and 6"),
        ("--model.width 12 --model.num_heads 4", "even head width"),
        ("--model.context_length 3000", "context_length = 3000 is longer than the training part.*; at most [0-9]+ fit"),
        ("--steps 5 --model.context_length 1000000000", "context_length = 1000000000 is longer than the training part"),
        ("--minutes 1 --model.context_length 1000000000", "context_length = 1000000000 is longer than the training"),
        ("--tokenizer bpe --tokenizer.vocabulary_size 9", "vocabulary_size is 9, but .* at least 257"),
    ],
)
def test_settings_out_of_range(flags: str, sentence: str, desk: Terminal) -> None:
    check(desk, f"train {TEXT} {flags}", sentence)


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        ("--temperature -1", "temperature must be 0 or more"),
        ("--temperature nan", "--temperature must be a number, not 'nan'"),
        ("--top-k 0", "top_k must be at least 1"),
        ("--top-k 2.5", "--top-k must be a whole number, not '2.5'"),
        ("--top-p 0", "top_p must be above 0 and at most 1"),
        ("--top-p 1.5", "top_p must be above 0 and at most 1"),
        ("--min-p -0.5", "min_p must be from 0 to 1"),
        ("--repetition-penalty 0", "repetition_penalty must be from 0.01 to 100"),
        ("--repetition-penalty inf", "--repetition-penalty must be a number"),
        ("--num-tokens 0", "num_tokens must be at least 1, not 0"),
        ("--num-tokens -5", "num_tokens must be at least 1, not -5"),
        ("--samples 0", "samples must be at least 1, not 0"),
        ("--seed -1", "seed must be at least 0, not -1"),
        ("--seed x", "--seed must be a whole number"),
    ],
)
def test_ways_of_sampling_that_make_no_sense(flags: str, sentence: str, desk: Terminal, trained: str) -> None:
    check(desk, f"sample {trained} {flags}", sentence)


@pytest.mark.parametrize("stride", ["0", "-3", "18", "x", "nan"])
def test_a_stride_lies_inside_the_context(stride: str, desk: Terminal, trained: str) -> None:
    check(desk, f"eval {trained} --stride {stride}", "--stride must be ")


@pytest.mark.parametrize("value", ["0", "-5", "nan", "x", "1e99"])
def test_tales_have_a_size(value: str, desk: Terminal) -> None:
    check(desk, f"data tales --bytes {value}", "--bytes must be ")


# Texts.


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        ("empty.txt", b"", '"empty.txt" holds no text'),
        ("tiny.txt", b"so", "too short|characters"),
        ("picture.png", b"\x89PNG\r\n\x1a\n\0\0\0" * 99, "does not look like text .*NUL"),
        ("noise.bin", bytes(range(128, 256)) * 40, "does not look like text"),
        ("cut.txt.gz", b"\x1f\x8b\x08\0\0\0\0\0\0\x03abc", "is not a whole gzip file"),
        ("rows.jsonl", b'{"text": "a"}\n{"text": \n', "line 2 is not JSON"),
        ("keys.jsonl", b'{"body": "a"}\n', 'line 1 has no field "text" .*"body".*--text.field'),
    ],
)
def test_what_is_no_text(name: str, content: bytes, sentence: str, desk: Terminal) -> None:
    desk.write(name, content)
    check(desk, f"train {name}", sentence)


@pytest.mark.parametrize(
    ("command", "sentence"),
    [
        ("train my.tx", 'no file or folder "my.tx".*"my.txt"'),
        ("train nowhere/at/all.txt", 'no file or folder "nowhere/at/all.txt"'),
        ("train *.md", r'No file or folder matches "\*.md"'),
        ("train empty", 'no readable text in "empty"'),
        ("train my.txt --config my.tml", "Cannot read my.tml: No such file"),
        ("train my.txt --config my.txt", "my.txt, line 1: this is not TOML"),
        ("config --config bad.toml", 'no model.widht.*"model.width"'),
        ("train my.txt --text.encoding utf-9", "not an encoding"),
    ],
)
def test_files_that_are_not_there_or_not_right(command: str, sentence: str, desk: Terminal) -> None:
    (desk.folder / "empty").mkdir()
    desk.write("bad.toml", "[model]\nwidht = 3\n")
    check(desk, command, sentence)


def test_empty_standard_input(desk: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"")))
    check(desk, "tokens show -", "Standard input holds no text")


def test_a_name_with_an_invisible_character_is_shown_in_one_line(desk: Terminal) -> None:
    assert "a↵b␛" in desk.refused("train", "a\nb\x1b")


def test_an_empty_name(desk: Terminal) -> None:
    assert "no name" in desk.refused("train", "")
    assert "no text to show" in desk.refused("tokens", "show", "")


def test_a_prompt_with_an_unknown_character(desk: Terminal, trained: str) -> None:
    said = desk.refused("sample", trained, "The cà")
    assert "'à' (U+00E0)" in said
    assert "--unknown drop" in said


@pytest.mark.parametrize("command", ["eval {run} other.txt", "tokens show other.txt --run {run}"])
def test_advice_about_a_text_fits_the_verb(command: str, desk: Terminal, trained: str) -> None:
    words = command.format(run=trained).split()
    desk.write("other.txt", "The cät had 7 eggs.\n".encode("cp1252"))
    assert "'ä' (U+00E4)" in desk.refused(*words, "--text.encoding", "cp1252")
    told = desk.do(*words, "--text.encoding", "cp1252", "--unknown", "drop", "--json")
    assert told.err == "Left out: 1 unknown character.\n"
    assert told.json.get("tokens_scored", told.json.get("tokens")) in (len("The ct had 7 eggs.\n") - n for n in (0, 1))
    assert "has no use for --model.width; of the settings it takes --text" in desk.refused(*words, "--model.width", "3")


def test_what_is_said_of_a_text_needs_one(desk: Terminal, trained: str) -> None:
    check(desk, f"eval {trained} --unknown drop", "say how a TEXT is read; name one")
    check(desk, f"eval {trained} --text.encoding cp1252", "say how a TEXT is read; name one")


def test_a_saved_tokenizer_that_lacks_a_character(desk: Terminal) -> None:
    desk.do("tokens", "train", TEXT, "--tokenizer.kind", "char", "--tokenizer.unknown", "refuse", "--to", "letters")
    desk.write("other.txt", "Row 7 € of 9.\n" * 20)
    saved = "--tokenizer.kind saved --tokenizer.path letters"
    check(desk, f"train other.txt {saved}", "'€'.*the saved tokenizer does not know; train one on this text")
    check(desk, "tokens compare other.txt --also letters", "'€'.*letters does not know; leave --also letters away")


@pytest.mark.parametrize(
    ("name", "notice"),
    [
        ("nope.txt", 'There is no file "nope.txt", so it is taken as the text itself.'),
        ("mmy.txt", 'There is no file "mmy.txt", so it is taken as the text itself. Did you mean "my.txt"?'),
        ("texts/mine", 'There is no file "texts/mine", so it is taken as the text itself.'),
        ("e.g.", ""),
        ("3.14", ""),
        ("to be or.not", ""),
        (TEXT, ""),
    ],
)
def test_a_text_that_looks_like_a_missing_file(name: str, notice: str, desk: Terminal) -> None:
    told = desk.do("tokens", "show", name)
    assert told.err.strip() == notice


@pytest.mark.parametrize("content", [b"", b"x"])
def test_a_text_too_short_to_be_evaluated(content: bytes, desk: Terminal, trained: str) -> None:
    desk.write("short.txt", content)
    check(desk, f"eval {trained} short.txt", "holds no text|too short|does not have")


# Runs.


@pytest.mark.parametrize("verb", ["sample", "eval", "runs show", "train --resume", "tokens show hi --run"])
@pytest.mark.parametrize(
    ("run", "sentence"),
    [("last", "There is no run in runs yet; clearhead train my.txt makes one"), ("mine", "There is no run mine")],
)
def test_a_run_that_does_not_exist(verb: str, run: str, sentence: str, desk: Terminal) -> None:
    check(desk, f"{verb} {run}", sentence)


def test_the_nearest_run_is_named(desk: Terminal, own_run: Path) -> None:
    check(desk, "sample story-2", 'no run story-2.*"story-1"')


@pytest.mark.parametrize(
    ("command", "sentence"),
    [
        ("sample last@3", "no saved step 3; it has .*20"),
        ("sample last@first", "@first is no step of a run; write @best, @last or a number"),
        ("eval last@-5", "@-5 is no step"),
        ("train --resume last@5", "goes on from the last saved step, so @5 cannot be given"),
        ("train --resume last@best", "so @best cannot be given"),
        ("train --resume last@x", "@x is no step"),
        ("train --resume last my.txt", "so my.txt cannot be given; only --steps"),
        ("train --resume last --seed 3", "so --seed cannot be given"),
        ("train --resume last --minutes 3", "so --minutes cannot be given"),
        ("train --resume last --preset tiny", "so --preset cannot be given"),
        ("train --resume last --run other", "so --run cannot be given"),
        ("train --resume last --config my.toml", "so --config cannot be given"),
        ("train --resume last --model.width 4", "so --model.width cannot be given"),
        ("train --resume last --steps 20", "is at step 20 already; --steps must be more than that"),
        ("train --resume last --steps 30 --stop-after 20", "is at step 20 already; --stop-after must be more"),
        ("train --resume last --steps 1e3", "--steps must be a whole number above 0, not 1e3"),
        ("train --resume last --steps nan", "--steps must be a whole number above 0"),
        ("train --resume last --threads 0", "--threads must be a whole number above 0"),
        ("train --resume last --device abacus", "device abacus is not available"),
        ("train my.txt --run runs/story-1", "runs/story-1 exists already; .* --resume runs/story-1"),
        ("train my.txt --run my.txt", "my.txt exists already"),
        ("train my.txt --run my.txt/inside --steps 1", "my.txt/inside: Not a directory"),
        ("train my.txt --run runs/story-1 --dry-run", "runs/story-1 exists already"),
    ],
)
def test_what_cannot_be_done_with_a_run(command: str, sentence: str, desk: Terminal, own_run: Path) -> None:
    check(desk, command, sentence)


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-7])


def remove(path: Path) -> None:
    path.unlink()


def damage_of(name: str) -> str:
    """Return the pattern of sentences about a file; a manifest may accuse a file that it lists wrongly."""
    file = ".*" if name == MANIFEST else name
    return f"{file} (is missing|is not what was written|is not valid JSON|is not a manifest)"


@pytest.mark.parametrize("harm", [flip, cut, remove])
@pytest.mark.parametrize("name", ["model.safetensors", "state.json", MANIFEST])
def test_a_step_that_is_not_what_was_written(harm: Any, name: str, desk: Terminal, own_run: Path) -> None:
    for step in Run(own_run).steps():
        harm(own_run / "checkpoints" / f"step-{step}" / name)
    for command in ("sample last", "sample last@20", "eval last", "train --resume last --steps 30"):
        check(desk, command, damage_of(name))


@pytest.mark.parametrize("harm", [flip, cut, remove])
@pytest.mark.parametrize("name", ["data.json", "tokenizer/tokenizer.json", "validation.bin", MANIFEST])
def test_a_run_that_is_not_what_was_written(harm: Any, name: str, desk: Terminal, own_run: Path) -> None:
    harm(own_run / name)
    for command in ("sample last", "train --resume last --steps 30", "runs show last"):
        check(desk, command, damage_of(name))


def test_events_that_are_not_what_was_written(desk: Terminal, own_run: Path) -> None:
    lines = (own_run / "events.jsonl").read_text().splitlines(keepends=True)
    lines[3] = lines[3].replace("1", "2", 1)
    (own_run / "events.jsonl").write_text("".join(lines))
    check(desk, "runs show last", "events.jsonl is damaged at line 4")


def test_a_text_that_changed_since(desk: Terminal) -> None:
    desk.train(TEXT, "--steps", "2", "--run", "r")
    desk.write(TEXT, "another text, which is long enough to be trained on. " * 9)
    check(desk, "train --resume r --steps 4", "text of r has changed since the run began.*my.txt")


# A system that refuses.


@contextlib.contextmanager
def largest_file(num_bytes: int) -> Iterator[None]:
    """Let the system take files of so many bytes at most, as if the disk were full."""
    resource = pytest.importorskip("resource")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (num_bytes, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("num_bytes", [0, 500])
def test_a_disk_too_full_for_a_new_run(num_bytes: int, desk: Terminal) -> None:
    with largest_file(num_bytes):
        check(desk, f"train {TEXT} --steps 1 --preset tiny", "Cannot write .*: File too large; what was stored before")


def resume_with_a_full_disk(desk: Terminal, run: Path, num_bytes: int) -> str:
    """Resume a run while files may have so many bytes; check that its steps stay, and return what was said."""
    kept = {name: hash_ for name, hash_ in desk.contents().items() if "checkpoints" in name}
    written = desk.do("sample", run, "--num-tokens", "30").out
    with largest_file(num_bytes):
        answer = desk.type("train", "--resume", run, "--steps", "24")
    assert answer.code == 2
    assert "Traceback" not in answer.err
    assert {name: hash_ for name, hash_ in desk.contents().items() if "checkpoints" in name} == kept
    assert desk.do("sample", run, "--num-tokens", "30").out == written
    desk.do("train", "--resume", run, "--steps", "24")
    return answer.err.splitlines()[-1]


def test_a_disk_too_full_for_events(desk: Terminal, own_run: Path) -> None:
    said = resume_with_a_full_disk(desk, own_run, (own_run / "events.jsonl").stat().st_size)
    assert said.startswith("clearhead: ")
    assert "File too large" in said


def test_a_disk_too_full_for_a_step(desk: Terminal) -> None:
    desk.train(TEXT, "--steps", "4", "--run", "r", "--model.feed_forward.factor", "200", evaluate_every=4)
    said = resume_with_a_full_disk(desk, desk.folder / "r", 100_000)
    assert re.match("clearhead: Cannot write .*/model.safetensors: .*File too large", said)


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="nothing is forbidden to this user")
def test_a_folder_that_may_not_be_written(desk: Terminal) -> None:
    (desk.folder / "runs").mkdir(mode=0o555)
    check(desk, f"train {TEXT} --steps 1 --preset tiny", "Cannot write .*Permission denied")
