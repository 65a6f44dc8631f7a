"""The screen where a training begins and is watched: text, minutes, start; then curves and samples as they come."""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import Any

from nicegui import events as page_events
from nicegui import ui

from clearhead.core.errors import UserError
from clearhead.core.events import Follower
from clearhead.core.files import make_folder, write_atomically
from clearhead.core.run import Run
from clearhead.serve.jobs import Job
from clearhead.serve.page import frame
from clearhead.serve.page.heads import grid
from clearhead.serve.page.pictures import PICK
from clearhead.serve.page.studio import Studio
from clearhead.show import curves
from clearhead.show.history import History, nats
from clearhead.show.page import escape
from clearhead.show.readable import count, duration
from clearhead.text.shards import cache_folder

PURPOSE = (
    "Choose a text and how long to train. The model begins by guessing evenly; you see it find letters, words and "
    "then sentences, and how far it gets beside models that only count."
)
LONGEST_MINUTES = 30
EARLIER = 8
ENDINGS = {
    "budget": "The training is complete.",
    "patience": "The training ended early: nothing was gained any more.",
    "signal": "The training was stopped; everything is saved.",
    "non_finite": "The training stopped, because a number was not finite.",
    "error": "The training ended with an error.",
}


def show(studio: Studio, run: str = "") -> None:
    """Draw the screen; with a run, its training."""
    with frame.frame(studio, "train", PURPOSE), ui.element("div").classes("aside"):
        with ui.element("div"):
            Form(studio)
        with ui.element("div"):
            if run:
                Watched(studio, studio.trained(run))
            elif going := studio.jobs.going:
                ui.link(f"{going[-1].run.name} is being trained: watch it", address_of(going[-1].run))
            else:
                earlier(studio)


def earlier(studio: Studio) -> None:
    """Say that nothing is being trained, and offer what was trained before."""
    ui.label("Nothing is being trained. Choose a text on the left; two minutes are enough to begin.").classes("said")
    runs = studio.runs()[:EARLIER]
    if runs:
        frame.title_line("Earlier trainings, to be watched again")
        with ui.element("ul").classes("links"):
            for run in runs:
                with ui.element("li"):
                    ui.link(run.name, address_of(run.path))


def address_of(run: Path) -> str:
    """Return where a run is watched."""
    return frame.address("train", run=run.name)


class Form:
    """What to train on and for how long."""

    def __init__(self, studio: Studio) -> None:
        self.studio = studio
        with ui.element("div").classes("stack"):
            frame.title_line("A new training")
            self.path = ui.input("Text: a file or folder on this machine", placeholder="empty: built-in tales")
            self.path.props("outlined dense data-testid=text clearable")
            ui.upload(label="or drop a file here", auto_upload=True, on_upload=self.take).props(
                'flat bordered accept="text/*,.txt,.md,.py,.jsonl,.gz,.csv" aria-label="Drop a file here"'
            ).classes("w-full")
            with ui.element("div").classes("row"):
                self.minutes = ui.number("Minutes", value=2, min=0.2, max=LONGEST_MINUTES, step=0.5).props(
                    "outlined dense data-testid=minutes"
                )
                ui.button("Start", on_click=self.start).props("unelevated no-caps data-testid=start")
            self.said = ui.element("div")

    async def take(self, event: page_events.UploadEventArguments) -> None:
        """Keep a dropped file beside what else can be made again."""
        folder = cache_folder() / "dropped"
        make_folder(folder)
        kept = folder / Path(event.file.name).name
        write_atomically(kept, await event.file.read())
        self.path.set_value(str(kept))

    def start(self) -> None:
        """Begin a training in a process of its own, and go to where it is watched."""
        self.said.clear()
        with self.said:
            try:
                job = begin(self.studio, (self.path.value or "").strip(), self.minutes.value)
            except UserError as error:
                frame.trouble(str(error))
                return
        ui.navigate.to(address_of(job.run))


def begin(studio: Studio, text: str, minutes: float | None) -> Job:
    """Begin a training.

    Args:
        text: a path; empty for the built-in tales.

    Raises:
        UserError: there is nothing at the path, or the minutes are out of range.
    """
    if minutes is None or not 0 < minutes <= LONGEST_MINUTES:
        raise UserError(f"Choose more than 0 and at most {LONGEST_MINUTES} minutes.")
    if text and not Path(text).expanduser().exists():
        raise UserError(f"There is nothing at {text}; type the path of a file or folder, or drop a file.")
    path = studio.new_run(Path(text).stem if text else "tales")
    texts = [str(Path(text).expanduser())] if text else []
    return studio.jobs.start(texts, path, ["--minutes", str(minutes)])


