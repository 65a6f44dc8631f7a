"""The documents say what is true: links lead somewhere, commands parse, paths exist, examples run as printed."""

from __future__ import annotations

import ast
import contextlib
import importlib
import io
import json
import re
import shlex
import shutil
import subprocess
import sys
from argparse import Namespace
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby, zip_longest
from pathlib import Path
from typing import Any

import pytest

import clearhead
from clearhead.cli.arguments import Parser, dotted_flags
from clearhead.cli.main import MODULES, VERBS, main
from clearhead.cli.train import settings
from clearhead.core.config import FOREIGN_NAMES, describe
from clearhead.core.errors import UserError
from clearhead.text.tales import tales
from clearhead.training.config import RunConfig

ROOT = Path(__file__).parents[1]
DOCUMENTS = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")])
EXTENDING = ROOT / "docs" / "extending.md"
GLOSSARY = ROOT / "docs" / "glossary.md"
NOTES_MAP = ROOT / "docs" / "notes-map.md"

ROWS = {"A": 15, "B": 16, "C": 14, "D": 10, "E": 24, "F": 18, "G": 12, "H": 9, "I": 7, "J": 7}
"""How many things the notes name, by part."""


@dataclass(frozen=True, slots=True)
class Fence:
    """A fenced block.

    Args:
        line: the number of its first line in the document.
        adjacent: nothing but white space stands between it and the block before it.
    """

    document: Path
    language: str
    text: str
    line: int
    adjacent: bool


def fences(document: Path) -> list[Fence]:
    """Return a document's fenced blocks in order."""
    content, found, end = document.read_text(), [], 0
    for match in re.finditer(r"^```(\w*)\n(.*?)^```$", content, re.MULTILINE | re.DOTALL):
        line = content.count("\n", 0, match.start()) + 2
        adjacent = bool(found) and not content[end : match.start()].strip()
        found.append(Fence(document, match[1], match[2], line, adjacent))
        end = match.end()
    return found


def prose(document: Path) -> str:
    """Return a document without its fenced blocks."""
    return re.sub(r"^```\w*\n.*?^```$", "", document.read_text(), flags=re.MULTILINE | re.DOTALL)


def names(documents: Sequence[Path]) -> list[str]:
    return [document.relative_to(ROOT).as_posix() for document in documents]


# Links.


def slug(heading: str) -> str:
    """Return the anchor that code hosts give a heading."""
    return re.sub(r"[^\w\- ]", "", heading.replace("`", "").lower()).replace(" ", "-")


def anchors(document: Path) -> set[str]:
    return {slug(match[1]) for match in re.finditer(r"^#+ (.+)$", prose(document), re.MULTILINE)}


def broken_links(document: Path) -> list[str]:
    """Return the links of a document that lead to no file or to no heading."""
    text = re.sub(r"`[^`]*`", "", prose(document))
    broken = []
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        path, _, anchor = target.partition("#")
        if re.match(r"\w+:", target):
            continue
        file = document.parent / path if path else document
        if not file.exists() or (anchor and anchor not in anchors(file)):
            broken.append(target)
    return broken


@pytest.mark.parametrize("document", DOCUMENTS, ids=names(DOCUMENTS))
def test_links_lead_somewhere(document: Path) -> None:
    assert broken_links(document) == []


def test_a_link_to_nothing_is_found(tmp_path: Path) -> None:
    document = tmp_path / "page.md"
    document.write_text("# One thing\n[a](#one-thing) [b](#another) [c](missing.md) [d](page.md) [e](https://x.org)")
    assert broken_links(document) == ["#another", "missing.md"]


# Commands.


class Parsed(Exception):
    """A verb's parser has accepted its arguments; nothing more should happen."""

    def __init__(self, found: Namespace) -> None:
        self.found = found


class ParserOnly(Parser):
    """Ends a verb as soon as its arguments are parsed."""

    def parse(self, arguments: Sequence[str]) -> Any:
        raise Parsed(super().parse(arguments))


