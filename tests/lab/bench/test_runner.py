"""Variants are measured in turn; medians, ends and ratios are what they are called."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from clearhead.lab.bench import record, runner, stored
from clearhead.lab.bench.workload import Repeat, Request, Sample, Variant, Workload
from clearhead.show import bench

VALUES = {"ours": [99.0, 10.0, 30.0, 20.0], "peer": [99.0, 5.0, 3.0, 4.0]}
"""What each variant answers; the first is the warm-up's."""


class Diary:
    """Fake variants, and what was done with them."""

    def __init__(self) -> None:
        self.done: list[str] = []

    @contextmanager
    def prepared(self, name: str) -> Iterator[Repeat]:
        self.done.append(f"{name} begins")

        def repeat(number: int) -> Sample:
            self.done.append(f"{name} {number}")
            value = VALUES[name][number]
            figures = {"tokens_per_second": value, "nats_per_character": 1 / value, "step_seconds": 2.0}
            return Sample(figures=figures, curve=[(1.0, 3.0), (2.0, 1 / value)])

        yield repeat
        self.done.append(f"{name} ends")

    def variants(self, _: Request) -> list[Variant]:
        return [Variant(name=name, ours=name == "ours", prepare=lambda n=name: self.prepared(n)) for name in VALUES]

    def workload(self, **changes: Any) -> Workload:
        plain = Workload(
            name="fake",
            group="fakes",
            question="How fast?",
            figure="tokens_per_second",
            best="highest",
            variants=self.variants,
            minutes=0.0,
            repetitions=3,
        )
        return replace(plain, **changes)


REQUEST = Request(threads=1)


@pytest.fixture
def diary() -> Diary:
    return Diary()


def measured(diary: Diary, **changes: Any) -> dict[str, Any]:
    return runner.run(diary.workload(**changes), REQUEST, command="clearhead bench fake")


def test_all_are_ready_before_they_are_measured_in_turn(diary: Diary) -> None:
    runner.interleaved(diary.variants(REQUEST), 2)
    begins, rounds = ["ours begins", "peer begins"], [f"{name} {n}" for n in (0, 1, 2) for name in VALUES]
    assert diary.done == [*begins, *rounds, "peer ends", "ours ends"]


def test_what_is_cold_is_not_warmed_up(diary: Diary) -> None:
    assert len(measured(diary, cold=True)["variants"][0]["samples"]) == 3
    assert "ours 0" not in diary.done


def test_the_warm_up_does_not_count(diary: Diary) -> None:
    ours, peer = measured(diary)["variants"]
    assert ours["summary"]["tokens_per_second"] == {"median": 20.0, "low": 10.0, "high": 30.0}
    assert peer["summary"]["tokens_per_second"] == {"median": 4.0, "low": 3.0, "high": 5.0}


@pytest.mark.parametrize(("best", "wanted"), [("highest", (5.0, 2.0, 10.0)), ("lowest", (0.2, 0.1, 0.5))])
def test_a_ratio_above_one_is_better(diary: Diary, best: str, wanted: tuple[float, ...]) -> None:
    (ratio,) = measured(diary, best=best)["ratios"]
    assert (ratio["variant"], ratio["peer"]) == ("ours", "peer")
    assert (ratio["median"], ratio["low"], ratio["high"]) == pytest.approx(wanted)


def test_runs_that_miss_their_level_are_told(diary: Diary) -> None:
    assert "ours: 2 of 3 runs reached 0.05." in measured(diary, level=0.05)["warnings"]
    assert not [said for said in measured(diary, level=0.1)["warnings"] if "reached" in said]


def test_what_a_workload_has_to_say_is_told(diary: Diary) -> None:
    assert "It was late." in measured(diary, notes=lambda _: ["It was late."])["warnings"]


def test_other_load_and_quick_looks_are_warned_of() -> None:
    assert runner.warnings(0.01, quick=False) == []
    assert "3.1\u00a0%" in runner.warnings(0.031, quick=False)[0]
    assert "not known" in runner.warnings(None, quick=False)[0]
    assert "tell nothing" in runner.warnings(0.0, quick=True)[0]


def test_the_circumstances_are_kept(diary: Diary) -> None:
    found = measured(diary)
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    assert found["machine"]["threads"] == 1
    assert found["versions"]["torch"]
    assert found["command"] == "clearhead bench fake"


def test_the_processor_is_named(tmp_path: Path) -> None:
    tmp_path.joinpath("cpuinfo").write_text(
        "processor : 0\nmodel name\t: Fast 3\nflags\t: fpu avx2 avx512_bf16\n\nprocessor : 1\nmodel name\t: Fast 3\n"
    )
    found = runner.hardware(tmp_path / "cpuinfo")
    assert (found["model"], found["instructions"]) == ("Fast 3", "avx2 avx512_bf16")
    assert "model" not in runner.hardware(tmp_path / "none")


def test_figures_are_added_to_a_file_and_made_a_page(diary: Diary, tmp_path: Path) -> None:
    kept, page = tmp_path / "kept.json", tmp_path / "RESULTS.md"
    for name in ("second", "first", "second"):
        record.add(kept, measured(diary, name=name))
    assert list(stored.read(kept)) == ["first", "second"]
    assert record.write_report(list(stored.read(kept).values()), page, {"first": "It tells."}) == [
        page,
        tmp_path / "RESULTS-first.svg",
        tmp_path / "RESULTS-second.svg",
    ]
    text = page.read_text()
    for part in (
        "|  | tokens per second | nats per character | step seconds |",
        "How fast? It tells.",
        "20 (10 to 30)",
        "ours has 5.00 times the tokens per second of peer (2.00 to 10.00)",
        "`clearhead bench fake`",
        "commit",
    ):
        assert part in text
    assert page.with_name("RESULTS-first.svg").read_text().startswith("<svg")


def test_where_less_is_better_the_larger_is_told_first(diary: Diary) -> None:
    said = bench.sentences(measured(diary, best="lowest", figure="nats_per_character"))
    assert "peer has 5.00 times the nats per character of ours (2.00 to 10.00)." in said


@pytest.mark.parametrize(
    ("name", "value", "wanted"),
    [
        ("tokens_per_second", 17_000.4, "17,000"),
        ("data_share", 0.00213, "0.2 %"),
        ("nats_per_character", 1.89812, "1.8981"),
        ("seconds", 0.1534, "0.153"),
        ("megabytes", 412.4, "412"),
        ("seconds", None, ""),
    ],
)
def test_a_figure_is_shown_in_its_unit(name: str, value: float | None, wanted: str) -> None:
    assert bench.amount(name, value) == wanted
