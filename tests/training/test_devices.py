"""Devices that compute wrong numbers are found and refused; the CPU stands in for one by a broken twin of the model."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from clearhead.core.config import merge
from clearhead.core.errors import UserError
from clearhead.core.runtime import Runtime, available_devices, describe_device
from clearhead.model import shapes
from clearhead.model.build import build_model
from clearhead.model.config import BigramConfig, GptConfig, ModelConfig
from clearhead.training import devices, fit
from clearhead.training.devices import Check, Deviation, DeviceReport, Examination, Speed
from clearhead.training.recipes import recipe

SMALL = GptConfig(num_layers=3, num_heads=2, width=20, context_length=11)
ALMOST = GptConfig(num_layers=3, num_heads=2, width=24, context_length=11)
Twin = Callable[[nn.Module], None]


def wrong_forward(model: nn.Module) -> None:
    """Let the feed-forward layer of a block be off by two percent, in single precision alone."""

    def disturb(_module: nn.Module, _inputs: Any, output: Tensor) -> Tensor:
        return output * 1.02 if output.dtype == torch.float32 else output

    model.blocks[-1].feed_forward.register_forward_hook(disturb)  # type: ignore[index, union-attr, operator]


def wrong_gradient(model: nn.Module) -> None:
    """Let one small gradient have the wrong sign, in single precision alone."""
    model.blocks[0].attention.key.weight.register_hook(  # type: ignore[index, union-attr]
        lambda gradient: -gradient if gradient.dtype == torch.float32 else gradient
    )


def not_a_number(model: nn.Module) -> None:
    """Let one gradient be NaN in single precision."""
    model.unembedding.weight.register_hook(  # type: ignore[union-attr, operator]
        lambda gradient: gradient * math.nan if gradient.dtype == torch.float32 else gradient
    )


TWINS: list[Twin] = [wrong_forward, wrong_gradient, not_a_number]


def break_models(monkeypatch: pytest.MonkeyPatch, twin: Twin) -> None:
    """Let devices be checked by broken models, the CPU too."""

    def build(config: ModelConfig, vocabulary_size: int, *, seed: int = 0) -> nn.Module:
        model = build_model(config, vocabulary_size, seed=seed)
        twin(model)
        return model

    monkeypatch.setattr(devices, "build_model", build)
    monkeypatch.setattr(devices, "TRUSTED", frozenset())


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("config", [SMALL, shapes.tiny(), shapes.lecture(), shapes.gpt2(), BigramConfig()])
def test_the_cpu_is_right(config: ModelConfig, precision: Any) -> None:
    check = devices.examine_model(config, "it", Runtime(precision=precision))
    assert check.right
    assert 0 < check.deviation.gradient < devices.GRADIENT_TOLERANCES[precision] / 2


@pytest.mark.parametrize("twin", TWINS)
def test_a_wrong_device_is_found(monkeypatch: pytest.MonkeyPatch, twin: Twin) -> None:
    break_models(monkeypatch, twin)
    assert not devices.examine_model(SMALL, "it", Runtime()).right


def test_the_parameter_that_is_off_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    break_models(monkeypatch, wrong_gradient)
    found = devices.examine_model(SMALL, "it", Runtime()).deviation
    assert found.worst == "blocks.0.attention.key.weight"
    assert found.gradient == pytest.approx(2.0, rel=1e-3)
    break_models(monkeypatch, not_a_number)
    assert devices.examine_model(SMALL, "it", Runtime()).deviation.worst == "unembedding.weight"


def small_run(place: Path, **changes: Any) -> fit.Session:
    small = {"model.num_layers": 1, "model.num_heads": 2, "model.width": 12, "model.context_length": 13}
    config = merge(recipe("tiny"), {**small, "train.steps": 2, "train.threads": 1, **changes})
    return fit.create([place / "text.txt"], config)


@pytest.mark.parametrize("twin", TWINS)
def test_training_refuses_a_wrong_device_unless_told_otherwise(
    place: Path, monkeypatch: pytest.MonkeyPatch, twin: Twin
) -> None:
    session = small_run(place)
    break_models(monkeypatch, twin)
    with pytest.raises(UserError, match=r"cpu computes wrong numbers.*--train.check_device false"):
        small_run(place)
    with pytest.raises(UserError, match="computes wrong numbers"):
        fit.resume(fit.runs.Selection(session.run, "last"))
    assert small_run(place, **{"train.check_device": False}).state.step == 0


def test_the_cpu_is_trusted() -> None:
    assert "cpu" in devices.TRUSTED
    devices.require_right(replace(SMALL, width=20), Runtime())


def test_the_cpu_is_asked_for_gradients() -> None:
    with pytest.raises(UserError, match=r"set model\.kernel = fused"):
        devices.require_right(replace(SMALL, kernel="flex"), Runtime())
    devices.require_right(replace(SMALL, context_length=1), Runtime())


def test_the_devices_of_this_machine_can_be_named() -> None:
    assert available_devices()[0] == "cpu"
    assert all(describe_device(name) for name in available_devices())


# What follows from figures: a CPU and two GPUs that are made up.


def report(name: str, rates: list[float | None], *, wrong: bool = False) -> DeviceReport:
    deviation = Deviation(0.5, 0.25, "embedding.weight") if wrong else Deviation(1e-7, 1e-6, "embedding.weight")
    parameters = [1_000, 20_000, 300_000]
    speeds = [Speed(f"size {n}", n, rate) for n, rate in zip(parameters, rates, strict=True)]
    cost = 4.0 if name == "cpu" else 40.0
    return DeviceReport(name, "made up", (Check("tiny", "fp32", deviation, not wrong),), tuple(speeds), cost, 0.5)


CPU = report("cpu", [900.0, 80.0, None])


@pytest.mark.parametrize(
    ("rates", "parameters"),
    [
        ([901.0, 500.0, 300.0], 1_000),
        ([100.0, 90.0, 70.0], 20_000),
        ([100.0, 70.0, 60.0], 300_000),
        ([100.0, 70.0, None], None),
    ],
)
def test_the_crossover_is_the_smallest_size_that_is_faster(rates: list[float | None], parameters: int | None) -> None:
    assert devices.crossover(CPU, report("mps", rates)) == parameters


def sentences(*others: DeviceReport, threads: dict[int, float] | None = None) -> str:
    crossovers = {other.name: devices.crossover(CPU, other) for other in others}
    return "\n".join(devices.verdicts(Examination((CPU, *others), threads or {1: 100.0}, crossovers)))


def test_the_verdict_on_a_slow_gpu_says_from_where_it_is_worth_it_and_why() -> None:
    said = sentences(report("mps", [100.0, 90.0, 70.0]))
    assert "mps is slower than the CPU below size 20000 (20,000 parameters): an operation costs 40 microseconds" in said
    assert "and 4 on the CPU" in said
    assert "at every size that was tried" in sentences(report("mps", [100.0, 70.0, None]))
    assert "faster than the CPU at every size from size 1000 on" in sentences(report("cuda:0", [999.0, 999.0, 999.0]))


def test_the_verdict_on_a_wrong_gpu_is_that_alone() -> None:
    said = sentences(report("mps", [999.0, 999.0, 999.0], wrong=True))
    assert "mps computes wrong numbers: for tiny in fp32, the loss is off by 0.5" in said
    assert "faster" not in said


def test_the_verdict_on_threads() -> None:
    assert "2 threads are 1.5 times as fast as one" in sentences(threads={1: 100.0, 2: 150.0})
    assert "One thread is fastest" in sentences(threads={1: 100.0, 2: 15.0})
    assert "thread" not in sentences()


def test_sizes_that_there_is_no_time_for_are_not_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "time", SimpleNamespace(perf_counter=lambda: 7.0))
    monkeypatch.setattr(devices, "tokens_per_second", lambda *_, seconds: devices.TIMED_TOKENS / seconds)
    sizes = {"small": SMALL, "almost": ALMOST, "huge": shapes.gpt2_124m()}
    found = list(devices.timed_sizes(sizes, Runtime(), until=8.0, seconds_each=0.1))
    assert [speed.tokens_per_second is None for speed in found] == [False, False, True]
    assert [speed.parameters for speed in found] == sorted(speed.parameters for speed in found)


def test_an_examination_has_every_figure() -> None:
    threads = torch.get_num_threads()
    found = devices.examine({"small": SMALL}, {"small": SMALL, "almost": ALMOST}, seconds=1.0)
    assert torch.get_num_threads() == threads
    assert found.devices[0].name == "cpu"
    assert found.devices[0].right
    assert [check.precision for check in found.devices[0].checks] == ["fp32", "bf16"]
    assert min(found.threads) == 1
    assert found.devices[0].operation_microseconds > 0
    assert devices.verdicts(found)
