"""What if attention has only two of query, key and value?"""

from __future__ import annotations

from clearhead.lab.experiment import Arm
from clearhead.lab.losses import loss_study, plain


def arm(name: str, mixer: str, about: str) -> Arm:
    """Return the arm of a mixer."""
    return Arm(name=name, changes={"model.mixer.kind": mixer}, about=about)


ARMS = (
    arm("query, key, value", "attention", "three maps"),
    arm("K = Q", "key_is_query", "what is looked for is what is contained"),
    arm("V = K", "value_is_key", "what is communicated is what it is found by"),
    arm("V = x", "value_is_input", "the state itself is communicated"),
    arm("constant Q", "constant_query", "every position looks for the same"),
    arm("constant K", "constant_key", "every position says the same of itself"),
)

STUDY = loss_study(
    name="query-key-value",
    question="What if attention has only two of query, key and value?",
    arms=ARMS,
    base=plain,
)
