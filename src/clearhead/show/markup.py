"""Views as HTML: tokens and tables as text, everything else as SVG."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby
from typing import TYPE_CHECKING

import numpy as np

from clearhead.show.page import escape, page
from clearhead.show.palette import Scale
from clearhead.show.readable import visible

if TYPE_CHECKING:
    from clearhead.show.view import Panel, View


def whole_page(view: View) -> str:
    """Return a view as a page of its own that fetches nothing."""
    about = f'<p class="said">{escape(view.about)}</p>' if view.about else ""
    return page(
        view.name,
        f'<h1>{escape(view.name)}</h1><p class="lead">{escape(view.caption)}</p>{about}'
        f"{''.join(_sections(view))}<footer>{escape(view.shape)}</footer>",
    )


def notebook(view: View) -> str:
    """Return a view as a notebook shows it."""
    return f"<figure>{''.join(_sections(view))}<figcaption>{escape(view.caption)}</figcaption></figure>"


def _sections(view: View) -> Iterator[str]:
    for kind, group in groupby(view.panels(), key=lambda panel: panel.kind):
        panels = list(group)
        if kind == "chips":
            yield from (_section(panel, _chips(panel)) for panel in panels)
        elif kind == "table":
            yield from (_section(panel, _table(panel)) for panel in panels)
        else:
            from clearhead.show.figure import to_svg

            yield f'<section><figure class="scroll">{to_svg(view, panels)}</figure></section>'


def _section(panel: Panel, content: str) -> str:
    return f"<section><h3>{escape(visible(panel.title, keep=' '))}</h3>{content}</section>"


def _chips(panel: Panel) -> str:
    values = panel.first.astype(float)
    scale = Scale.of(values)
    chips = []
    for label, value in zip(panel.labels[0] or [], values, strict=True):
        style = f"background:{scale.hex(value)};color:{scale.ink(value)}" if np.isfinite(value) else ""
        title = f"{value:.4g}" if np.isfinite(value) else "not scored"
        chips.append(f'<span style="{style}" title="{title}">{escape(visible(label))}</span>')
        if label.endswith("\n"):
            chips.append("<br>")
    ends = f"from {scale.low:.3g} ({scale.hex(scale.low)}) to {scale.high:.3g} ({scale.hex(scale.high)})"
    return f'<p class="text code">{"".join(chips)}</p><p class="small">{escape(ends)}</p>'


def _table(panel: Panel) -> str:
    header, rows = panel.columns()
    numeric = [all(isinstance(value, int | float) for value in column) for column in zip(*rows, strict=True)]
    opened = ['<th class="number">' if right else "<th>" for right in numeric or [False] * len(header)]
    titles = [escape(visible(name, keep=" ")) for name in header]
    head = "".join(f"{tag}{title}</th>" for tag, title in zip(opened, titles, strict=True))
    body = "".join(f"<tr>{''.join(map(_cell, row))}</tr>" for row in rows)
    return f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


def _cell(value: object) -> str:
    if isinstance(value, int | float):
        shown = f"{value:,}" if isinstance(value, int) else f"{value:.4g}"
        return f'<td class="number">{shown}</td>'
    return f"<td>{escape(visible(str(value), keep=' '))}</td>"
