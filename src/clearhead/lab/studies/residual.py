"""What are residual connections for, and does depth need them?"""

from __future__ import annotations

from clearhead.lab.experiment import Arm
from clearhead.lab.losses import loss_study, plain

DEPTHS = (1, 2, 4, 8)


def arm(residual: str, depth: int) -> Arm:
    """Return the arm of a depth, with or without residual connections."""
    word = "with" if residual == "pre_norm" else "without"
    layers = "1 block" if depth == 1 else f"{depth} blocks"
    return Arm(name=f"{word}, {layers}", changes={"model.residual": residual, "model.num_layers": depth})


STUDY = loss_study(
    name="residual",
    question="What are residual connections for, and does depth need them?",
    arms=[arm(residual, depth) for residual in ("pre_norm", "none") for depth in DEPTHS],
    base=plain,
    minutes=15.0,
)
