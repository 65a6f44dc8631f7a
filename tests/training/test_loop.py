"""The loop: what it yields, what it refuses to learn from, and that micro-batches add up."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from clearhead.core.events import Event
from clearhead.model.build import build_model
from clearhead.model.config import GptConfig
from clearhead.text.batches import Batch, ShuffledWindows
from clearhead.text.shards import in_memory
from clearhead.training.config import AdamWConfig, RunConfig, TrainConfig
from clearhead.training.evaluate import Evaluator, Score
from clearhead.training.loop import Hooks, steps
from clearhead.training.objective import next_token
from clearhead.training.optim import OptimizerSet, build_optimizer
from clearhead.training.schedule import Plan
from clearhead.training.state import State

MODEL = GptConfig(num_layers=1, num_heads=2, width=12, context_length=7, dropout=0.0)
TOKENS = in_memory(np.random.default_rng(3).integers(0, 11, 601, dtype=np.int32), 11)


def batches(micro_batches: int = 1) -> ShuffledWindows:
    return ShuffledWindows(tokens=TOKENS, context_length=7, sequences_per_step=6, seed=1, micro_batches=micro_batches)


class Training:
    """A small model on its way, with everything that the loop needs."""

    def __init__(self, plan: Plan, micro_batches: int = 1, **train: Any) -> None:
        self.config = RunConfig(model=MODEL, train=TrainConfig(**train))
        self.model: nn.Module = build_model(MODEL, 11, seed=5)
        self.optimizer: OptimizerSet = build_optimizer(self.config.optimizer, self.model)
        self.state = State(plan=plan)
        self.batches = batches(micro_batches)

    def run(self, hooks: Hooks | None = None, objective: Any = next_token) -> list[Event]:
        return list(
            steps(
                self.model,
                self.batches,
                objective,
                self.optimizer,
                self.config,
                state=self.state,
                hooks=hooks or Hooks(),
            )
        )

    def weights(self) -> Tensor:
        return torch.cat([parameter.detach().flatten().clone() for parameter in self.model.parameters()])


def names(events: list[Event]) -> list[str]:
    return [event.name for event in events]


def test_it_learns_and_says_each_step() -> None:
    training = Training(Plan(steps=30, evaluate_every=100))
    events = training.run()
    losses = [event.loss for event in events if event.name == "stepped"]  # type: ignore[attr-defined]
    assert len(losses) == 30
    assert losses[0] == pytest.approx(np.log(11), abs=1e-4)
    assert min(losses) < losses[0] - 0.05
    assert names(events)[-1] == "stopped"
    assert events[-1].tokens == 30 * 6 * 7


def test_parts_of_a_batch_add_up_to_the_batch() -> None:
    whole, parts = Training(Plan(5, 100)), Training(Plan(5, 100), micro_batches=4)
    whole.run()
    parts.run()
    assert (whole.weights() - parts.weights()).abs().max() < 1e-5


def test_a_mean_over_parts_would_be_another_thing() -> None:
    """Six sequences in four parts are 2, 2, 1, 1: averaging the parts' means would weigh sequences unequally."""
    batch = batches(4)(0)
    assert [len(part.tokens) for part in batch] == [2, 2, 1, 1]
    model = build_model(MODEL, 11, seed=5)
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.3)
    losses = [next_token(model, Batch(*(torch.from_numpy(x).long() for x in (b.tokens, b.targets)))) for b in batch]
    right = sum(float(x.total.detach()) for x in losses) / sum(x.weight for x in losses)
    wrong = float(np.mean([float(x.total.detach()) / x.weight for x in losses]))
    assert abs(right - wrong) > 1e-4


def fixed_scores(values: list[float]) -> Hooks:
    """Return hooks whose evaluations give these losses, then the last one for ever."""
    left = list(values)

    def evaluate(model: nn.Module, sampled: bool) -> dict[str, Score]:
        value = left.pop(0) if len(left) > 1 else left[0]
        return {"validation": Score(value, 0.01, None, 7, np.zeros(7))}

    return Hooks(evaluate=evaluate)


def test_patience_cools_down_and_ends() -> None:
    training = Training(Plan(steps=1000, evaluate_every=2), patience=3)
    events = training.run(fixed_scores([3.0, 2.0, 1.0, 1.0]))
    planned = [event for event in events if event.name == "planned"]
    assert len(planned) == 1
    # The best is at step 6; three evaluations later, at 12, patience is over, and a fifth of that is the cool-down.
    assert (planned[0].cooldown_start, planned[0].steps) == (12, 14)  # type: ignore[attr-defined]
    rates = {event.step: event.learning_rate for event in events if event.name == "stepped"}  # type: ignore[attr-defined]
    assert rates[13] == pytest.approx(rates[12], rel=0.01)
    assert events[-1].reason == "patience"  # type: ignore[attr-defined]
    assert training.state.step == 14
    assert training.state.best is not None
    assert training.state.best.step == 6


@pytest.mark.parametrize("broken", [math.nan, math.inf])
def test_a_loss_that_is_no_number_is_never_the_best(broken: float) -> None:
    training = Training(Plan(steps=6, evaluate_every=2))
    training.run(fixed_scores([broken, 2.0, broken]))
    assert training.state.best is not None
    assert (training.state.best.step, training.state.best.nats_per_token) == (4, 2.0)