def commands(document: Path) -> Iterator[list[str]]:
    """Yield the words of every `clearhead ...` command of a document, in fenced blocks and in code spans."""
    lines = [span.strip() for span in re.findall(r"`([^`\n]+)`", prose(document))]
    for fence in fences(document):
        if fence.language in ("sh", "console", ""):
            lines += fence.text.replace("\\\n", " ").splitlines()
    for line in lines:
        if "clearhead " not in line:
            continue
        words = shlex.split(line.strip().removeprefix("$ "), comments=True)
        for _, group in groupby(words, key=("|", ">", "&&", ";").__contains__):
            command, *arguments = group
            if Path(command).name == "clearhead":
                yield arguments


def check_command(words: Sequence[str]) -> Namespace | None:
    """Parse a command as its verb would, and look up its dotted flags; nothing is run.

    Returns:
        what the verb's parser found, None where the command is not whole.
    """
    verb, *arguments = words
    if verb.isupper() or verb.startswith("-"):
        return None
    assert verb in VERBS, f"there is no verb {verb}"
    settings = {field.key for field in describe(RunConfig)}
    _, pairs = dotted_flags(arguments)
    unknown = [name for name, _ in pairs if name.replace("-", "_") not in settings]
    assert not unknown, f"there is no setting {unknown[0]}"
    if not arguments or "--help" in arguments or any("..." in word for word in arguments):
        return None
    with pytest.raises(Parsed) as parsed:
        importlib.import_module(f"clearhead.cli.{MODULES.get(verb, verb)}").run(ParserOnly(prog=verb), arguments)
    return parsed.value.found


def check_settings(words: Sequence[str]) -> None:
    """Make the settings of a command that trains; a file of settings that only the reader has is passed over."""
    found = check_command(words)
    if words[0] == "train" and found is not None and found.resume is None:
        _, pairs = dotted_flags(words[1:])
        settings(Namespace(**{**vars(found), "config": None}), pairs)


@pytest.mark.parametrize("document", DOCUMENTS, ids=names(DOCUMENTS))
def test_commands_are_known_to_their_verbs(document: Path) -> None:
    for words in commands(document):
        # The settings of the page on extending exist once its examples are followed, and are tried with them below.
        (check_command if document == EXTENDING else check_settings)(words)


@pytest.mark.parametrize(
    "command",
    [
        "trian my.txt",
        "train my.txt --model.witdh 8",
        "train my.txt --model.width 199 --minutes 1",
        "train my.txt --steps many",
        "train my.txt --preset tiniest",
        "train my.txt --model.norm.kind layers",
        "sample last --tempreature 1",
        "tokens show",
        "eval last --stride x",
    ],
)
def test_a_wrong_command_is_found(command: str) -> None:
    with pytest.raises((AssertionError, UserError)):
        check_settings(command.split())


# Examples.


@pytest.fixture
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Stand in an empty folder with a text and a program to train on."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CLEARHEAD_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("CLEARHEAD_RUNS", raising=False)
    (tmp_path / "my.txt").write_text("\n\n".join(tale.text for tale in tales(20_000, seed=1)))
    shutil.copy(ROOT / "src/clearhead/text/tokenizer.py", tmp_path / "my.py")
    return tmp_path


def python_blocks(document: Path) -> list[tuple[Fence, str | None]]:
    """Return a document's Python blocks that are to be run, each with what it must print, if the document says it."""
    found = []
    blocks = fences(document)
    for fence, after in zip_longest(blocks, blocks[1:]):
        if fence.language == "python" and "# not run" not in fence.text:
            printed = after.text if after and after.language == "text" and after.adjacent else None
            found.append((fence, printed))
    return found


def run_blocks(document: Path, blocks: Sequence[Fence]) -> Iterator[str]:
    """Run a document's blocks one after the other, as one program, and yield what each prints."""
    namespace: dict[str, Any] = {"__name__": "__main__"}
    for block in blocks:
        # Empty lines before it let an error name the document's own line.
        code = compile("\n" * (block.line - 1) + block.text, str(document), "exec", dont_inherit=True)
        with contextlib.redirect_stdout(io.StringIO()) as printed:
            exec(code, namespace)
        yield printed.getvalue()


