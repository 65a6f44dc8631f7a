"""What a plan chooses, on machines whose speed is made up."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from clearhead.core.config import merge
from clearhead.core.errors import UserError
from clearhead.core.runtime import Runtime
from clearhead.text.corpus import Corpus, from_documents
from clearhead.text.tales import tales
from clearhead.training import expectation, fit, plan
from clearhead.training.config import RunConfig
from clearhead.training.expectation import TextMeasure
from clearhead.training.recipes import recipe

Machine = Callable[[float], None]


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Machine:
    """Give this process a machine of so many FLOPs a second, and texts that cannot be learned by heart."""
    monkeypatch.setattr(plan, "measure_text", lambda _: TextMeasure(10**11, 2.0))

    def give(speed: float) -> None:
        def time_step(config: RunConfig, vocabulary_size: int, _: Runtime) -> float:
            return plan.sizes_of(config, vocabulary_size).flops_per_token * plan.tokens_per_step(config) / speed

        monkeypatch.setattr(plan, "time_step", time_step)

    return give


@functools.cache
def stories() -> Corpus:
    return from_documents([tale.text for tale in tales(9_000, 5)], "tales")


def test_the_lowest_expectation_is_chosen(machine: Machine) -> None:
    machine(1e11)
    choice = plan.choose(stories(), [{"train.minutes": 1.0}], Runtime())
    assert len(choice.candidates) > 2
    assert choice.best.expected.bits_per_byte == min(each.expected.bits_per_byte for each in choice.candidates)
    assert all(50 < each.seconds <= 60 for each in choice.candidates)


def test_a_faster_machine_trains_larger_models(machine: Machine) -> None:
    parameters = []
    for speed in (1e10, 1e14):
        machine(speed)
        parameters.append(plan.choose(stories(), [{"train.minutes": 1.0}], Runtime()).best.sizes.parameters)
    assert parameters[0] < parameters[1]


def test_what_cannot_learn_in_its_time_is_not_tried(machine: Machine) -> None:
    machine(1e9)
    choice = plan.choose(stories(), [{"train.minutes": 1.0}], Runtime())
    assert {each.config.model.width for each in choice.candidates} == {128}


def test_the_settings_ask_for_the_same_without_a_plan(machine: Machine) -> None:
    machine(1e11)
    choice = plan.choose(stories(), [{"train.minutes": 0.5}], Runtime())
    assert merge(recipe(plan.PRESET), choice.settings) == choice.best.config


def test_a_run_ends_before_it_learns_its_text_by_heart(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    machine(1e12)
    few, many = 10**5, 10**11
    for training_bytes in (few, many):
        monkeypatch.setattr(plan, "measure_text", lambda _, size=training_bytes: TextMeasure(size, 2.0))
        choice = plan.choose(stories(), [{"train.minutes": 5.0}], Runtime())
        assert (choice.best.config.train.minutes is None) == (training_bytes == few)
        assert (choice.best.seconds < 100) == (training_bytes == few)
        assert merge(recipe(plan.PRESET), choice.settings) == choice.best.config
        assert ("by heart" in choice.sentence) == (training_bytes == few)


def test_more_time_never_promises_less(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    machine(1e12)
    monkeypatch.setattr(plan, "measure_text", lambda _: TextMeasure(10**5, 2.0))
    promised = [
        plan.choose(stories(), [{"train.minutes": minutes}], Runtime()).best.loss for minutes in (1.0, 31.0, 1e4, 1e9)
    ]
    assert all(more <= 1.01 * less for less, more in itertools.pairwise(promised))


@pytest.mark.parametrize("possible", [1, 7, 10**11])
def test_the_lengths_of_a_run_go_down_to_one_step(possible: int) -> None:
    found = list(plan.lengths(possible))
    assert (found[0], found[-1]) == (possible, 1)
    assert all(shorter > 0.7 * longer - 1 for longer, shorter in itertools.pairwise(found))


def test_characters_beyond_the_sample_are_no_obstacle(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    machine(1e11)
    monkeypatch.setattr(plan, "SAMPLE_BYTES", 500)
    text = "plain letters\n" * 99 + "ß" * 99 + "more plain letters\n" * 20 + "ß" * 50
    settings = {"train.minutes": 1.0, "tokenizer": {"kind": "char", "unknown": "refuse"}}
    assert plan.choose(from_documents([text], "text"), [settings], Runtime()).candidates


def test_what_its_user_set_stays() -> None:
    asked = {"model.width": 144, "tokenizer": {"kind": "byte"}, "train.patience": 3, "train.minutes": 7.0}
    proposals = plan.propose([{"train.patience": 4}, asked])
    assert len(proposals) == len(plan.SIZES) * len(plan.DROPOUTS)
    for each in proposals:
        found = each.config
        assert (found.model.width, found.tokenizer.kind) == (144, "byte")
        assert (found.train.patience, found.train.minutes) == (3, 7.0)


def test_sizes_that_cannot_be_had_are_left_out() -> None:
    heads = {each.config.model.num_heads for each in plan.propose([{"model.width": 198}])}
    assert heads == {3}
    with pytest.raises(UserError, match="does not divide"):
        plan.propose([{"model.width": 199}])


def test_settings_that_do_not_suit_the_preset_may_suit_a_plan() -> None:
    preset = recipe("modern")
    assert plan.before_plan([{"model.dropout": 0.3}], preset) == merge(preset, {"model.dropout": 0.3})
    assert plan.before_plan([{"model.width": 160}], preset).model.width == 160
    with pytest.raises(UserError, match="num_heads = 3 does not divide"):
        plan.before_plan([{"model.width": 199}], preset)


@pytest.mark.parametrize("length", [{"train.steps": 3}, {"train.tokens": 999}, {"train.epochs": 1.5}])
def test_only_a_length_in_time_is_planned(length: dict[str, Any]) -> None:
    assert plan.planner(merge(recipe("modern"), length), [length]) is None
    assert plan.planner(recipe("modern"), [{}]) is not None


def test_where_nothing_is_open_nothing_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plan, "choose", None)
    everything = {**plan.SIZES[1], **plan.TOKENIZERS[0], "model.dropout": 0.0}
    settled = plan.planner(recipe("modern"), [everything])
    assert settled is not None
    assert settled(Runtime(), stories()).model == merge(recipe("modern"), everything).model


def test_a_run_is_made_and_judged_by_its_plan(place: Path, machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    machine(1e11)
    monkeypatch.setattr(expectation, "SMALLEST_COVERED", 1)
    told: list[str] = []
    settings: dict[str, Any] = {"model.width": 24, "train.sample_tokens": 5, "train.minutes": 0.01}
    config = merge(recipe("modern"), settings)
    session = fit.create([place / "text.txt"], config, plan=plan.planner(config, [settings], told.append))
    assert session.config.model.width == 24
    assert session.config.model.context_length != recipe("modern").model.context_length
    assert session.config.train.patience == 0
    assert told[0].startswith("Plan for 0.01 min: ")
    assert session.expected is not None
    assert told[0].endswith(f"expected: {session.expected}.")
    counted = [event for event in fit.train(session) if event.name == "measured" and event.subject == "expected"]
    assert [event.values for event in counted] == [asdict(session.expected)]
