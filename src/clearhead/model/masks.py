"""Which positions a position may read: masks as values."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from clearhead.core.errors import UserError
from clearhead.model.config import CausalConfig, MaskConfig, PerDocumentConfig, PrefixConfig


class Mask(ABC):
    """Says for each query position which key positions it may attend to.

    The queries are the last `num_queries` of the `num_keys` positions, so that a step with a cache asks for the
    bottom rows of the whole square.
    """

    @abstractmethod
    def dense(self, num_queries: int, num_keys: int, device: torch.device) -> Bool[Tensor, "#B #H T S"] | None:
        """Return True where a query may attend to a key, or None where every one may."""

    def is_causal_square(self, num_queries: int, num_keys: int) -> bool:
        """Say whether this mask is just the lower triangle of a square, which fused kernels have built in."""
        return False

    def looks_ahead(self, length: int) -> bool:
        """Say whether some of the first `length` positions may attend to one after them.

        What a cache holds of them would then change when the others come.
        """
        return False

    def bind(self, documents: Int[Tensor, "B T"] | None, weights: Float[Tensor, "B T"] | None = None) -> Mask:
        """Return the mask for one training batch.

        Args:
            documents: for each token the number of its document.
            weights: how much each target counts; where the first ones do not, their tokens are given.
        """
        return self

    def is_text(self, num_positions: int) -> Bool[Tensor, "B T"] | None:
        """Return True where a row has a token and False at its padding; None where no row is padded."""
        return None


@dataclass(frozen=True, slots=True)
class Causal(Mask):
    """A position attends to itself and to everything before it (s <= t)."""

    def dense(self, num_queries: int, num_keys: int, device: torch.device) -> Bool[Tensor, "1 1 T S"] | None:
        return None if num_queries == 1 else _triangle(num_queries, num_keys, device)[None, None]

    def is_causal_square(self, num_queries: int, num_keys: int) -> bool:
        return num_queries == num_keys


@dataclass(frozen=True, slots=True)
class Full(Mask):
    """Every position attends to every other: an encoder's mask."""

    def dense(self, num_queries: int, num_keys: int, device: torch.device) -> None:
        return None

    def looks_ahead(self, length: int) -> bool:
        return True


@dataclass(frozen=True, slots=True, eq=False)
class Padded(Mask):
    """What another mask allows, but for padding, which nobody reads.

    Args:
        lengths: how many tokens each row has; what follows is padding.
    """

    inner: Mask
    lengths: Int[Tensor, " B"]

    def dense(
        self, num_queries: int, num_keys: int, device: torch.device
    ) -> Bool[
        Tensor,
        (
            B  # 1 #T S
        ),
    ]:
        is_text = self.is_text(num_keys).to(device)[:, None, None]
        allowed = self.inner.dense(num_queries, num_keys, device)
        return is_text if allowed is None else is_text & allowed

    def looks_ahead(self, length: int) -> bool:
        return self.inner.looks_ahead(length)

    def is_text(self, num_positions: int) -> Bool[Tensor, "B T"]:
        places = torch.arange(num_positions, device=self.lengths.device)
        return places < self.lengths[:, None]


@dataclass(frozen=True, slots=True)
class Window(Mask):
    """A position attends to itself and to the `length - 1` positions before it (t - length < s <= t).

    Through several layers it still hears of more: `reach` says how far. Source: Beltagy et al. 2020, section 3.1,
    its causal half.
    """

    length: int

    def dense(self, num_queries: int, num_keys: int, device: torch.device) -> Bool[Tensor, "1 1 T S"]:
        near = _triangle(num_queries, num_keys, device).triu(diagonal=num_keys - num_queries - self.length + 1)
        return near[None, None]

    def is_causal_square(self, num_queries: int, num_keys: int) -> bool:
        return num_queries == num_keys <= self.length


@dataclass(frozen=True, slots=True)
class Prefix(Mask):
    """The first `length` positions attend to each other in both directions, every other one as in `Causal`.

    The targets inside the prefix are in plain sight, so they must not count. Bound to a batch, the prefix of each row
    is what its weights leave out. With a length of 0 or 1 this is the causal mask.
    Source: Raffel et al. 2020, section 3.2.1, "causal with prefix".
    """

    length: int = 0

    def dense(self, num_queries: int, num_keys: int, device: torch.device) -> Bool[Tensor, "1 1 T S"] | None:
        if self.length <= 1:
            return Causal().dense(num_queries, num_keys, device)
        return _with_prefix(torch.tensor([self.length], device=device), num_queries, num_keys)

    def is_causal_square(self, num_queries: int, num_keys: int) -> bool:
        return self.length <= 1 and num_queries == num_keys

    def looks_ahead(self, length: int) -> bool:
        return 0 < length < self.length

    def bind(self, documents: Int[Tensor, "B T"] | None, weights: Float[Tensor, "B T"] | None = None) -> Mask:
        if weights is None:
            return self
        uncounted = (weights != 0).cumsum(dim=1).eq(0).sum(dim=1)
        # The last given token's own target is the first that counts.
        return RowPrefixes(uncounted + 1)


