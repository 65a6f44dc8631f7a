"""All subjects by name, each with what is seen and why it matters. Reading this loads nothing heavy."""

from __future__ import annotations

from clearhead.core.errors import UserError, nearest

SUBJECTS: dict[str, str] = {
    "next-token": "What the model expects next, and what each filter of sampling makes of that before one is drawn.",
    "minisamples": "A text as the many small examples it is learned from: for each place, what it costs to predict.",
    "surprisal": "A text tinted by what each token cost the model: where it was sure, and where it was surprised.",
    "attention": "From affinities to weights in one head: how much of each earlier place every place takes in.",
    "heads": "What each head is like, by where its weight lies on random tokens that are said twice.",
    "sharpness": "One dial from the averaging trick over the trained model to unscaled attention, and what each costs.",
    "lens": "What the model would say if it ended after each layer: how a prediction takes shape.",
    "why": "Why this token and not that one: what every part adds to the difference, to the last digit.",
}


def module_of(name: str) -> str:
    """Return the name of a subject's module and function.

    Raises:
        UserError: there is no such subject; the nearest is named.
    """
    if name not in SUBJECTS:
        raise UserError(f"There is no subject {name}; clearhead look lists them.{nearest(name, SUBJECTS)}")
    return name.replace("-", "_")
