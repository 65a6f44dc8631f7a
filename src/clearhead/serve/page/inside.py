"""The screen that shows what happens in a model: one subject at a time, for one run, step and prompt."""

from __future__ import annotations

import asyncio
import shlex
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any

from nicegui import run as work
from nicegui import ui

from clearhead.core.errors import UserError
from clearhead.look.catalogue import SUBJECTS
from clearhead.look.specimen import specimen_in
from clearhead.serve.page import frame, options, pictures, places
from clearhead.serve.page.arithmetic import Cell, cell_in_words
from clearhead.serve.page.heads import grid, mixers_of
from clearhead.serve.page.pictures import PICK
from clearhead.serve.page.places import Place
from clearhead.serve.page.studio import Studio
from clearhead.show.page import escape
from clearhead.show.view import Panel, View

if TYPE_CHECKING:
    from clearhead.store.load import Loaded

PURPOSE = (
    "A model is a few tables of numbers that a text flows through. Here each of them can be seen for a prompt of "
    "yours, at any step of the training: choose what to look at on the left, and click a cell for its arithmetic."
)
KEYS = (
    '<p class="small keyboard"><kbd>←</kbd><kbd>→</kbd><kbd>↑</kbd><kbd>↓</kbd> move the cell, '
    "<kbd>[</kbd><kbd>]</kbd> change the layer, <kbd>,</kbd><kbd>.</kbd> the head, "
    "<kbd>/</kbd> goes to the prompt.</p>"
)
SOON = 0.2
"""For how many seconds nothing is said while a subject is computed: each change takes the browser time of its own."""

HEAD_SUBJECTS = {
    "attention": "what it reads",
    "head-card": "what it looks for and says",
    "heads": "what kind it is",
    "ablate": "what it is worth",
}
"""What can be asked of one head, and where it is answered."""


@dataclass(frozen=True)
class Look:
    """What is looked at.

    Args:
        asked: what else the subject was asked, as `options` names it.
    """

    subject: str = "attention"
    layer: int = 0
    head: int = 0
    asked: Mapping[str, str] = field(default_factory=dict)

    def state(self) -> dict[str, object]:
        """Return what of it stands in the address."""
        return {"subject": self.subject, "layer": self.layer, "head": self.head, **self.asked}


def show(studio: Studio, place: Place, look: Look) -> None:
    """Draw the screen."""
    with frame.frame(studio, "inside", PURPOSE):
        place = places.settled(studio, place)
        if not place.run:
            ui.label("There is no run yet. Train one first.").classes("said")
            return
        look = look if look.subject in SUBJECTS else replace(look, subject="attention")
        loaded = places.opened(studio, place, "inside", look.state())
        if loaded is not None:
            Inspection(studio, place, look, loaded)


