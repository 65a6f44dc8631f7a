"""A bounded sample of the soak: the same victims and the same judges, a few of each; and judges that can fail."""

from __future__ import annotations

import json
import random
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from clearhead.core import files
from clearhead.core.config import build, to_dict
from clearhead.core.run import Run
from clearhead.store import checkpoint, integrity
from clearhead.training.config import RunConfig
from faults import configs, damage, power
from faults.crashes import survivors
from faults.operations import Operation, Watcher, watching
from faults.victims import SHORT, live, run_of, settle

SOAK = Path(__file__).parents[2] / "benchmarks" / "soak.py"
IN_PROCESSES_OF_THEIR_OWN = ("R1", "R2", "R3", "R4", "R6", "R9")


@pytest.fixture(autouse=True)
def places(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give the environment back as it was."""
    for name in ("CLEARHEAD_CACHE", "CLEARHEAD_RUNS"):
        monkeypatch.setenv(name, "")


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A victim that nothing happened to."""
    place = tmp_path_factory.mktemp("sound")
    with pytest.MonkeyPatch.context() as patch:
        for name in ("CLEARHEAD_CACHE", "CLEARHEAD_RUNS"):
            patch.setenv(name, "")
        live(SHORT, place)
    return run_of(place)


@pytest.fixture
def ended(sound: Run, tmp_path: Path) -> Run:
    """A copy of it."""
    return Run(shutil.copytree(sound.path, tmp_path / "victim"))


def soak(*arguments: str) -> str:
    done = subprocess.run([sys.executable, SOAK, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="victims are watched on Linux")
def test_a_few_runs_survive_what_the_soak_does_to_many(tmp_path: Path) -> None:
    only = [word for name in IN_PROCESSES_OF_THEIR_OWN for word in ("--only", name)]
    said = soak("--sample", "--workers", "1", "--home", str(tmp_path), *only)
    figures = re.findall(r"^(\S+): (\d+) cases, (\d+) bad", said, re.MULTILINE)
    assert [name for name, _, _ in figures] == list(IN_PROCESSES_OF_THEIR_OWN)
    assert all(int(cases) > 0 and bad == "0" for _, cases, bad in figures)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "count"), [("R1", 30), ("R2", 20), ("R4", 12), ("R6", 10)])
def test_more_runs_survive(tmp_path: Path, name: str, count: int) -> None:
    soak("--only", name, "--count", str(count), "--home", str(tmp_path), "--record", str(tmp_path / "record.json"))


# R3, without a process of its own: a step is saved, another removed.


class Crash(Watcher):
    """Takes down what is done, and where the second step was told as saved."""

    def __init__(self) -> None:
        super().__init__()
        self.done: list[Operation] = []

    def after(self, operation: Operation) -> None:
        self.done.append(operation)


def save(run: Run, step: int) -> None:
    tensors = {"a": torch.full((3,), float(step))}
    state = {"step": step, "plan": {}, "best": {"step": step, "nats_per_token": 1.0, "weights": "raw"}}
    checkpoint.save(run, checkpoint.Checkpoint(step, tensors, state, None, tensors))


def lost_steps(place: Path) -> list[str]:
    """Save steps, let the power fail after every call, and return what is then wrong."""
    root = place / "disk"
    run = run_of(root)
    root.mkdir(parents=True)
    watcher, told = Crash(), [(0, 0)]
    with watching(watcher, root):
        with files.new_folder(run.path) as folder:
            files.write_atomically(folder / "run.json", "{}")
        for step in (1, 2, 3, 4):
            save(run, step)
            checkpoint.rotate(run, "spaced", frozenset({1}))
            told.append((len(watcher.done), step))
    found = []
    for number in range(len(watcher.done) + 1):
        disk = power.Disk(str(root.resolve()))
        for operation in watcher.done[:number]:
            disk.do(operation)
        committed = max(step for calls, step in told if calls <= number)
        for fate in range(3):
            after = place / f"{number}-{fate}"
            disk.survive(after, random.Random(fate) if fate else None)
            try:
                found.append(survivors(after, committed))
            except files.DamagedFile as error:
                found.append(str(error))
    return [trouble for trouble in found if trouble]


def test_a_step_survives_a_power_loss_or_was_never_told(tmp_path: Path) -> None:
    assert lost_steps(tmp_path) == []