class Watched:
    """A run as its events tell of it: live, finished or cut off, it looks the same."""

    def __init__(self, studio: Studio, run: Run) -> None:
        self.studio, self.run = studio, run
        self.follower = Follower(run.path)
        frame.title_line(run.name)
        self.state = ui.label().classes("said").props('aria-live="polite" data-testid=state')
        self.progress = ui.linear_progress(0.0, show_value=False).props('aria-label="Share of the plan that is done"')
        with ui.element("div").classes("row").style("margin: 16px 0 32px"):
            self.pause = ui.button("Pause", on_click=self.turn).props("outline no-caps data-testid=pause")
            self.stop = ui.button("Stop and save", on_click=self.end).props("outline no-caps data-testid=stop")
            self.resume = ui.button("Resume", on_click=self.go_on).props("unelevated no-caps data-testid=resume")
        self.troubles = ui.element("div")
        self.figures = ui.element("div").classes("row")
        self.chart = ui.html("", sanitize=False).style("margin-top: 40px")
        self.sample = ui.html("", sanitize=False).style("margin-top: 40px")
        self.heads = ui.html("", sanitize=False).style("margin-top: 40px")
        self.heads.on("click", self.look, js_handler=PICK)
        self.shown = 0
        self.refresh()
        ui.timer(1.0, self.refresh)

    def refresh(self) -> None:
        """Draw what is new."""
        news = self.follower.look()
        history = History(self.follower.events)
        self._show_state(history)
        if not news:
            return
        self._show_figures(history)
        self.chart.set_content(curves.loss(history))
        self.sample.set_content(samples(history))
        self._show_heads(history)

    def turn(self) -> None:
        """Pause, or go on from a pause."""
        if job := self.studio.jobs.of(self.run.path):
            job.go_on() if job.paused else job.pause()
        self.refresh()

    def end(self) -> None:
        """Let the training save and end."""
        if job := self.studio.jobs.of(self.run.path):
            job.stop()

    def go_on(self) -> None:
        """Go on with a run that has ended early."""
        self.studio.jobs.resume(self.run.path)
        self.refresh()

    def look(self, event: Any) -> None:
        """Go to the head that was clicked, at the step that is shown."""
        layer, head = event.args.split(",")
        ui.navigate.to(frame.address("inside", run=self.run.name, step=self.shown, layer=layer, head=head))

    def _show_heads(self, history: History) -> None:
        """Draw what each head reads at the newest step whose weights are kept."""
        newest = max(self.run.steps(), default=0)
        if newest == self.shown or not history.of("saved"):
            return
        try:
            drawn = grid(self.studio.model(self.run, newest), "")
        except UserError:  # a step that is being moved away just now; the next one will do
            return
        self.shown = newest
        said = (
            f"At step {count(newest)}: rows are places in the text, columns the places they read; bright is much. "
            "Click a head to look into it."
        )
        title = f'<h2>What its heads read</h2><p class="said">{said}</p>'
        self.heads.set_content(f"<section>{title}{drawn}</section>" if drawn else "")

    def _show_state(self, history: History) -> None:
        job = self.studio.jobs.of(self.run.path)
        going = job is not None and job.going
        step, planned = history.newest("step") or 0, history.newest("steps")
        self.state.set_text(state_in_words(history, job))
        self.progress.set_value(step / planned if planned else 0.0)
        self.pause.set_visibility(going)
        self.pause.set_text("Continue" if job is not None and job.paused else "Pause")
        self.stop.set_visibility(going)
        done = history.ending.get("reason") in ("budget", "patience") and step >= (planned or 0)
        self.resume.set_visibility(not going and bool(self.run.steps()) and not done)
        self.troubles.clear()
        if job is not None and job.complaint:
            with self.troubles:
                frame.trouble(job.complaint)

    def _show_figures(self, history: History) -> None:
        result = history.result()
        self.figures.clear()
        with self.figures:
            if result:
                ui.label(f"{nats(result):.3f}").classes("big").props("data-testid=loss")
                bits = result.get("bits_per_byte")
                ui.label("nats per token on text it has not seen" + (f"; {bits:.3f} bits per byte" if bits else ""))


def state_in_words(history: History, job: Job | None) -> str:
    """Say how far a training is."""
    step, planned = history.newest("step"), history.newest("steps")
    if job is not None and job.going:
        if step is None:
            return "Reading the text and choosing a plan."
        if job.paused:
            return f"Paused at step {count(step)}."
        speed, left = history.newest("tokens_per_second"), seconds_left(history)
        said = f"Step {count(step)}" + (f" of {count(planned)}" if planned else "")
        said += f", {count(speed)} tokens a second" if speed else ""
        return f"{said}, {duration(left)} left." if left is not None else f"{said}."
    if history.ending:
        return ENDINGS.get(str(history.ending.get("reason")), "The training has ended.")
    return "No end was recorded: it is trained elsewhere, or was cut off." if step is not None else "Nothing yet."


def seconds_left(history: History) -> float | None:
    """Estimate how long a training will take from here, by its pace up to now."""
    step, planned, seconds = history.newest("step"), history.newest("steps"), history.newest("seconds")
    return seconds / step * (planned - step) if step and planned and seconds else None


def samples(history: History) -> str:
    """Return what the model wrote last as HTML, with what has changed since the sample before it marked."""
    written = history.of("sampled")
    if not written:
        return ""
    newest = written[-1]
    before: dict[str, Any] = next((dict(event) for event in reversed(written) if event["step"] < newest["step"]), {})
    marked = mark_changes(str(before.get("text", "")), str(newest["text"]))
    said = (
        f"At step {count(newest['step'])}, from the same luck each time; what is new since the last sample is tinted."
    )
    prompt = f'<span class="prompt">{escape(newest.get("prompt") or "")}</span>'
    text = f'<p class="text" dir="auto">{prompt}{marked}</p>'
    return f'<section><h2>What it writes</h2><p class="said">{said}</p>{text}</section>'


def mark_changes(before: str, now: str) -> str:
    """Return a text as HTML, with the words that the text before did not have at their place marked."""
    old, new = before.split(" "), now.split(" ")
    parts = []
    for kind, _, _, start, end in difflib.SequenceMatcher(None, old, new, autojunk=False).get_opcodes():
        words = escape(" ".join(new[start:end]))
        if words:
            parts.append(words if kind == "equal" or not before else f'<span class="changed">{words}</span>')
    return " ".join(parts)
