"""What a run must remember to go on as if it had never stopped."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any, Literal

from torch import Tensor

from clearhead.core.config import build
from clearhead.core.errors import DamagedFile
from clearhead.training.guard import Recent
from clearhead.training.schedule import Plan


@dataclass(frozen=True, slots=True)
class Best:
    """The step with the lowest validation loss of the evaluations during the run."""

    step: int
    nats_per_token: float
    weights: Literal["raw", "average"]


STORED = {
    "step": int,
    "tokens": int,
    "seconds": float,
    "train_seconds": float,
    "reference": float | None,
    "without_gain": int,
    "replanned": bool,
}
"""What a stored state holds beside its plan and its best step."""

STORED_SINCE = {"skipped": list, "rewinds": int}
"""What states hold since batches can be skipped; older ones lack it."""


@dataclass
class State:
    """What a run must remember besides weights and the optimizers' memory; it is stored with every step.

    Args:
        train_seconds: spent in steps alone.
        reference: the loss at the last evaluation that gained more than one standard error on the reference before.
        without_gain: evaluations since then.
        replanned: the length of a timed run was set anew already.
        skipped: the numbers of the batches that were not learned from; each step takes the next batch that is left.
        rewinds: how often the run went back to a saved step.
        recent: what the next batch is judged by.
        average: the running average of the weights, where one is kept.
    """

    plan: Plan
    step: int = 0
    tokens: int = 0
    seconds: float = 0.0
    train_seconds: float = 0.0
    best: Best | None = None
    reference: float = math.inf
    without_gain: int = 0
    replanned: bool = False
    skipped: list[int] = field(default_factory=list)
    rewinds: int = 0
    recent: Recent = field(default_factory=Recent)
    average: dict[str, Tensor] | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return everything but the average as JSON values."""
        values = asdict(replace(self, average=None))
        return values | {"reference": self.reference if math.isfinite(self.reference) else None}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any], average: dict[str, Tensor] | None) -> State:
        """Bring back a stored state, also one of a time when batches were not skipped yet.

        Raises:
            UserError: it is not one.
        """
        strange = [name for name, kind in STORED.items() if not isinstance(values.get(name), kind)]
        strange += [name for name, kind in STORED_SINCE.items() if not isinstance(values.get(name, kind()), kind)]
        if strange or values.keys() - {each.name for each in fields(cls)} or "plan" not in values:
            raise DamagedFile("A saved step's state does not hold what this version asks for.")
        inner = {
            "recent": build(Recent, values.get("recent", {}), where="recent"),
            "plan": build(Plan, values["plan"], where="plan"),
            "best": build(Best, values["best"], where="best") if values.get("best") else None,
            "reference": math.inf if values.get("reference") is None else values["reference"],
        }
        return cls(**{**values, **inner, "average": average})

    @property
    def batch(self) -> int:
        """The number of the next batch."""
        return self.step + len(self.skipped)
