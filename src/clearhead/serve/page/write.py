"""The screen where a model writes: tokens tinted by how surprising they were, each with what else might have come."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any

from nicegui import run as work
from nicegui import ui

from clearhead.core.errors import UserError
from clearhead.serve.page import frame, places
from clearhead.serve.page.answer import ANSWERS
from clearhead.serve.page.pictures import PICK
from clearhead.serve.page.places import Place
from clearhead.serve.page.studio import Studio
from clearhead.show.page import escape
from clearhead.show.readable import visible

if TYPE_CHECKING:
    from clearhead.generation.engine import Token
    from clearhead.generation.writer import Writer
    from clearhead.store.load import Loaded

PURPOSE = (
    "A language model does one thing: it gives each possible next token a probability. Writing is drawing from it, "
    "again and again. Darker tokens were less likely; click one to see what else could have come, and go on from there."
)
SHOWN = 14
AT_ONCE = 4  # tokens between two looks of the page


@dataclass(frozen=True)
class Settings:
    """How the next token is chosen; what `Sampling` calls the same."""

    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    seed: int = 1
    length: int = 300


@dataclass(frozen=True, slots=True)
class Piece:
    """One token on the page.

    Args:
        chance: its probability when it was drawn; None for a token of the prompt.
    """

    id: int
    text: str
    chance: float | None


@dataclass
class Draft:
    """What has been written so far, prompt included."""

    pieces: list[Piece] = field(default_factory=list)
    prompt_length: int = 0
    selected: int | None = None


def show(studio: Studio, place: Place, settings: Settings) -> None:
    """Draw the screen."""
    with frame.frame(studio, "write", PURPOSE):
        place = places.settled(studio, place)
        if not place.run:
            ui.label("There is no run yet. Train one first.").classes("said")
            return
        loaded = places.opened(studio, place, "write", asdict(settings))
        if loaded is None:
            return
        task = loaded.description.get("task", "lm")
        if task in ANSWERS:
            Counter(studio, place, loaded, task)
        else:
            Desk(studio, place, settings)


class Counter:
    """Where a text is handed in and its label, or its translation, comes back."""

    def __init__(self, studio: Studio, place: Place, loaded: Loaded, task: str) -> None:
        self.place, self.loaded = place, loaded
        about, self.answer_to = ANSWERS[task]
        places.bar(studio, place, self.move, prompt_label="Text (press / to get here)")
        ui.label(about).classes("said").style("margin-top: 24px")
        self.answer = ui.html("", sanitize=False).props('data-testid=answer aria-live="polite"')
        self.answer.style("max-width: 640px")
        self.refresh()

    def move(self, place: Place) -> None:
        """Answer for another text, or ask another run or step."""
        if (place.run, place.step) != (self.place.run, self.place.step):
            ui.navigate.to(frame.address("write", **asdict(place)))
            return
        self.place = place
        frame.keep("write", asdict(place))
        self.refresh()

    def refresh(self) -> None:
        """Draw the answer to the present text."""
        text = self.place.prompt.strip()
        try:
            said = self.answer_to(self.loaded, text) if text else ""
        except UserError as error:
            said = f'<p class="trouble" role="alert">{escape(str(error))}</p>'
        self.answer.set_content(said)


class Desk:
    """The prompt, the text, and the distribution of one place in it."""

    def __init__(self, studio: Studio, place: Place, settings: Settings) -> None:
        self.studio, self.place, self.settings = studio, place, settings
        self.draft = Draft()
        self.writing = False
        self.writer: Writer = studio.writer(studio.run(place.run), place.selected())
        places.bar(studio, place, self.move, prompt_label="Prompt (press / to get here)")
        with ui.element("div").classes("beside"):
            with ui.element("div"):
                with ui.element("div").classes("row"):
                    self.button = ui.button("Write", on_click=self.write_or_stop)
                    self.button.props("unelevated no-caps data-testid=write")
                    ui.number("Tokens", value=settings.length, min=1, max=5000, step=100, format="%d").props(
                        "dense outlined"
                    ).on_value_change(lambda event: self.set(length=int(event.value or 1)))
                    ui.number("Luck (seed)", value=settings.seed, min=0, step=1, format="%d").props(
                        "dense outlined"
                    ).on_value_change(lambda event: self.set(seed=int(event.value or 0)))
                self.troubles = ui.element("div")
                self.tokens = ui.html("", sanitize=False).classes("tokens").style("margin-top: 24px")
                for gesture in ("click", "keydown.enter"):
                    self.tokens.on(gesture, self.select, js_handler=PICK)
            with ui.element("div").classes("stack"):
                self._sliders()
                self.title = frame.title_line("")
                self.bars = ui.html("", sanitize=False)
                self.bars.on("click", self.branch, js_handler=PICK)
        self.begin()

    def _sliders(self) -> None:
        now = self.settings
        vocabulary = self.writer.loaded.tokenizer.vocabulary_size
        for name, title, low, high, step in (
            ("temperature", "Temperature", 0.0, 2.0, 0.05),
            ("top_k", "Top k (0: all)", 0, min(100, vocabulary), 1),
            ("top_p", "Top p", 0.05, 1.0, 0.05),
        ):
            with ui.element("div"):
                label = ui.label(f"{title}: {getattr(now, name):g}").classes("small numbers")
                slider = ui.slider(min=low, max=high, step=step, value=getattr(now, name))
                slider.props(f'aria-label="{title}" data-testid={name}')

                def changed(event: Any, name: str = name, title: str = title, label: ui.label = label) -> None:
                    label.set_text(f"{title}: {event.value:g}")
                    self.set(**{name: event.value})

                slider.on_value_change(changed)

    def move(self, place: Place) -> None:
        """Look at another run or step, or begin with another prompt."""
        if (place.run, place.step) != (self.place.run, self.place.step):
            ui.navigate.to(frame.address("write", **asdict(place), **asdict(self.settings)))
            return
        self.place = place
        self.remember()
        self.begin()

    def set(self, **what: Any) -> None:
        """Change how the next token is chosen, and reshape what is shown."""
        self.settings = replace(self.settings, **what)
        self.remember()
        self.show_distribution()

    def remember(self) -> None:
        """Put the state into the address."""
        frame.keep("write", asdict(self.place) | asdict(self.settings))

    def begin(self) -> None:
        """Start anew from the prompt."""
        self.troubles.clear()
        try:
            prompt = self.writer.read(self.place.prompt)
        except UserError as error:
            with self.troubles:
                frame.trouble(str(error))
            return
        stream = self.writer.loaded.tokenizer.stream()
        self.draft = Draft([Piece(int(id_), stream.push(int(id_)), None) for id_ in prompt.ids], len(prompt.ids))
        self.refresh()

    async def write_or_stop(self) -> None:
        """Write on from what is there, or stop writing."""
        if self.writing:
            self.writing = False
            return
        self.writing = True
        self.button.set_text("Stop")
        self.draft.selected = None
        try:
            await self.write()
        except UserError as error:
            with self.troubles:
                frame.trouble(str(error))
        self.writing = False
        self.button.set_text("Write")
        self.show_distribution()

    async def write(self) -> None:
        """Add tokens as they are drawn, until the text that they continue is another one."""
        draft, stream = self.draft, iter(self.writer.stream(self.request()))
        while self.writing and (tokens := await work.io_bound(take, stream)) and draft is self.draft:
            draft.pieces += [Piece(token.id, token.text, token.probability) for token in tokens]
            self.tokens.set_content(self.as_html())

    def request(self) -> Any:
        """Return what the generation engine is asked for."""
        from clearhead.generation.engine import Request

        return Request(
            prompt=[piece.id for piece in self.draft.pieces],
            num_tokens=self.settings.length,
            seed=self.settings.seed,
            sampling=self.sampling(),
        )

    def sampling(self) -> Any:
        """Return the settings as the generation engine names them."""
        from clearhead.generation.sampling import Sampling

        now = self.settings
        return Sampling(temperature=now.temperature, top_k=int(now.top_k) or None, top_p=now.top_p)

    def select(self, event: Any) -> None:
        """Look at one token: what it was drawn from."""
        self.draft.selected = int(event.args)
        self.refresh()

    def branch(self, event: Any) -> None:
        """Take another token at the selected place, and forget what came after."""
        at = len(self.draft.pieces) if self.draft.selected is None else self.draft.selected
        kept = self.draft.pieces[:at]
        stream = self.writer.loaded.tokenizer.stream()
        for piece in kept:
            stream.push(piece.id)
        chosen = int(event.args)
        chance = float(self.chances(at)[1][chosen])
        self.draft = Draft([*kept, Piece(chosen, stream.push(chosen), chance)], self.draft.prompt_length)
        self.refresh()

    def refresh(self) -> None:
        """Draw text and distribution anew."""
        self.tokens.set_content(self.as_html())
        self.show_distribution()

    def as_html(self) -> str:
        """Return the text as tokens that can be clicked."""
        return "".join(self._token(number, piece) for number, piece in enumerate(self.draft.pieces))

    def _token(self, number: int, piece: Piece) -> str:
        said = escape(piece.text) or "·"
        pressed = "true" if number == self.draft.selected else "false"
        # A button cannot break into lines, which a token that is a line end has to do.
        name = (
            f'role="button" tabindex="0" aria-label="{escape(visible(piece.text) or "start")}" aria-pressed="{pressed}"'
        )
        if piece.chance is None:
            return f'<span class="prompt" data-i="{number}" {name}>{said}</span>'
        bits = -math.log2(max(piece.chance, 1e-12))
        title = f"{100 * piece.chance:.1f} %, {bits:.1f} bits"
        return f'<span data-i="{number}" {name} title="{title}" style="--nats:{min(bits, 8):.1f}">{said}</span>'

    def chances(self, at: int) -> tuple[Any, Any]:
        """Return the probabilities of the token at a place: as the model gives them, and as the settings shape them."""
        import torch

        from clearhead.generation.engine import Reader
        from clearhead.generation.sampling import Sampling, distribution

        ids = torch.tensor([[piece.id for piece in self.draft.pieces[:at]]])
        reader = Reader(self.writer.loaded.model, ids, use_cache=False)
        logits, never = reader.logits(), torch.from_numpy(self.writer.loaded.tokenizer.unseen).long()
        raw, shaped = (distribution(logits, reader.window, each, never=never) for each in (Sampling(), self.sampling()))
        return raw[0].numpy(), shaped[0].numpy()

    def show_distribution(self) -> None:
        """Draw what the selected token was drawn from, or what the next one will be."""
        pieces, at = self.draft.pieces, self.draft.selected
        if not pieces or at == 0:
            self.title.set_content("Before the first token stands nothing to predict from.")
            self.bars.set_content("")
            return
        said = "The next token" if at is None else f"Instead of {visible(pieces[at].text)!r}"
        self.title.set_content(escape(f"{said}: what it is drawn from"))
        raw, shaped = self.chances(len(pieces) if at is None else at)
        names = self.writer.loaded.tokenizer
        rows = [
            f'<button data-i="{id_}">{escape(visible(names.decode([id_]) or "·", keep=""))}</button>'
            f'<span class="bar"><i class="raw" style="width:{100 * raw[id_]:.2f}%"></i>'
            f'<i class="shade-0" style="width:{100 * shaped[id_]:.2f}%"></i></span>'
            f'<span class="chance">{100 * shaped[id_]:.1f} %</span>'
            for id_ in (-raw).argsort()[:SHOWN]
        ]
        left = int((shaped > 0).sum())
        self.bars.set_content(
            f'<div class="bars">{"".join(rows)}</div><p class="small" style="margin-top:12px">'
            f"Pale: the model's own probabilities; blue: after the settings, which leave {left} of {len(raw)} tokens. "
            "Click one to go on with it.</p>"
        )


def take(stream: Iterator[Token]) -> list[Token]:
    """Return the next few tokens; none at the end."""
    return [token for _, token in zip(range(AT_ONCE), stream, strict=False)]
