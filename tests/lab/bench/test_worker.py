"""Workers answer when they are asked, and their mistakes are told."""

from __future__ import annotations

from pathlib import Path

import pytest

from clearhead.core.errors import UserError
from clearhead.lab.bench.worker import worker

MODULE = """
import os
from clearhead.lab.bench.worker import serve
from clearhead.lab.bench.workload import Sample

def count(start):
    print("what a library says does not disturb")
    def repeat(number):
        if number == 3:
            raise SystemExit("three is too much")
        figures = {"sum": float(start + number), "threads": float(os.environ["OMP_NUM_THREADS"])}
        return Sample(figures=figures, curve=[(1.0, 2.0)])
    return repeat

serve({"count": count})
"""


def test_a_worker_measures_each_time_it_is_asked(tmp_path: Path) -> None:
    tmp_path.joinpath("counting.py").write_text(MODULE)
    with worker("counting", {"task": "count", "start": 10}, threads=2, folder=tmp_path) as repeat:
        found = [repeat(number) for number in (1, 2)]
        assert [dict(each.figures) for each in found] == [{"sum": 11, "threads": 2}, {"sum": 12, "threads": 2}]
        assert list(found[0].curve) == [(1.0, 2.0)]
        with pytest.raises(UserError, match="ended early: three is too much"):
            repeat(3)


def test_a_worker_that_cannot_begin_is_told(tmp_path: Path) -> None:
    tmp_path.joinpath("counting.py").write_text(MODULE)
    begin = worker("counting", {"task": "count", "begin": 10}, threads=1, folder=tmp_path)
    with pytest.raises(UserError, match="unexpected keyword argument 'begin'"), begin:
        raise AssertionError("it never was ready")


def test_a_worker_is_ready_before_the_next_one_begins(tmp_path: Path) -> None:
    slow = MODULE.replace("serve({", 'import pathlib, time; time.sleep(0.3); pathlib.Path("prepared").touch(); serve({')
    tmp_path.joinpath("counting.py").write_text(slow)
    with worker("counting", {"task": "count", "start": 10}, threads=1, folder=tmp_path):
        assert tmp_path.joinpath("prepared").exists()
