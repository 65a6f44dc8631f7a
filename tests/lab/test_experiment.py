"""The runner: equal tokens, going on after an interruption, and finding a study again."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from clearhead.core.config import merge
from clearhead.core.errors import UserError
from clearhead.core.events import Event, StopReason
from clearhead.lab import experiment as runner
from clearhead.lab.experiment import Arm, Experiment, Outcome, open_folder, outcomes, require_equal_tokens, slug
from clearhead.lab.losses import recipe
from clearhead.training.session import Speed

SMALL: dict[str, Any] = {
    "model": {"num_layers": 2, "num_heads": 2, "width": 16, "context_length": 13},
    "train": {"threads": 1, "sequences_per_step": 5, "sample_tokens": 3},
}
ARMS = (Arm(name="bigram", changes={"model.kind": "bigram", "model.context_length": 13}), Arm(name="+ all of it"))


def small(text: str, *, steps: int | None = 4, seeds: tuple[int, ...] = (1, 2), **changes: Any) -> Experiment:
    base = merge(merge(recipe(), SMALL), changes)
    base = replace(base, train=replace(base.train, steps=steps))
    return Experiment(name="two", texts=(text,), base=base, arms=ARMS, seeds=seeds)


def run_all(wanted: Experiment, path: Path | None = None) -> list[Outcome]:
    folder, settled = open_folder(wanted, path)
    return list(outcomes(settled, folder))


def test_every_run_gets_the_same_tokens_and_its_own_seed(text: str) -> None:
    found = run_all(small(text))
    assert [(outcome.arm, outcome.seed) for outcome in found] == [
        ("bigram", 1),
        ("+ all of it", 1),
        ("bigram", 2),
        ("+ all of it", 2),
    ]
    assert [outcome.tokens for outcome in found] == [4 * 5 * 13] * 4
    assert require_equal_tokens(found) == 4 * 5 * 13
    assert len({outcome.nats_per_token for outcome in found}) == 4
    assert found[0].parameters < found[1].parameters
    assert list(found[1].curve[0]) == [1, 2, 3, 4]
    assert len(found[1].sample) == 3
    # One run counts the n-grams for all.
    assert [outcome.measured("baselines") is not None for outcome in found] == [True, False, False, False]


def test_unequal_tokens_are_refused(text: str) -> None:
    found = [*run_all(small(text, seeds=(1,))), *run_all(small(text, steps=3, seeds=(1,)))]
    with pytest.raises(UserError, match="not trained on equally many tokens: bigram 260"):
        require_equal_tokens(found)


class StopAt:
    """Answers once, after the second step of the second run."""

    def __init__(self) -> None:
        self.arm, self.steps = "", 0

    def watch(self, arm: Arm, _seed: int, event: Event) -> None:
        if event.name == "stepped":
            self.steps = event.step if arm.name != "bigram" else 0

    def stop(self) -> StopReason | None:
        return "signal" if self.steps >= 2 else None


def test_an_interrupted_study_goes_on_and_ends_as_if_it_had_not_been(text: str, tmp_path: Path) -> None:
    whole = run_all(small(text, seeds=(1,)), tmp_path / "whole")
    folder, settled = open_folder(small(text, seeds=(1,)))
    halt = StopAt()
    first = list(outcomes(settled, folder, stop=halt.stop, watch=halt.watch))
    assert [outcome.arm for outcome in first] == ["bigram"]
    before = (folder / "bigram-1" / "events.jsonl").read_bytes()
    again, settled = open_folder(small(text, seeds=(1,)))
    assert again == folder
    rest = list(outcomes(settled, folder))
    assert [outcome.nats_per_token for outcome in rest] == [outcome.nats_per_token for outcome in whole]
    assert [line["resumed_from"] for line in rest[1].events if line["event"] == "started"] == [None, 2]
    assert (folder / "bigram-1" / "events.jsonl").read_bytes() == before


def test_the_same_study_is_found_again_and_another_is_not(text: str) -> None:
    first, _ = open_folder(small(text))
    assert open_folder(small(text, seeds=(1, 2, 3)))[0] == first
    others = [small(text, steps=5), small(text, **{"model.width": 8}), replace(small(text), arms=ARMS[:1])]
    folders = {first, *(open_folder(other)[0] for other in others)}
    assert len(folders) == 4
    Path(text).write_text(Path(text).read_text() + "one more line\n")
    assert open_folder(small(text))[0] not in folders


def test_a_folder_that_holds_something_else_is_refused(text: str, tmp_path: Path) -> None:
    open_folder(small(text), tmp_path / "here")
    with pytest.raises(UserError, match="exists already"):
        open_folder(small(text, steps=5), tmp_path / "here")
    with pytest.raises(UserError, match="store standard input in a file"):
        open_folder(small("-"))


def test_minutes_become_equal_steps_for_all_runs(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    speeds = iter([0.25, 0.75])
    monkeypatch.setattr(runner, "probe", lambda session: Speed(next(speeds), 1.0))
    folder, settled = open_folder(replace(small(text, steps=None), minutes=2.0))
    assert settled.base.train.steps == round(runner.STEPS_SHARE * 2.0 * 60 / (2 * (0.25 + 0.75)))
    assert settled.base.train.evaluate_every == math.ceil(settled.base.train.steps / runner.EVALUATIONS)
    # The second time the stored number counts: another probe could give another.
    assert open_folder(replace(small(text, steps=None), minutes=2.0)) == (folder, settled)


def test_a_run_that_broke_off_has_no_loss_and_does_not_stop_the_others(text: str) -> None:
    arms = (Arm(name="wild", changes={"optimizer": {"kind": "adamw", "learning_rate": 1e30}}), *ARMS[:1])
    found = run_all(replace(small(text, seeds=(1,)), arms=arms))
    assert math.isnan(found[0].nats_per_token)
    assert math.isfinite(found[1].nats_per_token)
    assert require_equal_tokens(found) == found[1].tokens


def test_folders_have_plain_names() -> None:
    assert slug("+ feed-forward") == "feed-forward"
    assert slug("K = Q") == "K-Q"
