"""A run that is ready to train, how long it will be, and how fast this machine trains it."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from torch import Tensor, nn

from clearhead.core.run import Run
from clearhead.core.runtime import Runtime
from clearhead.store import checkpoint
from clearhead.training.config import RunConfig
from clearhead.training.expectation import Expectation
from clearhead.training.loop import steps
from clearhead.training.objective import Objective
from clearhead.training.optim import OptimizerSet, build_optimizer
from clearhead.training.schedule import Plan
from clearhead.training.state import State
from clearhead.training.task import BatchSource, Data, Task

EVALUATION_SHARE = 0.05
"""The part of a run's time that evaluations should take."""


@dataclass(frozen=True)
class Record:
    """What a run's own record prescribes to whoever trains it anew.

    Args:
        plans: the plan that came into force after a step, by step.
        steps: the steps that were saved.
    """

    plans: Mapping[int, Plan]
    steps: frozenset[int]


@dataclass(frozen=True)
class Session:
    """A run that is ready to train: everything is on disk or in memory.

    Args:
        record: what happens when is prescribed, not decided.
        expected: the loss that a plan promised.
    """

    run: Run
    config: RunConfig
    runtime: Runtime
    task: Task
    model: nn.Module
    objective: Objective
    optimizer: OptimizerSet
    batches: BatchSource
    state: State
    resumed: bool = False
    exactness: str = "exact"
    notices: tuple[str, ...] = ()
    record: Record | None = None
    expected: Expectation | None = None

    @property
    def data(self) -> Data:
        """What is learned from."""
        return self.task.data


@dataclass(frozen=True, slots=True)
class Speed:
    """What a probe of a few steps measured."""

    step_seconds: float
    evaluation_seconds: float


def plan_length(session: Session) -> Plan:
    """Return how long the run is: as its config says, minutes turned into steps by a probe."""
    train, batches = session.config.train, session.batches
    count = train.planned_steps(batches.tokens_per_step, batches.sequences_per_epoch)
    speed = probe(session) if count is None or train.evaluate_every is None else Speed(1.0, 1.0)
    if count is None:
        assert train.minutes is not None
        count = max(1, int(step_budget(session, speed.step_seconds) / speed.step_seconds))
    every = round(speed.evaluation_seconds / (EVALUATION_SHARE * speed.step_seconds))
    evaluate_every = train.evaluate_every or max(1, min(every, count // 5))
    return Plan(count, evaluate_every, train.micro_batches)


def step_budget(session: Session, step_seconds: float) -> float:
    """Return the seconds of a timed run that are left for steps when evaluations have had theirs."""
    assert session.config.train.minutes is not None
    seconds = 60 * session.config.train.minutes
    return max(seconds / 2, seconds * (1 - EVALUATION_SHARE) - last_evaluation_seconds(session, step_seconds))


def last_evaluation_seconds(session: Session, step_seconds: float) -> float:
    """Return what the whole rule at the end takes: a forward pass, a third of a step, over the validation part."""
    validation_tokens: int = session.data.sources["split"]["validation_tokens"]
    return validation_tokens / session.batches.tokens_per_step * step_seconds / 3


def probe(session: Session, *, updates: int = 3) -> Speed:
    """Time a few updates of a copy of the model, and estimate from them what an evaluation takes."""
    model = copy.deepcopy(session.model)
    optimizer = build_optimizer(session.config.optimizer, model, session.runtime.precision)
    config = replace(session.config, train=replace(session.config.train, compile=False, averaging=None))
    state = State(plan=Plan(updates, updates + 1))
    spent = [0.0]
    batches, objective, runtime = session.batches, session.objective, session.runtime
    for _ in steps(model, batches, objective, optimizer, config, state=state, runtime=runtime):
        spent.append(state.train_seconds)
    # The first update warms up; the fastest of the others is what a step costs. A loss that is not finite leaves none.
    step_seconds = max(1e-5, min(np.diff(sorted(set(spent)))[1:], default=1.0))
    forward_share = session.task.evaluated_tokens / session.batches.tokens_per_step / 3
    sampling = 0.001 * session.config.train.sample_tokens
    return Speed(step_seconds, forward_share * step_seconds + sampling)


def bring_back(session: Session, step: int) -> State:
    """Put a saved step's weights and memory into a session, and return its state."""
    stored = checkpoint.load(session.run, step)
    assert stored.optimizer is not None
    checkpoint.load_model_tensors(session.model, stored.model)
    session.optimizer.load_tensors(stored.optimizer)
    average = None if stored.average is None else stored_average(session.model, stored.average)
    return State.from_dict(stored.state, average)


def stored_average(model: nn.Module, stored: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return stored averages of a model's weights as the loop moves them: of the weights' type, on their device.

    Raises:
        DamagedFile: they are not averages of these weights.
    """
    weights = dict(model.named_parameters())
    checkpoint.require_weights(stored, weights)
    return {name: stored[name].to(weight) for name, weight in weights.items()}


def assemble(
    run: Run, config: RunConfig, runtime: Runtime, task: Task, model: nn.Module, plan: Plan | None = None
) -> Session:
    """Put a run's parts together at step 0, and plan its length unless a plan is given."""
    batches = task.batches(config)
    optimizer = build_optimizer(config.optimizer, model, runtime.precision)
    model.recompute_blocks = config.train.recompute  # type: ignore[assignment]
    session = Session(run, config, runtime, task, model, task.objective, optimizer, batches, State(plan=Plan(1, 1)))
    session.state.plan = plan or plan_length(session)
    return session
