"""Writing with a model: prefill, decode, stop. Text leaves as events, one for each token."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import islice
from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Float64, Int
from torch import Tensor

from clearhead.core.errors import UserError
from clearhead.generation.compiled import Compiled
from clearhead.generation.folded import Folded, fold, require_foldable
from clearhead.generation.graphed import Graphed
from clearhead.generation.products import PRODUCTS, Weights
from clearhead.generation.sampling import Sampling, distribution, draw
from clearhead.model.cache import Cache
from clearhead.text.tokenizer import Tokenizer

UNIFORMS_AT_ONCE = 256

SHARED_FROM = 2**22
"""From so many products of a weight and a state on, a step is worth sharing between threads."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Request:
    """What to write.

    Args:
        prompt: ids that the text continues; see `prompt_ids`.
        samples: how many texts, written side by side in one batch.
        num_tokens: the most tokens to write in each.
        stop: texts at which a sample ends; they are not part of it.
        seed: sample i draws from (seed, i), whatever the other samples do.
        use_cache: keep what was read; without it each token reads its whole window again.
        weights: what new tokens are read with: the model's own numbers, or rounded ones, which is faster on a CPU for
            a large model (int8: few samples, bf16: many) and costs some loss, which `clearhead eval` measures.
        compile: compile the reading of new tokens. On a CPU that is done by numba for one sample, takes seconds and
            pays for a long text; a model whose mask hides some earlier positions, or with ALiBi, is read as without
            it. On a CUDA GPU the kernels of a step are recorded once and launched together.

    Raises:
        UserError: a number is too small, or what is asked for does not go together.
    """

    prompt: Sequence[int]
    samples: int = 1
    num_tokens: int = 200
    sampling: Sampling = field(default_factory=Sampling)
    stop: tuple[str, ...] = ()
    seed: int = 1
    use_cache: bool = True
    weights: Weights = "fp32"
    compile: bool = False

    def __post_init__(self) -> None:
        assert len(self.prompt), "`prompt_ids` gives every prompt at least one id"
        for name, lowest in {"samples": 1, "num_tokens": 1, "seed": 0}.items():
            if getattr(self, name) < lowest:
                raise UserError(f"{name} must be at least {lowest}, not {getattr(self, name)}.")
        if self.weights not in PRODUCTS:
            raise UserError(f"weights must be one of {', '.join(PRODUCTS)}, not {self.weights}.")
        if self.weights != "fp32" and not self.use_cache:
            raise UserError(f"With weights = {self.weights} tokens are read through the cache; leave use_cache on.")
        if self.compile and (self.weights == "bf16" or not self.use_cache):
            raise UserError("A compiled step reads through the cache, with weights in fp32 or int8.")


class Token(NamedTuple):
    """One token of one sample, as soon as it is drawn.

    Args:
        sample: which sample it belongs to.
        text: what may be shown now; text that could be the start of a stop string waits.
        probability: the token's probability in the filtered distribution.
        finished: "" while the sample goes on, else "length", "stop" or "end" (of the document).
    """

    sample: int
    id: int
    text: str
    probability: float
    finished: str


def prompt_ids(tokenizer: Tokenizer, prompt: str) -> list[int]:
    """Return the ids that a prompt begins with: after `<|end|>` where documents have one; empty, after a line end."""
    ids = [int(id_) for id_ in tokenizer.encode(prompt)] if prompt else []
    if tokenizer.end is not None:
        return [tokenizer.end, *ids]
    return ids or line_end(tokenizer)


def line_end(tokenizer: Tokenizer) -> list[int]:
    """Return the id of a line end, or the first id where the tokenizer has none."""
    known, _ = tokenizer.drop_unknown("\n")
    return [int(id_) for id_ in tokenizer.encode(known)][:1] or [0]


