"""A training as it goes: a live panel on a terminal, plain lines elsewhere; made from events alone."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from clearhead.show.history import nats, number
from clearhead.show.readable import clock, count, duration, one_line, sentence, visible

_SHADES = "▁▂▃▄▅▆▇█"
_REDRAW_SECONDS = 0.1
_PLAIN_LINES = 20  # steps that are told on the way to the planned end where nobody sees the panel
_PLAIN_SECONDS = 10.0  # more of them if steps are slow: after so long a silence,
_PLAIN_PATIENCE = 0.02  # and in a long run after this share of its time
_SPEED_WINDOW = 200  # steps from which the time left is reckoned


class TrainingProgress:
    """Shows the events of a run as they come.

    Nothing runs beside the training: the panel is redrawn when an event arrives, at most ten times a second of the
    run. Warnings are shown in any case.

    Args:
        quiet: show nothing but warnings.
    """

    def __init__(self, console: Console, *, quiet: bool = False) -> None:
        self._console = console
        self._now = _Now()
        self._quiet = quiet
        self._drawn_at = -math.inf
        live = console.is_terminal and not console.is_dumb_terminal and not quiet
        self._live = Live(console=console, auto_refresh=False) if live else None

    def __enter__(self) -> TrainingProgress:
        if self._live:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live:
            self._live.update(_Panel(self._now), refresh=True)
            self._live.stop()

    def show(self, event: Mapping[str, Any]) -> None:
        """Take in the next event, given as the dictionary that stands in its line."""
        self._now.take(event)
        if event["event"] == "warned":
            self._print(Text.assemble(("warning: ", "bold yellow"), _warning(event)))
        if self._live:
            self._redraw(event)
        elif not self._quiet and self._now.worth_a_line(event) and (line := _plain_line(event, self._now)):
            self._print(Text(line))

    def _redraw(self, event: Mapping[str, Any]) -> None:
        at = float(event["seconds"])
        if event["event"] != "stepped" or at - self._drawn_at >= _REDRAW_SECONDS:
            self._drawn_at = at
            assert self._live is not None
            self._live.update(_Panel(self._now), refresh=True)

    def _print(self, line: Text) -> None:
        self._console.print(line, soft_wrap=self._live is None, highlight=False)


class _Now:
    """What is known of the run at this moment."""

    def __init__(self) -> None:
        self.steps: int | None = None
        self.step = 0
        self.loss = math.nan
        self.tokens_per_second = math.nan
        self.validation: list[float] = []
        self.bar_to_beat: tuple[str, float] | None = None
        self.sample = ""
        self._speed: deque[tuple[int, float]] = deque(maxlen=_SPEED_WINDOW)
        self._told: tuple[int, float] | None = None

    def worth_a_line(self, event: Mapping[str, Any]) -> bool:
        """Say whether an event should be told in plain lines: of the steps the first, and then some of them."""
        if event["event"] != "stepped":
            return True
        at = float(event["seconds"])
        if self._told is not None:
            step, before = self._told
            stride = max(1, (self.steps or 1000) // _PLAIN_LINES)
            if self.step // stride == step // stride and at - before < max(_PLAIN_SECONDS, _PLAIN_PATIENCE * at):
                return False
        self._told = self.step, at
        return True

    def take(self, event: Mapping[str, Any]) -> None:
        self.step = int(event["step"])
        match event["event"]:
            case "planned":
                self.steps = int(event["steps"])
            case "stepped":
                self.loss, self.tokens_per_second = number(event["loss"]), number(event["tokens_per_second"])
                self._speed.append((self.step, float(event["seconds"])))
            case "evaluated" if event["split"] == "validation":
                self.validation.append(nats(event))
            case "sampled":
                self.sample = str(event["text"])
            case "measured" if event["name"] == "baselines" and event["values"]:
                name, values = list(event["values"].items())[-1]
                self.bar_to_beat = (str(name), nats(values))

    @property
    def seconds_left(self) -> float | None:
        """The time to the planned end at the speed of the last steps, evaluations included; None if unknown."""
        if self.steps is None or len(self._speed) < 2:
            return None
        (first, began), (last, ended) = self._speed[0], self._speed[-1]
        return (self.steps - last) * (ended - began) / (last - first) if last > first else None


class _Panel:
    """Draws the present state in at most three lines."""

    def __init__(self, now: _Now) -> None:
        self._now = now

    def __rich__(self) -> RenderableType:
        now = self._now
        top = Table.grid(padding=(0, 2), expand=True)
        top.add_column(ratio=1)
        top.add_column(justify="right", no_wrap=True)
        total = now.steps or max(now.step, 1)
        bar = ProgressBar(total=total, completed=now.step, complete_style="blue", finished_style="blue")
        steps = f"step {count(now.step)}" + (f" of {count(now.steps)}" if now.steps else "")
        left = f"   {clock(now.seconds_left)} left" if now.seconds_left and now.step < total else ""
        top.add_row(bar, Text(steps + left))
        lines: list[RenderableType] = [top, _figures(now)]
        if now.sample:
            lines.append(Text(one_line(now.sample, 400), style="dim italic", no_wrap=True, overflow="ellipsis"))
        return Group(*lines)


def _figures(now: _Now) -> Text:
    line = Text(no_wrap=True, overflow="ellipsis")
    if math.isfinite(now.loss):
        line.append("loss ").append(f"{now.loss:.3f}", style="bold blue")
    if now.validation:
        line.append("   validation ").append(f"{now.validation[-1]:.3f}", style="bold yellow")
        line.append(f" {sparkline(now.validation[-16:])}", style="yellow")
    if now.bar_to_beat:
        line.append(f"   {now.bar_to_beat[0]} {now.bar_to_beat[1]:.3f}", style="dim")
    if math.isfinite(now.tokens_per_second):
        line.append(f"   {count(now.tokens_per_second)} tokens/s")
    return line


def sparkline(values: Sequence[float]) -> str:
    """Return one block for each value, as high as the value among the others."""
    finite = [value for value in values if math.isfinite(value)]
    low, high = (min(finite), max(finite)) if finite else (0.0, 0.0)
    span = (high - low) or 1.0
    return "".join(_SHADES[round((v - low) / span * (len(_SHADES) - 1))] if math.isfinite(v) else " " for v in values)


def _warning(event: Mapping[str, Any]) -> str:
    advice = f" Try: {event['try']}" if event.get("try") else ""
    return visible(sentence(str(event["message"])) + advice, keep=" ")


def _plain_line(event: Mapping[str, Any], now: _Now) -> str:
    """Say an event in one line, or nothing if it is not worth one."""
    at = f"step {count(now.step)}" + (f"/{count(now.steps)}" if now.steps else "")
    match event["event"]:
        case "stepped":
            left = f", {clock(now.seconds_left)} left" if now.seconds_left else ""
            return f"{at}: loss {now.loss:.3f}, {count(now.tokens_per_second)} tokens/s{left}"
        case "evaluated" if event["split"] == "validation":
            bits = number(event.get("bits_per_byte"))
            said = f", {bits:.3f} bits per byte" if math.isfinite(bits) else ""
            figures = "".join(f", {name} {value:.3f}" for name, value in list((event.get("metrics") or {}).items())[:1])
            whole = "" if event.get("sampled") else " on the whole text"
            per = " per token" if not figures else ""
            return f"{at}: validation {nats(event):.3f} nats{per}{said}{figures}{whole}"
        case "measured" if event["name"] == "baselines":
            return "baselines: " + ", ".join(f"{name} {nats(values):.3f}" for name, values in event["values"].items())
        case "stopped":
            return f"{at}: stopped after {duration(float(event['seconds']))} ({event['reason']})"
    return ""
