"""What others take of a machine, told by a made-up /proc."""

from __future__ import annotations

from pathlib import Path

import pytest

from clearhead.lab.bench.load import LoadMeter

OURS, CHILD, STRANGER = 41, 43, 47


class Proc:
    """A folder like /proc, whose processes take time when they are told to."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.idle, self.lost = folder, 1000, 0
        self.parents = {OURS: 1, CHILD: OURS, STRANGER: 1}
        self.spent = dict.fromkeys(self.parents, 7)
        self.write()

    def write(self) -> None:
        busy = sum(self.spent.values())
        # user nice system idle iowait irq softirq steal guest guest_nice; guests are part of user already.
        self.folder.joinpath("stat").write_text(f"cpu  {busy} 0 0 {self.idle} 13 0 0 {self.lost} 999 0\ncpu0 1 2 3\n")
        for number, parent in self.parents.items():
            place = self.folder / str(number)
            place.mkdir(exist_ok=True)
            own, waited_for = self.spent[number] // 2, self.spent[number] - self.spent[number] // 2
            fields = ["R", parent, *[0] * 9, own, 0, waited_for, 0, 20, 0]
            place.joinpath("stat").write_text(f"{number} (a (strange) name) {' '.join(map(str, fields))}")


@pytest.fixture
def proc(tmp_path: Path) -> Proc:
    return Proc(tmp_path)


@pytest.mark.parametrize(
    ("spent", "share"),
    [({OURS: 50}, 0.0), ({CHILD: 50}, 0.0), ({STRANGER: 50}, 0.25), ({OURS: 30, CHILD: 50, STRANGER: 20}, 0.08)],
)
def test_only_strangers_count(proc: Proc, spent: dict[int, int], share: float) -> None:
    meter = LoadMeter(proc.folder, OURS)
    for number, ticks in spent.items():
        proc.spent[number] += ticks
    proc.idle += 150
    proc.write()
    wanted = spent.get(STRANGER, 0) / (150 + sum(spent.values()))
    assert meter.share_of_others() == pytest.approx(wanted)
    assert wanted == pytest.approx(share)


def test_time_that_a_host_keeps_counts_and_each_share_begins_anew(proc: Proc) -> None:
    meter = LoadMeter(proc.folder, OURS)
    proc.lost, proc.idle = 30, proc.idle + 70
    proc.write()
    assert meter.share_of_others() == pytest.approx(0.3)
    proc.idle += 10
    proc.write()
    assert meter.share_of_others() == 0.0


def test_a_process_that_ends_meanwhile_is_passed_over(proc: Proc) -> None:
    meter = LoadMeter(proc.folder, OURS)
    (proc.folder / str(STRANGER) / "stat").unlink()
    proc.idle += 10
    proc.write()
    assert meter.share_of_others() is not None


def test_without_proc_the_share_is_not_known(tmp_path: Path) -> None:
    assert LoadMeter(tmp_path / "none").share_of_others() is None
