"""See inside a model: one function a subject, each of which returns a `View`. Nothing is loaded until it is used."""

from __future__ import annotations

import importlib
from typing import Any

from clearhead.look.catalogue import SUBJECTS, module_of

TOOLS = {
    "trace": "recording",
    "Trace": "recording",
    "weighted_heads": "interventions",
    "sharpened": "interventions",
    "replaced": "interventions",
    "Specimen": "specimen",
}
"""What is called from here besides the subjects, and where it lives."""


def __getattr__(name: str) -> Any:
    if name in TOOLS:
        return getattr(importlib.import_module(f"clearhead.look.{TOOLS[name]}"), name)
    subject = name.replace("_", "-")
    if subject in SUBJECTS:
        module = module_of(subject)
        return getattr(importlib.import_module(f"clearhead.look.subjects.{module}"), module)
    raise AttributeError(f"clearhead.look has no {name}; clearhead look lists the subjects")


def __dir__() -> list[str]:
    return sorted([*TOOLS, *(name.replace("-", "_") for name in SUBJECTS)])
