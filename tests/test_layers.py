"""The house: who imports whom, what no file may do, and how large things get; read off the syntax trees."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[1]
HOUSE = REPOSITORY / "src" / "clearhead"
FACADE = "clearhead"
OUTERMOST = {"__init__.py": FACADE, "__main__.py": "cli"}

FLOORS: dict[str, float] = {
    "core": 0,
    "text": 1,
    "model": 1,
    "show": 1,
    "store": 2,
    "generation": 3,
    "convert": 3,
    "look": 4,
    "training": 5,
    "tune": 6,
    "lab": 7,
    "serve": 8,
    FACADE: 8.5,  # clearhead/__init__.py calls all the rooms, and the command line calls it
    "cli": 9,
}
"""Imports point only downward."""

LIBRARIES: dict[str, set[str]] = {
    "core": {"pydantic"},
    "core/runtime.py": {"torch"},
    "text": {"jaxtyping", "numpy"},
    "text/adapters/huggingface.py": {"tokenizers"},
    "text/adapters/sentencepiece.py": {"sentencepiece"},
    "text/adapters/tiktoken.py": {"tiktoken"},
    "text/bpe.py": {"tokenizers"},
    "text/decoding.py": {"charset_normalizer"},
    "model": {"jaxtyping", "torch"},
    "show": {"jaxtyping", "matplotlib", "numpy", "rich"},
    "store": {"jaxtyping", "numpy", "safetensors", "torch"},
    "generation": {"jaxtyping", "numpy", "torch"},
    "convert": {"jaxtyping", "torch"},
    "convert/parity.py": {"numpy", "transformers"},
    "look": {"jaxtyping", "numpy", "torch"},
    "training": {"jaxtyping", "numpy", "torch"},
    "training/pair_score.py": {"sacrebleu"},
    "generation/token_kernel.py": {"numba"},
    "lab": {"jaxtyping", "numpy", "torch"},
    "lab/bench/nanogpt_worker.py": {"model"},  # nanoGPT's own module, in whose folder the worker runs
    "lab/bench/transformers_worker.py": {"transformers"},
    "serve": {"fastapi", "jaxtyping", "nicegui", "numpy", "starlette", "torch"},
    FACADE: {"torch"},
    "cli": {"numpy", "rich"},
}
"""What each package, or one file of it, may import beside Python's own library."""

TORCH_FREE = {"text", "show"}
TYPES_ONLY = {"_typeshed"}
VAGUE_NAMES = {"utils", "util", "common", "helpers", "helper", "misc"}
PICKLES = {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "marshal", "shelve"}
RUNS_CODE = {"eval", "exec", "__import__"}
LONGEST = {"function": 60, "file": 500, "test file": 600, "parameters": 8, "nesting": 4}

FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
BLOCKS = (ast.If, ast.For, ast.AsyncFor, ast.While, ast.With, ast.AsyncWith, ast.Try, ast.TryStar, ast.Match)


@dataclass(frozen=True, slots=True)
class File:
    """One file of the house.

    Args:
        name: its path inside the house, with slashes.
        room: the package it belongs to; FACADE for the house's own `__init__.py`, "cli" for its `__main__.py`.
    """

    name: str
    room: str
    source: str
    tree: ast.Module


@cache
def files(house: Path) -> tuple[File, ...]:
    """Read every Python file of a house."""
    found = []
    for path in sorted(house.rglob("*.py")):
        name = path.relative_to(house)
        room = OUTERMOST.get(name.as_posix(), name.parts[0].removesuffix(".py"))
        source = path.read_text()
        found.append(File(name.as_posix(), room, source, ast.parse(source)))
    return tuple(found)


