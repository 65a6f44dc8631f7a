"""Why are scores divided by the square root of the head's width?"""

from __future__ import annotations

from clearhead.lab.experiment import Arm
from clearhead.lab.losses import loss_study, plain


def arm(name: str, mixer: str, num_heads: int, **changes: object) -> Arm:
    """Return the arm of a mixer with so many heads."""
    return Arm(name=name, changes={"model.mixer.kind": mixer, "model.num_heads": num_heads, **changes})


STUDY = loss_study(
    name="scale",
    question="Why are scores divided by the square root of the head's width?",
    arms=(
        arm("4 heads of 32, scaled", "attention", 4),
        arm("4 heads, unscaled", "unscaled", 4),
        arm("1 head of 128, scaled", "attention", 1),
        arm("1 head, unscaled", "unscaled", 1),
        arm("4 heads, QK-norm", "attention", 4, **{"model.qk_norm": True}),
    ),
    base=plain,
)