@dataclass(frozen=True, slots=True, eq=False)
class RowPrefixes(Mask):
    """A prefix for each row of a batch."""

    lengths: Int[Tensor, " B"]

    def dense(self, num_queries: int, num_keys: int, device: torch.device) -> Bool[Tensor, "B 1 T S"]:
        return _with_prefix(self.lengths.to(device), num_queries, num_keys)

    def looks_ahead(self, length: int) -> bool:
        return bool(0 < length < self.lengths.max())


@dataclass(frozen=True, slots=True)
class PerDocument(Mask):
    """A position attends to what came before it in its own document.

    Without documents, as in scoring or writing a single text, this is the causal mask; `bind` gives it those of a
    batch.
    """

    def dense(self, num_queries: int, num_keys: int, device: torch.device) -> Bool[Tensor, "1 1 T S"] | None:
        return Causal().dense(num_queries, num_keys, device)

    def is_causal_square(self, num_queries: int, num_keys: int) -> bool:
        return num_queries == num_keys

    def bind(self, documents: Int[Tensor, "B T"] | None, weights: Float[Tensor, "B T"] | None = None) -> Mask:
        return self if documents is None else SameDocument(documents)


@dataclass(frozen=True, slots=True, eq=False)
class SameDocument(Mask):
    """A position attends to what came before it and bears the same document's number."""

    documents: Int[Tensor, "B T"]

    def dense(self, num_queries: int, num_keys: int, device: torch.device) -> Bool[Tensor, "B 1 T S"]:
        numbers = self.documents[:, :num_keys].to(device)
        same = numbers[:, num_keys - num_queries :, None] == numbers[:, None, :]
        return (same & _triangle(num_queries, num_keys, device))[:, None]


@dataclass(frozen=True, slots=True)
class Graph(Mask):
    """A position attends along the edges of any directed graph.

    A position that no edge leads to reads nothing; what it gathers is then zero.

    Args:
        edges: pairs (from, to): position `to` reads position `from`.
    """

    edges: tuple[tuple[int, int], ...]

    def dense(self, num_queries: int, num_keys: int, device: torch.device) -> Bool[Tensor, "1 1 T S"]:
        square = torch.zeros(num_keys, num_keys, dtype=torch.bool)
        for source, target in self.edges:
            if max(source, target) < num_keys:
                square[target, source] = True
        return square[num_keys - num_queries :].to(device)[None, None]

    def looks_ahead(self, length: int) -> bool:
        return any(target < length <= source for source, target in self.edges)


def build_mask(config: MaskConfig) -> Mask:
    """Return the mask that a config names."""
    if isinstance(config, CausalConfig):
        return Causal()
    if isinstance(config, PerDocumentConfig):
        return PerDocument()
    return Prefix() if isinstance(config, PrefixConfig) else Window(config.length)


def require_no_future(mask: Mask, length: int) -> None:
    """Refuse a mask under which a language model would see what it is to predict.

    Raises:
        UserError: a position may read a later one.
    """
    for position in range(1, length):
        if mask.looks_ahead(position):
            raise UserError(
                f"A language model cannot train with {mask}: what position {position} is to predict would be read "
                "before it; use the mask of an encoder, or one that looks back only, such as Causal()."
            )


def reach(mask: Mask, length: int, num_layers: int) -> Iterator[Bool[Tensor, "#B #H T S"]]:
    """Yield after each layer which positions s each position t has heard of, directly or through others.

    A layer lets t hear of all that the positions it attends to had heard of; by its residual connection it keeps what
    it knew itself. So after l layers it is whatever a path of at most l edges leads from. A convolution, where there
    is one, adds its own steps back, which are not counted here.
    """
    cpu = torch.device("cpu")
    allowed = mask.dense(length, length, cpu)
    if allowed is None:
        allowed = torch.ones(1, 1, length, length, dtype=torch.bool)
    step = (allowed | torch.eye(length, dtype=torch.bool)).float()
    heard = torch.eye(length).expand(step.shape)
    for _ in range(num_layers):
        heard = (step @ heard > 0).float()
        yield heard.bool()


def _triangle(num_queries: int, num_keys: int, device: torch.device) -> Bool[Tensor, "T S"]:
    square = torch.ones(num_queries, num_keys, dtype=torch.bool, device=device)
    return square.tril(diagonal=num_keys - num_queries)


def _with_prefix(lengths: Int[Tensor, " B"], num_queries: int, num_keys: int) -> Bool[Tensor, "B 1 T S"]:
    keys = torch.arange(num_keys, device=lengths.device)
    given = keys < lengths[:, None, None]
    return (given | _triangle(num_queries, num_keys, lengths.device))[:, None]
