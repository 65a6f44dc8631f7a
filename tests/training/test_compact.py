"""A smaller vocabulary changes no logit of the ids that stay."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

import clearhead
from clearhead.core.errors import UserError
from clearhead.core.run import Run, Selection
from clearhead.store import checkpoint
from clearhead.store.integrity import inspect
from clearhead.store.load import load
from clearhead.text.compact import CompactTokenizer
from clearhead.training import fit
from clearhead.training.assess import assess
from clearhead.training.compact import compact_run
from clearhead.training.reproduce import reproduce

SMALL: dict[str, Any] = {
    "train__threads": 1,
    "train__evaluate_every": 3,
    "train__sample_tokens": 5,
    "train__steps": 7,
    "model__num_layers": 2,
    "model__num_heads": 2,
    "model__width": 12,
    "model__context_length": 13,
    "train__sequences_per_step": 6,
    "preset": "tiny",
}


def trained(place: Path, **changes: Any) -> Run:
    text = place / "text.txt"
    text.write_text(text.read_text() + "crème brûlée\n" * 3)
    return clearhead.train(text, **{**SMALL, "tokenizer": {"kind": "word", "vocabulary_size": 331}, **changes})


@pytest.mark.parametrize("changes", [{}, {"model__tied_head": True}, {"train__averaging": 0.5}, {"preset": "gpt2"}])
def test_the_logits_of_the_ids_that_stay_are_what_they_were(place: Path, changes: dict[str, Any]) -> None:
    run = trained(place, **changes)
    small = compact_run(str(run.path))
    before, after = load(str(run.path)), load(str(small.path))
    tokenizer = after.tokenizer
    assert isinstance(tokenizer, CompactTokenizer)
    assert tokenizer.vocabulary_size < before.tokenizer.vocabulary_size
    kept = torch.from_numpy(tokenizer.kept).long()
    ids = torch.randint(tokenizer.vocabulary_size, (3, 13), generator=torch.Generator().manual_seed(5))
    with torch.no_grad():
        torch.testing.assert_close(after.model(ids), before.model(kept[ids])[..., kept], rtol=0, atol=1e-6)
    with pytest.raises(AssertionError), torch.no_grad():
        torch.testing.assert_close(after.model(ids), before.model(kept[ids])[..., kept.roll(1)], rtol=0, atol=1e-6)


def test_a_compacted_run_is_a_run(place: Path) -> None:
    run = trained(place)
    small = compact_run("last", place / "small")
    small.verify()
    writers = clearhead.load(run.path), clearhead.load(small.path)
    before, after = (writer.generate("line 7", num_tokens=31, temperature=0.0) for writer in writers)
    assert before == after
    assert assess(load(str(small.path)))["bits_per_byte"] > 0
    assert small.describe()["parameters"]["total"] == sum(p.numel() for p in writers[1].loaded.model.parameters())
    assert inspect(small).troubles == ()
    with pytest.raises(UserError, match=r"began with the weights of .*; reproduce that run"):
        reproduce(small, place / "again")
    session = fit.resume(Selection(small, "last"), steps_in_all=9)
    assert [event.name for event in fit.train(session)][-1] == "stopped"
    assert inspect(small).troubles == ()
    assert load(str(small.path)).step == 9


def test_a_step_without_the_optimizer_is_refused(place: Path) -> None:
    run = trained(place)
    checkpoint.strip(run, run.steps()[-1])
    with pytest.raises(UserError, match="weights alone"):
        compact_run(f"{run.path}@{run.steps()[-1]}")
