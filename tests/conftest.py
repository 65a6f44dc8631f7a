"""What holds for every test: annotated calls are checked against their types and shapes, and torch is left as it was.

Compiled paths are tested in processes of their own, without these checks.
"""

from __future__ import annotations

import os

# Before torch is loaded, here and in child processes: workers side by side whose threads compete are many times slower.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import dataclasses
import functools
import inspect
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any, get_args, get_type_hints

# What the checked packages load is loaded before the hook is in place: modules that load meanwhile are compiled anew.
import beartype  # noqa: F401
import hypothesis
import jaxtyping
import matplotlib.figure  # noqa: F401
import pydantic  # noqa: F401
import pytest
import torch

PACKAGES = ["text", "model", "show", "store", "generation", "convert", "training", "lab", "look"]

library_jaxtyped = jaxtyping.jaxtyped
Check = Callable[[Any], Any]
THREADS = torch.get_num_threads()


def resolved(hint: Any, function: Callable[..., Any]) -> Any:
    """Return the hint that stands in the source as text; one that is recursive or for mypy alone is Any."""
    try:
        holder = SimpleNamespace(__annotations__={"it": hint})
        found = get_type_hints(holder, function.__globals__, include_extras=True)["it"]
    except (NameError, TypeError):
        return Any
    return Any if "ForwardRef" in repr(found) else found


def axes_of(hint: Any) -> list[str]:
    """Return the shapes of the arrays in a hint, as they are written."""
    if isinstance(hint, type) and issubclass(hint, jaxtyping.AbstractArray):
        return [str(hint.dim_str)]
    return [axes for part in get_args(hint) for axes in axes_of(part)]


def quickly_checked(function: Callable[..., Any], typechecker: Check) -> Callable[..., Any]:
    """Check each call once, and give the letters of axes one size a call only where the hints name axes.

    The library binds the arguments of every call to their names and checks them twice, in every function: about half
    of the time of the model's tests. Sizes that are computed from arguments, and generators, are left to it.
    """
    hints = {name: resolved(hint, function) for name, hint in function.__annotations__.items()}
    axes = " ".join(axes for hint in hints.values() for axes in axes_of(hint))
    if "{" in axes or inspect.isgeneratorfunction(function):
        return library_jaxtyped(function, typechecker=typechecker)
    function.__annotations__ = hints
    checked = typechecker(function)
    if not axes:
        return checked

    @functools.wraps(function)
    def in_context(*arguments: Any, **named: Any) -> Any:
        with library_jaxtyped("context"):
            return checked(*arguments, **named)

    return in_context


def checked_when_called(function: Callable[..., Any], typechecker: Check) -> Callable[..., Any]:
    """Prepare the check at the first call: it takes a millisecond, and half of the functions are never called."""
    prepared = functools.cache(lambda: quickly_checked(function, typechecker))

    @functools.wraps(function)
    def checked(*arguments: Any, **named: Any) -> Any:
        return prepared()(*arguments, **named)

    return checked


def jaxtyped(*, typechecker: Check) -> Check:
    """Return what the import hook puts on every function and class."""

    def decorate(thing: Any) -> Any:
        if dataclasses.is_dataclass(thing):
            thing.__init__ = checked_when_called(thing.__init__, typechecker)
        elif inspect.isfunction(thing):
            return checked_when_called(thing, typechecker)
        return thing

    return decorate


jaxtyping.jaxtyped = jaxtyped
jaxtyping.install_import_hook([f"clearhead.{package}" for package in PACKAGES], "beartype.beartype")

# The default suite draws the same examples each time; `make slow` draws others.
hypothesis.settings.register_profile("same", derandomize=True, database=None)
hypothesis.settings.register_profile("others", derandomize=False)
hypothesis.settings.load_profile("same")


@pytest.fixture(autouse=True)
def nobody_waits_for_the_disk(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave out what only a power failure would show; the tests of faults are those that let the power fail."""
    if "faults" not in request.path.parts:
        monkeypatch.setattr(os, "fsync", lambda _descriptor: None)


@pytest.fixture(autouse=True)
def settings_of_torch() -> Iterator[None]:
    """Give torch back as it was: the program sets it up for its whole process."""
    yield
    torch.set_num_threads(THREADS)
    if torch.are_deterministic_algorithms_enabled():
        torch.use_deterministic_algorithms(False)
