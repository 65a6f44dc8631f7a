"""What is the output projection of attention for?"""

from __future__ import annotations

from clearhead.lab.experiment import Arm
from clearhead.lab.losses import loss_study, plain

STUDY = loss_study(
    name="projection",
    question="What is the output projection of attention for?",
    arms=(
        Arm(name="with", about="heads are mixed into all channels"),
        Arm(name="without", changes={"model.mixer.kind": "no_output"}, about="each head keeps its own channels"),
    ),
    base=plain,
    minutes=4.0,
)
