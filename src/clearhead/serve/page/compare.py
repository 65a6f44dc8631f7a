"""The screen that sets two runs side by side: losses on one chart, settings that differ, what each writes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from nicegui import ui

from clearhead.core.errors import UserError
from clearhead.core.events import read
from clearhead.core.run import Run
from clearhead.serve.page import frame
from clearhead.serve.page.studio import Studio
from clearhead.show.chart import Chart, Level, Line, draw
from clearhead.show.history import History, nats
from clearhead.show.page import escape
from clearhead.show.readable import count

PURPOSE = (
    "Change one thing, train again, and see what it was worth. Losses of models with different tokenizers are set "
    "beside each other in bits per byte, since a longer token costs more."
)
SHADES = ("series-6", "series-2")
TOKENS = 300


def show(studio: Studio, left: str, right: str, prompt: str) -> None:
    """Draw the screen."""
    with frame.frame(studio, "compare", PURPOSE):
        names = [run.name for run in studio.runs()]
        if len(names) < 2:
            ui.label("This takes two runs. Train another one first.").classes("said")
            return
        chosen = [left if left in names else names[0], right if right in names else names[1]]
        with ui.element("div").classes("places"):
            for side, label in enumerate(("One run", "the other")):
                choice = ui.select(names, value=chosen[side], label=label).props("dense outlined options-dense")
                choice.on_value_change(lambda event, side=side: go(chosen, side, event.value, prompt))
            field = ui.input("Prompt for both", value=prompt).props("dense outlined debounce=500 data-testid=prompt")
            field.on_value_change(lambda event: go(chosen, 0, chosen[0], event.value or ""))
        runs = [studio.run(name) for name in chosen]
        ui.html(losses(runs), sanitize=False).style("margin-top: 40px")
        ui.html(differences(runs), sanitize=False).style("margin-top: 40px")
        with ui.element("div").classes("halves"):
            for run in runs:
                written(studio, run, prompt)


def go(chosen: list[str], side: int, name: str, prompt: str) -> None:
    """Compare other runs."""
    names = [*chosen[:side], name, *chosen[side + 1 :]]
    ui.navigate.to(frame.address("compare", left=names[0], right=names[1], prompt=prompt))


def losses(runs: list[Run]) -> str:
    """Return the chart of both validation losses over the tokens that were learned from, in bits per byte."""
    lines: list[Line] = []
    levels: list[Level] = []
    said: list[str] = []
    for run, shade in zip(runs, SHADES, strict=True):
        history = History(read(run.path))
        measured = [event for event in history.evaluations() if event.get("bits_per_byte") is not None]
        if measured:
            x = np.array([event["tokens"] / 1e6 for event in measured])
            y = np.array([event["bits_per_byte"] for event in measured])
            lines.append(Line(x=x, y=y, role=shade, name=run.name))
        result = history.result()
        if result:
            bits = result.get("bits_per_byte")
            said.append(
                f"{run.name} ends at {nats(result):.3f} nats a token" + (f", {bits:.3f} bits a byte." if bits else ".")
            )
        floor: Any = history.references().get("5-gram", {}).get("bits_per_byte")
        if floor is not None and not levels:
            levels.append(Level("5-gram", floor))
    chart = Chart(
        description="Validation loss in bits per byte of both runs over millions of tokens.",
        lines=lines,
        levels=levels,
        x_label="million tokens learned from",
        x_scale="root",
    )
    drawn = draw(chart) if lines else ""
    return f'<section><h2>Loss in bits per byte</h2><p class="said">{escape(" ".join(said))}</p>{drawn}</section>'


def differences(runs: list[Run]) -> str:
    """Return the settings that are not the same in both runs, as a table."""
    settings = [dict(flat(run.describe()["config"])) for run in runs]
    keys = [key for key in dict.fromkeys([*settings[0], *settings[1]]) if settings[0].get(key) != settings[1].get(key)]
    facts = [("parameters", *(count(run.describe()["parameters"]["total"]) for run in runs))]
    rows = facts + [(key, *(str(each.get(key, "")) for each in settings)) for key in keys]
    head = "".join(f"<th>{escape(name)}</th>" for name in ("", *(run.name for run in runs)))
    body = "".join(f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in row)}</tr>" for row in rows)
    return (
        f"<section><h2>What differs</h2><table class='plain'><thead><tr>{head}</tr></thead>"
        f"<tbody>{body}</tbody></table></section>"
    )


def flat(settings: Mapping[str, Any], before: str = "") -> Iterator[tuple[str, Any]]:
    """Yield settings by their dotted names."""
    for key, value in settings.items():
        if isinstance(value, Mapping):
            yield from flat(value, f"{before}{key}.")
        else:
            yield f"{before}{key}", value


def written(studio: Studio, run: Run, prompt: str) -> None:
    """Write what a run's model says to the prompt, from the same luck in both."""
    with ui.element("div"):
        frame.title_line(run.name)
        try:
            text = studio.writer(run).generate(prompt, num_tokens=TOKENS, seed=1)[0]
        except UserError as error:
            frame.trouble(str(error))
            return
        ui.html(
            f'<p class="text" dir="auto"><span class="prompt">{escape(prompt)}</span>{escape(text)}</p>', sanitize=False
        )
