"""A trained model as a Python object: write with it, score with it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float64

from clearhead.core.config import build
from clearhead.core.errors import UserError
from clearhead.generation.engine import Request, Token, generate, prompt_ids, write
from clearhead.generation.products import Weights
from clearhead.generation.sampling import Sampling
from clearhead.generation.score import text_nats
from clearhead.store.load import Loaded, require_task
from clearhead.text.config import TextConfig
from clearhead.text.corpus import normalize


@dataclass(frozen=True, slots=True)
class Prompt:
    """A prompt as a model reads it.

    Args:
        text: normalized as the run's own text was, without what was left out.
        ids: never empty; see `prompt_ids`.
        num_dropped: how many unknown characters were left out.
    """

    text: str
    ids: Sequence[int]
    num_dropped: int


@dataclass(frozen=True, slots=True)
class Scored:
    """The cost of each token of a text.

    Args:
        nats: -ln of each token's probability; the first token has none where nothing stands before it.
    """

    tokens: list[str]
    nats: Float64[np.ndarray, " N"]


@dataclass(frozen=True, slots=True)
class Writer:
    """A trained model, ready to write and to score."""

    loaded: Loaded

    def __post_init__(self) -> None:
        require_task(self.loaded, "lm")

    def generate(
        self,
        prompt: str = "",
        *,
        num_tokens: int = 200,
        samples: int = 1,
        stop: Sequence[str] = (),
        seed: int = 1,
        use_cache: bool = True,
        weights: Weights = "fp32",
        **settings: Any,
    ) -> list[str]:
        """Return texts that continue a prompt, without the prompt.

        Args:
            weights: see `Request`.
            settings: compile, see `Request`; temperature, top_k, top_p, min_p, repetition_penalty; see `Sampling`.

        Raises:
            UserError: the prompt has a character that the tokenizer does not know, or a number is out of its range.
        """
        request = Request(
            prompt=self.read(prompt).ids,
            samples=samples,
            num_tokens=num_tokens,
            compile=settings.pop("compile", False),
            sampling=Sampling(**settings),
            stop=tuple(stop),
            seed=seed,
            use_cache=use_cache,
            weights=weights,
        )
        return write(self.loaded.model, self.loaded.tokenizer, request)

    def stream(self, request: Request) -> Iterator[Token]:
        """Yield tokens as they are drawn."""
        return generate(self.loaded.model, self.loaded.tokenizer, request)

    def read(self, prompt: str, *, drop_unknown: bool = False) -> Prompt:
        """Return a prompt after the steps that the run's own text went through.

        Raises:
            UserError: the prompt has a character that the tokenizer does not know.
        """
        text, num_dropped = self._normalized(prompt), 0
        if drop_unknown:
            text, num_dropped = self.loaded.tokenizer.drop_unknown(text)
        return Prompt(text, prompt_ids(self.loaded.tokenizer, text), num_dropped)

    def score(self, text: str) -> Scored:
        """Return what each token of a text costs, read from `<|end|>` on where the run has documents.

        Raises:
            UserError: there is no token to score, or the text has a character that the tokenizer does not know.
        """
        tokenizer = self.loaded.tokenizer
        before = [] if tokenizer.end is None else [tokenizer.end]
        ids = np.array([*before, *tokenizer.encode(self._normalized(text))], dtype=np.int32)
        if len(ids) < 2:
            raise UserError("The text is too short to be scored: it needs at least two tokens.")
        nats = text_nats(self.loaded.model, ids)
        return Scored([tokenizer.token_text(int(id_)) for id_ in ids[1:]], nats)

    def _normalized(self, text: str) -> str:
        config = build(TextConfig, self.loaded.description["config"]["text"], where="text")
        return normalize(text, config.normalize)
