"""What a subject can be asked besides run, step, prompt, layer and head: the fields for it, and what they mean."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from nicegui import ui

import clearhead.look as looking
from clearhead.core.errors import UserError
from clearhead.look.catalogue import SUBJECTS, module_of
from clearhead.serve.page.studio import Studio
from clearhead.show.view import View

GROUPS = {
    "The text": ("tokens", "minisamples", "surprisal", "next-token"),
    "Attention": ("attention", "heads", "head-card", "sharpness"),
    "The way through": ("walk", "lens", "why", "ablate", "patch"),
    "Vectors": ("embeddings", "analogy", "dimensions", "positions"),
    "The whole": ("shapes", "parameters", "loss-by-position", "leaks", "copies", "health", "diary", "compare"),
}
"""Under which heading a subject is offered."""


def grouped() -> dict[str, tuple[str, ...]]:
    """Return all subjects under their headings; one that has none comes last."""
    placed = {name for names in GROUPS.values() for name in names}
    others = tuple(name for name in SUBJECTS if name not in placed)
    there = {title: tuple(name for name in names if name in SUBJECTS) for title, names in GROUPS.items()}
    return there | ({"More": others} if others else {})


@dataclass(frozen=True, slots=True)
class Option:
    """A field.

    Args:
        hint: what it says while it is empty.
    """

    title: str
    read: Callable[[str], Any]
    hint: str = ""


OPTIONS = {
    "words": Option("Three words", str, "A - a + b"),
    "position": Option("At token number", int, "-1: the last"),
    "token": Option("Token", str, "chosen for you"),
    "instead": Option("Held against", str, "chosen for you"),
    "other": Option("Another text", str, "of as many tokens"),
    "against": Option("Another run or step", str),
    "dimension": Option("Dimension", int, "the clearest"),
    "temperature": Option("Temperature", float, "1"),
    "top_k": Option("Top k", int, "all"),
    "top_p": Option("Top p", float, "1"),
    "min_p": Option("Min p", float, "0"),
    "seed": Option("Luck (seed)", int, "1"),
}
"""What can be asked, by its name in the address."""

OWN_NAMES = {"analogy": {"words": "prompt"}, "compare": {"against": "other"}, "dimensions": {"against": "other"}}
"""Where a field's name is not that of the parameter it gives."""

NEEDED = {
    "patch": ("other", "Write a prompt above, and here another text of as many tokens that differs from it in one."),
    "compare": ("against", "Choose what to compare with: another run, or another step of this one."),
}
"""Subjects that begin with a question back."""

WHOLE_TEXT = ("loss-by-position",)
"""Subjects that take a whole window of text, which a prompt in the bar is not."""


def fields_of(subject: str) -> dict[str, str]:
    """Return which fields a subject has, each with the parameter that it gives."""
    takes = parameters_of(subject)
    own = OWN_NAMES.get(subject, {})
    return own | {name: name for name in OPTIONS if name in takes and name not in own.values()}


def parameters_of(subject: str) -> Mapping[str, inspect.Parameter]:
    """Return what a subject's function takes."""
    return inspect.signature(function_of(subject)).parameters


def function_of(subject: str) -> Callable[..., View]:
    """Return a subject's function."""
    function: Callable[..., View] = getattr(looking, module_of(subject))
    return function


def arguments(studio: Studio, subject: str, prompt: str, asked: Mapping[str, str]) -> dict[str, Any]:
    """Return what a subject's function is called with.

    Raises:
        UserError: a number is not one, or what the subject begins with is not there yet.
    """
    if subject in NEEDED and not asked.get(NEEDED[subject][0]):
        raise UserError(NEEDED[subject][1])
    fields, given = fields_of(subject), {}
    if prompt and "prompt" in parameters_of(subject) and subject not in WHOLE_TEXT:
        given["prompt"] = prompt
    for name, parameter in fields.items():
        text = asked.get(name, "") or ("A - a + b" if name == "words" else "")
        if text:
            given[parameter] = selection(studio, text) if name == "against" else read(name, text)
    return given


def words(studio: Studio, subject: str, prompt: str, asked: Mapping[str, str]) -> list[str]:
    """Return the prompt and the flags that ask `clearhead look` for the same as `arguments`."""
    given = {"prompt": prompt} if "prompt" in parameters_of(subject) and subject not in WHOLE_TEXT else {}
    for name, parameter in fields_of(subject).items():
        text = asked.get(name, "") or (OPTIONS[name].hint if name == "words" else "")
        given[parameter] = str(studio.folder / text) if text and name == "against" else text
    spoken = given.pop("prompt", "")
    flags = [f"--{parameter.replace('_', '-')}={text}" for parameter, text in given.items() if text]
    # What begins with a dash would be read as a flag; behind two dashes nothing is.
    return [*flags, *(["--"] if spoken.startswith("-") else []), *([spoken] if spoken else [])]


def read(name: str, text: str) -> Any:
    """Return what was written into a field as the value that it means.

    Raises:
        UserError: it is not the number that is asked for.
    """
    try:
        return OPTIONS[name].read(text)
    except ValueError:
        raise UserError(f"{OPTIONS[name].title} takes a number, and {text} is none.") from None


def selection(studio: Studio, text: str) -> str:
    """Return the path of a run, with the step where one is named.

    Raises:
        UserError: there is no such run here.
    """
    name, at, step = text.partition("@")
    return f"{studio.run(name).path}{at}{step}"


def choices(studio: Studio, run: str) -> list[str]:
    """Return what a run can be compared with: its own steps, and the other runs."""
    steps = [f"{run}@{step}" for step in studio.run(run).steps()]
    return [*(each.name for each in studio.runs() if each.name != run), *steps]


def draw(studio: Studio, subject: str, run: str, asked: Mapping[str, str], changed: Callable[..., Any]) -> None:
    """Draw the fields of a subject; each change calls `changed` with the field's name and text."""
    for name in fields_of(subject):
        option, value = OPTIONS[name], asked.get(name, "")
        if name == "against":
            there = choices(studio, run)
            field: Any = ui.select(there, value=value if value in there else None, label=option.title)
            field.props("dense outlined options-dense clearable").classes("against")
        else:
            field = ui.input(option.title, value=value, placeholder=option.hint)
            field.props(f"dense outlined stack-label debounce=400 data-testid=option-{name}")
        field.on_value_change(lambda event, name=name: changed(name, event.value or ""))
