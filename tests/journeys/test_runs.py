"""What is on disk: verified, reproduced, measured, removed."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from clearhead.core.files import lock

if TYPE_CHECKING:
    from conftest import Terminal


def test_a_run_is_verified(terminal: Terminal, own_run: Path) -> None:
    assert re.fullmatch(
        r"story-1 is whole: \d+ files compared, last good step 20\.\n", terminal.do("runs", "verify", "last").out
    )
    damaged = own_run / "checkpoints" / "step-20" / "model.safetensors"
    damaged.write_bytes(damaged.read_bytes()[:-1])
    answer = terminal.type("runs", "verify", own_run)
    assert answer.code == 2
    assert re.search(r"model.safetensors is not what was written: .*\n.*not whole .*last good step 15", answer.out)
    facts = terminal.type("runs", "verify", own_run, "--json").json
    assert (facts["whole"], facts["last_good_step"], len(facts["troubles"])) == (False, 15, 1)


def test_a_run_is_reproduced(terminal: Terminal, own_run: Path) -> None:
    answer = terminal.do("runs", "reproduce", "last", "--keep", "again")
    assert "Every bit is the same." in answer.out
    assert terminal.do("runs", "verify", "again").code == 0
    facts = terminal.do("runs", "reproduce", "last", "--json").json
    assert facts["equal"]
    assert {"name", "recorded", "rebuilt", "equal"} == set(facts["compared"][0])


def test_runs_are_measured_and_removed(terminal: Terminal, own_run: Path) -> None:
    total = sum(path.stat().st_size for path in own_run.rglob("*") if path.is_file())
    assert [row["total"] for row in terminal.do("runs", "size", "--json").json] == [total]
    assert re.search("story-1 .*kB", terminal.do("runs", "size").out)
    with lock(own_run):
        assert str(os.getpid()) in terminal.refused("runs", "remove", "story-1")
    assert "cannot be given; type last" in terminal.refused("runs", "remove", "last@20")
    assert "Removed runs/story-1" in terminal.do("runs", "remove", "story-1").out
    assert list((terminal.folder / "runs").iterdir()) == []
    assert "There is no run" in terminal.refused("runs", "remove", "story-1")


def test_two_cannot_train_one_run(terminal: Terminal, own_run: Path) -> None:
    with lock(own_run):
        said = terminal.refused("train", "--resume", "last", "--steps", "30")
    assert f"trained by another process (number {os.getpid()})" in said


FORBIDDING = """
import os, sys
from clearhead.cli.main import main
from clearhead.training import assess
assess.COPY_SAMPLE_TOKENS = 60
run = "{run}"

def forbid(event, arguments):
    writes = event in ("os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.truncate")
    writes = writes or (event == "open" and arguments[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT))
    if writes and str(arguments[0]).startswith(run):
        raise PermissionError(13, "Permission denied", arguments[0])

sys.addaudithook(forbid)
for command in (["sample", run, "--num-tokens", "9"], ["eval", run], ["runs", "show", run],
                ["runs", "verify", run], ["runs", "size", run]):
    assert main(command) == 0, command
assert main(["train", "--resume", run, "--steps", "30"]) == 2
"""
"""A program that may not write to a run; permissions would not keep an administrator out."""


def test_a_run_that_may_only_be_read_can_be_used(terminal: Terminal, own_run: Path) -> None:
    before = terminal.contents()
    program = FORBIDDING.format(run=own_run)
    done = subprocess.run([sys.executable, "-B", "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "The report was not written: Cannot write" in done.stderr
    assert f"Cannot write {own_run}/lock: Permission denied" in done.stderr
    assert terminal.contents() == before
