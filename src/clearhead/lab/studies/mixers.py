"""What could stand in place of attention?"""

from __future__ import annotations

from clearhead.lab.experiment import Arm
from clearhead.lab.losses import loss_study, plain

STUDY = loss_study(
    name="mixers",
    question="What could stand in place of attention?",
    arms=(
        Arm(name="attention", about="each position chooses what it reads"),
        Arm(name="averaging", changes={"model.mixer.kind": "averaging"}, about="it reads everything evenly"),
        Arm(name="convolution", changes={"model.mixer.kind": "convolution"}, about="by their distance, the 16 latest"),
        Arm(
            name="LSTM",
            changes={"model.kind": "lstm", "model.num_layers": 2, "model.width": 256},
            about="two recurrent layers of width 256; all that was read is in their state",
        ),
    ),
    base=plain,
    minutes=8.0,
)
