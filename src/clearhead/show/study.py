"""What a study found, as a table in the terminal, as JSON, and as one self-contained page."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from clearhead.core.events import finite_or_null
from clearhead.show.chart import Chart, draw
from clearhead.show.page import escape, page
from clearhead.show.readable import count

if TYPE_CHECKING:
    from rich.table import Table


@dataclass(frozen=True, kw_only=True, slots=True)
class Sample:
    """What the model of an arm wrote."""

    arm: str
    about: str
    figure: str
    text: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Answer:
    """What a study found.

    Args:
        said: computed sentences that answer the question.
        rows: numbers, texts, or None where there is nothing; one cell for each column.
        notes: how the figures came about: seeds, tokens, what the intervals are.
    """

    study: str
    question: str
    said: tuple[str, ...]
    columns: tuple[str, ...]
    rows: tuple[tuple[object, ...], ...]
    notes: tuple[str, ...]
    chart: Chart | None = None
    samples: Sequence[Sample] = ()

    def to_json(self) -> dict[str, Any]:
        """Return the answer as plain values: each row by its columns' names."""
        rows = [dict(zip(self.columns, row, strict=True)) for row in self.rows]
        curves = {line.name: {"x": line.x.tolist(), "y": line.y.tolist()} for line in self.lines() if line.name}
        plain: dict[str, Any] = finite_or_null(
            {
                "study": self.study,
                "question": self.question,
                "said": self.said,
                "rows": rows,
                "notes": self.notes,
                "curves": curves,
                "samples": {sample.arm: sample.text for sample in self.samples},
            }
        )
        return plain

    def lines(self) -> Sequence[Any]:
        """Return the curves of the chart, where there is one."""
        return () if self.chart is None else self.chart.lines


def terminal_table(answer: Answer) -> Table:
    """Return the table that the terminal shows."""
    from clearhead.show.terminal import table

    rows = [[_text_cell(value) for value in row] for row in answer.rows]
    return table(answer.question, answer.columns, rows)


def render(answer: Answer) -> str:
    """Return the study's page as HTML."""
    body = [
        f'<header><p class="eyebrow">Clearhead study</p><h1>{escape(answer.study)}</h1>'
        f'<p class="lead">{escape(answer.question)}</p></header>',
        _said(answer.said),
        _chart(answer),
        _table(answer),
        _samples(answer.samples),
        "<footer>Written by Clearhead from the events of the study's runs.</footer>",
    ]
    return page(f"{answer.study} · Clearhead", "\n".join(part for part in body if part))


def _said(sentences: Sequence[str]) -> str:
    return f'<section class="close">{"".join(f"<p>{escape(each)}</p>" for each in sentences)}</section>'


def _chart(answer: Answer) -> str:
    if answer.chart is None:
        return ""
    said = escape(answer.chart.description)
    return (
        f'<section><h2>Curves</h2><p class="said">{said}</p><figure class="scroll">{draw(answer.chart)}</figure>'
        "</section>"
    )


def _table(answer: Answer) -> str:
    numeric = [all(isinstance(row[at], int | float | None) for row in answer.rows) for at in range(len(answer.columns))]
    head = "".join(
        f'<th{_number_class(is_number)} scope="col">{escape(name)}</th>'
        for name, is_number in zip(answer.columns, numeric, strict=True)
    )
    lines = []
    for first, *rest in answer.rows:
        cells = [
            f"<td{_number_class(is_number)}>{escape(_cell(value))}</td>"
            for value, is_number in zip(rest, numeric[1:], strict=True)
        ]
        lines.append(f'<tr><th scope="row">{escape(_cell(first))}</th>{"".join(cells)}</tr>')
    notes = escape(" ".join(answer.notes))
    return (
        f'<section><h2>Table</h2><div class="scroll"><table><thead><tr>{head}</tr></thead>'
        f'<tbody>{"".join(lines)}</tbody></table></div><p class="small note">{notes}</p></section>'
    )


def _number_class(is_number: bool) -> str:
    return ' class="number"' if is_number else ""


def _text_cell(value: object) -> object:
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _cell(value: object) -> str:
    if value is None or (isinstance(value, float) and not math.isfinite(value)):
        return ""
    if isinstance(value, float):
        return f"{value:.3f}"
    return count(value) if isinstance(value, int) else str(value)


def _samples(samples: Sequence[Sample]) -> str:
    if not samples:
        return ""
    rows = "".join(
        f'<dt><b>{escape(sample.arm)}</b>{escape(sample.figure)}</dt><dd><p class="small">{escape(sample.about)}</p>'
        f'<p class="text" dir="auto">{escape(sample.text.strip())}</p></dd>'
        for sample in samples
    )
    return f'<section><h2>What each writes</h2><dl class="samples">{rows}</dl></section>'