def test_gains_within_the_error_do_not_feed_patience() -> None:
    training = Training(Plan(steps=20, evaluate_every=1), patience=3)
    training.run(fixed_scores([1.0 - 0.001 * step for step in range(30)]))
    assert training.state.plan.cooldown_start is not None


def test_small_gains_add_up() -> None:
    """Each gains less than the error of 0.01, but every second one lies clearly below the last clear one."""
    training = Training(Plan(steps=20, evaluate_every=1), patience=3)
    training.run(fixed_scores([1.0 - 0.007 * step for step in range(30)]))
    assert training.state.plan.cooldown_start is None


def test_asked_to_stop_it_saves_and_goes() -> None:
    saved: list[int] = []

    def save(state: State, resumable: bool) -> str:
        saved.append(state.step)
        return f"step-{state.step}"

    hooks = Hooks(save=save, stop=lambda state: ("signal", "asked") if state.step == 4 else None)
    events = Training(Plan(9, 100)).run(hooks)
    assert saved == [4]
    assert names(events)[-2:] == ["saved", "stopped"]


def test_a_closed_iterator_saves_nothing() -> None:
    training = Training(Plan(9, 100))
    saved: list[int] = []
    hooks = Hooks(save=lambda state, resumable: saved.append(state.step))  # type: ignore[func-returns-value]
    running = steps(
        training.model,
        training.batches,
        next_token,
        training.optimizer,
        training.config,
        state=training.state,
        hooks=hooks,
    )
    next(iter(running))
    running.close()  # type: ignore[attr-defined]
    assert saved == []


def test_clipping_bounds_the_step() -> None:
    """With plain momentum-free scale, a clipped gradient has the configured norm when the optimizer sees it."""
    training = Training(Plan(1, 100), clip_norm=1e-3)
    norms: list[float] = []
    original = training.optimizer.step

    def step() -> None:
        gradients = [p.grad for p in training.model.parameters() if p.grad is not None]
        norms.append(float(torch.cat([g.flatten() for g in gradients]).norm()))
        original()

    training.optimizer.step = step  # type: ignore[method-assign]
    events = training.run()
    assert norms[0] == pytest.approx(1e-3, rel=1e-3)
    assert events[0].grad_norm > 1e-2  # type: ignore[attr-defined]


def seen_by_the_optimizer(limit: float | None) -> tuple[Tensor, float]:
    """Return the gradient of a first step as the optimizer sees it, and the norm that the step tells."""
    training = Training(Plan(1, 100), clip_norm=limit)
    seen: list[Tensor] = []

    def step() -> None:
        seen.append(torch.cat([p.grad.flatten().clone() for p in training.model.parameters() if p.grad is not None]))

    training.optimizer.step = step  # type: ignore[method-assign]
    first = training.run()[0]
    return seen[0], first.grad_norm  # type: ignore[attr-defined]


def test_a_gradient_is_scaled_as_torch_clips_the_mean() -> None:
    twin = Training(Plan(1, 100))
    batch = twin.batches(0)[0]
    parameters = list(twin.model.parameters())
    for limit in (None, 0.05, 1e6):
        for parameter in parameters:
            parameter.grad = None
        loss = next_token(twin.model, Batch(torch.as_tensor(batch.tokens), torch.as_tensor(batch.targets).long()))
        (loss.total / loss.weight).backward()  # type: ignore[no-untyped-call]
        norm = nn.utils.clip_grad_norm_(parameters, math.inf if limit is None else limit)
        wanted = torch.cat([p.grad.flatten() for p in parameters if p.grad is not None])
        gradient, told = seen_by_the_optimizer(limit)
        torch.testing.assert_close(gradient, wanted, rtol=1e-4, atol=1e-8)
        assert told == pytest.approx(float(norm), rel=1e-5)
        assert limit != 0.05 or told > 0.05


def test_the_average_follows_the_weights_and_is_what_is_evaluated() -> None:
    training = Training(Plan(8, 8), averaging=0.9)
    evaluator = Evaluator(TOKENS, 7, None)
    seen: list[float] = []

    def evaluate(model: nn.Module, sampled: bool) -> dict[str, Score]:
        score = evaluator.score(model, sampled=sampled)
        seen.append(score.nats_per_token)
        return {"validation": score}

    training.run(Hooks(evaluate=evaluate))
    assert training.state.average is not None
    raw = evaluator.score(training.model).nats_per_token
    with torch.no_grad():
        for name, parameter in training.model.named_parameters():
            parameter.copy_(training.state.average[name])
    assert evaluator.score(training.model).nats_per_token == pytest.approx(seen[-1], abs=1e-6)
    assert raw != pytest.approx(seen[-1], abs=1e-6)


def test_a_users_own_module_trains() -> None:
    class Own(nn.Module):
        context_length = 7

        def __init__(self) -> None:
            super().__init__()
            self.table = nn.Embedding(11, 11)

        def forward(self, tokens: Tensor) -> Tensor:
            logits: Tensor = self.table(tokens)
            return logits

    model = Own()
    config = RunConfig(optimizer=AdamWConfig(learning_rate=0.05))
    optimizer = build_optimizer(config.optimizer, model)
    events = list(steps(model, batches(), next_token, optimizer, config, state=State(plan=Plan(40, 99))))
    losses = [event.loss for event in events if event.name == "stepped"]  # type: ignore[attr-defined]
    assert losses[-1] < losses[0] - 0.1
