"""What the workers of this program measure, in this process and on models of a few parameters."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from clearhead.core.events import read
from clearhead.lab.bench import levels, ours, timing
from clearhead.lab.bench.shapes import SHAPES, Shape
from clearhead.model.build import build_model
from clearhead.training.config import override
from clearhead.training.fit import train_run
from clearhead.training.preflight import measure_sizes
from clearhead.training.recipes import recipe

SMALL = Shape(num_layers=1, num_heads=3, width=6, context_length=5, vocabulary_size=7)


@pytest.fixture(autouse=True)
def short_times(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Let no measurement last, and leave torch as it was."""
    monkeypatch.setattr(timing, "PEAK_SECONDS", 0.0)
    monkeypatch.setattr(ours, "NUM_TOKENS", 101)
    before = torch.are_deterministic_algorithms_enabled()
    yield
    torch.use_deterministic_algorithms(before)


@pytest.mark.parametrize(("size", "nanogpt"), [("0.8M", 804_096), ("10.6M", 10_745_088)])
def test_the_models_have_nanogpts_parameters(size: str, nanogpt: int) -> None:
    shape = SHAPES[size]
    with torch.device("meta"):
        model = build_model(ours.model_config(shape), shape.vocabulary_size)
    shifts = sum(p.numel() for name, p in model.named_parameters() if name.endswith("bias"))
    assert sum(parameter.numel() for parameter in model.parameters()) - shifts == nanogpt
    assert shifts == (2 * shape.num_layers + 1) * shape.width
    # measure_sizes counts learned positions among the products, since a tied embedding is one.
    positions = 6 * shape.context_length * shape.width
    assert measure_sizes(model, 1).flops_per_token - positions == shape.flops_per_token


def test_training_tells_its_speed_and_its_share_of_the_peak() -> None:
    found = ours.train(SMALL.to_dict(), batch=3, steps=2, precision="fp32", quick=True)(1).figures
    rate, peak = found["tokens_per_second"], 1e9 * found["peak_gigaflops"]
    assert found["share_of_peak"] == pytest.approx(rate * SMALL.flops_per_token / peak)
    assert rate > 0


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_shares_are_parts_of_a_step(optimizer: str) -> None:
    found = ours.shares(optimizer, steps=2, precision="fp32")(1).figures
    assert 0 < found["data_share"] < found["optimizer_share"] + found["data_share"] < 1


@pytest.mark.parametrize("parts", ours.PARTS)
def test_models_of_either_kind_write(parts: str) -> None:
    assert ours.decode(SMALL.to_dict(), batch=2, seconds=0.0, parts=parts)(1).figures["tokens_per_second"] > 0


def test_whole_texts_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    ticks = iter(range(100))
    monkeypatch.setattr(timing, "time", SimpleNamespace(perf_counter=lambda: float(next(ticks))))
    # A text takes a tick, and so does each look at the clock: after the second text the time is over.
    assert timing._rate(lambda: next(ticks), num_tokens=10, seconds=4.0) == pytest.approx(10 * 2 / 5)


def test_the_fastest_number_of_threads_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    used = [2]
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    monkeypatch.setattr(torch, "set_num_threads", used.append)
    monkeypatch.setattr(timing, "_rate", lambda *_: 100.0 / used[-1])
    found = timing.timed_writing(lambda: None, num_tokens=1)(1).figures
    assert found == {"tokens_per_second": 100.0, "threads": 1}


@pytest.mark.parametrize("tokenizer", [{"kind": "char"}, {"kind": "bpe", "vocabulary_size": 277}])
def test_the_halves_of_the_validation_part_make_the_whole(text: str, tmp_path: Path, tokenizer: dict[str, Any]) -> None:
    small = {"num_layers": 1, "num_heads": 1, "width": 6, "context_length": 5}
    changes = {"model": small, "train": {"steps": 1, "threads": 1}, "tokenizer": tokenizer}
    run = train_run([text], override(recipe("tiny"), changes), tmp_path / "run")
    found = ours.halves(str(run.path))(0).figures
    whole = next(line for line in read(run.path) if line["event"] == "evaluated" and not line["sampled"])
    halves = (found["first_half_nats"] + found["second_half_nats"]) / 2
    assert halves == pytest.approx(math.log(2) * whole["bits_per_byte"], abs=0.05)
    if tokenizer["kind"] == "char":
        assert levels.nats_per_character(whole) == pytest.approx(whole["nats_per_token"])
    assert found["first_half_nats"] != found["second_half_nats"]
