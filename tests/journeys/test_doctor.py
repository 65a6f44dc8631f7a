"""The doctor, as its users meet it."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from clearhead.model import shapes

if TYPE_CHECKING:
    from conftest import Terminal


def test_the_doctor_examines_this_machine(terminal: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
    small = shapes.lecture()
    monkeypatch.setattr(shapes, "SIZES", {"lecture": small, "wider": replace(small, width=64)})
    found = terminal.do("doctor", "--json", "--seconds", "1", "--preset", "lecture").json
    (cpu, *_) = found["devices"]
    assert cpu["name"] == "cpu"
    assert cpu["right"]
    assert [check["model"] for check in cpu["checks"]] == ["lecture", "lecture"]
    assert {speed["model"] for speed in cpu["speeds"]} == {"lecture", "wider"}
    assert found["threads"]["1"] > 0
    assert set(found["crossovers"]) == {device["name"] for device in found["devices"][1:]}
    said = terminal.do("doctor", "--seconds", "1", "--preset", "lecture").out
    assert "training, tokens a second" in said
    assert "--train.precision bf16" in said
