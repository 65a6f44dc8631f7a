"""From counting pairs to a GPT: what does each part bring?"""

from __future__ import annotations

from typing import Any

from clearhead.lab.experiment import Arm
from clearhead.lab.losses import loss_study

BARE: dict[str, Any] = {
    "model.num_layers": 1,
    "model.num_heads": 1,
    "model.positions.kind": "learned",
    "model.mixer.kind": "averaging",
    "model.feed_forward.kind": "none",
    "model.residual": "none",
    "model.norm.kind": "none",
    "model.embedding_norm": False,
    "model.convolution": 1,
    "model.qk_norm": False,
    "model.logit_softcap": None,
}
"""A GPT with everything taken out: embeddings, the mean of them so far, and a head."""

HEAD = {**BARE, "model.mixer.kind": "attention"}
HEADS = {**HEAD, "model.num_heads": 4}
COMPUTE = {**HEADS, "model.feed_forward.kind": "relu"}
DEEP = {**COMPUTE, "model.num_layers": 4}
RESIDUAL = {**DEEP, "model.residual": "pre_norm"}
NORM = {**RESIDUAL, "model.norm.kind": "rms"}

RUNGS = (
    Arm(name="bigram", changes={"model.kind": "bigram"}, about="a table: the next token by the present one"),
    Arm(name="averaging", changes=BARE, about="a bag of words: the mean of the embeddings so far"),
    Arm(name="one head", changes=HEAD, about="attention in place of the mean"),
    Arm(name="four heads", changes=HEADS, about="the same width, cut in four"),
    Arm(name="+ feed-forward", changes=COMPUTE, about="each position computes on what it gathered"),
    Arm(name="+ depth", changes=DEEP, about="four such blocks"),
    Arm(name="+ residual", changes=RESIDUAL, about="each block adds to the stream"),
    Arm(name="+ norm", changes=NORM, about="before each branch and before the head"),
    Arm(name="GPT", about="the recipe: rotary positions, QK-norm, SwiGLU, a short convolution"),
)

STUDY = loss_study(
    name="ladder",
    question="From a table of pairs to a GPT: what does each part bring?",
    arms=RUNGS,
    reference="previous",
    minutes=15.0,
)
