"""How a classifier chooses, on a run's page: which label it takes for which, and how often it is right when sure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from clearhead.show.history import History
from clearhead.show.page import escape
from clearhead.show.readable import count, percent

_MOST_LABELS = 20


def choices(history: History) -> str:
    """Return the section with the newest confusion and calibration; empty where none was measured."""
    parts = [_confusion(history.measured("confusion")), _calibration(history.measured("calibration"))]
    shown = "".join(f"<div>{part}</div>" for part in parts if part)
    return f'<section class="columns">{shown}</section>' if shown else ""


def _confusion(values: Mapping[str, Any]) -> str:
    labels, counts = values.get("labels") or [], values.get("counts") or []
    if not labels:
        return ""
    shown = range(min(_MOST_LABELS, len(labels)))
    head = "".join(f'<th class="number">{escape(labels[place])}</th>' for place in shown)
    rows = "".join(
        f"<tr><th>{escape(labels[row])}</th>"
        + "".join(f'<td class="number">{_cell(counts[row], column, row == column)}</td>' for column in shown)
        + "</tr>"
        for row in shown
    )
    said = "How often a label (row) was taken for another (column) on validation."
    return (
        f'<h2>What is taken for what</h2><p class="said">{said}</p>'
        f"<table><thead><tr><th></th>{head}</tr></thead><tbody>{rows}</tbody></table>"
    )


def _cell(row: Sequence[int], column: int, is_right: bool) -> str:
    said = count(row[column])
    return f"<b>{said}</b>" if is_right else said


def _calibration(values: Mapping[str, Any]) -> str:
    bins = values.get("bins") or []
    if not bins:
        return ""
    rows = "".join(
        f"<tr><td>{percent(each['low'])} to {percent(each['high'])}</td>"
        f'<td class="number">{count(each["count"])}</td><td class="number">{percent(each["probability"], 1)}</td>'
        f'<td class="number">{percent(each["accuracy"], 1)}</td></tr>'
        for each in bins
    )
    said = f"Mean distance between how sure it is and how often it is right: {percent(values['error'], 1)}."
    titles = "".join(f'<th class="number">{title}</th>' for title in ("texts", "mean", "right"))
    return (
        f'<h2>How sure, and how often right</h2><p class="said">{escape(said)}</p>'
        f"<table><thead><tr><th>sure</th>{titles}</tr></thead><tbody>{rows}</tbody></table>"
    )
