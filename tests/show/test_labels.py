"""The section on labels of a run's page."""

from __future__ import annotations

from clearhead.show.history import History
from clearhead.show.labels import choices


def measured(name: str, values: dict[str, object]) -> dict[str, object]:
    return {"event": "measured", "step": 7, "name": name, "values": values}


def test_counts_and_bins_are_shown_and_names_escaped() -> None:
    confusion = {"labels": ["<b>", "good"], "counts": [[1201, 3], [5, 7]]}
    bins = [{"low": 0.9, "high": 1.0, "count": 1013, "probability": 0.951, "accuracy": 0.889}]
    page = choices(History([measured("confusion", confusion), measured("calibration", {"bins": bins, "error": 0.062})]))
    for said in ("&lt;b&gt;", "<b>1,201</b>", ">3<", ">5<", "1,013", "95.1", "88.9", "6.2"):
        assert said in page
    assert "<th><b></th>" not in page


def test_other_runs_have_no_such_section() -> None:
    assert choices(History([])) == ""
