"""Planning as its users meet it."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from clearhead.training import plan

if TYPE_CHECKING:
    from conftest import Terminal

FEW = ("--model.width", "24", "--model.num_layers", "1", "--threads", "1", "--train.sample_tokens", "3")


@pytest.fixture(autouse=True)
def machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let every step take a twentieth of a second, and one size be enough."""
    monkeypatch.setattr(plan, "time_step", lambda *_: 0.05)
    monkeypatch.setattr(plan, "SIZES", plan.SIZES[:1])


@pytest.fixture
def story(terminal: Terminal) -> Path:
    """A text of few letters with something to learn in it."""
    return terminal.write("story.txt", "".join(f"The cat had {i * i % 97} eggs.\nSo it sang.\n" for i in range(99)))


def test_a_plan_names_its_command_and_trains_nothing(terminal: Terminal, story: Path) -> None:
    before = terminal.contents()
    found = terminal.do("plan", story, "--minutes", "0.5", "--json", *FEW).json
    assert terminal.contents() == before
    assert found["minutes"] == 0.5
    assert found["chosen"] in found["candidates"]
    assert found["chosen"]["expected"]["lowest"] < found["chosen"]["expected"]["bits_per_byte"]
    told = terminal.do("plan", story, "--minutes", "0.5", *FEW).out
    assert f"  {found['command']}\n" in told
    assert "--preset modern" in found["command"]
    assert "--train.epochs " in found["command"], "a text this short is learned by heart in half a minute"


@pytest.mark.slow
def test_the_command_of_a_plan_trains_what_was_planned(terminal: Terminal, story: Path) -> None:
    command = terminal.do("plan", story, "--minutes", "0.02", "--json", *FEW).json["command"]
    arguments = shlex.split(command.partition(" train ")[2])
    terminal.do("train", *arguments, "--run", "a", "-q")
    terminal.do("train", story, "--minutes", "0.02", *FEW, "--run", "b", "-q")
    configs = [json.loads(Path(name, "run.json").read_text())["config"] for name in "ab"]
    assert configs[0] == configs[1]


def test_training_says_what_it_expects_and_whether_it_came_true(terminal: Terminal, story: Path) -> None:
    enough = story.with_name("enough.txt")
    enough.write_text("".join(f"{number} {story.read_text()}" for number in range(110)))
    answer = terminal.do("train", enough, "--minutes", "0.02", *FEW)
    assert "Plan for 0.02 min: " in answer.err
    assert "bits per byte (" in answer.err
    assert "Expected: " in answer.out
    assert " than expected." in answer.out or ", as expected." in answer.out


def test_of_a_short_text_nothing_is_promised(terminal: Terminal, story: Path) -> None:
    answer = terminal.do("train", story, "--minutes", "0.02", *FEW)
    assert "Plan for 0.02 min: " in answer.err
    assert "xpected" not in answer.err + answer.out


def test_what_has_no_length_in_time_is_not_planned(terminal: Terminal, story: Path) -> None:
    assert "minutes" in terminal.refused("plan", story, "--train.steps", "7")


def test_a_table_of_pairs_trains_for_some_time_without_a_plan(terminal: Terminal, story: Path) -> None:
    few = ("--model.kind", "bigram", "--minutes", "0.01", "-q", "--threads", "1")
    terminal.do("train", story, *few, "--run", "pairs")
    assert "no size to plan" in terminal.refused("plan", story, "--model.kind", "bigram")