@pytest.mark.parametrize("document", DOCUMENTS, ids=names(DOCUMENTS))
@pytest.mark.usefixtures("workplace")
def test_python_blocks_run_as_printed(document: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    train = clearhead.train

    def train_briefly(*texts: str, **settings: Any) -> Any:
        kept = {key: value for key, value in settings.items() if key not in ("minutes", "train__steps")}
        return train(*texts, **kept, train__steps=3)

    monkeypatch.setattr(clearhead, "train", train_briefly)
    blocks = python_blocks(document)
    printed = run_blocks(document, [block for block, _ in blocks])
    for (block, wanted), output in zip(blocks, printed, strict=True):
        assert wanted is None or output == wanted, f"{document.name}:{block.line} prints something else"


def shown_tokens() -> list[tuple[str, str, str]]:
    """Return document, command and printed text for each `clearhead tokens show` of a console block."""
    found = []
    for document in DOCUMENTS:
        for fence in fences(document):
            for part in re.split(r"^\$ ", fence.text, flags=re.MULTILINE)[1:]:
                command, _, printed = part.partition("\n")
                if fence.language == "console" and command.startswith("clearhead tokens show"):
                    found.append((document.name, command, printed))
    return found


@pytest.mark.parametrize(("document", "command", "wanted"), shown_tokens())
def test_console_blocks_print_what_they_say(
    document: str, command: str, wanted: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    assert main(shlex.split(command)[1:]) == 0
    assert capsys.readouterr().out == wanted


def test_worked_examples_are_short() -> None:
    sections = re.split(r"^## ", EXTENDING.read_text(), flags=re.MULTILINE)
    for section in sections:
        diffs = re.findall(r"^```diff\n(.*?)^```$", section, re.MULTILINE | re.DOTALL)
        for example in [*diffs, *re.findall(r"^```python\n(.*?)^```$", section, re.MULTILINE | re.DOTALL)]:
            assert example.count("\n") <= 40, f"{section.splitlines()[0]}: {example.count(chr(10))} lines"
        assert len(set(re.findall(r"^--- (.+)$", "".join(diffs), re.MULTILINE))) <= 2


def classes(document: Path) -> dict[str, str]:
    """Return the source of each class that a document's Python blocks define."""
    found = {}
    for fence, _ in python_blocks(document):
        for node in ast.parse(fence.text).body:
            if isinstance(node, ast.ClassDef):
                first = min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)])
                found[node.name] = "\n".join(fence.text.splitlines()[first - 1 : node.end_lineno])
    return found


def apply_diff(diff: str, root: Path, sources: dict[str, str]) -> None:
    """Change files as a diff says; its hunks are found by their lines, which must stand in the file exactly once."""
    for name, hunks in re.findall(r"^--- (.+)\n((?:(?!--- ).*\n)+)", diff, re.MULTILINE):
        file = root / name
        for hunk in hunks.split("@@\n")[1:]:
            lines = [(line[:1], line[1:]) for line in hunk.splitlines()]
            before = "".join(f"{text}\n" for sign, text in lines if sign != "+")
            after = "".join(f"{text}\n" for sign, text in lines if sign != "-")
            for wanted in re.findall(r"^# class (\w+)$", after, re.MULTILINE):
                after = after.replace(f"# class {wanted}", sources[wanted])
            content = file.read_text()
            assert content.count(before) == 1, f"{name} has these lines {content.count(before)} times:\n{before}"
            file.write_text(content.replace(before, after))


@pytest.fixture
def extended(workplace: Path) -> Path:
    """Return a copy of the package with every change that the page on extending shows."""
    shutil.copytree(ROOT / "src/clearhead", workplace / "src/clearhead", ignore=shutil.ignore_patterns("__pycache__"))
    for fence in fences(EXTENDING):
        if fence.language == "diff":
            apply_diff(fence.text, workplace, classes(EXTENDING))
    return workplace