@pytest.mark.parametrize("forgotten", ["files", "folders"])
def test_a_forgotten_sync_would_be_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, forgotten: str) -> None:
    sync = files.sync

    def forgetful(path: Path) -> None:
        if path.is_dir() != (forgotten == "folders"):
            sync(path)

    monkeypatch.setattr(files, "sync", forgetful)
    assert lost_steps(tmp_path)


# R5


@pytest.mark.parametrize(("kind", "count"), [("flip", 40), ("cut", 12), ("swap", 5), ("miss", 5), ("add", 5)])
def test_damage_is_named(ended: Run, kind: str, count: int) -> None:
    rng = random.Random(kind)
    assert [damage.look_at(ended, kind, rng) for _ in range(count)] == [""] * count


def test_a_verifier_that_does_not_look_would_be_seen(ended: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(integrity, "verify_file", lambda *_: None)
    monkeypatch.setattr(integrity, "verify_step", lambda *_: None)
    rng = random.Random(1)
    assert any("was not seen" in damage.look_at(ended, "flip", rng) for _ in range(60))


def test_commands_name_damage_in_one_sentence(ended: Run, tmp_path: Path) -> None:
    note = tmp_path / "said"
    settle(tmp_path)
    for kind in ("flip", "miss"):
        with damage.harmed(ended, kind, random.Random(f"{kind} typed")):
            assert damage.type_command(["runs", "verify", str(ended.path)], note) == 2
            assert "not whole" in note.read_text()


# C5


def test_mutated_settings_are_refused_or_taken() -> None:
    rng = random.Random(1)
    assert [trouble for trouble in (configs.read_mutated(rng) for _ in range(300)) if trouble] == []


def careless(cls: type[RunConfig], values: dict[str, Any]) -> RunConfig:
    """Build a config, ignoring what it does not know."""
    known = to_dict(RunConfig())
    return build(cls, {name: value for name, value in values.items() if name in known})


def rude(cls: type[RunConfig], values: dict[str, Any]) -> RunConfig:
    """Build a config, and fail as the language does."""
    return build(cls, {**values, "train": {**values["train"], "steps": int(values["train"]["steps"] or 1)}})


@pytest.mark.parametrize("broken", [careless, rude])
def test_a_reader_that_ignores_or_fails_would_be_seen(
    monkeypatch: pytest.MonkeyPatch, broken: Callable[..., RunConfig]
) -> None:
    monkeypatch.setattr(configs, "build", broken)
    rng = random.Random(1)
    assert any(configs.read_mutated(rng) for _ in range(600))


SENSELESS = [
    ("optimizer", {"kind": "adamw", "learning_rate": -1.0}),
    ("optimizer", {"kind": "adamw", "beta1": 1.0}),
    ("optimizer", {"kind": "adamw", "weight_decay": -0.1}),
    ("optimizer", {"kind": "muon", "momentum": 2.0}),
    ("optimizer", {"kind": "muon", "newton_schulz_steps": 0}),
    ("optimizer", {"kind": "muon", "head_learning_rate": -0.1}),
    ("schedule", {"kind": "cosine", "final": 1.5}),
    ("schedule", {"kind": "linear", "warmup_steps": -1}),
    ("schedule", {"kind": "wsd", "decay_share": 0.0}),
    ("train", {"patience": -1}),
    ("train", {"sequences_per_step": 0}),
    ("model", {"kind": "gpt", "dropout": 1.0}),
]


@pytest.mark.parametrize(("section", "values"), SENSELESS)
def test_senseless_numbers_are_refused_by_name(section: str, values: dict[str, Any]) -> None:
    name = next(reversed(values))
    with pytest.raises(files.UserError, match=f"{section}: {name}"):
        build(RunConfig, {section: values})


# The record and the page about it.


def told() -> dict[str, tuple[int, int]]:
    page = SOAK.parents[1].joinpath("docs", "reliability.md").read_text()
    rows = re.findall(r"^\| (\S+) \| .* \| ([\d,]+) \| ([\d,]+) \|$", page, re.MULTILINE)
    return {name: (int(cases.replace(",", "")), int(bad.replace(",", ""))) for name, cases, bad in rows}


def test_the_page_tells_what_the_record_holds() -> None:
    record = json.loads(SOAK.with_name("RELIABILITY.json").read_text())
    assert told() == {name: (figures["cases"], figures["bad"]) for name, figures in record.items()}
    assert all({"command", "commit", "machine", "versions"} <= figures.keys() for figures in record.values())
