"""All subjects by name, each with what is seen and why it matters. Reading this loads nothing heavy."""

from __future__ import annotations

from clearhead.core.errors import UserError, nearest

SUBJECTS: dict[str, str] = {
    "tokens": "Into which pieces a text falls, and what that costs: sequence length against vocabulary.",
    "next-token": "What the model expects next, and what each filter of sampling makes of that before one is drawn.",
    "minisamples": "A text as the many small examples it is learned from: for each place, what it costs to predict.",
    "surprisal": "A text tinted by what each token cost the model: where it was sure, and where it was surprised.",
    "embeddings": "Which tokens are alike to the model: a map, and neighbours, beside random vectors.",
    "analogy": "Arithmetic with token vectors, such as king - man + woman, beside random words.",
    "dimensions": "Who decides what a dimension means: single dimensions and whole vectors against chance.",
    "positions": "How the model knows where a token stands, and what is lost when it does not.",
    "loss-by-position": "What a longer look back is worth: the cost of a token by how many were read before it.",
    "shapes": "Every tensor from tokens to logits, with its axes and the formula that made it.",
    "parameters": "Where the trained numbers are: by part, tensor by tensor.",
    "attention": "From affinities to weights in one head: how much every place takes in of each that it may read.",
    "heads": "What each head is like, by where its weight lies on random tokens that are said twice.",
    "sharpness": "One dial from the averaging trick over the trained model to unscaled attention, and what each costs.",
    "lens": "What the model would say if it ended after each layer: how a prediction takes shape.",
    "head-card": "One head in words: what a token looks for there, what it contains, and what it will communicate.",
    "walk": "One token's vector at every stage, from its row of the embedding to the logits.",
    "ablate": "What each head and each feed-forward layer is worth: the loss when it adds nothing.",
    "patch": "Where a difference between two texts is kept: one text's states, carried into the other.",
    "leaks": "Whether the past can see the future: each token is changed in turn, and what moves is watched.",
    "copies": "Where a sample repeats the training text word for word, and from where.",
    "diary": "How the model came to be: what it wrote, paid and looked at, step by step.",
    "health": "What is well with the model and what deserves a look, with the evidence.",
    "compare": "Two runs, or two steps of one, on the same text: who pays less for which character.",
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
