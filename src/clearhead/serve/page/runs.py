"""The screen of what was trained: sizes, losses, reports; what is damaged says so."""

from __future__ import annotations

from typing import Any

from nicegui import run as work
from nicegui import ui

from clearhead.core.errors import UserError
from clearhead.core.run import Run, remove
from clearhead.serve.page import frame
from clearhead.serve.page.studio import Studio
from clearhead.show.history import History, nats
from clearhead.show.readable import byte_size, duration, short_count

PURPOSE = (
    "Everything that was trained here. A run keeps its text's hash, its settings and its weights, so it can be looked "
    "into, gone on with and made anew."
)


def show(studio: Studio) -> None:
    """Draw the screen."""
    with frame.frame(studio, "runs", PURPOSE):
        runs = studio.runs()
        if not runs:
            ui.label(f"There is no run in {studio.folder} yet. Train one first.").classes("said")
            return
        with ui.element("table").classes("plain").style("margin-top: 24px"):
            _row("th", ["Run", "Parameters", "Step", "Nats a token", "Bits a byte", "Time", "Size", ""], "thead")
            with ui.element("tbody"):
                for run in runs:
                    _run_row(studio, run)


def _row(kind: str, cells: list[str], part: str) -> None:
    with ui.element(part), ui.element("tr"):
        for place, cell in enumerate(cells):
            with ui.element(kind).classes("number" if 0 < place < len(cells) - 1 else ""):
                ui.label(cell)


def _run_row(studio: Studio, run: Run) -> None:
    with ui.element("tr") as row:
        try:
            cells = figures(run)
        except UserError as error:
            with ui.element("td"):
                ui.label(run.name)
            with ui.element("td").props("colspan=7"):
                frame.trouble(str(error))
            return
        with ui.element("td"):
            ui.link(run.name, frame.address("train", run=run.name))
        for cell in cells:
            with ui.element("td").classes("number"):
                ui.label(cell)
        with ui.element("td"), ui.element("div").classes("row"):
            ui.link("write", frame.address("write", run=run.name))
            ui.link("inside", frame.address("inside", run=run.name))
            ui.link("report", f"/reports/{run.name}", new_tab=True)
            ui.button("verify", on_click=lambda: verify(run)).props("flat dense no-caps")
            ui.button("remove", on_click=lambda: ask_to_remove(studio, run, row)).props("flat dense no-caps")


def figures(run: Run) -> list[str]:
    """Return what the table says of a run."""
    from clearhead.core.events import read
    from clearhead.store.integrity import measure_room

    history = History(read(run.path))
    result: Any = history.result()
    bits = result.get("bits_per_byte")
    return [
        short_count(run.describe()["parameters"]["total"]),
        f"{history.newest('step') or 0:,}",
        f"{nats(result):.3f}" if result else "",
        f"{bits:.3f}" if bits else "",
        duration(history.newest("seconds") or 0.0),
        byte_size(measure_room(run).total),
    ]


async def verify(run: Run) -> None:
    """Compare every file of a run with its hash, and say what came of it."""
    from clearhead.store.integrity import inspect

    found = await work.io_bound(inspect, run)
    if found is None:  # the page is closing
        return
    said = f"{run.name} is whole: {found.files} files compared." if found.whole else " ".join(found.troubles)
    ui.notify(said, type="positive" if found.whole else "negative", multi_line=True, timeout=8000)


def ask_to_remove(studio: Studio, run: Run, row: ui.element) -> None:
    """Remove a run after one more question: what is gone is gone."""

    def do() -> None:
        dialog.close()
        job = studio.jobs.of(run.path)
        try:
            if job is not None and job.going:
                raise UserError(f"{run.name} is being trained; stop it first.")
            remove(run)
        except UserError as error:
            ui.notify(str(error), type="negative")
            return
        row.delete()

    with ui.dialog() as dialog, ui.card():
        ui.label(f"Remove {run.name} with all that is in it? This cannot be undone.")
        with ui.element("div").classes("row"):
            ui.button("Remove", on_click=do).props("unelevated no-caps color=negative")
            ui.button("Keep", on_click=dialog.close).props("flat no-caps")
    dialog.open()
