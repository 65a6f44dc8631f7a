"""How subjects put their arrays into a view."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from torch import Tensor

from clearhead.look.catalogue import SUBJECTS
from clearhead.show.view import Array, Picture, View

Arrays = Mapping[str, tuple[str, Any]]
"""For each array the names of its axes, in one string, and the array: numpy's, torch's, or a list."""


def view(
    name: str,
    arrays: Arrays,
    caption: str,
    pictures: Sequence[Picture],
    labels: Mapping[str, Sequence[str]],
) -> View:
    """Return a subject's view, with what the catalogue says of it."""
    return View(
        name,
        {key: _array(values) for key, (_, values) in arrays.items()},
        {key: tuple(axes.split()) for key, (axes, _) in arrays.items()},
        labels,
        caption,
        SUBJECTS[name],
        pictures,
    )


def _array(values: Any) -> Array:
    if isinstance(values, Tensor):
        return values.detach().cpu().numpy()
    return np.asarray(values)
