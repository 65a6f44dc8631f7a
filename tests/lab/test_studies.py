"""The studies: what their arms are, and what their answers hold."""

from __future__ import annotations

import json
import math
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from clearhead.core.config import to_dict
from clearhead.core.errors import UserError
from clearhead.core.run import Run
from clearhead.lab import losses
from clearhead.lab.catalogue import STUDIES, find
from clearhead.lab.compare import over_text
from clearhead.lab.experiment import Experiment, Outcome
from clearhead.lab.studies import ladder, mask, positions
from clearhead.lab.study import Request, run_study
from clearhead.model import laws
from clearhead.model.build import build_model
from clearhead.model.config import GptConfig
from clearhead.model.masks import Full
from clearhead.model.transformer import GPT

SMALL: dict[str, Any] = {
    "model": {"num_layers": 2, "num_heads": 2, "width": 16, "context_length": 13},
    "train": {"threads": 1, "sequences_per_step": 5, "sample_tokens": 3},
}
LOSS_STUDIES = [name for name, study in STUDIES.items() if getattr(study.answer, "func", None) is losses.loss_answer]


def experiment_of(name: str, text: str = "my.txt") -> Experiment:
    return STUDIES[name].experiment(Request(texts=(text,), seeds=1, steps=2, changes=SMALL))


@pytest.mark.parametrize("name", LOSS_STUDIES)
def test_every_arm_is_a_model_that_does_not_read_ahead_unless_it_says_so(name: str) -> None:
    ran = experiment_of(name)
    assert len({arm.name for arm in ran.arms}) == len(ran.arms)
    configs = [ran.config(arm, 1).model for arm in ran.arms]
    assert len({json.dumps(to_dict(config)) for config in configs}) == len(configs)
    assert {config.context_length for config in configs} == {13}
    for config in configs:
        model = build_model(config, 11).eval()
        torch.manual_seed(1)
        for parameter in model.parameters():
            torch.nn.init.normal_(parameter, std=0.3)
        if getattr(model, "reads_ahead", False):
            with pytest.raises(laws.LawBroken):
                laws.the_future_is_not_read(model, 11)
        else:
            laws.the_future_is_not_read(model, 11)


def test_each_rung_of_the_ladder_changes_one_thing() -> None:
    ran = STUDIES["ladder"].experiment(Request(texts=("my.txt",), seeds=1, steps=2))
    configs = [ran.config(arm, 1).model for arm in ran.arms]
    gpts = [config for config in configs if isinstance(config, GptConfig)]
    changed = [
        {key for key, value in to_dict(after).items() if value != to_dict(before)[key]}
        for before, after in pairwise(gpts[:-1])
    ]
    assert changed == [{"mixer"}, {"num_heads"}, {"feed_forward"}, {"num_layers"}, {"residual"}, {"norm"}]
    assert gpts[-1] == ran.base.model


def test_the_ladder_on_a_tiny_text(text: str) -> None:
    asked = Request(texts=(text,), seeds=2, steps=2, changes=SMALL)
    result = run_study(find("ladder"), asked)
    answer = result.answer
    assert answer is not None
    names = [arm.name for arm in ladder.RUNGS]
    assert [row[0] for row in answer.rows] == [*names, "unigram counts", "bigram counts", "5-gram counts"]
    assert all(len(row) == len(answer.columns) for row in answer.rows)
    assert f"{2 * 5 * 13} tokens" in answer.notes[0]
    assert len(answer.said) == len(names) - 1
    page = (result.folder / "report.html").read_text()
    assert all(f"<b>{name}</b>" in page for name in names)
    assert not any(word in page for word in ("http://", "https://", "<script"))
    stored = json.loads((result.folder / "answer.json").read_text())
    assert [row[""] for row in stored["rows"]] == [row[0] for row in answer.rows]
    assert set(stored["curves"]) == set(names)
    # Once more trains nothing.
    again = run_study(find("ladder"), asked, watch=lambda *_: pytest.fail("a run was trained again"))
    assert again.answer is not None
    assert again.answer.to_json() == answer.to_json()


def test_one_seed_is_compared_token_by_token(text: str) -> None:
    asked = Request(texts=(text,), seeds=1, steps=3, changes=SMALL)
    result = run_study(find("projection"), asked)
    assert result.answer is not None
    first, second = (Outcome(name, 1, Run(result.folder / f"{name}-1")) for name in ("with", "without"))
    nats = [losses.validation_nats(outcome) for outcome in (first, second)]
    assert [each.mean() for each in nats] == pytest.approx([first.nats_per_token, second.nats_per_token], abs=1e-6)
    wanted = over_text(nats[1] - nats[0])
    assert result.answer.rows[1][5:7] == (wanted.mean, wanted.half_width)
    assert wanted.mean == pytest.approx(second.nats_per_token - first.nats_per_token, abs=1e-6)
    assert "other" not in result.answer.notes[1].split(".")[0]


def test_several_seeds_are_compared_seed_by_seed(text: str) -> None:
    result = run_study(find("projection"), Request(texts=(text,), seeds=3, steps=3, changes=SMALL))
    assert result.answer is not None
    found = {
        name: [Outcome(name, seed, Run(result.folder / f"{name}-{seed}")).nats_per_token for seed in (1, 2, 3)]
        for name in ("with", "without")
    }
    differences = np.subtract(found["without"], found["with"])
    _, row = result.answer.rows[:2]
    assert row[5] == pytest.approx(differences.mean())
    assert row[6] == pytest.approx(4.303 * differences.std(ddof=1) / math.sqrt(3))


def random_gpt(num_layers: int) -> GPT:
    torch.manual_seed(1)
    model = build_model(GptConfig(num_layers=num_layers, num_heads=2, width=16, context_length=13, convolution=1), 11)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    assert isinstance(model, GPT)
    return model.eval()


def test_without_a_mask_one_block_writes_the_same_and_two_do_not() -> None:
    ids = np.random.default_rng(1).integers(11, size=200)
    for num_layers, same in ((1, True), (2, False)):
        model = random_gpt(num_layers)
        masked, unmasked = (mask.last_nats(model, ids, each) for each in (None, Full()))
        assert len(masked) == 200 - 13
        assert np.allclose(masked, unmasked, atol=1e-5) == same


def test_positions_are_read_beyond_their_training_where_they_can_be(text: str) -> None:
    ran = experiment_of("positions", text)
    ids = np.random.default_rng(1).integers(11, size=120)
    for arm in ran.arms:
        model = build_model(ran.config(arm, 1).model, 11).eval()
        assert isinstance(model, GPT)
        found = [positions.loss_in(model, ids, factor) for factor in (1, 2)]
        assert (found[1] is None) == (arm.name in ("learned", "concatenated"))
        assert found[0] == pytest.approx(math.log(11), abs=1e-4)


def test_a_question_that_is_not_there_gets_the_nearest(text: str) -> None:
    with pytest.raises(UserError, match='Did you mean "ladder"'):
        find("lader")
    with pytest.raises(UserError, match="--steps and --minutes"):
        run_study(find("ladder"), Request(texts=(text,), steps=1, minutes=1.0))
    assert Path(text).exists()
