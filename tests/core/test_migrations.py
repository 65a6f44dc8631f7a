"""Files of older formats, stored as they were written, are read in the present one."""

import json
from pathlib import Path

import pytest

from clearhead.core.errors import DamagedFile, UserError
from clearhead.core.migrations import FORMAT, MIGRATIONS, migrate
from clearhead.core.run import read_versioned
from clearhead.training.state import State

EXAMPLES = Path(__file__).parent / "formats"
KINDS = ("run", "data", "state")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("number", range(1, FORMAT + 1))
def test_each_stored_example_becomes_the_present_one(kind: str, number: int) -> None:
    content = json.loads((EXAMPLES / f"{kind}-{number}.json").read_text())
    assert content["format"] == number
    present = json.loads((EXAMPLES / f"{kind}-{FORMAT}.json").read_text())
    assert migrate(f"{kind}.json", content) == present


def test_no_migration_changes_what_it_is_given() -> None:
    for number, migration in enumerate(MIGRATIONS, 1):
        for kind in KINDS:
            text = (EXAMPLES / f"{kind}-{number}.json").read_text()
            content = json.loads(text)
            migration(f"{kind}.json", content)
            assert content == json.loads(text)


@pytest.mark.parametrize("number", range(1, FORMAT + 1))
def test_an_older_step_can_be_gone_on_from(tmp_path: Path, number: int) -> None:
    (tmp_path / "state.json").write_bytes((EXAMPLES / f"state-{number}.json").read_bytes())
    values = read_versioned(tmp_path / "state.json")
    del values["format"]
    state = State.from_dict(values, None)
    assert (state.step, state.plan.steps, state.plan.cooldown_factor) == (40, 300, 1.0)


@pytest.mark.parametrize("content", ['{"format": 1}', '{"format": 1, "plan": 3}', '{"format": 0}', '{"format": -1}'])
def test_what_no_version_wrote_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "state.json").write_text(content)
    with pytest.raises(DamagedFile, match=r"state\.json"):
        read_versioned(tmp_path / "state.json")


@pytest.mark.parametrize("change", [{"plan": {"steps": 3, "colour": 4}}, {"colour": 4}, {"best": {"step": 1}}])
def test_a_state_that_is_none_is_refused(change: dict[str, object]) -> None:
    values = json.loads((EXAMPLES / f"state-{FORMAT}.json").read_text())
    del values["format"]
    with pytest.raises(UserError, match=r"does not hold|colour|missing"):
        State.from_dict(values | change, None)
