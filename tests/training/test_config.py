"""The settings of a run: of several lengths the last one named holds."""

from __future__ import annotations

from typing import Any

import pytest

from clearhead.core.config import merge
from clearhead.core.errors import UserError
from clearhead.training.config import LENGTHS, RunConfig, override


@pytest.mark.parametrize("changes", [{"train.steps": 7}, {"train": {"steps": 7, "threads": 1}}])
def test_a_length_takes_the_place_of_another(changes: dict[str, Any]) -> None:
    timed = merge(RunConfig(), {"train.minutes": 3.0})
    train = override(timed, changes).train
    assert [getattr(train, length) for length in LENGTHS] == [7, None, None, None]
    with pytest.raises(UserError, match="give only one of steps, tokens, epochs and minutes"):
        merge(timed, changes)


def test_other_changes_leave_the_length() -> None:
    timed = merge(RunConfig(), {"train.minutes": 3.0})
    changes = {"train.threads": 1, "model.width": 96}
    assert override(timed, changes) == merge(timed, changes)
    with pytest.raises(UserError, match="give only one of"):
        override(timed, {"train.steps": 7, "train.tokens": 11})
