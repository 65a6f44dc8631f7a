"""A view: arrays with named axes and a caption, and the faces made from them."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from jaxtyping import Shaped

from clearhead.core.errors import UserError
from clearhead.core.events import finite_or_null
from clearhead.core.files import write_atomically
from clearhead.show.readable import count, label

if TYPE_CHECKING:
    from rich.console import Console

Array = Shaped[np.ndarray, "..."]


Kind = Literal["map", "chips", "bars", "lines", "scatter", "table"]
"""Kinds of pictures.

- map: coloured cells of an array with two axes; an array of text is written into them, one of truth values says
  which of them count: the others are hatched.
- chips: a text's tokens, tinted by an array with one axis.
- bars, lines: arrays that share one axis, side by side.
- scatter: points of an array with two columns, named by their labels, coloured by a second array, of names.
- table: arrays that share their first axis as columns; one with two axes is as many columns as its second has places.
"""


@dataclass(frozen=True, slots=True)
class Picture:
    """Which arrays of a view are drawn together, and how."""

    kind: Kind
    title: str
    arrays: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Panel:
    """One picture with all that is drawn in it.

    Args:
        labels: for each axis the names of its places, or None where they are simply counted.
    """

    kind: Kind
    title: str
    arrays: Mapping[str, Array]
    axes: tuple[str, ...]
    labels: tuple[Sequence[str] | None, ...]

    @property
    def first(self) -> Array:
        """The array that the picture is about."""
        return next(iter(self.arrays.values()))

    def columns(self) -> tuple[list[str], list[list[object]]]:
        """Return a table's header and rows; what is no number is None, and a row of nothing else is left out.

        Rows whose places have names begin with them.
        """
        header: list[str] = []
        columns: list[list[object]] = []
        if self.labels[0] is not None:
            header, columns = [self.axes[0]], [[label(name) for name in self.labels[0]]]
        for name, array in self.arrays.items():
            if array.ndim == 1:
                header.append(name)
                columns.append(array.tolist())
            else:
                header += self.labels[1] or [f"{name} {at}" for at in range(array.shape[1])]
                columns += array.T.tolist()
        rows: list[list[object]] = [finite_or_null(list(row)) for row in zip(*columns, strict=True)]
        named = self.labels[0] is not None
        return header, [row for row in rows if any(value is not None for value in row[named:])]

    @property
    def written(self) -> list[list[str]] | None:
        """What is written into the cells of a map, if anything is."""
        texts = [array.tolist() for array in self.arrays.values() if array.dtype.kind == "U"]
        return texts[0] if texts else None

    def cells(self) -> Array:
        """Return the numbers of a map; those that an array of truth values leaves out are no numbers."""
        values = self.first.astype(float)
        for allowed in (array for array in self.arrays.values() if array.dtype.kind == "b"):
            values = np.where(allowed, values, np.nan)
        return values


@dataclass(frozen=True, eq=False)
class View:
    """Something seen inside a model: named arrays, what their axes mean, and a caption with computed numbers.

    Every face (figure, terminal, page, JSON) is made from these fields alone, so the faces cannot disagree. An array
    is also an attribute: `view.pattern` is `view.arrays["pattern"]`.

    Args:
        arrays: of numbers, or of text for what is written in cells and tables.
        axes: for each array the names of its axes, in order.
        labels: for some axes the names of their places, such as the tokens of a text.
        caption: what came out, in numbers.
        about: what is seen and why it matters, the same for every model.
        pictures: what is drawn; without any, every array: maps of those with two axes, bars or lines of the others.
    """

    name: str
    arrays: Mapping[str, Array]
    axes: Mapping[str, tuple[str, ...]]
    labels: Mapping[str, Sequence[str]]
    caption: str
    about: str = ""
    pictures: Sequence[Picture] = ()

    def __post_init__(self) -> None:
        for picture in self.pictures:
            assert set(picture.arrays) <= self.arrays.keys(), f"{picture.title} has an array that is not there"
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

    @property
    def shape(self) -> str:
        """The axes and sizes of all arrays in one line."""
        return "; ".join(f"{name}: {self._shape(name)}" for name in self.arrays)

    def panels(self) -> list[Panel]:
        """Return the pictures in order: leading axes of a map with more than two make one panel each."""
        return [panel for picture in self.pictures or self._obvious() for panel in self._panels(picture)]

    def _obvious(self) -> list[Picture]:
        """Return pictures of all arrays by their number of axes."""
        pictures = [Picture("map", name, (name,)) for name, array in self.arrays.items() if array.ndim >= 2]
        by_axis: dict[str, list[str]] = {}
        for name, array in self.arrays.items():
            if array.ndim == 1:
                by_axis.setdefault(self.axes[name][0], []).append(name)
        for axis, names in by_axis.items():
            pictures.append(Picture("bars" if axis in self.labels else "lines", ", ".join(names), tuple(names)))
        return pictures

    def _panels(self, picture: Picture) -> Iterator[Panel]:
        arrays = {name: self.arrays[name] for name in picture.arrays}
        if picture.kind == "map":
            yield from self._maps(picture.title, arrays)
            return
        axes = max((self.axes[name] for name in arrays), key=len)
        yield Panel(picture.kind, picture.title, arrays, axes, tuple(self.labels.get(axis) for axis in axes))

    def to_json(self) -> dict[str, Any]:
        """Return the view as plain values; a number that is not finite becomes None."""
        arrays = {
            name: {"axes": list(self.axes[name]), "shape": list(array.shape), "values": finite_or_null(array.tolist())}
            for name, array in self.arrays.items()
        }
        return {
            "name": self.name,
            "about": self.about,
            "caption": self.caption,
            "shape": self.shape,
            "arrays": arrays,
            "labels": {axis: list(names) for axis, names in self.labels.items()},
            "pictures": [
                {"kind": each.kind, "title": each.title, "arrays": list(each.arrays)}
                for each in self.pictures or self._obvious()
            ],
        }

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
        from clearhead.show.markup import notebook

        return notebook(self)

    def _maps(self, title: str, arrays: Mapping[str, Array]) -> Iterator[Panel]:
        first = next(iter(arrays))
        *leading, rows, columns = self.axes[first]
        labels = (self.labels.get(rows), self.labels.get(columns))
        for index in np.ndindex(*arrays[first].shape[:-2]):
            place = [f"{axis} {self._place(axis, at)}" for axis, at in zip(leading, index, strict=True)]
            here = {name: array[index] for name, array in arrays.items()}
            yield Panel("map", ", ".join([title, *place]), here, (rows, columns), labels)

    def _shape(self, name: str) -> str:
        sizes = zip(self.axes[name], self.arrays[name].shape, strict=True)
        return " x ".join(f"{axis} {count(size)}" for axis, size in sizes)

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
        from clearhead.show.markup import whole_page

        return whole_page(self)

    def _svg(self) -> str:
        from clearhead.show.figure import to_svg

        return to_svg(self)

    def _png(self) -> bytes:
        from clearhead.show.figure import to_png

        return to_png(self)
