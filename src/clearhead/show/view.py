"""A view: arrays with named axes and a caption, and the faces made from them."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Shaped

from clearhead.core.errors import UserError
from clearhead.core.events import finite_or_null
from clearhead.core.files import write_atomically
from clearhead.show.readable import count

if TYPE_CHECKING:
    from rich.console import Console

Array = Shaped[np.ndarray, "..."]


@dataclass(frozen=True, slots=True)
class Panel:
    """What fits into one picture: a map (one array with two axes) or series and bars (arrays that share one axis).

    Args:
        labels: for each axis the names of its places, or None where they are simply counted.
    """

    title: str
    arrays: Mapping[str, Array]
    axes: tuple[str, ...]
    labels: tuple[Sequence[str] | None, ...]


@dataclass(frozen=True, eq=False)
class View:
    """Something seen inside a model: named arrays, what their axes mean, and a caption with computed numbers.

    Every face (figure, terminal, page, JSON) is made from these fields alone, so the faces cannot disagree. An array
    is also an attribute: `view.pattern` is `view.arrays["pattern"]`.

    Args:
        axes: for each array the names of its axes, in order.
        labels: for some axes the names of their places, such as the tokens of a text.
    """

    name: str
    arrays: Mapping[str, Array]
    axes: Mapping[str, tuple[str, ...]]
    labels: Mapping[str, Sequence[str]]
    caption: str

    def __post_init__(self) -> None:
        assert self.arrays.keys() == self.axes.keys(), "every array needs its axes"
        for name, array in self.arrays.items():
            assert array.ndim == len(self.axes[name]), f"{name} has {array.ndim} axes, not {self.axes[name]}"
            for axis, size in zip(self.axes[name], array.shape, strict=True):
                assert len(self.labels.get(axis, range(size))) == size, f"{axis} has {size} places in {name}"

    def __getattr__(self, name: str) -> Array:
        arrays: Mapping[str, Array] = self.__dict__.get("arrays", {})
        if name in arrays:
            return arrays[name]
        raise AttributeError(f"the view has no array {name!r}, only {', '.join(arrays)}")

    def panels(self) -> list[Panel]:
        """Return the pictures that show all arrays: leading axes of an array with more than two make one panel each."""
        panels = [panel for name, array in self.arrays.items() if array.ndim >= 2 for panel in self._maps(name, array)]
        lines: dict[str, dict[str, Array]] = {}
        for name, array in self.arrays.items():
            if array.ndim == 1:
                lines.setdefault(self.axes[name][0], {})[name] = array
        for axis, arrays in lines.items():
            panels.append(Panel(", ".join(arrays), arrays, (axis,), (self.labels.get(axis),)))
        return panels

    def to_json(self) -> dict[str, Any]:
        """Return the view as plain values; a number that is not finite becomes None."""
        arrays = {
            name: {"axes": list(self.axes[name]), "shape": list(array.shape), "values": finite_or_null(array.tolist())}
            for name, array in self.arrays.items()
        }
        labels = {axis: list(names) for axis, names in self.labels.items()}
        return {"name": self.name, "caption": self.caption, "arrays": arrays, "labels": labels}

    def save(self, path: str | Path) -> None:
        """Write one face of the view, chosen by the file's ending: .json .npz .csv .html .svg .png.

        Raises:
            UserError: the ending is none of these, or the file cannot be written.
        """
        file = Path(path)
        faces: dict[str, Callable[[], bytes | str]] = {
            ".json": self._json,
            ".npz": self._npz,
            ".csv": self._csv,
            ".html": self._html,
            ".svg": self._svg,
            ".png": self._png,
        }
        if file.suffix not in faces:
            raise UserError(f"A view cannot be saved as {file.name}; end the name with one of {', '.join(faces)}.")
        write_atomically(file, faces[file.suffix]())

    def show(self, console: Console | None = None) -> None:
        """Draw the view in the terminal."""
        from rich.console import Console

        from clearhead.show.terminal import draw

        (console or Console()).print(draw(self))

    def _repr_html_(self) -> str:
        from clearhead.show.page import escape

        return f"<figure>{self._svg()}<figcaption>{escape(self.caption)}</figcaption></figure>"

    def _maps(self, name: str, array: Array) -> Iterator[Panel]:
        *leading, rows, columns = self.axes[name]
        for index in np.ndindex(*array.shape[:-2]):
            place = [f"{axis} {self._place(axis, at)}" for axis, at in zip(leading, index, strict=True)]
            labels = (self.labels.get(rows), self.labels.get(columns))
            yield Panel(", ".join([name, *place]), {name: array[index]}, (rows, columns), labels)

    def _place(self, axis: str, index: int) -> str:
        return self.labels[axis][index] if axis in self.labels else str(index)

    def _json(self) -> str:
        return json.dumps(self.to_json(), allow_nan=False, ensure_ascii=False) + "\n"

    def _npz(self) -> bytes:
        labels = {f"labels.{axis}": np.array(names, dtype=np.str_) for axis, names in self.labels.items()}
        stream = io.BytesIO()
        np.savez_compressed(stream, allow_pickle=False, **self.arrays, **labels)
        return stream.getvalue()

    def _csv(self) -> str:
        """Write one line for each number: its array, its place on every axis, and itself."""
        every_axis = list(dict.fromkeys(axis for axes in self.axes.values() for axis in axes))
        stream = io.StringIO()
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(["array", *every_axis, "value"])
        for name, array in self.arrays.items():
            for index, value in np.ndenumerate(array):
                place = {axis: self._place(axis, at) for axis, at in zip(self.axes[name], index, strict=True)}
                writer.writerow([name, *(place.get(axis, "") for axis in every_axis), value])
        return stream.getvalue()

    def _html(self) -> str:
        from clearhead.show.page import escape, page

        shapes = "; ".join(
            f"{name}: {' x '.join(f'{axis} {count(n)}' for axis, n in zip(self.axes[name], array.shape, strict=True))}"
            for name, array in self.arrays.items()
        )
        return page(
            self.name,
            f'<h1>{escape(self.name)}</h1><p class="lead">{escape(self.caption)}</p>'
            f'<section><figure class="scroll">{self._svg()}</figure></section><footer>{escape(shapes)}</footer>',
        )

    def _svg(self) -> str:
        from clearhead.show.figure import to_svg

        return to_svg(self)

    def _png(self) -> bytes:
        from clearhead.show.figure import to_png

        return to_png(self)
