"""Programs are measured from outside."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import pytest

from clearhead.core.errors import UserError
from clearhead.lab.bench.processes import run_program

PROGRAM = """
import sys, time
held = bytearray(int(sys.argv[1]))
print("soon")
time.sleep(0.1)
print("later", file=sys.stderr)
time.sleep(0.1)
"""


def test_time_words_and_memory_are_the_programs_own(tmp_path: Path) -> None:
    big = bytearray(80_000_000)  # this process is large, and must not count
    began = time.perf_counter()
    small = run_program((sys.executable, "-c", PROGRAM, "1"), threads=1, folder=tmp_path, word="later")
    spent = time.perf_counter() - began
    large = run_program((sys.executable, "-c", PROGRAM, "50000000"), threads=1, folder=tmp_path, word="")
    assert small.said.split() == ["soon", "later"]
    assert small.until_said is not None
    assert large.until_said is not None
    assert 0.1 < small.until_said < small.seconds < spent
    assert large.seconds - large.until_said > 0.1
    if sys.platform == "linux":
        assert 1 < small.megabytes < len(big) / 1e6
        assert 40 < large.megabytes - small.megabytes < 60


def test_a_program_that_fails_is_told(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="exit code 3: no such luck"):
        run_program((sys.executable, "-c", "print('no such luck'); raise SystemExit(3)"), threads=1, folder=tmp_path)
