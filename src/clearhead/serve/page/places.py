"""The bar above a screen that chooses what is looked at: a run, one of its kept steps, a prompt."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from nicegui import ui

from clearhead.core.errors import UserError
from clearhead.core.run import Run
from clearhead.serve.page import frame
from clearhead.serve.page.studio import Studio

if TYPE_CHECKING:
    from clearhead.store.load import Loaded


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
    """Return a place whose run exists: the newest where none was named, or, saying so, where the named one is gone."""
    names = [run.name for run in studio.runs()]
    if place.run in names:
        return place
    newest = replace(place, run=names[0] if names else "", step="")
    if place.run and names:
        frame.trouble(f"There is no run {place.run} here; what follows is of {newest.run}.")
    return newest


def opened(studio: Studio, place: Place, screen: str, state: Mapping[str, object]) -> Loaded | None:
    """Return the model of a place; where it cannot be opened, say why, below a bar that leads elsewhere."""
    try:
        return studio.model(studio.run(place.run), place.selected())
    except UserError as error:
        bar(
            studio,
            place,
            lambda chosen: ui.navigate.to(frame.address(screen, **asdict(chosen), **state)),
            prompt_label="Prompt",
        )
        frame.trouble(str(error))
        return None


def bar(studio: Studio, place: Place, moved: Callable[[Place], Any], *, prompt_label: str) -> None:
    """Draw the controls; each change calls `moved`, which may be a coroutine function, with the new place."""
    now = place

    def change(**what: str) -> Any:
        nonlocal now
        now = replace(now, **what)
        return moved(now)

    with ui.element("div").classes("places"):
        names = [run.name for run in studio.runs()]
        choice = ui.select(names, value=place.run or None, label="Run").props("dense outlined options-dense")
        scrubber(studio.run(place.run), place.step, lambda step: change(step=step))
        field = ui.input(prompt_label, value=place.prompt).props("dense outlined debounce=300 data-testid=prompt")
        field.on_value_change(lambda event: change(prompt=event.value or ""))
    choice.on_value_change(lambda event: change(run=event.value, step=""))
    ui.run_javascript(OWN_KEYS)


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


OWN_KEYS = """document.addEventListener('keydown', (event) => {
  if (event.target.closest('input, textarea, [role=slider]')) return;
  if (event.key === '/') {
    event.preventDefault();
    document.querySelector('input[data-testid=prompt], [data-testid=prompt] input').focus();
  } else if (event.key.startsWith('Arrow') && document.querySelector('rect.chosen[visibility=visible]')) {
    event.preventDefault();
  }
})"""
"""JavaScript that lets `/` go to the prompt, and keeps arrows that move a cell from moving the page."""
