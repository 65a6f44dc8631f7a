"""The bar above a screen that chooses what is looked at: a run, one of its kept steps, a prompt."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from nicegui import ui

from clearhead.core.run import Run
from clearhead.serve.page.studio import Studio


@dataclass(frozen=True)
class Place:
    """What a screen looks at.

    Args:
        step: the number of a kept step; "" for the best.
    """

    run: str = ""
    step: str = ""
    prompt: str = ""

    def selected(self) -> int | str:
        """Return the step as `store.load` names it."""
        return int(self.step) if self.step.isdecimal() else "best"


def settled(studio: Studio, place: Place) -> Place:
    """Return a place whose run exists: the newest where none was named."""
    names = [run.name for run in studio.runs()]
    return place if place.run in names else replace(place, run=names[0] if names else "", step="")


def bar(studio: Studio, place: Place, moved: Callable[[Place], Any], *, prompt_label: str) -> None:
    """Draw the controls; each change calls `moved` with the new place."""
    now = place

    def change(**what: str) -> None:
        nonlocal now
        now = replace(now, **what)
        moved(now)

    with ui.element("div").classes("places"):
        names = [run.name for run in studio.runs()]
        choice = ui.select(names, value=place.run or None, label="Run").props("dense outlined options-dense")
        scrubber(studio.run(place.run), place.step, lambda step: change(step=step))
        field = ui.input(prompt_label, value=place.prompt).props("dense outlined debounce=300 data-testid=prompt")
        field.on_value_change(lambda event: change(prompt=event.value or ""))
    choice.on_value_change(lambda event: change(run=event.value, step=""))
    ui.keyboard(lambda event: focus_prompt(event, field))


def focus_prompt(event: Any, field: ui.input) -> None:
    """Let `/` put the cursor into the prompt."""
    if event.action.keydown and event.key == "/":
        field.run_method("focus")


def scrubber(run: Run, step: str, moved: Callable[[str], Any]) -> None:
    """Draw a slider over the steps whose weights are kept; its right end is the best step."""
    steps = [*map(str, run.steps()), ""]
    at = steps.index(step) if step in steps else len(steps) - 1

    def said(position: int) -> str:
        return f"step {int(steps[position]):,}" if steps[position] else "best step"

    with ui.element("div"):
        label = ui.label(said(at)).classes("small numbers")
        slider = ui.slider(min=0, max=len(steps) - 1, value=at).props(
            'aria-label="Step of the training" label-always=false'
        )
        slider.on_value_change(lambda event: label.set_text(said(int(event.value))))
        slider.on("change", lambda: moved(steps[int(slider.value)]))
