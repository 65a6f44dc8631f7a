"""A model whose reading of one new token is recorded once, as a CUDA graph, and launched again for each token.

A small model keeps a GPU waiting: to call its hundred kernels one by one takes longer than they do. A graph launches
all of them in one call. But it launches what was recorded: the same kernels on the same memory. So the step may depend
on how much was read before only through numbers that stand in the GPU's memory. The model's own blocks are run, with
three parts in which a position is such a number: a mask, a position scheme, and slots that always give all of their
memory, of which the mask hides what is not written yet.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial
from typing import cast

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from clearhead.core.errors import UserError
from clearhead.generation.folded import as_built, embedding_tables
from clearhead.model.attention import Attention, flex
from clearhead.model.cache import Cache, Slot
from clearhead.model.layers import Block
from clearhead.model.masks import Mask
from clearhead.model.positions import Positions
from clearhead.model.transformer import GPT
from clearhead.model.variants.mixers import Averaging

WARM_UPS = 3
"""Runs before the recording: libraries take memory and choose their kernels in the first ones."""


class Graphed:
    """A model with its weights where they are, its positions as they are now, and the cache through which it reads.

    `model(tokens, cache=cache)` is its twin, reads what is more than one token, and may take turns with it.

    For each of the S positions that the cache has room for it keeps a row of the mask (1 MB in all for S = 1,024), of
    ALiBi's biases (S numbers a head, 50 MB for 12) and what turns queries and keys as a matrix (17 MB for width 64).

    Args:
        record: runs and records the step; what it returns is called for every token. A CUDA graph unless given.

    Raises:
        UserError: the model has a part whose work depends on how much was read before.
    """

    def __init__(self, model: nn.Module, cache: Cache, record: Callable[[FixedStep], Step] | None = None) -> None:
        assert cache.offset == 0, "recording writes to the cache"
        self.model, self.cache = require_recordable(model), cache
        self.step = FixedStep(self.model, cache)
        with torch.no_grad():
            self.read_token = (record or as_cuda_graph)(self.step)

    @torch.inference_mode()
    def __call__(self, tokens: Int[Tensor, "B T"]) -> Float[Tensor, "B T V"]:
        """Return the logits of each position's next token; the tokens continue the cache."""
        start = self.cache.offset
        if tokens.size(1) > 1:
            logits: Tensor = self.model(tokens, cache=self.cache)
            return logits
        self.model.require_readable(self.model.mask, start, 1)
        self.step.token.copy_(tokens)
        self.step.position.fill_(start)
        for slot, fixed in zip(self.cache, self.step.slots, strict=True):
            fixed.take_over(slot)
        logits = self.read_token().clone()
        self.cache.advance(1)
        for slot in self.cache:
            slot.length = start + 1
        return logits


class FixedStep:
    """The reading of the token in `token` at the position in `position`, the same operations at every position."""

    def __init__(self, model: GPT, cache: Cache) -> None:
        tables, memory = embedding_tables(model), next(iter(cache)).keys
        assert tables is not None
        self.model, (self.tokens, self.places) = model, tables
        self.token = torch.zeros(memory.size(0), 1, dtype=torch.long, device=memory.device)
        self.position = torch.zeros(1, dtype=torch.long, device=memory.device)
        length = memory.size(2)
        with torch.no_grad():
            self.mask = FixedMask(every_row(model.mask, length, memory.device), self.position)
            self.positions = FixedPositions(model, length, self.position)
        self.blocks = [cast(Block, block) for block in model.blocks]
        self.slots = [FixedSlot(slot, block, self.position) for slot, block in zip(cache, self.blocks, strict=True)]

    def __call__(self) -> Float[Tensor, "B 1 V"]:
        """Return the logits of the next token."""
        # Autocast keeps copies of weights that are gone when a recording is launched again.
        with torch.autocast(self.token.device.type, enabled=False):
            x = self.model.embedding_norm(self.tokens[self.token] + self.places[self.position])
            for block, slot in zip(self.blocks, self.slots, strict=True):
                x = block(x, mask=self.mask, positions=self.positions, slot=slot)
            return self.model.head(self.model.final_norm(x))


Step = Callable[[], Float[Tensor, "B 1 V"]]
"""Reads the token and the position that stand in buffers; its logits come always in the same memory."""


def as_cuda_graph(step: FixedStep) -> Step:
    """Record the kernels of a step, and return what launches them in one call.

    Source: torch's notes on CUDA semantics, whose warm-up beside the current stream this is.
    """
    with torch.cuda.device(step.token.device):
        before, aside = torch.cuda.current_stream(), stream_of(step.token.device)
        aside.wait_stream(before)
        with torch.cuda.stream(aside):
            for _ in range(WARM_UPS):
                step()
        before.wait_stream(aside)
        graph = torch.cuda.CUDAGraph()
        # Other threads may use the GPU meanwhile.
        with torch.cuda.graph(graph, stream=aside, capture_error_mode="thread_local"):
            logits = step()

    def launch() -> Float[Tensor, "B 1 V"]:
        graph.replay()
        return logits

    return launch


