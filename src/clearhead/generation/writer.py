"""A trained model as a Python object: write with it, score with it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64

from clearhead.core.config import build
from clearhead.core.errors import UserError
from clearhead.generation.engine import Request, Token, generate, prompt_ids
from clearhead.generation.sampling import Sampling
from clearhead.generation.score import text_nats
from clearhead.store.load import Loaded
from clearhead.text.config import TextConfig
from clearhead.text.corpus import normalize


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

    def generate(
        self,
        prompt: str = "",
        *,
        num_tokens: int = 200,
        samples: int = 1,
        sampling: Sampling | None = None,
        stop: Sequence[str] = (),
        seed: int = 1,
        use_cache: bool = True,
        drop_unknown: bool = False,
    ) -> list[str]:
        """Return texts that continue a prompt, without the prompt."""
        texts = [""] * samples
        request = self.request(prompt, drop_unknown=drop_unknown)
        for token in self.stream(
            Request(
                prompt=request,
                num_tokens=num_tokens,
                samples=samples,
                sampling=sampling or Sampling(),
                stop=tuple(stop),
                seed=seed,
                use_cache=use_cache,
            )
        ):
            texts[token.sample] += token.text
        return texts

    def stream(self, request: Request) -> Iterator[Token]:
        """Yield tokens as they are drawn."""
        return generate(self.loaded.model, self.loaded.tokenizer, request)

    def request(self, prompt: str, *, drop_unknown: bool = False) -> list[int]:
        """Return a prompt's ids after the steps that the run's own text went through.

        Raises:
            UserError: the prompt has a character that the tokenizer does not know.
        """
        text = self.prepare(prompt)
        if drop_unknown:
            text, _ = self.loaded.tokenizer.drop_unknown(text)
        return prompt_ids(self.loaded.tokenizer, text)

    def prepare(self, text: str) -> str:
        """Normalize a text as the run's own was."""
        config = build(TextConfig, self.loaded.description["config"]["text"], where="text")
        return normalize(text, config.normalize)

    def score(self, text: str) -> Scored:
        """Return what each token of a text costs, read from `<|end|>` on where the run has documents.

        Raises:
            UserError: there is no token to score.
        """
        tokenizer = self.loaded.tokenizer
        ids = [int(id_) for id_ in tokenizer.encode(self.prepare(text))]
        before = [] if tokenizer.end is None else [tokenizer.end]
        if len(before) + len(ids) < 2:
            raise UserError("The text is too short to be scored: it needs at least two tokens.")
        nats = text_nats(self.loaded.model, np.array(before + ids, dtype=np.int32))
        return Scored([tokenizer.token_text(id_) for id_ in (before + ids)[1:]], nats)