class Inspection:
    """A subject's pictures, and the numbers of the cell that was clicked."""

    def __init__(self, studio: Studio, place: Place, look: Look, loaded: Loaded) -> None:
        self.studio, self.place, self.look, self.loaded = studio, place, look, loaded
        self.specimen = specimen_in(loaded, latest={})
        self.panels: list[Panel] = []
        self.view: View | None = None
        self.cell: Cell | None = None
        self.newest = 0
        self.takes = options.parameters_of(look.subject)
        places.bar(studio, place, self.move, prompt_label="Prompt (press /); empty: the validation text's beginning")
        with ui.element("div").classes("inspection"):
            self.subjects = ui.element("nav").classes("subjects").props('aria-label="Subjects"')
            self._subjects()
            with ui.element("div"):
                self._subject()
            with ui.element("aside").props('aria-label="Heads, and the selected cell"'):
                self.heads = ui.html(self._heads(), sanitize=False).props("data-testid=heads")
                self.heads.on("click", self.choose, js_handler=PICK)
                frame.title_line("Cell")
                self.arithmetic = ui.html("", sanitize=False).props('data-testid=cell aria-live="polite"')
                ui.html(KEYS, sanitize=False)
                self.command = ui.html("", sanitize=False)
        ui.keyboard(self.press, ignore=["input", "select", "textarea"])
        ui.timer(0, self.refresh, once=True)

    def _subjects(self) -> None:
        self.subjects.clear()
        with self.subjects:
            for title, names in options.grouped().items():
                frame.title_line(title, level=3)
                for name in names:
                    link = ui.link(name, self.address(name)).tooltip(SUBJECTS[name])
                    if name == self.look.subject:
                        link.props('aria-current="page"')

    def _subject(self) -> None:
        """Draw what stands still while layer, head and answers change."""
        frame.title_line(self.look.subject)
        ui.label(SUBJECTS[self.look.subject]).classes("said")
        with ui.element("div").classes("row options"):
            options.draw(self.studio, self.look.subject, self.place.run, self.look.asked, self.ask)
        self.links = ui.html("", sanitize=False)
        self.waiting = ui.label("Computing; a prompt of a few words is quicker.").classes("said busy")
        self.waiting.props('aria-live="polite"').set_visibility(False)
        self.troubles = ui.element("div")
        self.caption = ui.label().classes("caption").props('data-testid=caption aria-live="polite"')
        self.pictures = ui.html("", sanitize=False).classes("pictures")
        self.pictures.on("click", self.click, js_handler=PICK_CELL)
        self.pictures.on("focusin", self.click, js_handler=ENTER_MAP)

    def address(self, subject: str) -> str:
        """Return where another subject is seen, for the same head."""
        look = Look(subject, self.look.layer, self.look.head)
        return frame.address("inside", **asdict(self.place), **look.state())

    async def move(self, place: Place) -> None:
        """Look at another run, step or prompt; what cannot be opened is said by the screen as it is drawn anew."""
        try:
            loaded = self.studio.model(self.studio.run(place.run), place.selected())
        except UserError:
            loaded = None
        if loaded is None or place.run != self.place.run:
            ui.navigate.to(frame.address("inside", **asdict(place), **self.look.state()))
            return
        self.place, self.loaded, self.specimen = place, loaded, specimen_in(loaded, latest={})
        self.remember()
        self._subjects()
        self.heads.set_content(self._heads())
        await self.refresh()

    async def ask(self, name: str, text: str) -> None:
        """Ask the subject something else."""
        self.look = replace(self.look, asked={**self.look.asked, name: text})
        self.remember()
        await self.refresh()

    async def turn(self, layer: int, head: int) -> None:
        """Look at another layer or head."""
        self.look = replace(self.look, layer=layer, head=head)
        self.remember()
        await self.refresh()

    def remember(self) -> None:
        """Put the state into the address."""
        frame.keep("inside", asdict(self.place) | self.look.state())

    async def refresh(self) -> None:
        """Look again, and draw what is seen, unless something else was asked for meanwhile."""
        self.newest += 1
        mine = self.newest
        try:
            view = await self._view()
        except UserError as error:
            view, trouble = None, str(error)
        else:
            trouble = ""
        if mine == self.newest:
            self._draw(view, trouble)

    async def _view(self) -> View | None:
        """Return what is looked at; what takes long is computed beside, so that the page answers meanwhile."""
        look = self.look
        given = options.arguments(self.studio, look.subject, self.place.prompt, look.asked)
        given |= {name: getattr(look, name) for name in ("layer", "head") if name in self.takes}
        key = (self.loaded.run.path, self.loaded.step, look.subject, tuple(given.items()))
        if key in self.studio.views:
            return self.studio.views.get(key)
        looking = asyncio.ensure_future(work.io_bound(options.function_of(look.subject), self.specimen, **given))
        await asyncio.wait({looking}, timeout=SOON)
        if not looking.done():
            self.waiting.set_visibility(True)
        view: View | None = await looking
        if view is not None:  # else the page is closing
            self.studio.views.keep(key, view)
        return view

    def _draw(self, view: View | None, trouble: str) -> None:
        self.waiting.set_visibility(False)
        self.view, self.panels = view, view.panels() if view else []
        self.troubles.clear()
        if trouble:
            with self.troubles:
                frame.trouble(trouble)
        self._mark_head()
        self.caption.set_text(view.caption if view else "")
        self.pictures.set_content("".join(pictures.draw(panel, at) for at, panel in enumerate(self.panels)))
        self.command.set_content(f'<p class="small">The same in a terminal:<br><code>{self._command()}</code></p>')
        self.show_cell()

    def _command(self) -> str:
        """Return what one types to see the same in a terminal."""
        look, place = self.look, self.place
        run = str(self.studio.folder / place.run) + (f"@{place.step}" if place.step else "")
        given = options.words(self.studio, look.subject, place.prompt, look.asked)
        chosen = [f"--{name}={getattr(look, name)}" for name in ("layer", "head") if name in self.takes]
        return escape(shlex.join(["clearhead", "look", look.subject, run, *chosen, *given]))

    def _heads(self) -> str:
        """Return what chooses a head, or a layer, where the subject is about one."""
        if "head" in self.takes:
            chosen = grid(self.loaded, self.place.prompt)
        elif "layer" in self.takes:
            chosen = "".join(
                f'<button data-i="{at},{self.look.head}" data-testid="layer-{at}">layer {at}</button>'
                for at in range(self.num_layers)
            )
            chosen = f'<div class="layers">{chosen}</div>'
        else:
            chosen = ""
        return f"<section><h2>{'Heads' if 'head' in self.takes else 'Layers'}</h2>{chosen}</section>" if chosen else ""

    def _mark_head(self) -> None:
        """Show which head is looked at, and what else can be asked of it."""
        if "layer" not in self.takes or not self.num_layers:
            return
        look = self.look
        ui.run_javascript(f"({PRESS})({look.layer}, {look.head if 'head' in self.takes else 'null'})")
        if "head" in self.takes and self.loaded.description.get("task", "lm") == "lm":
            links = " · ".join(
                f"<b>{said}</b>" if name == look.subject else f'<a href="{escape(self.address(name))}">{said}</a>'
                for name, said in HEAD_SUBJECTS.items()
            )
            self.links.set_content(f'<p class="asked">Head {look.head} of layer {look.layer}: {links}</p>')

    @property
    def num_layers(self) -> int:
        """How many layers the model has; 0 where it has none."""
        return len(mixers_of(self.loaded))

    @property
    def num_heads(self) -> int:
        """How many heads its first layer has; 0 where it has none."""
        return max((int(getattr(mixer, "num_heads", 0)) for mixer in mixers_of(self.loaded)[:1]), default=0)

    async def choose(self, event: Any) -> None:
        """Look at the layer and head that was clicked."""
        layer, head = (int(each) for each in event.args.split(","))
        await self.turn(layer, head)

    def click(self, event: Any) -> None:
        """Select a cell."""
        self.cell = Cell(*(int(each) for each in event.args))
        self.show_cell()

    async def press(self, event: Any) -> None:
        """Move by keys."""
        if not event.action.keydown:
            return
        turns = {"[": (-1, 0), "]": (1, 0), ",": (0, -1), ".": (0, 1)}
        moves = {"ArrowUp": (-1, 0), "ArrowDown": (1, 0), "ArrowLeft": (0, -1), "ArrowRight": (0, 1)}
        key = str(event.key)
        if key in turns and "layer" in self.takes:
            layer, head = turns[key]
            await self.turn(
                (self.look.layer + layer) % max(1, self.num_layers), (self.look.head + head) % max(1, self.num_heads)
            )
        elif key in moves and self.cell is not None:
            self._step(*moves[key])

    def _step(self, down: int, right: int) -> None:
        """Move the selected cell, as far as its picture goes."""
        assert self.cell is not None
        rows, columns = (*self.panels[self.cell.picture].first.shape, 1)[:2]
        row = min(max(self.cell.row + down, 0), rows - 1)
        self.cell = replace(self.cell, row=row, column=min(max(self.cell.column + right, 0), columns - 1))
        self.show_cell()

    def show_cell(self) -> None:
        """Write out the numbers of the selected cell."""
        if self.view is None or self.cell is None or self.cell.picture >= len(self.panels):
            self.arithmetic.set_content('<p class="small">Click a cell, a token or a bar.</p>')
            return
        self.arithmetic.set_content(cell_in_words(self.view, self.panels[self.cell.picture], self.cell))
        ui.run_javascript(f"({MARK})({self.cell.picture}, {self.cell.row}, {self.cell.column})")


