"""The notebooks run as a reader runs them, cell after cell, on a model that is trained for a moment."""

from __future__ import annotations

import ast
import json
import re
import shlex
from pathlib import Path
from typing import Any

import pytest

import clearhead
from clearhead.cli.main import main
from clearhead.show.view import View

ROOT = Path(__file__).parents[1]
NOTEBOOKS = sorted((ROOT / "examples").glob("*.ipynb"))


def code_cells(notebook: Path) -> list[dict[str, Any]]:
    return [cell for cell in json.loads(notebook.read_text())["cells"] if cell["cell_type"] == "code"]


def run_cell(source: str, namespace: dict[str, Any]) -> Any:
    """Run a cell, and return the value of its last line where that is an expression, as a notebook shows it."""
    *lines, last = ast.parse(source).body
    if not isinstance(last, ast.Expr):
        lines, last = [*lines, last], ast.Expr(ast.Constant(None))
    exec(compile(ast.Module(lines, []), "cell", "exec"), namespace)
    return eval(compile(ast.Expression(last.value), "cell", "eval"), namespace)


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.name)
def test_a_notebook_is_kept_without_outputs(notebook: Path) -> None:
    assert all(cell["outputs"] == [] and cell["execution_count"] is None for cell in code_cells(notebook))


@pytest.mark.slow
@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.name)
def test_a_notebook_runs_and_shows_its_views(
    notebook: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CLEARHEAD_CACHE", str(tmp_path / "cache"))
    train = clearhead.train

    def train_briefly(**settings: Any) -> Any:
        settings.pop("minutes", None)
        return train(**settings, train__steps=3, train__evaluate_every=3)

    monkeypatch.setattr(clearhead, "train", train_briefly)
    namespace: dict[str, Any] = {"__name__": "__main__"}
    shown = [run_cell("".join(cell["source"]), namespace) for cell in code_cells(notebook)]
    views = [each for each in shown if isinstance(each, View)]
    assert len(views) >= 5
    for view in views:
        assert "<figcaption>" in view._repr_html_()
    assert "tensor([0.2500, 0.2500, 0.2500, 0.2500" in capsys.readouterr().out


@pytest.mark.slow
def test_the_commands_of_the_walk_through_a_model_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each command of the page on looking inside, on models of less training: the same subjects, other digits."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.setenv("CLEARHEAD_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("CLEARHEAD_RUNS", raising=False)
    page = (ROOT / "docs" / "inside.md").read_text()
    for command in re.findall(r"^clearhead train .*$", page, re.MULTILINE):
        brief = re.sub(r"--(steps|minutes) \S+", "--steps 3 --train.evaluate_every 3", command)
        assert main([*shlex.split(brief)[1:], "--threads", "1", "--quiet"]) == 0
    shown = re.findall(r"^```console\n\$ (clearhead look .*)\n((?:.*\n)*?)```$", page, re.MULTILINE)
    assert len(shown) > 10
    for command, printed in shown:
        capsys.readouterr()
        assert main(shlex.split(command)[1:]) == 0
        assert capsys.readouterr().out.splitlines()[:2] == printed.splitlines()[:2], command
