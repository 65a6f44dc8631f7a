"""Learning-rate schedules against their formulas."""

import math

import pytest

from clearhead.training.config import ConstantConfig, CosineConfig, LinearConfig, WarmupStableDecayConfig
from clearhead.training.schedule import Plan, factor

PLAN = Plan(steps=101, evaluate_every=7)


def test_linear_goes_from_the_peak_to_just_above_zero() -> None:
    factors = [factor(LinearConfig(), PLAN, step) for step in range(101)]
    assert factors == pytest.approx([(101 - step) / 101 for step in range(101)])


def test_constant_stays() -> None:
    assert {factor(ConstantConfig(), PLAN, step) for step in range(101)} == {1.0}


def test_warmup_rises_linearly_to_the_peak() -> None:
    factors = [factor(ConstantConfig(warmup_steps=5), PLAN, step) for step in range(7)]
    assert factors == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0, 1.0, 1.0])


def test_a_warmup_longer_than_the_run_takes_half_of_it() -> None:
    short = Plan(steps=10, evaluate_every=1)
    assert factor(ConstantConfig(warmup_steps=1000), short, 4) == pytest.approx(1.0)


def test_cosine_ends_at_its_final_share() -> None:
    config = CosineConfig(warmup_steps=1, final=0.1)
    half = factor(config, PLAN, 51)
    assert factor(config, PLAN, 1) == pytest.approx(1.0)
    assert half == pytest.approx(0.1 + 0.9 * 0.5 * (1 + math.cos(math.pi / 2)))
    assert factor(config, PLAN, 100) == pytest.approx(0.1, abs=0.001)


def test_stable_then_decay() -> None:
    config = WarmupStableDecayConfig(decay_share=0.4)
    assert factor(config, Plan(100, 1), 59) == 1.0
    assert factor(config, Plan(100, 1), 80) == pytest.approx(0.5)


@pytest.mark.parametrize("config", [ConstantConfig(), LinearConfig(), CosineConfig(warmup_steps=0)])
def test_a_cooldown_is_a_straight_line_from_where_it_starts(config: LinearConfig) -> None:
    start = factor(config, Plan(steps=1000, evaluate_every=5), 50)
    plan = Plan(steps=60, evaluate_every=5, cooldown_start=50, cooldown_factor=start)
    assert factor(config, plan, 50) == pytest.approx(start)
    assert factor(config, plan, 55) == pytest.approx(start / 2)
    assert factor(config, plan, 59) == pytest.approx(start / 10)
