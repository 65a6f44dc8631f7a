"""What somebody changes about our recipes holds, and what a budget's time comes from is told."""

from __future__ import annotations

from pathlib import Path

import pytest

from clearhead.lab.bench import catalogue, levels
from clearhead.lab.bench.workload import Request

FLAGS = {"--preset": "tiny", "--train.steps": "66", "--optimizer.learning_rate": "0.06"}


@pytest.mark.parametrize(
    ("quick", "changes", "wanted"),
    [
        (False, {}, FLAGS),
        (True, {}, FLAGS | {"--train.steps": "3"}),
        (True, {"--train.steps": "7"}, FLAGS | {"--train.steps": "7"}),
        (False, {"--model.width": "32"}, FLAGS | {"--model.width": "32"}),
        (
            True,
            {"--train.tokens": "900"},
            {"--preset": "tiny", "--optimizer.learning_rate": "0.06", "--train.tokens": "900"},
        ),
    ],
)
def test_what_is_named_holds_and_there_is_one_length(
    quick: bool, changes: dict[str, str], wanted: dict[str, str]
) -> None:
    assert levels.recipe(Request(threads=1, quick=quick, changes=changes), FLAGS) == wanted


def test_every_recipe_is_one_that_training_takes() -> None:
    recipes = [flags for each in catalogue.WORKLOADS.values() for flags in each.recipes]
    assert len(recipes) == 5
    for flags in recipes:
        levels.require_recipe(flags)


def test_a_time_that_was_not_measured_is_told() -> None:
    (said,) = catalogue.WORKLOADS["budget"].notes(Request(threads=1))
    assert "not measured in this run: ours had 113 s" in said
    assert not levels.not_measured(Request(threads=1, nanogpt=Path("nanoGPT")))
    assert not levels.not_measured(Request(threads=1, quick=True))


def test_every_group_says_what_it_is_for() -> None:
    assert list(catalogue.purposes()) == list(catalogue.WORKLOADS)
    assert set(catalogue.PURPOSES) == {each.group for each in catalogue.WORKLOADS.values()}
