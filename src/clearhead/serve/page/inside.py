"""The screen that shows what happens in a model: one subject at a time, for one run, step and prompt."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from nicegui import ui

import clearhead.look as looking
from clearhead.core.errors import UserError
from clearhead.look.catalogue import SUBJECTS, module_of
from clearhead.serve.page import frame, pictures, places
from clearhead.serve.page.heads import grid
from clearhead.serve.page.pictures import PICK
from clearhead.serve.page.places import Place
from clearhead.serve.page.studio import Studio
from clearhead.show.page import escape
from clearhead.show.readable import label
from clearhead.show.view import Panel, View

PURPOSE = (
    "A model is a few tables of numbers that a text flows through. Here each of them can be seen for a prompt of "
    "yours, at any step of the training: choose what to look at on the left, and click a cell for its arithmetic."
)
KEYS = "Arrows move the cell, [ and ] change the layer, , and . the head, / goes to the prompt."


@dataclass(frozen=True)
class Look:
    """What is looked at."""

    subject: str = "attention"
    layer: int = 0
    head: int = 0


@dataclass(frozen=True, slots=True)
class Cell:
    """A place in one of the pictures."""

    picture: int
    row: int
    column: int


def show(studio: Studio, place: Place, look: Look) -> None:
    """Draw the screen."""
    with frame.frame(studio, "inside", PURPOSE):
        place = places.settled(studio, place)
        if not place.run:
            ui.label("There is no run yet. Train one first.").classes("said")
            return
        Inspection(studio, place, look if look.subject in SUBJECTS else replace(look, subject="attention"))


class Inspection:
    """A subject's pictures, and the numbers of the cell that was clicked."""

    def __init__(self, studio: Studio, place: Place, look: Look) -> None:
        self.studio, self.place, self.look = studio, place, look
        self.panels: list[Panel] = []
        self.view: View | None = None
        self.cell: Cell | None = None
        self.writer = studio.writer(studio.run(place.run), place.selected())
        places.bar(studio, place, self.move, prompt_label="Prompt (press /); empty: the validation text's beginning")
        with ui.element("div").classes("inspection"):
            self._subjects()
            with ui.element("div"):
                self.title = frame.title_line("")
                self.about = ui.label().classes("said")
                self.heads = ui.html("", sanitize=False)
                self.heads.on("click", self.choose, js_handler=PICK)
                self.troubles = ui.element("div")
                self.caption = ui.label().classes("caption").props("data-testid=caption")
                self.pictures = ui.html("", sanitize=False).classes("pictures")
                self.pictures.on("click", self.click, js_handler=PICK_CELL)
            with ui.element("aside").props('aria-label="The selected cell"'):
                frame.title_line("Cell")
                self.arithmetic = ui.html("", sanitize=False).props("data-testid=cell")
                ui.label(KEYS).classes("small").style("margin-top: 24px")
        ui.keyboard(self.press)
        self.refresh()

    def _subjects(self) -> None:
        with ui.element("div").classes("subjects").props('role="navigation" aria-label="Subjects"'):
            for name in SUBJECTS:
                address = frame.address("inside", **asdict(self.place), **asdict(replace(self.look, subject=name)))
                link = ui.link(name, address)
                if name == self.look.subject:
                    link.props('aria-current="page"')

    def move(self, place: Place) -> None:
        """Look at another run, step or prompt."""
        ui.navigate.to(frame.address("inside", **asdict(place), **asdict(self.look)))

    def turn(self, layer: int, head: int) -> None:
        """Look at another layer or head."""
        self.look = replace(self.look, layer=layer, head=head)
        frame.keep("inside", asdict(self.place) | asdict(self.look))
        self.refresh()

    def refresh(self) -> None:
        """Look again, and draw what is seen."""
        self.title.set_content(self.look.subject)
        self.about.set_text(SUBJECTS[self.look.subject])
        self.troubles.clear()
        function: Callable[..., View] = getattr(looking, module_of(self.look.subject))
        takes = inspect.signature(function).parameters
        self._draw_heads("layer" in takes, "head" in takes)
        given: dict[str, Any] = {name: getattr(self.look, name) for name in ("layer", "head") if name in takes}
        if self.place.prompt and "prompt" in takes:
            given["prompt"] = self.place.prompt
        try:
            self.view = function(self.writer, **given)
        except UserError as error:
            self.view, self.panels = None, []
            with self.troubles:
                frame.trouble(str(error))
        else:
            self.panels = self.view.panels()
        self.caption.set_text(self.view.caption if self.view else "")
        self.pictures.set_content("".join(pictures.draw(panel, at) for at, panel in enumerate(self.panels)))
        self.show_cell()

    def _draw_heads(self, layers: bool, heads: bool) -> None:
        now = self.look
        if heads:
            self.heads.set_content(grid(self.writer, self.place.prompt, chosen=(now.layer, now.head)))
        elif layers:
            pressed = ["true" if at == now.layer else "false" for at in range(self.num_layers)]
            buttons = "".join(
                f'<button data-i="{at},{now.head}" data-testid="layer-{at}" aria-pressed="{state}">layer {at}</button>'
                for at, state in enumerate(pressed)
            )
            self.heads.set_content(f'<div class="layers">{buttons}</div>')
        else:
            self.heads.set_content("")

    @property
    def num_layers(self) -> int:
        """How many layers the model has; 0 where it has none."""
        return len(getattr(self.writer.loaded.model, "mixers", []))

    @property
    def num_heads(self) -> int:
        """How many heads its first layer has."""
        mixers = getattr(self.writer.loaded.model, "mixers", [])
        return int(getattr(mixers[0], "num_heads", 0)) if mixers else 0

    def choose(self, event: Any) -> None:
        """Look at the layer and head that was clicked."""
        layer, head = (int(each) for each in event.args.split(","))
        self.turn(layer, head)

    def click(self, event: Any) -> None:
        """Select a cell."""
        self.cell = Cell(*(int(each) for each in event.args))
        self.show_cell()

    def press(self, event: Any) -> None:
        """Move by keys."""
        if not event.action.keydown:
            return
        turns = {"[": (-1, 0), "]": (1, 0), ",": (0, -1), ".": (0, 1)}
        moves = {"ArrowUp": (-1, 0), "ArrowDown": (1, 0), "ArrowLeft": (0, -1), "ArrowRight": (0, 1)}
        key = str(event.key)
        if key in turns:
            layer, head = turns[key]
            self.turn(
                (self.look.layer + layer) % max(1, self.num_layers), (self.look.head + head) % max(1, self.num_heads)
            )
        elif key in moves and self.cell is not None:
            down, right = moves[key]
            rows, columns = (*self.panels[self.cell.picture].first.shape, 1)[:2]
            row = min(max(self.cell.row + down, 0), rows - 1)
            self.cell = replace(self.cell, row=row, column=min(max(self.cell.column + right, 0), columns - 1))
            self.show_cell()

    def show_cell(self) -> None:
        """Write out the numbers of the selected cell."""
        if self.view is None or self.cell is None or self.cell.picture >= len(self.panels):
            self.arithmetic.set_content('<p class="small">Click a cell.</p>')
            return
        self.arithmetic.set_content(cell_in_words(self.view, self.panels[self.cell.picture], self.cell))
        ui.run_javascript(f"({MARK})({self.cell.picture}, {self.cell.row}, {self.cell.column})")


