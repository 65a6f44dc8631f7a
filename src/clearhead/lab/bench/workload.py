"""What a benchmark measures: workloads, and the variants that are measured side by side."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from clearhead.core.errors import UserError
from clearhead.core.files import sha256
from clearhead.text.download import DATASETS

Flags = Mapping[str, str]
"""Flags of `clearhead train` and their values."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Sample:
    """What one repetition found.

    Args:
        figures: numbers by name; the names carry the units.
        curve: seconds spent in steps and the loss there, where something was trained.
    """

    figures: Mapping[str, float]
    curve: Sequence[tuple[float, float]] = ()


Repeat = Callable[[int], Sample]
"""Measures once; it is told the number of the repetition, counted from 1, or 0 for the one that only warms up."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Variant:
    """One of the things that are measured side by side.

    Args:
        ours: whether it is this program, and not a peer.
        prepare: gives, for the length of a block, what measures it.
    """

    name: str
    prepare: Callable[[], AbstractContextManager[Repeat]]
    ours: bool = True


@dataclass(frozen=True, kw_only=True, slots=True)
class Request:
    """What somebody asks of the benchmark.

    Args:
        quick: one short repetition of everything, to see that it works; its figures tell nothing.
        repetitions: how often each variant is measured; each workload's own number if not given.
        threads: of one operation on the CPU, for us and for peers.
        text: tiny Shakespeare, for what trains to a level.
        nanogpt: a checkout of nanoGPT to measure beside us.
        transformers: measure that library too.
        changes: settings of our recipe in what trains to a level, as flags of `clearhead train`.
    """

    quick: bool = False
    repetitions: int | None = None
    threads: int
    text: Path | None = None
    nanogpt: Path | None = None
    transformers: bool = False
    changes: Flags = field(default_factory=dict)

    def shakespeare(self) -> Path:
        """Return the text whose losses are compared.

        Raises:
            UserError: it is not given, or it is another text.
        """
        path = self.text or Path(DATASETS["shakespeare"].file_name)
        if not path.is_file():
            raise UserError(
                f"There is no {path}; clearhead data get shakespeare fetches it, or name it by --text FILE."
            )
        if not self.quick and sha256(path) != DATASETS["shakespeare"].sha256:
            raise UserError(f"{path} is not tiny Shakespeare, and losses on other texts are not comparable.")
        return path


@dataclass(frozen=True, kw_only=True, slots=True)
class Workload:
    """A question that is answered by measuring variants in turn.

    Args:
        group: selects it together with others of its kind.
        figure: which figure is compared; the others tell more.
        best: which end of it is good.
        repetitions: how often each variant is measured, after one repetition to warm up.
        minutes: about how long ours takes on two cores, without peers.
        needs_text: whether it trains on tiny Shakespeare.
        cold: nothing is warmed up: each repetition is a process of its own from its start to its end.
        level: the loss that our runs have to reach, four of five of them.
        recipes: flags of `clearhead train` that our runs begin with; the request's changes go over them.
        own_length: how long our runs take may not be changed.
        needs_gpu: whether it is measured on a CUDA GPU.
        notes: sentences on figures that depend on what was asked for.
    """

    name: str
    group: str
    question: str
    figure: str
    best: Literal["highest", "lowest"]
    variants: Callable[[Request], Sequence[Variant]]
    minutes: float
    repetitions: int = 5
    needs_text: bool = False
    cold: bool = False
    level: float | None = None
    recipes: Sequence[Flags] = ()
    own_length: bool = False
    needs_gpu: bool = False
    notes: Callable[[Request], Sequence[str]] = lambda _: ()