PRESS = """(layer, head) => document.querySelectorAll('.head-grid button, .layers button').forEach((button) => {
  const [l, h] = button.dataset.i.split(',').map(Number);
  button.setAttribute('aria-pressed', l == layer && (head === null || h == head));
})"""
"""JavaScript that shows which head, or layer, is looked at."""

MARK = """(picture, row, column) => {
  document.querySelectorAll('rect.chosen').forEach((mark) => {
    const data = mark.dataset, chosen = data.p == picture;
    mark.setAttribute('visibility', chosen ? 'visible' : 'hidden');
    mark.setAttribute('x', Number(data.left) + column * mark.getAttribute('width'));
    mark.setAttribute('y', row * mark.getAttribute('height'));
  });
  document.querySelectorAll('.pictures button[data-row]').forEach((each) =>
    each.toggleAttribute('data-chosen', each.dataset.p == picture && each.dataset.row == row));
}"""
"""JavaScript that draws a frame around a cell."""

ENTER_MAP = """(event) => {
  const map = event.target.closest('svg.map[data-p]');
  if (map && map.matches(':focus-visible') && !map.querySelector('rect.chosen[visibility=visible]'))
    emit([map.dataset.p, 0, 0]);
}"""
"""JavaScript that tells which picture the tab key has come to, so that the arrows have a cell to begin from."""

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
