"""The program as its users meet it: what the verbs do, print and leave behind."""

from __future__ import annotations

import contextlib
import gzip
import io
import json
import os
import re
import shlex
import signal
import subprocess
import sys
import tempfile
import threading
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from rich.console import Console

import clearhead
from clearhead.cli import sample
from clearhead.cli.main import VERBS, main
from clearhead.cli.terminal import harmless, print_written, program
from clearhead.core.run import Run
from clearhead.text.tales import tales

if TYPE_CHECKING:
    from conftest import Answer, Terminal

VIETNAMESE = "Cà phê sữa đá ở Huế, bún bò và bánh xèo. Một buổi sáng mùa thu trời trong xanh.\n" * 40


def run_json(run: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((run / "run.json").read_text())
    return found


def command(*arguments: str) -> list[str]:
    """Return the command line of the program in a process of its own."""
    return [sys.executable, "-m", "clearhead", *arguments]


# Help.


def test_help_names_every_verb_and_imports_nothing_heavy() -> None:
    timed = [sys.executable, "-X", "importtime", "-m", "clearhead", "--help"]
    found = subprocess.run(timed, capture_output=True, text=True, check=True)
    assert all(f"  {verb} " in found.stdout for verb in VERBS)
    imported = {line.rpartition("|")[2].strip() for line in found.stderr.splitlines()}
    assert "argparse" in imported
    assert not imported & {"torch", "numpy", "pydantic", "rich", "tokenizers", "matplotlib"}


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_explains_itself(verb: str, terminal: Terminal) -> None:
    told = terminal.do(verb, "--help").out
    assert told.startswith(f"usage: clearhead {verb} ")
    assert told == terminal.do("help", verb).out


@pytest.mark.parametrize(
    "action", ["data list", "data get", "data tales", "runs list", "runs show", "tokens show", "tokens compare"]
)
def test_every_action_explains_its_own_flags(action: str, terminal: Terminal) -> None:
    assert terminal.do(*action.split(), "--help").out.startswith(f"usage: clearhead {action} ")


def test_nothing_to_do_is_no_success(terminal: Terminal) -> None:
    assert terminal.type().code == 2
    assert terminal.type().out == terminal.do("--help").out


def test_version(terminal: Terminal) -> None:
    assert re.fullmatch(r"\d+\.\d+\.\d+\n", terminal.do("--version").out)


# Training.


@pytest.fixture
def story(shared_runs: Path) -> Path:
    return shared_runs.parent / "story.txt"


def test_training_says_what_it_does_and_what_to_do_next(terminal: Terminal, story: Path) -> None:
    said = terminal.train(story, "--steps", "4").out
    beginnings = [line.split()[0] for line in said.splitlines() if line.strip()]
    assert beginnings[:5] == ["Text", "Tokens", "Model", "Plan", "Check"]
    assert "step 4/4: validation" in said
    assert "this model, on the validation part" in said
    assert "\x1b" not in said
    commands = [shlex.split(line) for line in said.partition("Next:\n")[2].splitlines()]
    assert [words[:2] for words in commands] == [["clearhead", "sample"], ["clearhead", "eval"], commands[2][:2]]
    for words in commands:
        terminal.do(*words[1:], *(["--num-tokens", "9"] if words[1] == "sample" else []))


def test_each_run_gets_a_name_of_its_own(terminal: Terminal, story: Path) -> None:
    for number in (1, 2):
        assert terminal.train(story, "--steps", "1", "--quiet").out == f"runs{os.sep}story-{number}\n"
    assert (terminal.folder / "runs/story-2/report.html").is_file()


def test_figures_for_scripts(terminal: Terminal, story: Path) -> None:
    answer = terminal.train(story, "--steps", "4", "--json", "--run", "mine")
    assert {"run": "mine", "step": 4, "reason": "budget", "sampled": False}.items() <= answer.json.items()
    assert {"nats_per_token", "bits_per_byte", "tokens_scored", "baselines", "floor", "best_step"} <= set(answer.json)
    assert set(answer.json["baselines"]) == {"unigram", "bigram", "5-gram"}


def test_files_are_listed_when_asked(terminal: Terminal, story: Path) -> None:
    assert f"  {story}: 9.85 kB, utf-8" in terminal.train(story, "--steps", "1", "--verbose").out


def test_a_run_that_was_stopped_goes_on(terminal: Terminal, story: Path) -> None:
    said = terminal.train(story, "--steps", "6", "--stop-after", "3", "--run", "r").out
    assert "train --resume r" in said
    resumed = terminal.do("train", "--resume", "r")
    assert "Resuming r at step 3: exact." in resumed.err
    assert "step 6/6" in resumed.out
    longer = terminal.do("train", "--resume", "r", "--steps", "7")
    assert "approximate: the length was changed" in longer.err
    assert "step 7/7" in longer.out


def test_the_best_step_is_named_where_it_is_not_the_last(terminal: Terminal) -> None:
    terminal.write("poem.txt", "".join(f"{i * i * i % 1009} {i}\n" for i in range(60)))
    said = terminal.train("poem.txt", "--steps", "80", "--run", "r", evaluate_every=8).out
    best = json.loads((terminal.folder / "r/checkpoints/step-80/state.json").read_text())["best"]
    assert best["step"] < 80
    assert f"The best step was {best['step']}, with {best['nats_per_token']:.4f} nats per token" in said
    assert terminal.do("sample", "r", "--json").json["step"] == best["step"]
    assert ("runs show r" in said) == (best["step"] <= 64)


def test_a_dry_run_leaves_nothing(terminal: Terminal, story: Path) -> None:
    before, temporary = terminal.contents(), set(os.listdir(tempfile.gettempdir()))
    answer = terminal.train(story, "--steps", "40", "--dry-run", "--range-test")
    assert "Plan      40 steps of 85 tokens" in answer.out
    assert "Learning-rate range test" in answer.out
    assert re.search(r"Suggested: .* --optimizer.learning_rate [\d.]+, where [\d.]+ stands now.", answer.out)
    facts = terminal.train(story, "--steps", "40", "--dry-run", "--json").json
    assert facts["plan"]["steps"] == 40
    assert facts["first_loss"] == pytest.approx(facts["log_vocabulary"], abs=0.2)
    assert terminal.contents() == before
    assert not [name for name in set(os.listdir(tempfile.gettempdir())) - temporary if "clearhead" in name]


def test_a_failed_dry_run_leaves_nothing_either(terminal: Terminal, story: Path) -> None:
    temporary = set(os.listdir(tempfile.gettempdir()))
    assert terminal.type("train", story, "--dry-run", "--device", "abacus").code == 2
    assert not [name for name in set(os.listdir(tempfile.gettempdir())) - temporary if "clearhead" in name]


def stdin_of(content: bytes) -> io.TextIOWrapper:
    return io.TextIOWrapper(io.BytesIO(content), encoding="utf-8")


def test_standard_input_is_a_text(terminal: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", stdin_of(b"to be or not to be, that is the question.\n" * 60))
    terminal.train("-", "--steps", "2")
    assert (terminal.folder / "runs/stdin-1/stdin.txt").read_bytes().startswith(b"to be")
    terminal.do("train", "--resume", "last", "--steps", "3")


def python_files(terminal: Terminal) -> str:
    for name in ("json/decoder.py", "json/encoder.py", "shlex.py"):
        terminal.write(f"code/{Path(name).name}", (Path(os.__file__).parent / name).read_bytes())
    terminal.write("code/picture.png", b"\x89PNG\r\n\0\0\0")
    return "code"


def gzipped_rows(terminal: Terminal) -> str:
    rows = "".join(json.dumps({"text": tale.text, "id": 1}) + "\n" for tale in tales(20_000, 1))
    return str(terminal.write("rows.jsonl.gz", gzip.compress(rows.encode())))


def vietnamese(terminal: Terminal) -> str:
    return str(terminal.write("huế.txt", VIETNAMESE))


@pytest.mark.parametrize("make", [python_files, gzipped_rows, vietnamese])
def test_many_kinds_of_text_train_and_write(make: Any, terminal: Terminal) -> None:
    said = terminal.train(make(terminal), "--steps", "3")
    assert "Traceback" not in said.err
    written = terminal.do("sample", "last", "--num-tokens", "40", "--json").json["samples"][0]
    assert written["text"]
    assert "bits per byte" in terminal.do("eval", "last").out


def test_the_parts_of_a_folder_are_told(terminal: Terminal) -> None:
    answer = terminal.train(python_files(terminal), "--steps", "1")
    assert "1 binary" in answer.err
    assert re.search(r"^Text +3 documents, .* kB;", answer.out, re.MULTILINE)


def test_a_short_poem_trains_by_default(terminal: Terminal) -> None:
    terminal.write("poem.txt", "".join(f"Line {i}: the moon is {i % 7} and the sea is {i % 5}.\n" for i in range(75)))
    few = ["--steps", "2", "--train.sequences_per_step", "2", "--train.evaluate_every", "2", "--threads", "1"]
    said = terminal.do("train", "poem.txt", *few, "--train.sample_tokens", "3").out
    assert "2,6" in said.partition("parameters")[0]
    assert "step 2/2" in said


def test_without_a_text_there_are_tales(terminal: Terminal) -> None:
    facts = terminal.do("train", "--dry-run", "--json", "--steps", "1", "--model.width", "16", "--threads", "1").json
    assert facts["tokenizer"] == {"kind": "bpe", "vocabulary_size": 1024}
    assert facts["text"]["documents"] > 50


# Settings.


@pytest.mark.parametrize("preset", ["tiny", "lecture", "gpt2", "tales"])
def test_printed_settings_can_be_read_back(preset: str, terminal: Terminal) -> None:
    printed = terminal.do("config", "--preset", preset).out
    assert tomllib.loads(printed)["model"]["kind"] == "gpt"
    path = terminal.write("my.toml", printed)
    assert terminal.do("config", "--config", path).out == printed
    as_json = terminal.do("config", "--config", path, "--json").json
    assert as_json == terminal.do("config", "--preset", preset, "--json").json


def test_flags_come_before_the_file_and_the_file_before_the_preset(terminal: Terminal, story: Path) -> None:
    terminal.write("my.toml", "[model]\nwidth = 20\nnum_heads = 1\n[train]\nminutes = 3.0\nsequences_per_step = 3\n")
    flags = ["--config", "my.toml", "--steps", "2", "--model.num-heads=2", "--model.num_layers", "1", "--run", "r"]
    terminal.do("train", story, "--preset", "tiny", *flags, "--threads", "1", "--train.sample_tokens", "3")
    stored = run_json(terminal.folder / "r")["config"]
    assert (stored["model"]["width"], stored["model"]["num_heads"], stored["model"]["context_length"]) == (20, 2, 64)
    assert (stored["train"]["steps"], stored["train"]["minutes"]) == (2, None)


def test_a_run_is_trained_by_a_printed_file(terminal: Terminal, story: Path) -> None:
    settings = ["--model.width", "16", "--model.num_layers", "1", "--train.sample_tokens", "3", "--train.threads", "1"]
    printed = terminal.do("config", "--preset", "tiny", *settings, "--train.steps", "2")
    terminal.write("my.toml", printed.out)
    terminal.do("train", story, "--config", "my.toml", "--run", "r")
    stored = run_json(terminal.folder / "r")["config"]
    assert stored["model"] == terminal.do("config", "--config", "my.toml", "--json").json["model"]


def test_presets_are_listed(terminal: Terminal) -> None:
    listed = terminal.do("config", "--list", "--json").json
    assert {"tiny", "modern", "lecture", "lecture-large", "gpt2"} <= set(listed)
    assert all(f"{name} " in terminal.do("config", "--list").out for name in listed)


# Writing.


def test_the_same_seed_writes_the_same_text(terminal: Terminal, trained: str) -> None:
    texts = [
        terminal.do("sample", trained, "The ", "--num-tokens", "60", *flags).out
        for flags in ([], [], ["--no-cache"], ["--seed", "2"], ["--temperature", "0.5"])
    ]
    assert texts[0] == texts[1] == texts[2]
    assert len(set(texts)) == 3
    assert texts[0].startswith("The ")
    assert len(texts[0]) == len("The ") + 60 + len("\n")


def test_every_flag_of_sampling(terminal: Terminal, trained: str) -> None:
    flags = ["--temperature", "0.7", "--top-k", "5", "--top-p", "0.9", "--min-p", "0.01", "--repetition-penalty", "1.2"]
    answer = terminal.do("sample", trained, "So", "--num-tokens", "70", "--samples", "3", "--json", *flags)
    assert set(answer.json) == {"run", "step", "seed", "samples"}
    samples = answer.json["samples"]
    assert [(each["prompt"], each["finished"], each["tokens"]) for each in samples] == [("So", "length", 70)] * 3
    assert len({each["text"] for each in samples}) == 3
    writer = clearhead.load(trained)
    sampling = {"temperature": 0.7, "top_k": 5, "top_p": 0.9, "min_p": 0.01, "repetition_penalty": 1.2}
    assert writer.generate("So", samples=3, num_tokens=70, **sampling) == [each["text"] for each in samples]


def test_rounded_weights_write_and_are_measured(terminal: Terminal, trained: str) -> None:
    answer = terminal.do("sample", trained, "So", "--num-tokens", "20", "--weights", "int8", "--json")
    assert answer.json["samples"][0]["tokens"] == 20
    found = terminal.do("eval", trained, "--weights", "int8", "--json").json
    assert 0 < abs(found["nats_per_token_rounded"] - found["nats_per_token"]) < 0.01
    assert "with weights in bf16" in terminal.do("eval", trained, "--weights", "bf16").out


def test_without_numba_nothing_is_printed_but_what_to_install(
    terminal: Terminal, trained: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "clearhead.generation.token_kernel", None)
    answer = terminal.type("sample", trained, "So", "--compile")
    assert (answer.code, answer.out) == (2, "")
    assert "pip install 'clearhead[compile]'" in answer.err


def test_several_samples_stand_under_headings(terminal: Terminal, trained: str) -> None:
    shown = terminal.do("sample", trained, "So ", "--samples", "2", "--num-tokens", "9").out.splitlines()
    assert [line.strip("─") for line in shown if "sample" in line] == [" sample 1 ", " sample 2 "]
    assert max(map(len, shown)) <= 80


def test_a_text_ends_before_a_stop_string(terminal: Terminal, trained: str) -> None:
    whole = terminal.do("sample", trained, "-q", "--num-tokens", "90").out
    stop = whole[20:23]
    ended = terminal.do("sample", trained, "-q", "--num-tokens", "90", "--stop", "never", "--stop", stop).out
    assert ended == whole[: whole.index(stop)] + "\n"


def test_a_prompt_can_come_by_standard_input(terminal: Terminal, trained: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", stdin_of(b"The cat"))
    piped = terminal.do("sample", trained, "-", "--num-tokens", "20").out
    assert piped == terminal.do("sample", trained, "The cat", "--num-tokens", "20").out


def test_a_prompt_may_stand_after_flags(terminal: Terminal, trained: str) -> None:
    assert terminal.do("sample", "--seed", "3", trained, "--num-tokens", "3", "The").out.startswith("The")


def test_a_prompt_can_begin_with_a_hyphen(terminal: Terminal, trained: str) -> None:
    shown = terminal.do("sample", trained, "--unknown", "drop", "--num-tokens", "3", "--", "-The")
    assert shown.out.startswith("The")
    assert "Left out: 1 unknown character" in shown.err


def test_a_step_can_be_named(terminal: Terminal, trained: str) -> None:
    steps = Run(Path(trained)).steps()
    for named, step in [(f"@{steps[0]}", steps[0]), ("@last", steps[-1])]:
        assert terminal.do("sample", trained + named, "--json", "--num-tokens", "1").json["step"] == step


def test_a_terminal_never_obeys_what_a_model_wrote() -> None:
    assert harmless("a\x1b[31mb\x07\x9b\tc\n") == "a␛[31mb␇⟨9B⟩\tc\n"
    assert harmless("cà phê\r\n") == "cà phê\r\n"


def test_a_file_gets_what_a_model_wrote_unchanged() -> None:
    written = "a\x1b[31mb\r\n\tc  " + 20_000 * "x "
    stream = io.StringIO()
    print_written(Console(file=stream, width=30), written)
    assert stream.getvalue() == written + "\n"


def test_bytes_that_are_no_text_make_no_trouble(terminal: Terminal, trained: str) -> None:
    shown = terminal.do("sample", trained, "The\udcff", "--unknown", "drop", "--num-tokens", "2")
    assert shown.out.startswith("The")


# Measuring.


def test_the_keys_of_an_evaluation(terminal: Terminal, trained: str, story: Path) -> None:
    found = terminal.do("eval", trained, "--json", "--stride", "4").json
    named = {"run", "step", "split", "tokens_scored", "nats_per_token", "bits_per_byte", "baselines"}
    assert named <= set(found)
    assert (found["run"], found["split"]) == ("story-1", "validation")
    assert found["tokens_scored"] == len(story.read_text()) - len(story.read_text()) * 9 // 10 - 1
    assert set(found["baselines"]) == {"unigram", "bigram", "5-gram"}
    assert found["nats_per_token_sliding"] != found["nats_per_token"]
    assert len(found["by_position"]) == found["context_length"] == 17


def test_another_text_can_be_evaluated(terminal: Terminal, trained: str) -> None:
    terminal.write("other.txt", "The cat had 7 eggs.\n" * 9)
    found = terminal.do("eval", trained, "other.txt", "--json").json
    assert (found["split"], found["tokens_scored"]) == ("other.txt", 179)
    assert "nats_per_token_sliding" not in found
    assert "one text at a time" in terminal.refused("eval", trained, "other.txt", "other.txt")


def test_an_evaluation_is_shown_as_tables(terminal: Terminal, trained: str) -> None:
    shown = terminal.do("eval", trained, "--stride", "8").out
    for words in ("story-1@", "with sliding windows", "unigram", "Loss by position", "stands word for word"):
        assert words in shown


# Tokens, texts and runs.


@pytest.mark.parametrize("kind", ["char", "byte", "word", "bpe", "sentencepiece"])
def test_tokens_of_every_kind(kind: str, terminal: Terminal) -> None:
    found = terminal.do("tokens", "show", "Cà phê sữa, cà phê", "--tokenizer", kind, "--json").json
    assert (found["tokenizer"], found["characters"], found["bytes"]) == (kind, 18, 24)
    assert len(found["ids"]) == len(found["pieces"]) == found["tokens"]
    assert found["lossless"]


def test_tokens_of_a_file_by_a_runs_tokenizer(terminal: Terminal, trained: str) -> None:
    terminal.write("a.txt", "So it sang.\n")
    shown = terminal.do("tokens", "show", "a.txt", "--run", trained).out.splitlines()
    assert shown[0] == r"S|o|␣|i|t|␣|s|a|n|g|.|\n"
    assert "12 tokens" in shown[-1]
    assert shown == terminal.do("tokens", "show", "So it sang.\n", "--run", trained).out.splitlines()


def test_texts_are_listed(terminal: Terminal) -> None:
    assert "tales" in terminal.do("data", "list").out
    (shakespeare,) = terminal.do("data", "list", "--json").json
    assert shakespeare["name"] == "shakespeare"


def test_tales_are_made(terminal: Terminal) -> None:
    expected = [tale.text for tale in tales(5000, 3)]
    assert terminal.do("data", "tales", "--bytes", "5e3", "--seed", "3").out == "\n\n".join(expected) + "\n"
    rows = terminal.do("data", "tales", "--bytes", "5000", "--seed", "3", "--jsonl").out.splitlines()
    assert [json.loads(row)["text"] for row in rows] == expected
    assert sum(len(text.encode()) for text in expected) >= 5000
    assert terminal.do("data", "tales", "--bytes", "5000", "--seed", "4").out != "\n\n".join(expected) + "\n"


def test_runs_are_listed_and_shown(terminal: Terminal, own_run: Path) -> None:
    (listed,) = terminal.do("runs", "list", "--json").json
    assert (listed["run"], listed["step"], listed["reason"]) == ("story-1", 20, "budget")
    assert "story-1" in terminal.do("runs", "list").out
    (own_run / "report.html").unlink()
    shown = terminal.do("runs", "show", "last").out
    assert f"{listed['nats_per_token']:.4f} nats per token" in shown
    assert (own_run / "report.html").is_file()
    in_full = terminal.do("runs", "show", "story-1", "--json").json
    assert in_full["config"]["model"]["width"] == 12
    assert all(step["whole"] for step in in_full["steps"])
    damaged = own_run / "checkpoints" / "step-20" / "model.safetensors"
    damaged.write_bytes(damaged.read_bytes()[:-1])
    assert "damaged steps" in terminal.do("runs", "show", "story-1").out


def test_a_damaged_run_is_listed_as_such(terminal: Terminal, own_run: Path) -> None:
    (own_run / "run.json").write_text("{")
    assert "cannot be read: " in terminal.do("runs", "list").out
    (listed,) = terminal.do("runs", "list", "--json").json
    assert listed["trouble"].endswith("is not valid JSON: it was cut short or changed.")


def test_no_run_yet(terminal: Terminal) -> None:
    assert "clearhead train my.txt makes one" in terminal.do("runs", "list").out
    assert terminal.do("runs", "list", "--json").json == []


# The library.


def test_a_run_from_python(terminal: Terminal, story: Path, recwarn: pytest.WarningsRecorder) -> None:
    small = {"model__width": 16, "model__num_layers": 1, "train__sample_tokens": 3, "train__threads": 1}
    run = clearhead.train(story, preset="tiny", train__steps=2, **small)
    assert (run.path / "report.html").is_file()
    writer = clearhead.load(run)
    assert len(writer.generate("The cat", num_tokens=11)[0]) == 11
    assert len(writer.score("The cat").nats) == 6
    assert writer.generate("So", num_tokens=9) == clearhead.load("last").generate("So", num_tokens=9)
    assert not [warning for warning in recwarn if issubclass(warning.category, UserWarning)]


def test_minutes_are_a_budget(terminal: Terminal, story: Path) -> None:
    small = {"model__width": 16, "model__num_layers": 1, "train__sample_tokens": 3, "train__threads": 1}
    run = clearhead.train([story], minutes=0.01, preset="tiny", run="mine", **small)
    assert run.path == Path("mine")
    assert run_json(run.path)["config"]["train"]["minutes"] == 0.01


def test_a_library_warns_where_a_step_was_passed_over(terminal: Terminal, own_run: Path) -> None:
    newest = Run(own_run).steps()[-1]
    (own_run / "checkpoints" / f"step-{newest}" / "state.json").write_text("{}")
    with pytest.warns(UserWarning, match="state.json is not what was written"):
        clearhead.load(own_run)
    answer = terminal.do("sample", "last", "--num-tokens", "1", "-q")
    assert "state.json is not what was written" in answer.err


# Terminals, pipes and interruptions.


def on_a_terminal(*arguments: str) -> str:
    """Return everything that the program writes to a terminal, which has to be a POSIX one."""
    pty = pytest.importorskip("pty")
    ours, its = pty.openpty()
    blocks: list[bytes] = []

    def read() -> None:
        with contextlib.suppress(OSError):  # the other end was closed
            while block := os.read(ours, 65536):
                blocks.append(block)

    reader = threading.Thread(target=read)
    reader.start()
    with os.fdopen(its, "w") as screen, contextlib.redirect_stdout(screen), contextlib.redirect_stderr(screen):
        code = main(arguments)
    reader.join()
    os.close(ours)
    assert code == 0
    return b"".join(blocks).decode()


@pytest.fixture
def colours(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """A terminal of 90 columns that knows colours."""
    for name, value in {"TERM": "xterm-256color", "COLUMNS": "90", "LINES": "40"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("NO_COLOR", raising=False)
    return monkeypatch


@pytest.mark.usefixtures("own_run", "colours")
def test_a_terminal_shows_a_panel_with_the_time_left() -> None:
    shown = on_a_terminal("train", "--resume", "last", "--steps", "26")
    assert "step 26 of 26" in shown
    assert re.search(r"\d:\d\d left", shown)


@pytest.mark.parametrize("coloured", [True, False])
def test_colours_can_be_switched_off(colours: pytest.MonkeyPatch, coloured: bool) -> None:
    if not coloured:
        colours.setenv("NO_COLOR", "1")
    shown = on_a_terminal("tokens", "show", "to be")
    assert ("\x1b[" in shown) == coloured
    assert ("t|o|␣|b|e" in shown) == (not coloured)


def test_a_pipe_gets_lines_that_nobody_broke(terminal: Terminal, story: Path) -> None:
    lines = terminal.train(story, "--steps", "1").out.splitlines()
    (model,) = [line for line in lines if line.startswith("Model ")]
    assert len(model) > 80
    assert model.endswith("of memory beside the program's own")
    assert not any(line.endswith(" ") and "│" in line for line in lines)


def test_a_reader_that_goes_away_ends_the_program_quietly() -> None:
    pipe = subprocess.PIPE
    with subprocess.Popen(command("data", "tales", "--bytes", "1e7"), stdout=pipe, stderr=pipe) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline()
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 141


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
def test_output_that_finds_no_room_is_named() -> None:
    with open("/dev/full", "w") as full:
        ended = subprocess.run(command("data", "tales"), stdout=full, stderr=subprocess.PIPE, check=False)
    assert (ended.returncode, ended.stderr) == (
        2,
        b"clearhead: The system refuses to go on: No space left on device.\n",
    )


@pytest.mark.timeout(60)
@pytest.mark.skipif(sys.platform == "win32", reason="Windows sends Ctrl-C to whole groups of processes")
def test_ctrl_c_saves_and_says_how_to_go_on(terminal: Terminal, story: Path) -> None:
    pipe, flags = subprocess.PIPE, [*terminal.small, "--steps", "9000", "--train.evaluate_every", "9000"]
    with subprocess.Popen(command("train", str(story), *flags), stdout=pipe, stderr=pipe, text=True) as process:
        assert process.stdout is not None
        while "step 1/" not in process.stdout.readline():
            assert process.poll() is None
        process.send_signal(signal.SIGINT)
        out, err = process.communicate()
    assert process.returncode == 130
    assert err.endswith("Finishing this step, then saving. Once more ends at once.\n")
    assert f"{program()} train --resume story-1" in out or "-m clearhead train --resume story-1" in out
    assert Run(terminal.folder / "runs/story-1").steps()


def test_an_interruption_before_there_is_anything_to_save(terminal: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr(sample, "run", interrupted)
    answer: Answer = terminal.type("sample", "last")
    assert (answer.code, answer.out, answer.err) == (130, "", "clearhead: interrupted.\n")


def test_too_little_memory_is_told(terminal: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
    def too_large(*_: object) -> int:
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 99 bytes.")

    monkeypatch.setattr(sample, "run", too_large)
    answer = terminal.type("sample", "last")
    assert answer.code == 2
    assert answer.err.startswith("clearhead: There is not enough memory;")


def test_a_mistake_of_the_program_is_not_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    def wrong(*_: object) -> int:
        raise RuntimeError("a bug")

    monkeypatch.setattr(sample, "run", wrong)
    with pytest.raises(RuntimeError, match="a bug"):
        main(["sample", "last"])


def test_how_the_program_is_called_here(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", [str(tmp_path / ".venv/bin/clearhead")])
    monkeypatch.setenv("PATH", "")
    assert program() == os.path.join(".venv", "bin", "clearhead")
    monkeypatch.setattr(sys, "argv", [str(tmp_path / "clearhead" / "__main__.py")])
    assert program().endswith(" -m clearhead")
    monkeypatch.setattr(sys, "argv", ["pytest"])
    assert program() == "clearhead"
