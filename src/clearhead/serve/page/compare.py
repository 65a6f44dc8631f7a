"""The screen that sets two runs side by side: losses on one chart, settings that differ, what each writes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from nicegui import run as work
from nicegui import ui

from clearhead.core.errors import UserError
from clearhead.core.events import read
from clearhead.core.run import Run
from clearhead.serve.page import frame, pictures
from clearhead.serve.page.studio import Studio
from clearhead.show.chart import Chart, Level, Line, draw
from clearhead.show.history import History, nats
from clearhead.show.page import escape
from clearhead.show.readable import count

if TYPE_CHECKING:
    from clearhead.store.load import Loaded

PURPOSE = (
    "Change one thing, train again, and see what it was worth. Losses of models with different tokenizers are set "
    "beside each other in bits per byte, since a longer token costs more."
)
SHADES = ("series-6", "series-2")
TOKENS = 300


def show(studio: Studio, left: str, right: str, prompt: str) -> None:
    """Draw the screen.

    Args:
        left, right: a run, or one of its steps as RUN@STEP.
    """
    with frame.frame(studio, "compare", PURPOSE):
        names = [run.name for run in studio.runs()]
        offered = [each for run in studio.runs() for each in (run.name, *(f"{run.name}@{at}" for at in run.steps()))]
        if len(offered) < 2:
            ui.label("This takes two runs, or two steps of one. Train first.").classes("said")
            return
        first, second = (names * 2)[:2] if len(names) > 1 else offered[:2]
        chosen = [left if left in offered else first, right if right in offered else second]
        gone = [name for name in (left, right) if name and name not in offered]
        if gone:
            frame.trouble(f"There is no {' and no '.join(gone)} here; compared are {chosen[0]} and {chosen[1]}.")
        with ui.element("div").classes("places"):
            for side, label in enumerate(("One run, or a step of it", "The other")):
                choice = ui.select(offered, value=chosen[side], label=label, with_input=True)
                choice.props("dense outlined options-dense")
                choice.on_value_change(lambda event, side=side: go(chosen, side, event.value or chosen[side], prompt))
            field = ui.input("Prompt for both", value=prompt).props("dense outlined debounce=500 data-testid=prompt")
            field.on_value_change(lambda event: go(chosen, 0, chosen[0], event.value or ""))
        runs = [studio.run(name.partition("@")[0]) for name in chosen]
        ui.html(losses(runs), sanitize=False).style("margin-top: 40px")
        Characters(studio, chosen)
        ui.html(differences(runs), sanitize=False).style("margin-top: 40px")
        with ui.element("div").classes("halves"):
            for name in chosen:
                written(studio, name, prompt)


def go(chosen: list[str], side: int, name: str, prompt: str) -> None:
    """Compare other runs."""
    names = [*chosen[:side], name, *chosen[side + 1 :]]
    ui.navigate.to(frame.address("compare", left=names[0], right=names[1], prompt=prompt))


def opened(studio: Studio, name: str) -> Loaded:
    """Return the model of RUN or RUN@STEP.

    Raises:
        UserError: there is none.
    """
    run, _, step = name.partition("@")
    return studio.model(studio.run(run), int(step) if step else "best")


class Characters:
    """Where each model pays less, character by character, at the beginning of the first one's validation text."""

    def __init__(self, studio: Studio, chosen: list[str]) -> None:
        self.studio, self.chosen = studio, chosen
        with ui.element("section").style("margin-top: 40px"):
            frame.title_line("Character by character, on text that the first has not seen")
            self.said = ui.label("Computing.").classes("said").props("data-testid=caption")
            self.pictures = ui.html("", sanitize=False).classes("pictures")
        ui.timer(0, self.refresh, once=True)

    async def refresh(self) -> None:
        """Draw what the subject `compare` sees; it is computed beside, since it reads the text twice."""
        from clearhead.look.subjects.compare import compare

        try:
            one, other = (opened(self.studio, name) for name in self.chosen)
            view = await work.io_bound(compare, one, other=other)
        except UserError as error:
            self.said.set_text(str(error))
            return
        if view is not None:  # else the page is closing
            self.said.set_text(view.caption)
            self.pictures.set_content("".join(pictures.draw(panel, at) for at, panel in enumerate(view.panels())))


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


def written(studio: Studio, name: str, prompt: str) -> None:
    """Write what a model says to the prompt, from the same luck in both; beside, since it takes seconds."""
    from clearhead.generation.writer import Writer

    with ui.element("div") as place:
        frame.title_line(name)
        said = ui.html('<p class="said">Writing.</p>', sanitize=False)

    async def write() -> None:
        try:
            written = await work.io_bound(Writer(opened(studio, name)).generate, prompt, num_tokens=TOKENS, seed=1)
        except UserError as error:
            said.delete()
            with place:
                frame.trouble(str(error))
            return
        if written is not None:  # else the page is closing
            before = f'<span class="prompt">{escape(prompt)}</span>'
            said.set_content(f'<p class="text" dir="auto">{before}{escape(written[0])}</p>')

    ui.timer(0, write, once=True)
