"""Why is a norm needed, and where should it stand?"""

from __future__ import annotations

from clearhead.lab.experiment import Arm
from clearhead.lab.losses import loss_study, plain

ARMS = (
    Arm(name="none", changes={"model.norm.kind": "none"}, about="states are left as large as they are"),
    Arm(name="RMS before", changes={"model.norm.kind": "rms"}, about="x + branch(norm(x))"),
    Arm(name="LayerNorm before", changes={"model.norm.kind": "layer"}, about="x + branch(norm(x))"),
    Arm(
        name="LayerNorm after",
        changes={"model.norm.kind": "layer", "model.residual": "post_norm"},
        about="norm(x + branch(x)), as in 2017",
    ),
)

STUDY = loss_study(name="norms", question="Why is a norm needed, and where should it stand?", arms=ARMS, base=plain)
