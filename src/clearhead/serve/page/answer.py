"""What a model that does not write on is asked: the label of a text, or its translation."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import numpy as np

from clearhead.serve.page.pictures import bars
from clearhead.show.page import escape
from clearhead.show.readable import percent
from clearhead.show.view import Panel

if TYPE_CHECKING:
    from clearhead.store.load import Loaded

BEAM = 4


def label_of(loaded: Loaded, text: str) -> str:
    """Return the labels of a text as HTML, each with its probability."""
    from clearhead.generation.classifier import Classifier

    choice = Classifier(loaded).classify([text])[0]
    chances = np.array(list(choice.probabilities.values()))
    drawn = bars(Panel("bars", "", {"probability": chances}, ("label",), (list(choice.probabilities),)), 0)
    return f"<h2>{escape(choice.label)}, {percent(choice.probability)} sure</h2>{drawn}"


def translation_of(loaded: Loaded, text: str) -> str:
    """Return the translation of a text as HTML, with how likely the model holds it."""
    from clearhead.generation.beam import Search
    from clearhead.generation.translator import Translator

    found = Translator(loaded).translate([text], Search(beam=BEAM))[0]
    said = f"Its log-probability is {found.log_probability:.2f} nats, the best of {BEAM} kept side by side."
    target = escape(found.target) or '<span class="prompt">(nothing)</span>'
    return f'<p class="text">{target}</p><p class="small">{said}</p>'


ANSWERS: Mapping[str, tuple[str, Callable[[Loaded, str], str]]] = {
    "classify": ("This model chooses a label. Write a text above, and see how sure it is of each.", label_of),
    "translate": ("This model translates. Write a text above, in the words that it was trained on.", translation_of),
}
"""By task: what the model does, and what it answers to a text."""
