"""Must embeddings be trained, or be there at all?"""

from __future__ import annotations

from clearhead.lab.experiment import Arm
from clearhead.lab.losses import loss_study, plain

STUDY = loss_study(
    name="embeddings",
    question="Must embeddings be trained, or be there at all?",
    arms=(
        Arm(name="trained", about="each token's vector is learned"),
        Arm(name="frozen", changes={"model.embedding.kind": "frozen"}, about="random vectors that stay"),
        Arm(name="one-hot", changes={"model.embedding.kind": "one_hot"}, about="a channel for each token"),
    ),
    base=plain,
    minutes=6.0,
)