def imports(file: File) -> Iterator[tuple[int, str]]:
    """Yield the line and the full name of everything that a file imports, at any depth."""
    for node in ast.walk(file.tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = "." * node.level + (node.module or "")
            yield from ((node.lineno, f"{base}.{alias.name}") for alias in node.names)


def room_of(target: str) -> str:
    """Return the package of the house that an imported name lies in."""
    parts = target.split(".")
    return parts[1] if len(parts) > 1 and parts[1] in FLOORS else FACADE


def own_imports(file: File) -> Iterator[tuple[int, str]]:
    return ((line, target) for line, target in imports(file) if target.split(".")[0] == "clearhead")


# What breaks the rules, one function a rule.


def rooms_not_in_the_table(house: Path) -> list[str]:
    return [f"{file.name}: there is no package {file.room}" for file in files(house) if file.room not in FLOORS]


def imports_that_point_up(house: Path) -> list[str]:
    return [
        f"{file.name}:{line} imports {target}"
        for file in files(house)
        for line, target in own_imports(file)
        if file.room != room_of(target) and FLOORS[room_of(target)] >= FLOORS.get(file.room, 0)
    ]


def relative_imports(house: Path) -> list[str]:
    return [
        f"{file.name}:{line} imports {target}"
        for file in files(house)
        for line, target in imports(file)
        if target.startswith(".")
    ]


def configs_that_import_more_than_configs(house: Path) -> list[str]:
    return [
        f"{file.name}:{line} imports {target}"
        for file in files(house)
        for line, target in own_imports(file)
        if file.name.endswith(("/config.py", "_config.py"))
        and file.room != "cli"
        and room_of(target) != "core"
        and not re.match(r"clearhead\.\w+\.(\w+_)?config(\.|$)", target)
    ]


def libraries_not_in_the_table(house: Path) -> list[str]:
    found = []
    for file in files(house):
        allowed = LIBRARIES.get(file.room, set()) | LIBRARIES.get(file.name, set()) | TYPES_ONLY
        for line, target in imports(file):
            library = target.split(".")[0]
            if library not in allowed and library not in {"clearhead", ""} | sys.stdlib_module_names:
                found.append(f"{file.name}:{line} imports {library}")
    return found


def torch_by_the_back_door(house: Path) -> list[str]:
    return [
        f"{file.name}:{line} imports {target}, and with it torch"
        for file in files(house)
        for line, target in own_imports(file)
        if file.room in TORCH_FREE and target.startswith("clearhead.core.runtime")
    ]


def vague_names(house: Path) -> list[str]:
    return [file.name for file in files(house) if VAGUE_NAMES & set(file.name.removesuffix(".py").split("/"))]


def full_inits(house: Path) -> list[str]:
    spared = {"__init__.py", "look/__init__.py"}
    return [
        file.name
        for file in files(house)
        if file.name.endswith("__init__.py") and file.name not in spared and file.source.strip()
    ]


def dangerous_calls(house: Path) -> list[str]:
    """Find what runs code out of data, or imports behind the back of these checks."""
    found = []
    for file in files(house):
        found += [f"{file.name}:{line} imports {name}" for line, name in imports(file) if name.split(".")[0] in PICKLES]
        for node in ast.walk(file.tree):
            if isinstance(node, ast.Call) and (danger := danger_of(node, file)):
                found.append(f"{file.name}:{node.lineno} {danger}")
    return found


def danger_of(call: ast.Call, file: File) -> str:
    """Say what is dangerous about a call, if anything is."""
    name = ast.unparse(call.func)
    pickles = {keyword.arg: ast.unparse(keyword.value) for keyword in call.keywords}.get("allow_pickle", "False")
    if name in RUNS_CODE or name in ("torch.load", "torch.save") or pickles != "False":
        return f"calls {name}"
    if name.endswith("import_module") and file.name not in ("cli/main.py", "look/__init__.py"):
        return "imports what no check can see"
    return ""


def prints_and_exits(house: Path) -> list[str]:
    spoken = {"print", "input", "exit", "quit", "sys.exit", "os._exit", "SystemExit"}
    return [
        f"{file.name}:{node.lineno} calls {ast.unparse(node.func)}"
        for file in files(house)
        if file.room != "cli"
        for node in ast.walk(file.tree)
        if isinstance(node, ast.Call) and ast.unparse(node.func) in spoken
    ]


def long_files(house: Path) -> list[str]:
    lengths = {file.name: file.source.count("\n") for file in files(house)}
    return [f"{name} has {length} lines" for name, length in lengths.items() if length > LONGEST["file"]]


def functions(house: Path) -> Iterator[tuple[str, ast.FunctionDef | ast.AsyncFunctionDef]]:
    for file in files(house):
        for node in ast.walk(file.tree):
            if isinstance(node, FUNCTIONS):
                yield f"{file.name}:{node.lineno} {node.name}", node


def long_functions(house: Path) -> list[str]:
    lengths = {name: (node.end_lineno or node.lineno) - node.lineno + 1 for name, node in functions(house)}
    return [f"{name} has {length} lines" for name, length in lengths.items() if length > LONGEST["function"]]


def many_parameters(house: Path) -> list[str]:
    found = []
    for name, node in functions(house):
        given = node.args
        named = [argument.arg for argument in (*given.posonlyargs, *given.args, *given.kwonlyargs)]
        count = len([argument for argument in named if argument not in ("self", "cls")])
        count += (given.vararg is not None) + (given.kwarg is not None)
        if count > LONGEST["parameters"]:
            found.append(f"{name} has {count} parameters")
    return found


def deep_functions(house: Path) -> list[str]:
    depths = {name: nesting(node) for name, node in functions(house)}
    return [f"{name} is {depth} blocks deep" for name, depth in depths.items() if depth > LONGEST["nesting"]]


def nesting(node: ast.AST) -> int:
    """Return how many blocks stand inside each other; an `elif` is as deep as its `if`."""
    deepest = 0
    for child in ast.iter_child_nodes(node):
        if not isinstance(child, (*FUNCTIONS, ast.ClassDef)):
            continues = isinstance(node, ast.If) and isinstance(child, ast.If) and node.orelse == [child]
            deeper = isinstance(child, BLOCKS) and not continues
            deepest = max(deepest, nesting(child) + deeper)
    return deepest


Rule = Callable[[Path], list[str]]
RULES: tuple[Rule, ...] = (
    rooms_not_in_the_table,
    imports_that_point_up,
    relative_imports,
    configs_that_import_more_than_configs,
    libraries_not_in_the_table,
    torch_by_the_back_door,
    vague_names,
    full_inits,
    dangerous_calls,
    prints_and_exits,
    long_files,
    long_functions,
    many_parameters,
    deep_functions,
)


@pytest.mark.parametrize("rule", RULES)
def test_the_house_has_none(rule: Rule) -> None:
    assert rule(HOUSE) == []


DEEP = """
def f(x):
    if x:
        for y in x:
            while y:
                with y:
                    try:
                        pass
                    finally:
                        pass
"""

BROKEN: list[tuple[Rule, str, str]] = [
    (rooms_not_in_the_table, "kitchen/sink.py", ""),
    (rooms_not_in_the_table, "loose.py", ""),
    (imports_that_point_up, "text/a.py", "from clearhead.store.load import load"),
    (imports_that_point_up, "model/a.py", "def f():\n    import clearhead.text.tokenizer"),
    (imports_that_point_up, "core/a.py", "from clearhead import text"),
    (imports_that_point_up, "training/a.py", "from clearhead import train"),
    (relative_imports, "text/a.py", "from . import split"),
    (relative_imports, "text/a.py", "from ..model.masks import Mask"),
    (configs_that_import_more_than_configs, "training/config.py", "from clearhead.model.layers import Block"),
    (libraries_not_in_the_table, "text/a.py", "import torch.nn"),
    (libraries_not_in_the_table, "core/files.py", "from torch import Tensor"),
    (libraries_not_in_the_table, "text/split.py", "def f():\n    from tokenizers import Tokenizer"),
    (libraries_not_in_the_table, "cli/a.py", "import pydantic"),
    (torch_by_the_back_door, "show/a.py", "from clearhead.core.runtime import Runtime"),
    (vague_names, "text/utils.py", ""),
    (vague_names, "model/common/a.py", ""),
    (full_inits, "model/__init__.py", "from clearhead.model.layers import Block"),
    (dangerous_calls, "store/a.py", "import pickle"),
    (dangerous_calls, "store/a.py", "import torch\ntorch.load('x')"),
    (dangerous_calls, "store/a.py", "value = eval('1')"),
    (dangerous_calls, "store/a.py", "exec('pass')"),
    (dangerous_calls, "store/a.py", "import numpy as np\nnp.load('x', allow_pickle=True)"),
    (dangerous_calls, "text/a.py", "import importlib\nimportlib.import_module('torch')"),
    (prints_and_exits, "training/a.py", "print('x')"),
    (prints_and_exits, "core/a.py", "import sys\ndef f():\n    sys.exit(2)"),
    (prints_and_exits, "core/a.py", "raise SystemExit(2)"),
    (long_files, "text/a.py", "x = 1\n" * 501),
    (long_functions, "text/a.py", "def f():\n" + "    x = 1\n" * 60),
    (many_parameters, "text/a.py", "class A:\n    def f(self, a, b, c, d, e, f, g, *h, i): ..."),
    (deep_functions, "text/a.py", DEEP),
]


@pytest.mark.parametrize(("rule", "name", "source"), BROKEN, ids=[rule.__name__ for rule, _, _ in BROKEN])
def test_each_rule_finds_a_breach(tmp_path: Path, rule: Rule, name: str, source: str) -> None:
    (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / name).write_text(source)
    assert len(rule(tmp_path)) == 1


def test_every_rule_has_a_breach_to_find() -> None:
    assert {rule for rule, _, _ in BROKEN} == set(RULES)


SOUND = """
import torch

from clearhead.core.errors import UserError


class A(torch.nn.Module):
    def f(self, a, b, c, d, e, f, g, h):
        self.eval()
        if a:
            pass
        elif b:
            pass
        elif c:
            pass
        elif d:
            for _ in e:
                while f:
                    with g:
                        pass
"""


@pytest.mark.parametrize("rule", RULES)
def test_no_rule_finds_what_is_allowed(tmp_path: Path, rule: Rule) -> None:
    for name, source in {"model/a.py": SOUND, "model/__init__.py": "", "training/config.py": CONFIG}.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(source)
    assert rule(tmp_path) == []


CONFIG = "from clearhead.model.config import GptConfig\nfrom clearhead.text.config import TextConfig\n"


def test_no_test_file_is_too_long() -> None:
    lengths = {path: path.read_text().count("\n") for path in REPOSITORY.joinpath("tests").rglob("*.py")}
    assert {path: length for path, length in lengths.items() if length > LONGEST["test file"]} == {}


def test_the_readme_shows_this_house() -> None:
    rows = re.findall(r"^\| (\d) \| (`.*?) \|", REPOSITORY.joinpath("README.md").read_text(), re.MULTILINE)
    shown = {room: float(floor) for floor, names in rows for room in re.findall(r"`(\w+)`", names)}
    built = {path.name for path in HOUSE.iterdir() if path.joinpath("__init__.py").exists()}
    assert shown == {room: FLOORS[room] for room in built}


# What is loaded when.


def modules_after(program: str) -> set[str]:
    """Return the outermost names of the modules that a program has loaded beyond Python's own start."""
    watched = f"import sys; before = set(sys.modules)\n{program}\nprint('\\n', *sorted(set(sys.modules) - before))"
    done = subprocess.run([sys.executable, "-W", "error", "-c", watched], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return {name.split(".")[0] for name in done.stdout.splitlines()[-1].split()}


def test_the_package_loads_nothing_at_first() -> None:
    assert modules_after("import clearhead") - sys.stdlib_module_names == {"clearhead"}


def test_help_loads_nothing_heavy() -> None:
    loaded = modules_after("from clearhead.cli.main import main; assert main(['--help']) == 0")
    assert loaded - sys.stdlib_module_names == {"clearhead"}


VERBS_HELP = """
import contextlib
from clearhead.cli.main import VERBS, main
for verb in VERBS:
    with contextlib.suppress(SystemExit):
        main([verb, "--help"])
        raise AssertionError(verb)
"""


def test_the_help_of_a_verb_loads_nothing_heavy() -> None:
    assert not modules_after(VERBS_HELP) & {"torch", "pydantic", "matplotlib", "tokenizers"}


def test_what_needs_no_torch_does_not_load_it() -> None:
    rooms = [file.name for file in files(HOUSE) if file.room in ("core", *TORCH_FREE) and "__init__" not in file.name]
    names = [f"clearhead.{name.removesuffix('.py').replace('/', '.')}" for name in rooms if "runtime" not in name]
    loaded = modules_after(f"import importlib\nfor name in {names}:\n    importlib.import_module(name)")
    assert not loaded & {"torch", "pydantic"}


def test_a_heavy_module_would_be_seen() -> None:
    assert "numpy" in modules_after("import numpy")