def window_start(num_tokens: int, context_length: int) -> int:
    """Return where the window begins that reads `num_tokens` tokens.

    It begins at 0 while everything fits. A window that would be too long by one begins anew on its last half. The
    rule knows only the number of tokens, so writing with and without a cache sees the same windows.
    """
    if num_tokens <= context_length:
        return 0
    stride = context_length - context_length // 2
    return stride * -(-(num_tokens - context_length) // stride)


class Reader:
    """Gives a model's logits for the next token of growing rows, through a cache or without one."""

    def __init__(
        self,
        model: Any,
        tokens: Int[Tensor, "B N"],
        *,
        use_cache: bool,
        weights: Weights = "fp32",
        compile: bool = False,
    ) -> None:
        self.model, self.weights, self.compile, self.count = model, weights, compile, tokens.size(1)
        self.context_length = int(model.context_length)
        self.start = window_start(self.count, self.context_length)
        # Filled as tokens come; a window that is full moves its last half to the front.
        self.window_and_room = tokens.new_empty(tokens.size(0), self.context_length)
        self._hold(tokens[:, self.start :])
        new_cache = getattr(model, "new_cache", None) if use_cache else None
        self.cache = new_cache(tokens.size(0)) if new_cache else None
        if compile:
            _ = self.folded  # What cannot be compiled is refused now, and not at the first token.
        elif weights != "fp32":
            require_foldable(model)

    @cached_property
    def folded(self) -> Folded | Compiled | Graphed | None:
        """The model folded over the cache, or compiled, where it can be."""
        if self.compile:
            return compiled(self.model, self.cache, self.weights)
        return fold(self.model, self.cache, self.weights)

    @property
    def window(self) -> Int[Tensor, "B T"]:
        """The tokens that decide the next one."""
        return self.window_and_room[:, : self.count - self.start]

    def append(self, column: Int[Tensor, " B"]) -> None:
        """Add one token to every row."""
        start = window_start(self.count + 1, self.context_length)
        if start != self.start:
            self._hold(self.window[:, start - self.start :].clone())
            self.start = start
            if self.cache is not None:
                self.cache.clear()
        self.window_and_room[:, self.count - self.start] = column
        self.count += 1

    def logits(self) -> Float[Tensor, "B V"]:
        """Return the logits of the token after the last one."""
        if self.compile and self.cache is not None and self.folded is not None:
            # Compiled loops need no context of torch's, which takes time for each token.
            return self.folded(self.window[:, self.cache.offset :])[:, -1]
        return self._logits()

    @torch.inference_mode()
    def _logits(self) -> Float[Tensor, "B V"]:
        if self.cache is None:
            return self._last_logits(self.window)
        unread = self.window[:, self.cache.offset :]
        if self.folded is not None:
            return self.folded(unread)[:, -1]
        return self._last_logits(unread, cache=self.cache)

    def _hold(self, window: Int[Tensor, "B T"]) -> None:
        self.window_and_room[:, : window.size(1)] = window

    def _last_logits(self, tokens: Int[Tensor, "B T"], **cache: Any) -> Float[Tensor, "B V"]:
        logits: Tensor = self.model(tokens, **cache)
        return logits[:, -1]


def compiled(model: torch.nn.Module, cache: Cache | None, weights: Weights) -> Compiled | Graphed:
    """Return a model with its reading of one token compiled: recorded as a graph on a CUDA GPU, by numba on a CPU.

    Raises:
        UserError: it keeps no cache, or has a part that is not known there.
    """
    if cache is not None and weights == "fp32" and next(model.parameters()).device.type == "cuda":
        return Graphed(model, cache)
    foldable = require_foldable(model)
    assert cache is not None
    return Compiled(foldable, cache, weights)


class StopText:
    """Lets text through until a stop string shows, and holds back what could be the beginning of one."""

    def __init__(self, stop: tuple[str, ...]) -> None:
        self.stop = tuple(text for text in stop if text)
        self.held = ""

    def push(self, text: str) -> tuple[str, bool]:
        """Return what may be shown now, and whether a stop string has come."""
        if not self.stop:
            return text, False
        self.held += text
        found = [place for place in (self.held.find(stop) for stop in self.stop) if place >= 0]
        if found:
            shown, self.held = self.held[: min(found)], ""
            return shown, True
        waits = max((self._overlap(stop) for stop in self.stop), default=0)
        shown, self.held = self.held[: len(self.held) - waits], self.held[len(self.held) - waits :]
        return shown, False

    def flush(self) -> str:
        """Return what was held back."""
        shown, self.held = self.held, ""
        return shown

    def _overlap(self, stop: str) -> int:
        lengths = range(min(len(stop) - 1, len(self.held)), 0, -1)
        return next((length for length in lengths if self.held.endswith(stop[:length])), 0)


class Sample:
    """One text as it grows."""

    def __init__(self, tokenizer: Tokenizer, request: Request, number: int) -> None:
        self.number = number
        self.end = tokenizer.end
        self.stream = tokenizer.stream()
        self.stopper = StopText(request.stop)
        self.left = request.num_tokens
        self.random = torch.Generator().manual_seed(sample_seed(request.seed, number))

    def uniforms(self, count: int) -> Float64[Tensor, " N"]:
        """Return the next random numbers of this sample's own stream."""
        return torch.rand(count, generator=self.random, dtype=torch.float64)

    def take(self, id_: int, probability: float) -> Token:
        """Take a drawn token in, and say what may be shown and whether this was the last."""
        self.left -= 1
        if id_ == self.end:
            return Token(self.number, id_, self._rest(), probability, "end")
        shown, stopped = self.stopper.push(self.stream.push(id_))
        if stopped:
            return Token(self.number, id_, shown, probability, "stop")
        if self.left == 0:
            return Token(self.number, id_, shown + self._rest(), probability, "length")
        return Token(self.number, id_, shown, probability, "")

    def _rest(self) -> str:
        shown, stopped = self.stopper.push(self.stream.flush())
        return shown if stopped else shown + self.stopper.flush()


def luck(samples: Sequence[Sample]) -> Iterator[Float64[Tensor, " B"]]:
    """Yield for each token to be drawn one random number of every sample."""
    while True:
        yield from torch.stack([sample.uniforms(UNIFORMS_AT_ONCE) for sample in samples], dim=1)


def worth_sharing(model: torch.nn.Module, samples: int) -> bool:
    """Say whether a new token of every sample is so much work that several threads do it faster than one."""
    return samples * sum(parameter.numel() for parameter in model.parameters()) >= SHARED_FROM


def sample_seed(seed: int, number: int) -> int:
    """Return the seed of one sample's random numbers."""
    return (seed * 1_000_003 + number * 7_919 + 1) % 2**63


def generate(model: torch.nn.Module, tokenizer: Tokenizer, request: Request) -> Iterator[Token]:
    """Write, and yield every token of every sample as it is drawn.

    A model is any module with `forward(tokens) -> (B, T, V)` and `context_length`; where it has `new_cache`, that is
    used unless the request says otherwise. The model should be in evaluation mode.

    Raises:
        UserError: at once, not at the first token: this model cannot be read as the request asks.
    """
    device = next(model.parameters()).device
    prompt = torch.tensor([list(request.prompt)] * request.samples, dtype=torch.long, device=device)
    reader = Reader(model, prompt, use_cache=request.use_cache, weights=request.weights, compile=request.compile)
    return written(reader, tokenizer, request)


def written(reader: Reader, tokenizer: Tokenizer, request: Request) -> Iterator[Token]:
    """Yield every token of every sample as it is drawn from what the reader says of the tokens before it."""
    samples = [Sample(tokenizer, request, number) for number in range(request.samples)]
    going = set(range(request.samples))
    never = torch.from_numpy(tokenizer.unseen).long()
    for uniforms in islice(luck(samples), request.num_tokens):
        probabilities = distribution(reader.logits().cpu(), reader.window.cpu(), request.sampling, never=never)
        ids = draw(probabilities, uniforms)
        chances = probabilities.numpy()
        for sample, id_ in zip(samples, ids.tolist(), strict=True):
            if sample.number in going:
                token = sample.take(id_, float(chances[sample.number, id_]))
                yield token
                if token.finished:
                    going.remove(sample.number)
        if not going:
            return
        reader.append(ids.to(reader.window.device))


def write(model: torch.nn.Module, tokenizer: Tokenizer, request: Request) -> list[str]:
    """Return the samples' texts, without the prompt."""
    texts = [""] * request.samples
    for token in generate(model, tokenizer, request):
        texts[token.sample] += token.text
    return texts