def cell_in_words(view: View, panel: Panel, cell: Cell) -> str:
    """Return what all arrays of a view hold at a cell of one of its pictures, as HTML."""
    at = dict(zip(panel.axes, (cell.row, cell.column), strict=False))
    names = dict(zip(panel.axes, panel.labels, strict=False))
    said = [f"<dt>{axis} {place}</dt><dd>{_named(names[axis], place)}</dd>" for axis, place in at.items()]
    for name, array in view.arrays.items():
        axes = view.axes[name]
        if set(axes) <= set(at) and all(at[axis] < size for axis, size in zip(axes, array.shape, strict=True)):
            said.append(f"<dt>{name}</dt><dd>{_number(array[tuple(at[axis] for axis in axes)])}</dd>")
    return f'<dl class="cell">{"".join(said)}</dl>{product(view, at)}'


def product(view: View, at: dict[str, int]) -> str:
    """Write out the product of a query and a key as the sum that it is, where the view has both."""
    arrays = view.arrays
    if not {"query", "key"} <= at.keys() or not {"query_vector", "key_vector", "scores_raw"} <= arrays.keys():
        return ""
    q, k = arrays["query_vector"][at["query"]].astype(float), arrays["key_vector"][at["key"]].astype(float)
    shown = " + ".join(f"({a:.2f})({b:.2f})" for a, b in zip(q[:3], k[:3], strict=True))
    scaled, weight = (arrays[name][at["query"], at["key"]] for name in ("scores_scaled", "pattern"))
    pair = f"q{at['query']} · k{at['key']}"
    return (
        f'<p class="small numbers">{pair} = {shown} + … ({len(q)} terms) = {float(q @ k):.3f}<br>'
        f"÷ √{len(q)} = {scaled:.3f}<br>softmax over the row = {weight:.3f}</p>"
    )


def _named(names: Any, place: int) -> str:
    return escape(label(names[place])) if names is not None and place < len(names) else ""


def _number(value: Any) -> str:
    if isinstance(value, np.bool_):
        return "yes" if value else "no"
    return f"{value:.4f}" if isinstance(value, np.floating) else str(value)


MARK = """(picture, row, column) => document.querySelectorAll('rect.chosen').forEach((mark) => {
  const data = mark.dataset, chosen = data.p == picture;
  mark.setAttribute('visibility', chosen ? 'visible' : 'hidden');
  mark.setAttribute('x', Number(data.left) + column * data.size);
  mark.setAttribute('y', row * data.size);
})"""
"""JavaScript that draws a frame around a cell."""

PICK_CELL = """(event) => {
  const cells = event.target.closest('image.cells'), one = event.target.closest('[data-row]');
  if (one) emit([one.dataset.p, one.dataset.row, one.dataset.column || 0]);
  else if (cells) {
    const box = cells.getBoundingClientRect(), data = cells.dataset;
    const row = Math.floor((event.clientY - box.top) / box.height * data.rows);
    const column = Math.floor((event.clientX - box.left) / box.width * data.columns);
    emit([data.p, Math.min(Math.max(row, 0), data.rows - 1), Math.min(Math.max(column, 0), data.columns - 1)]);
  }
}"""
"""JavaScript that tells which cell of which picture was clicked."""