def run_python(program: str, arguments: str) -> str:
    """Run a program as its reader would, without the tests' checks of shapes, and return what it prints."""
    command = [sys.executable, "-W", "error", "-c", program]
    done = subprocess.run(command, input=arguments, text=True, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


SMALL = "--model.num_layers 1 --model.width 32"
"""Less than a reader trains, for the sake of time."""

RUN_LINES = """
import shlex, sys
from pathlib import Path
sys.path.insert(0, "src")
import clearhead.cli.main
from clearhead.cli import summary
summary.END_SAMPLE_TOKENS = 5
assert Path(clearhead.__file__).is_relative_to(Path("src").resolve())
for line in sys.stdin:
    assert clearhead.cli.main.main(shlex.split(line)[1:]) == 0, line
"""


def test_the_parts_become_settings(extended: Path) -> None:
    (lines,) = [fence.text.replace("$ ", "") for fence in fences(EXTENDING) if fence.language == "console"]
    lines = lines.replace("--steps", "--quiet --steps").replace("--preset code", f"--preset code {SMALL}")
    run_python(RUN_LINES, lines)
    assert (extended / "runs/code/checkpoints/step-3").is_dir()
    stored = json.loads((extended / "runs/code/run.json").read_text())["config"]
    model = stored["model"]
    kinds = [model[section]["kind"] for section in ("positions", "mask", "norm", "feed_forward")]
    kinds += [stored[section]["kind"] for section in ("tokenizer", "schedule", "optimizer")]
    assert kinds == ["relative", "strided", "tanh", "bilinear", "indent", "inverse_root", "sgd"]
    other = json.loads((extended / "runs/fading/run.json").read_text())["config"]["model"]
    assert other["mixer"]["kind"] == "fading"


@pytest.mark.slow
def test_the_parts_pass_the_checks(extended: Path) -> None:
    shutil.copy(ROOT / "pyproject.toml", extended)
    changed = sorted(set(re.findall(r"^--- (.+)$", EXTENDING.read_text(), re.MULTILINE)))
    for check in (["mypy"], ["ruff", "check", *changed], ["ruff", "format", "--check", *changed]):
        done = subprocess.run([sys.executable, "-m", *check], text=True, capture_output=True, check=False)
        assert done.returncode == 0, done.stdout


# The glossary.


def test_foreign_names_are_those_the_config_reader_knows() -> None:
    rows = re.findall(r"^\| \*\*\w\*\* \|.*\|([^|]*)\|([^|]*)\|$", GLOSSARY.read_text(), re.MULTILINE)
    assert len(rows) == len("BTSCHKDFVL")
    known = 0
    for called_here, foreign in rows:
        ours = {setting.rpartition(".")[2] for setting in re.findall(r"`([\w.]+)`", called_here)}
        for name in re.findall(r"`(\w+)`", foreign):
            assert FOREIGN_NAMES.get(name) in {None, *ours}, f"{name} is not called {ours} here"
            known += name in FOREIGN_NAMES
    assert known > 15


# The map of the notes.


def map_rows() -> list[list[str]]:
    """Return the cells of every row of the map's tables."""
    lines = [line for line in NOTES_MAP.read_text().splitlines() if re.match(r"\| [A-J]\d+ ", line)]
    return [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines]


def test_every_row_of_the_notes_is_listed_once() -> None:
    expected = [f"{part}{number}" for part, count in ROWS.items() for number in range(1, count + 1)]
    listed = [row[0] for row in map_rows()]
    assert sorted(listed) == sorted(expected)


PATH = re.compile(r"`((?:tests|docs|src)/[\w./-]+|(?:model|text|training|generation|core)/\w+\.py)(?:::(\w+))?`")


@pytest.mark.parametrize("document", DOCUMENTS, ids=names(DOCUMENTS))
def test_paths_and_functions_exist(document: Path) -> None:
    for name, function in PATH.findall(prose(document)):
        file = ROOT / name if name.startswith(("tests", "docs", "src")) else ROOT / "src" / "clearhead" / name
        assert file.is_file(), f"there is no {name}"
        assert not function or f"def {function}(" in file.read_text(), f"{name} has no {function}"


def test_a_row_is_done_with_a_proof_or_says_what_is_missing() -> None:
    for row in map_rows():
        name, _, now, proof = row
        assert PATH.search(proof) or now.startswith("Not yet"), f"{name} has neither"