@cache
def stream_of(device: torch.device) -> torch.cuda.Stream:
    """Return the stream on which a GPU's steps are recorded; each further one would keep memory of its own."""
    return torch.cuda.Stream(device)  # type: ignore[no-untyped-call]


def require_recordable(model: nn.Module) -> GPT:
    """Return a model whose reading of one token can be recorded.

    Raises:
        UserError: the model has a part that is not known to do the same at every position.
    """
    if isinstance(model, GPT) and as_built(model, GPT) and is_fixed(model):
        return model
    raise UserError("This model has parts that cannot be recorded; leave compile out.")


def is_fixed(model: GPT) -> bool:
    """Say whether a model reads the next token by the same operations at every position, and nobody watches."""
    plain = all(as_built(part, type(part)) and not part.training for part in model.modules())
    return plain and not model.reads_ahead and embedding_tables(model) is not None and all(map(does_same, model.mixers))


def does_same(mixer: nn.Module) -> bool:
    """Say whether a block gathers by the same operations at every position, given a mask that says from where."""
    if isinstance(mixer, Attention):
        kernel = mixer.kernel
        while isinstance(kernel, partial):
            kernel = kernel.args[0]
        return kernel is not flex
    return isinstance(mixer, Averaging)


def every_row(mask: Mask, length: int, device: torch.device) -> Bool[Tensor, "#B #H S S"]:
    """Return which positions each one may read; none that come later, of which nothing is there when it reads."""
    allowed = mask.dense(length, length, device)
    if allowed is None:
        allowed = torch.ones(1, 1, length, length, dtype=torch.bool, device=device)
    return allowed.tril()


@dataclass(frozen=True, slots=True, eq=False)
class FixedMask(Mask):
    """The row of another mask that belongs to the position in a buffer."""

    allowed: Bool[Tensor, "#B #H S S"]
    position: Int[Tensor, " 1"]

    def dense(self, num_queries: int, num_keys: int, device: torch.device) -> Bool[Tensor, "#B #H 1 S"]:
        return self.allowed.index_select(2, self.position)


class FixedPositions(Positions):
    """What a model's position scheme does at the position in a buffer; it acts on queries, keys and scores.

    A rotation is linear, so what it makes of the unit vectors is its matrix.
    """

    def __init__(self, model: GPT, length: int, position: Int[Tensor, " 1"]) -> None:
        super().__init__()
        self.position = position
        unit = torch.eye(model.config.head_width, device=position.device)[:, None, None].expand(-1, -1, length, -1)
        turned = model.positions.rotate(unit, 0)
        self.turns = None if turned is unit else turned[:, 0].transpose(0, 1).contiguous()
        self.biases = model.positions.bias(length, length)

    def rotate(self, x: Float[Tensor, "B H 1 D"], start: int) -> Float[Tensor, "B H 1 D"]:
        return x if self.turns is None else x @ self.turns[self.position].to(x.dtype)

    def bias(self, num_queries: int, num_keys: int) -> Float[Tensor, "#H 1 S"] | None:
        return None if self.biases is None else self.biases.index_select(1, self.position)


class FixedSlot(Slot):
    """A slot in the memory of another one, that writes where a buffer says and gives all of its memory."""

    def __init__(self, slot: Slot, block: Block, position: Int[Tensor, " 1"]) -> None:
        super().__init__(slot.keys, slot.values)
        self.position = position
        if block.convolution is not None:
            before, width = block.convolution.taps.size(0) - 1, block.convolution.taps.size(1)
            self.recent = slot.keys.new_zeros(slot.keys.size(0), before, width)

    def append(
        self, keys: Float[Tensor, "B K 1 D"], values: Float[Tensor, "B K 1 D"]
    ) -> tuple[Float[Tensor, "B K S D"], Float[Tensor, "B K S D"]]:
        self.keys.index_copy_(2, self.position, keys)
        self.values.index_copy_(2, self.position, values)
        return self.keys, self.values

    def with_recent(self, x: Float[Tensor, "B 1 C"], count: int) -> Float[Tensor, "B 1+{count} C"]:
        assert self.recent is not None
        joined = torch.cat((self.recent, x), dim=1)
        self.recent.copy_(joined[:, 1:])
        return joined

    def take_over(self, slot: Slot) -> None:
        """Have what the other slot keeps of the latest inputs, and share it from now on."""
        assert slot.keys is self.keys, "the rows of a cache that is recorded stay as they are"
        if self.recent is None or slot.recent is self.recent:
            return
        if slot.recent is None:
            self.recent.zero_()
        else:
            self.recent.copy_(slot.recent)
        slot.recent = self.recent
