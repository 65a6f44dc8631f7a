"""Beam search: the likeliest target that a model writes for each source, or nearly so."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from clearhead.core.errors import UserError
from clearhead.model.encoder_decoder import EncoderDecoder
from clearhead.model.masks import Full, Padded

WIDEST = 1000
"""The widest beam: each of its places holds the keys and values of a whole target."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Search:
    """How targets are looked for.

    Args:
        beam: how many unfinished targets are kept side by side; 1 takes the likeliest token each time.
        length_penalty: targets are compared by log-probability / ((5 + tokens) / 6)^length_penalty; 0 favours short
            ones, 1 is nearly the mean of a token.
        spare: a target has at most twice its source's tokens and this many.

    Raises:
        UserError: a number is out of its range.
    """

    beam: int = 1
    length_penalty: float = 0.6
    spare: int = 10

    def __post_init__(self) -> None:
        if not 1 <= self.beam <= WIDEST:
            raise UserError(f"--beam must lie between 1 and {WIDEST}, not {self.beam}.")
        if self.length_penalty < 0:
            raise UserError(f"The length penalty must be at least 0, not {self.length_penalty:g}.")

    def longest(self, source_length: int, context_length: int) -> int:
        """Return the most tokens of a target, its end among them."""
        return min(context_length, 2 * source_length + self.spare)

    def compared(self, log_probability: float, num_tokens: int) -> float:
        """Return the number by which finished targets are compared. Source: Wu et al. 2016, eq. 14."""
        return log_probability / float(((5 + num_tokens) / 6) ** self.length_penalty)


@dataclass(frozen=True, slots=True)
class Hypothesis:
    """A finished target.

    Args:
        ids: without the end.
        log_probability: of all its tokens and of the end after them, in nats.
    """

    ids: tuple[int, ...]
    log_probability: float


@torch.inference_mode()
def best_targets(
    model: EncoderDecoder, sources: Int[Tensor, "B S"], lengths: Int[Tensor, " B"], end: int, search: Search
) -> list[Hypothesis]:
    """Return for each source the best target that the search finds.

    Each source has `beam` places. At each step the likeliest continuations of its unfinished targets take them; one
    that ends is put aside and its place is closed. So one place is greedy search, and enough places are an exhaustive
    one. Source: Sutskever et al. 2014, section 3.2.

    Args:
        lengths: how many ids of each source count; what follows is padding.
        end: the id that a target begins after and ends with.
    """
    beams = _Beams(model, sources, lengths, end, search)
    for left in reversed(range(beams.longest)):
        beams.grow(must_end=left == 0)
        if not beams.numbers.numel():
            break
    # A model whose numbers are not finite ends no target.
    nothing = Hypothesis((), -math.inf)
    return [
        max(found, key=lambda h: search.compared(h.log_probability, len(h.ids) + 1), default=nothing)
        for found in beams.finished
    ]


class _Beams:
    """The unfinished targets of a batch of sources: `beam` rows for each source that has some left.

    Attributes:
        numbers: which source each group of rows belongs to.
        tokens: the rows, from the end that they begin after.
        total: each row's log-probability; minus infinity where a place is closed.
        places: how many places of each group are open.
    """

    def __init__(
        self,
        model: EncoderDecoder,
        sources: Int[Tensor, "B S"],
        lengths: Int[Tensor, " B"],
        end: int,
        search: Search,
    ) -> None:
        self.model, self.end, self.beam = model, end, search.beam
        batch, device = sources.size(0), sources.device
        self.longest = search.longest(sources.size(1), model.context_length)
        states, _ = model.encode(sources, Padded(Full(), lengths))
        self.states = states.repeat_interleave(self.beam, dim=0)
        self.lengths = lengths.repeat_interleave(self.beam)
        self.cache = model.new_cache(batch * self.beam, self.longest, source_length=sources.size(1))
        self.numbers = torch.arange(batch, device=device)
        self.tokens = torch.full((batch * self.beam, 1), end, device=device)
        # All rows of a source are still the same: but for one they are closed.
        self.total = torch.full((batch, self.beam), -math.inf, device=device)
        self.total[:, 0] = 0.0
        self.places = torch.full((batch, 1), self.beam, device=device)
        self.finished: list[list[Hypothesis]] = [[] for _ in range(batch)]

    def grow(self, *, must_end: bool) -> None:
        """Add a token to every row, and put aside what has ended."""
        log_probabilities = self._next_log_probabilities()
        if must_end:
            others = torch.arange(log_probabilities.size(-1), device=self.total.device) != self.end
            log_probabilities = log_probabilities.masked_fill(others, -math.inf)
        candidates = (self.total[..., None] + log_probabilities).flatten(1)
        total, chosen = candidates.topk(self.beam, dim=1)
        ids, parents = chosen % log_probabilities.size(-1), chosen // log_probabilities.size(-1)
        self.total = total.masked_fill(torch.arange(self.beam, device=total.device) >= self.places, -math.inf)
        groups = torch.arange(len(self.numbers), device=total.device)[:, None]
        self._keep((groups * self.beam + parents).flatten())
        self.tokens = torch.cat((self.tokens, ids.view(-1, 1)), dim=1)
        self._put_aside((ids == self.end) & self.total.isfinite())
        self._drop_empty_groups()

    def _next_log_probabilities(self) -> Float[Tensor, "G N V"]:
        source = (self.states, Padded(Full(), self.lengths))
        logits: Tensor = self.model(self.tokens[:, -1:], source=source, cache=self.cache)[:, -1]
        return logits.float().log_softmax(dim=-1).view(len(self.numbers), self.beam, -1)

    def _put_aside(self, ended: Bool[Tensor, "G N"]) -> None:
        for group, place in ended.nonzero().tolist():
            ids = self.tokens[group * self.beam + place, 1:-1].tolist()
            hypothesis = Hypothesis(tuple(ids), float(self.total[group, place]))
            self.finished[int(self.numbers[group])].append(hypothesis)
        self.places = self.places - ended.sum(dim=1, keepdim=True)
        self.total = self.total.masked_fill(ended, -math.inf)

    def _drop_empty_groups(self) -> None:
        going = self.total.isfinite().any(dim=1)
        if bool(going.all()):
            return
        rows = going.repeat_interleave(self.beam).nonzero().flatten()
        self._keep(rows)
        self.states, self.lengths = self.states[rows], self.lengths[rows]
        self.numbers, self.total, self.places = self.numbers[going], self.total[going], self.places[going]

    def _keep(self, rows: Int[Tensor, " R"]) -> None:
        """Go on with these rows; those of a source have the same states, so that only the cache and tokens move."""
        if not torch.equal(rows, torch.arange(len(self.tokens), device=rows.device)):
            self.tokens = self.tokens[rows]
            self.cache.keep(rows)


def batches_by_length(lengths: Sequence[int], tokens_at_once: int) -> list[list[int]]:
    """Return which sources are read together: neighbours in length, so many that their padded tokens fit."""
    groups: list[list[int]] = []
    for number in sorted(range(len(lengths)), key=lengths.__getitem__):
        if groups and lengths[number] * (len(groups[-1]) + 1) <= tokens_at_once:
            groups[-1].append(number)
        else:
            groups.append([number])
    return groups
