"""Files of older formats, brought up to the present one in small steps.

run.json, data.json and a step's state.json share one format number. A migration is a pure function of a file's name and
its content; the one at place i leads from format i + 1 to format i + 2. Each has a stored example under `tests`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

Content = dict[str, Any]


def plan_gets_cooldown_factor(name: str, content: Content) -> Content:
    """Format 2: a plan says at which factor of the learning rate its cool-down begins; it used to be the peak."""
    if name != "state.json":
        return content
    return content | {"plan": {"cooldown_factor": 1.0} | content["plan"]}


MIGRATIONS: tuple[Callable[[str, Content], Content], ...] = (plan_gets_cooldown_factor,)

FORMAT = len(MIGRATIONS) + 1
"""The format that this version writes."""


def migrate(name: str, content: Content) -> Content:
    """Return a file's content, which has a format from 1 on, in the present format."""
    for migration in MIGRATIONS[content["format"] - 1 :]:
        content = migration(name, content)
    return content | {"format": FORMAT}
