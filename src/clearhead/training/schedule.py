"""The learning rate over a run, as a factor on each group's peak."""

from __future__ import annotations

import math
from dataclasses import dataclass

from clearhead.training.config import ConstantConfig, CosineConfig, LinearConfig, ScheduleConfig


@dataclass(frozen=True, slots=True)
class Plan:
    """How long a run is and how often it looks up.

    Args:
        steps: updates in all; the schedule ends there.
        evaluate_every: updates between evaluations.
        micro_batches: parts of each update's batch.
        cooldown_start: the step at which patience ran out; from there the rate falls to zero at `steps`.
        cooldown_factor: the learning rate's factor at that step.
    """

    steps: int
    evaluate_every: int
    micro_batches: int = 1
    cooldown_start: int | None = None
    cooldown_factor: float = 1.0


def factor(config: ScheduleConfig, plan: Plan, step: int) -> float:
    """Return the learning rate's factor for the update after `step` updates, in (0, 1].

    A cool-down replaces what the schedule says by a straight line from there to zero.
    """
    start = plan.cooldown_start
    if start is not None and step >= start:
        return plan.cooldown_factor * (plan.steps - step) / (plan.steps - start)
    return planned_factor(config, plan.steps, step)


def planned_factor(config: ScheduleConfig, steps: int, step: int) -> float:
    """Return the factor without a cool-down."""
    warmup = min(config.warmup_steps, steps // 2)
    if step < warmup:
        return (step + 1) / warmup
    if isinstance(config, ConstantConfig):
        return 1.0
    left = (steps - step) / (steps - warmup)
    if isinstance(config, CosineConfig):
        return config.final + (1.0 - config.final) * 0.5 * (1.0 - math.cos(math.pi * left))
    if isinstance(config, LinearConfig):
        return left
    return min(1.0, (steps - step) / max(1.0, config.decay_share * steps))
