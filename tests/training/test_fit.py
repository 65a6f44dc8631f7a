"""Whole runs from Python: what is settled, refused, laid down and measured."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import clearhead
from clearhead.core.config import merge
from clearhead.core.errors import DamagedFile, UserError
from clearhead.core.events import read
from clearhead.core.files import lock
from clearhead.core.run import Run, Selection
from clearhead.store.load import load
from clearhead.text import origin
from clearhead.training import dataset, fit
from clearhead.training import session as session_module
from clearhead.training.assess import assess
from clearhead.training.config import RunConfig
from clearhead.training.optim import OptimizerSet
from clearhead.training.range_test import affordable, range_test
from clearhead.training.recipes import RECIPES, recipe
from clearhead.training.schedule import Plan
from clearhead.training.session import Session, last_evaluation_seconds
from clearhead.training.state import State
from clearhead.training.watch import replanning

SMALL: dict[str, Any] = {
    "train.threads": 1,
    "train.evaluate_every": 3,
    "train.sample_tokens": 5,
    "model.num_layers": 2,
    "model.num_heads": 2,
    "model.width": 12,
    "model.context_length": 13,
    "train.sequences_per_step": 6,
}


def small(**changes: Any) -> RunConfig:
    return merge(recipe("tiny"), {**SMALL, "train.steps": 6, **changes})


def create(place: Path, config: RunConfig | None = None, **keywords: Any) -> Session:
    return fit.create([place / "text.txt"], config or small(), **keywords)


def test_a_run_holds_what_it_needs(place: Path) -> None:
    session = create(place)
    names = [event.name for event in fit.train(session)]
    assert names[:3] == ["started", "measured", "planned"]
    assert names[-1] == "stopped"
    assert {"stepped", "evaluated", "sampled", "saved"} <= set(names)
    run = Run(place / "runs" / "text-1")
    run.verify()
    assert run.describe()["parameters"]["total"] == sum(p.numel() for p in session.model.parameters())
    found = {line["name"]: line["values"] for line in read(run.path) if line["event"] == "measured"}
    assert {"preflight", "baselines", "overlap", "loss_by_position"} <= set(found)
    assert found["baselines"]["5-gram"]["nats_per_token"] < found["baselines"]["unigram"]["nats_per_token"]


def test_the_facade_trains_writes_and_scores(place: Path) -> None:
    settings = {name.replace(".", "__"): value for name, value in SMALL.items()}
    run = clearhead.train(place / "text.txt", preset="tiny", train__steps=6, **settings)
    writer = clearhead.load(run.path)
    assert len(writer.generate("line", num_tokens=9)[0]) == 9
    scored = writer.score("line 3")
    assert len(scored.tokens) == len(scored.nats) == 5
    assert scored.nats.min() > 0


def test_the_facade_takes_settings_that_suit_a_plan_but_no_preset(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    begun: list[RunConfig] = []

    def begin(_: object, config: RunConfig, *__: object, plan: object, **___: object) -> Run:
        assert plan is not None
        begun.append(config)
        raise UserError("enough")

    monkeypatch.setattr(fit, "train_run", begin)
    with pytest.raises(UserError, match="enough"):
        clearhead.train(place / "text.txt", minutes=1, model__width=160)
    assert begun[0].model.width == 160
    with pytest.raises(UserError, match="width"):
        clearhead.train(place / "text.txt", minutes=1, model__width=160, preset="modern")


@pytest.mark.parametrize(("bare", "whole"), [("steps", "train__steps"), ("n_embd", "model__width")])
def test_the_facade_names_a_setting_as_python_spells_it(bare: str, whole: str, place: Path) -> None:
    with pytest.raises(UserError, match=f"^{bare} is called {whole} here"):
        clearhead.train(place / "text.txt", **{bare: 6})


def test_a_short_text_gets_a_shorter_context_and_a_notice(place: Path) -> None:
    (place / "short.txt").write_text("abc def ghi jkl " * 20)
    notices: list[str] = []
    config = small(**{"model.context_length": 500})
    session = fit.create([place / "short.txt"], config, notify=notices.append)
    assert session.config.model.context_length == 288 // 7
    assert any("(288 training tokens), so the context is 41 tokens, not 500" in notice for notice in notices)
    with pytest.raises(UserError, match="at most 287 fit"):
        fit.create([place / "short.txt"], config, fixed_context=True)


def test_budgets_become_steps(place: Path) -> None:
    per_step = 6 * 13
    budgets = {"train.steps": 7, "train.tokens": 7 * per_step, "train.epochs": 0.5}
    for budget, value in budgets.items():
        config = small(**{"train.steps": None, budget: value})
        steps = create(place, config).state.plan.steps
        expected = 7 if budget != "train.epochs" else -(-(5526 // 13 - 1) // 12)
        assert abs(steps - expected) <= (budget == "train.epochs")
    minutes = create(place, small(**{"train.steps": None, "train.minutes": 0.05})).state.plan
    assert minutes.steps > 5
    assert minutes.steps >= 5 * minutes.evaluate_every


def test_a_timed_run_ends_about_in_time(place: Path) -> None:
    session = create(place, small(**{"train.steps": None, "train.minutes": 0.05, "train.patience": 0}))
    last = list(fit.train(session))[-1]
    assert last.name == "stopped"
    assert session.state.replanned
    assert session.state.step == session.state.plan.steps


def test_a_run_that_was_planned_in_a_slow_moment_uses_its_time(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    timed = small(**{"train.steps": None, "train.minutes": 0.05, "train.patience": 0, "train.evaluate_every": None})
    speed = session_module.probe(create(place, path=place / "probed"))
    slow = session_module.Speed(30 * speed.step_seconds, 30 * speed.evaluation_seconds)
    monkeypatch.setattr(session_module, "probe", lambda _: slow)
    session = create(place, timed)
    first = session.state.plan
    plans = [event for event in fit.train(session) if event.name == "planned"]
    assert "half of the steps are over" in plans[1].reason
    assert session.state.step == session.state.plan.steps > 3 * first.steps
    assert session.state.plan.evaluate_every > 2 * first.evaluate_every


@pytest.mark.parametrize(
    ("step", "seconds", "again"), [(6, 1.0, False), (7, 7.0, True), (7, 8.0, False), (7, 15.0, True)]
)
def test_a_timed_run_is_planned_anew_at_half_its_time_or_when_its_steps_end_too_soon(
    place: Path, step: int, seconds: float, again: bool
) -> None:
    session = create(place, small(**{"train.steps": None, "train.minutes": 0.5, "train.evaluate_every": 3}))
    state = State(plan=Plan(14, 3), step=step, seconds=seconds, train_seconds=0.9 * seconds)
    found = replanning(session)(state)
    assert (found is not None) == again
    assert found is None or (found[0].evaluate_every == 3 and found[0].steps > 7)


def test_what_evaluations_took_too_long_is_taken_from_the_steps(place: Path) -> None:
    session = create(place, small(**{"train.steps": None, "train.minutes": 0.5, "train.evaluate_every": 3}))
    on_time = State(plan=Plan(140, 3), step=70, seconds=15.2, train_seconds=14.5)
    late = replace(on_time, seconds=25.0)
    steps = [found[0].steps for found in map(replanning(session), (on_time, late)) if found]
    last = last_evaluation_seconds(session, 14.5 / 70)
    assert steps[1] == 70 + int(0.95 * (30 - last - 25.0) / (14.5 / 70)) < steps[0]


def test_an_occupied_run_is_refused_and_left_alone(place: Path) -> None:
    session = create(place)
    before = sorted(session.run.path.rglob("*"))
    with pytest.raises(UserError, match="exists already"):
        create(place, path=session.run.path)
    assert sorted(session.run.path.rglob("*")) == before


def test_a_changed_text_is_refused_on_resume(place: Path) -> None:
    session = create(place)
    list(fit.train(session, stop_after=3))
    (place / "text.txt").write_text("something else entirely, and long enough to be read as a text of its own\n" * 9)
    with pytest.raises(UserError, match="has changed"):
        fit.resume(Selection(session.run, "last"))


def test_lost_tokens_are_made_again(place: Path) -> None:
    import shutil

    session = create(place)
    list(fit.train(session, stop_after=3))
    shutil.rmtree(place / "cache")
    resumed = fit.resume(Selection(session.run, "last"))
    assert resumed.state.step == 3
    assert np.array_equal(resumed.data.training.read(0, 99), session.data.training.read(0, 99))


def test_a_damaged_step_is_passed_over_with_a_word(place: Path) -> None:
    session = create(place, small(**{"train.keep": "all"}))
    list(fit.train(session))
    newest = session.run.step_folder(6) / "model.safetensors"
    newest.write_bytes(newest.read_bytes()[:-3])
    loaded = load(f"{session.run.path}@last")
    assert loaded.step == 3
    assert "model.safetensors" in loaded.notices[0]
    with pytest.raises(DamagedFile, match=r"model\.safetensors"):
        load(f"{session.run.path}@6")


def test_a_tampered_run_is_refused(place: Path) -> None:
    session = create(place)
    list(fit.train(session))
    file = session.run.path / "validation.bin"
    file.write_bytes(file.read_bytes()[4:])
    with pytest.raises(DamagedFile, match=r"validation\.bin"):
        load(str(session.run.path))


def test_assessing_gives_the_last_evaluation(place: Path) -> None:
    session = create(place)
    events = list(fit.train(session))
    final = [event for event in events if event.name == "evaluated" and not event.sampled][-1]  # type: ignore[attr-defined]
    result = assess(load(f"{session.run.path}@last"))
    assert result["nats_per_token"] == pytest.approx(final.nats_per_token, rel=1e-6)  # type: ignore[attr-defined]
    assert result["baselines"].keys() == {"unigram", "bigram", "5-gram"}
    assert 0.0 <= result["copied"] <= 1.0
    other = assess(load(str(session.run.path)), place / "text.txt", stride=3)
    assert other["tokens_scored"] == len((place / "text.txt").read_text()) - 1
    assert other["nats_per_token_sliding"] != other["nats_per_token"]


def test_the_tales_have_their_floor(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from clearhead.text.tales import tales

    monkeypatch.setattr(origin, "TALES_BYTES", 60_000)
    session = fit.create([], merge(recipe("tales"), {**SMALL, "train.steps": 1}))
    floor = dataset.measure_floor(session.data, 13)
    assert floor is not None
    bits = {tale.text: tale.bits for tale in tales(60_000, origin.TALES_SEED)}
    tokenizer, end = session.data.tokenizer, session.data.tokenizer.end
    assert end is not None
    written = tokenizer.decode(session.data.validation)
    kept = [text for text in bits if text in written]
    assert sum(len(text) for text in kept) == len(written)
    assert floor["bits_per_byte"] == pytest.approx(sum(bits[text] for text in kept) / len(written.encode()))
    starts = [
        int(np.flatnonzero(session.data.validation[:t] == end)[-1]) for t in range(1, len(session.data.validation))
    ]
    beyond = np.mean([start < t // 13 * 13 for t, start in enumerate(starts)])
    assert floor["beyond_window"] == pytest.approx(beyond)


def test_every_preset_can_be_built() -> None:
    from clearhead.model.build import build_model

    for name in RECIPES:
        config = recipe(name)
        with torch.device("meta"):
            build_model(config.model, 65)
    lecture = recipe("lecture")
    model, train = lecture.model, lecture.train
    assert (model.num_layers, model.num_heads, model.width, model.context_length) == (3, 4, 32, 8)  # type: ignore[union-attr]
    assert (train.sequences_per_step, lecture.optimizer.learning_rate) == (4, 1e-3)
    with pytest.raises(UserError, match='Did you mean "tiny"'):
        recipe("tini")


def test_the_range_test_finds_rates_that_learn(place: Path) -> None:
    session = create(place)
    before = [parameter.detach().clone() for parameter in session.model.parameters()]
    found = range_test(session, max_seconds=1.0)
    assert 1e-2 <= found.suggested <= 1e2
    assert found.losses.min() < found.losses[0]
    assert all((a == b).all() for a, b in zip(before, session.model.parameters(), strict=True))


def test_the_range_test_takes_fewer_steps_then_smaller_batches(place: Path) -> None:
    batches = create(place).batches
    assert affordable(batches, 7000.0) == (100, batches)
    assert affordable(batches, 70.0) == (70, batches)
    num_steps, smaller = affordable(replace(batches, micro_batches=5), 25.0)
    assert (num_steps, smaller.sequences_per_step, smaller.micro_batches) == (50, 3, 3)
    assert affordable(batches, 0.1)[1].sequences_per_step == 1


def test_device_and_threads_are_refused_before_the_text_is_read(place: Path) -> None:
    missing = place / "is-not-there.txt"
    for setting, sentence in {"device": "gpu", "threads": 10_000}.items():
        with pytest.raises(UserError, match=f"{sentence}"):
            fit.create([missing], small(**{f"train.{setting}": sentence}))
    session = create(place)
    (place / "text.txt").unlink()
    with pytest.raises(UserError, match="--threads must lie between"):
        fit.resume(Selection(session.run, "last"), threads=10_000)


def test_a_wrong_stride_is_refused_before_anything_is_scored(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    session = create(place)
    list(fit.train(session, stop_after=1))
    loaded = load(str(session.run.path))
    monkeypatch.setattr(loaded.model, "forward", None)
    for stride in (0, 14):
        with pytest.raises(UserError, match="--stride must be from 1 to the context length, 13"):
            assess(loaded, stride=stride)


def test_an_optimizer_without_memory_resumes_exactly(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def sgd(config: object, model: nn.Module, _precision: str) -> OptimizerSet:
        return OptimizerSet(model, [torch.optim.SGD(model.parameters(), lr=0.1)])

    monkeypatch.setattr(session_module, "build_optimizer", sgd)
    whole = create(place)
    list(fit.train(whole))
    parts = create(place)
    list(fit.train(parts, stop_after=4))
    resumed = fit.resume(Selection(parts.run, "last"))
    assert resumed.state.step == 4
    list(fit.train(resumed))
    for left, right in zip(whole.model.parameters(), resumed.model.parameters(), strict=True):
        assert torch.equal(left, right)


def test_what_is_left_open_is_settled(place: Path) -> None:
    open_ended = replace(small(), train=replace(small().train, steps=None))
    session = create(place, replace(open_ended, train=replace(open_ended.train, minutes=0.02)))
    assert session.config.train.patience == 5
    assert session.config.train.keep == "spaced"
    assert create(place, small()).config.train.patience == 0


@pytest.mark.parametrize("kind", ["char", "byte", "word", "bpe", "sentencepiece"])
def test_what_the_training_text_lacks_is_never_written(place: Path, kind: str) -> None:
    """The last lines alone have letters beyond ASCII, so the ids of their bytes stay as they were drawn."""
    text = place / "text.txt"
    text.write_text(text.read_text() + "crème brûlée\n" * 3)
    session = create(place, small(**{"tokenizer.kind": kind}))
    unseen = session.data.tokenizer.unseen
    used = set(session.data.training.read(0, len(session.data.training)).tolist())
    assert set(unseen.tolist()) == set(range(session.data.tokenizer.vocabulary_size)) - used
    assert set(session.data.validation.tolist()) & set(unseen.tolist())
    list(fit.train(session))
    loaded = load(str(session.run.path))
    assert loaded.tokenizer.unseen.tolist() == unseen.tolist()
    assert all(text.isascii() for text in clearhead.load(session.run.path).generate(num_tokens=97, samples=5))
    assert fit.resume(Selection(session.run, "last")).data.tokenizer.unseen.tolist() == unseen.tolist()


@pytest.mark.parametrize("kind", ["bpe", "sentencepiece"])
def test_a_vocabulary_that_a_short_text_cannot_fill_is_told(place: Path, kind: str) -> None:
    told: list[str] = []
    session = create(place, small(**{"tokenizer": {"kind": kind, "vocabulary_size": 7919}}), notify=told.append)
    size = session.data.tokenizer.vocabulary_size
    assert f"The text is short, so the vocabulary has {size} ids, not 7919." in told


def test_leftovers_are_removed_only_under_the_lock(place: Path) -> None:
    session = create(place)
    list(fit.train(session, stop_after=3))
    leftover = session.run.checkpoints / "step-6.tmp-0123"
    leftover.mkdir()
    with lock(session.run.path):
        with pytest.raises(UserError, match="trained by another process"):
            list(fit.train(fit.resume(Selection(session.run, "last"))))
        assert leftover.exists()
    list(fit.train(fit.resume(Selection(session.run, "last"))))
    assert not leftover.exists()


def test_standard_input_does_not_stay_where_no_run_came_of_it(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = (place / "text.txt").read_bytes()
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(text)))
    with pytest.raises(UserError, match="at most"):
        fit.create(["-"], small(**{"model.context_length": 9000}), fixed_context=True)
    assert list((place / "runs").iterdir()) == []
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(text)))
    session = fit.create(["-"], small())
    assert [entry.name for entry in (place / "runs").iterdir()] == ["stdin-1"]
    assert (session.run.path / "stdin.txt").read_bytes() == text


def test_a_run_killed_before_its_last_evaluation_is_evaluated(place: Path) -> None:
    session = create(place)
    for event in fit.train(session):
        if event.name == "saved" and event.step == 6:
            break
    assert not fit.is_scored(session)
    events = list(fit.train(fit.resume(Selection(session.run, "last"))))
    assert [event.step for event in events if event.name == "evaluated"] == [6]
    again = list(fit.train(fit.resume(Selection(session.run, "last"))))
    assert [event.name for event in again] == ["started", "stopped"]
