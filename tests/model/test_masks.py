"""Masks: their dense forms, one number at a time."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from clearhead.core.config import build
from clearhead.core.errors import UserError
from clearhead.model import laws
from clearhead.model.config import (
    CausalConfig,
    GptConfig,
    MaskConfig,
    NoPositionsConfig,
    PerDocumentConfig,
    PrefixConfig,
    WindowConfig,
)
from clearhead.model.laws import Nothing, OnlyEarlier
from clearhead.model.masks import Causal, Full, Graph, Mask, PerDocument, Prefix, Window, build_mask, reach
from clearhead.model.transformer import GPT

CPU = torch.device("cpu")


def allowed(mask: Mask, num_queries: int, num_keys: int) -> list[list[bool]]:
    """Return a mask's dense form as rows of queries; None stands for all."""
    dense = mask.dense(num_queries, num_keys, CPU)
    if dense is None:
        return [[True] * num_keys for _ in range(num_queries)]
    return dense[0, 0].tolist()


@pytest.mark.parametrize(("num_queries", "num_keys"), [(7, 7), (3, 7), (1, 7), (1, 1), (7, 11)])
def test_causal_reads_itself_and_what_came_before(num_queries: int, num_keys: int) -> None:
    before = num_keys - num_queries
    wanted = [[s <= t + before for s in range(num_keys)] for t in range(num_queries)]
    assert allowed(Causal(), num_queries, num_keys) == wanted


def test_a_later_query_asks_for_the_bottom_rows_of_the_square() -> None:
    square = allowed(Causal(), 7, 7)
    for num_queries in (1, 2, 5):
        assert allowed(Causal(), num_queries, 7) == square[-num_queries:]


def test_the_diagonal_is_allowed() -> None:
    dense = Causal().dense(7, 7, CPU)
    assert dense is not None
    assert bool(dense[0, 0].diagonal().all())
    without = OnlyEarlier().dense(7, 7, CPU)
    assert not bool(without[0, 0].diagonal().any())


def test_one_query_needs_no_mask() -> None:
    assert Causal().dense(1, 7, CPU) is None


@pytest.mark.parametrize(
    ("num_queries", "num_keys", "square"), [(5, 5, True), (1, 1, True), (1, 5, False), (4, 5, False)]
)
def test_only_a_square_causal_mask_is_built_into_kernels(num_queries: int, num_keys: int, square: bool) -> None:
    assert Causal().is_causal_square(num_queries, num_keys) is square


@pytest.mark.parametrize("mask", [Full(), Nothing(), OnlyEarlier()])
def test_no_other_mask_is_taken_for_causal(mask: Mask) -> None:
    assert not mask.is_causal_square(5, 5)


def test_full_reads_everything() -> None:
    assert all(all(row) for row in allowed(Full(), 3, 5))
    assert not any(any(row) for row in allowed(Nothing(), 3, 5))


def test_masks_are_values() -> None:
    assert Causal() == Causal()
    assert Causal() != Full()
    assert len({Causal(), Causal(), Full()}) == 2


DOCUMENTS = torch.tensor([[0, 0, 1, 1, 1, 1, 2], [0, 1, 1, 2, 2, 2, 2]])

EXAMPLES: dict[str, tuple[Mask, Callable[[int, int], bool]]] = {
    "causal": (Causal(), lambda t, s: s <= t),
    "full": (Full(), lambda t, s: True),
    "window": (Window(3), lambda t, s: t - 3 < s <= t),
    "window of one": (Window(1), lambda t, s: s == t),
    "prefix": (Prefix(4), lambda t, s: s <= t or s < 4),
    "no prefix": (Prefix(), lambda t, s: s <= t),
    "unbound documents": (PerDocument(), lambda t, s: s <= t),
    "graph": (Graph(((0, 2), (2, 2), (6, 2), (5, 6))), lambda t, s: (s, t) in {(0, 2), (2, 2), (6, 2), (5, 6)}),
}
"""Masks beside what they say about one query and one key."""


@pytest.mark.parametrize("name", list(EXAMPLES))
@pytest.mark.parametrize("num_queries", [7, 3, 1])
def test_a_mask_is_its_sentence_said_of_every_pair(name: str, num_queries: int) -> None:
    mask, may_read = EXAMPLES[name]
    wanted = [[may_read(t, s) for s in range(7)] for t in range(7 - num_queries, 7)]
    assert allowed(mask, num_queries, 7) == wanted


@pytest.mark.parametrize("name", list(EXAMPLES))
def test_a_mask_says_whether_it_looks_ahead(name: str) -> None:
    mask, may_read = EXAMPLES[name]
    for length in range(1, 7):
        ahead = any(may_read(t, s) for t in range(length) for s in range(length, 7))
        assert mask.looks_ahead(length) is (ahead or mask == Full())


@pytest.mark.parametrize("name", list(EXAMPLES))
@pytest.mark.parametrize("length", [1, 2, 7])
def test_only_a_triangle_is_taken_for_causal(name: str, length: int) -> None:
    mask, _ = EXAMPLES[name]
    if mask.is_causal_square(length, length):
        assert allowed(mask, length, length) == allowed(Causal(), length, length)


@pytest.mark.parametrize("name", list(EXAMPLES))
def test_equal_masks_are_equal_values(name: str) -> None:
    mask, _ = EXAMPLES[name]
    assert replace(mask) == mask
    assert len({replace(mask), mask}) == 1


def test_documents_are_kept_apart() -> None:
    dense = PerDocument().bind(DOCUMENTS).dense(7, 7, CPU)
    for row, numbers in enumerate(DOCUMENTS.tolist()):
        wanted = [[s <= t and numbers[s] == numbers[t] for s in range(7)] for t in range(7)]
        assert dense[row, 0].tolist() == wanted


def test_documents_are_read_from_the_end_of_a_cache() -> None:
    bound = PerDocument().bind(DOCUMENTS)
    assert torch.equal(bound.dense(2, 5, CPU), bound.dense(7, 7, CPU)[:, :, 3:5, :5])


def test_a_prefix_is_what_the_weights_leave_out() -> None:
    weights = torch.tensor([[0.0, 0, 0, 1, 1, 1, 1], [1.0, 1, 0, 1, 1, 1, 1], [0.0, 0.5, 1, 0, 1, 1, 1]])
    dense = Prefix().bind(None, weights).dense(7, 7, CPU)
    for row, length in enumerate((4, 1, 2)):
        assert dense[row, 0].tolist() == allowed(Prefix(length), 7, 7)


@pytest.mark.parametrize("mask", [Causal(), Full(), Window(3), Graph(((0, 1),))])
def test_binding_changes_only_what_depends_on_the_batch(mask: Mask) -> None:
    assert mask.bind(DOCUMENTS, torch.zeros(2, 7)) is mask
    assert PerDocument().bind(None) == PerDocument()
    assert Prefix(3).bind(DOCUMENTS) == Prefix(3)


# What hears of what.


@pytest.mark.parametrize("name", list(EXAMPLES))
def test_reach_follows_paths(name: str) -> None:
    mask, may_read = EXAMPLES[name]
    heard = [{t} for t in range(7)]
    for found in reach(mask, 7, 3):
        heard = [set.union(heard[t], *(heard[s] for s in range(7) if may_read(t, s))) for t in range(7)]
        assert found[0, 0].tolist() == [[s in heard[t] for s in range(7)] for t in range(7)]


def test_a_window_reaches_further_with_each_layer() -> None:
    back = [int(found[0, 0, 16].sum()) for found in reach(Window(4), 17, 4)]
    assert back == [4, 7, 10, 13]


REACHING = [
    Causal(),
    Full(),
    Window(2),
    Prefix(3),
    PerDocument().bind(DOCUMENTS),
    Prefix().bind(None, torch.tensor([[0.0, 0, 0, 1, 1, 1, 1], [1.0] * 7])),
    Graph(((0, 2), (2, 4), (6, 4), (4, 1), (1, 1))),
]


@pytest.mark.parametrize("mask", REACHING, ids=lambda mask: type(mask).__name__)
def test_a_model_hears_exactly_what_reach_says(mask: Mask) -> None:
    """Layer by layer, a state has a gradient with respect to an embedding exactly where there is a path."""
    model = small_model()
    seen: dict[str, Tensor] = {}
    model(TOKENS, mask=mask, tap=seen.setdefault)
    for layer, heard in enumerate(reach(mask, 7, 2)):
        state = seen[f"blocks.{layer}.resid_post"]
        weights = torch.randn(state.size(-1), generator=torch.Generator().manual_seed(3))
        for t in range(7):
            total = (state[:, t] * weights).sum()
            (gradient,) = torch.autograd.grad(total, seen["embed.tok"], retain_graph=True)
            moved = gradient.abs().amax(dim=-1) > 0
            assert moved.tolist() == heard.expand(2, 1, 7, 7)[:, 0, t].tolist()


# In a model.

TOKENS = torch.randint(23, (2, 7), generator=torch.Generator().manual_seed(5))
SMALL = GptConfig(num_layers=2, num_heads=3, width=24, context_length=7, convolution=1, initialization="normal")


def small_model(**changes: Any) -> GPT:
    torch.manual_seed(2)
    model = GPT(replace(SMALL, **changes), 23).eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.4)
    return model


@pytest.mark.parametrize(
    ("config", "mask"),
    [
        (CausalConfig(), Causal()),
        (WindowConfig(length=3), Window(3)),
        (PerDocumentConfig(), PerDocument()),
        (PrefixConfig(longest=3), Prefix()),
    ],
)
def test_a_config_names_the_mask_of_a_model(config: MaskConfig, mask: Mask) -> None:
    model = small_model(mask=config)
    assert build_mask(config) == model.mask == mask
    assert torch.equal(model(TOKENS), model(TOKENS, mask=mask))


def test_a_document_reads_as_if_it_stood_alone() -> None:
    model = small_model(positions=NoPositionsConfig())
    together = model(TOKENS, mask=PerDocument().bind(DOCUMENTS))
    for row, numbers in enumerate(DOCUMENTS.tolist()):
        for number in set(numbers):
            places = [t for t, other in enumerate(numbers) if other == number]
            alone = model(TOKENS[row : row + 1, places])
            torch.testing.assert_close(together[row : row + 1, places], alone, rtol=0, atol=1e-5)


@pytest.mark.parametrize("mask", [Prefix(4), Window(3), PerDocument().bind(DOCUMENTS), Graph(((0, 2), (2, 4), (4, 4)))])
@pytest.mark.parametrize("pieces", [[4, 1, 1, 1], [5, 2], [7]])
@torch.no_grad()
def test_reading_in_pieces_is_reading_at_once(mask: Mask, pieces: list[int]) -> None:
    model = small_model()
    cache = model.new_cache(2)
    read = torch.cat([model(part, mask=mask, cache=cache) for part in TOKENS.split(pieces, dim=1)], dim=1)
    torch.testing.assert_close(read, model(TOKENS, mask=mask), rtol=0, atol=1e-5)


@pytest.mark.parametrize("mask", [Prefix(4), Full(), Graph(((0, 2), (5, 1)))])
def test_a_cache_that_would_go_stale_is_refused_by_name(mask: Mask) -> None:
    model = small_model()
    cache = model.new_cache(2)
    model(TOKENS[:, :3], mask=mask, cache=cache)
    with pytest.raises(UserError, match=re.escape(f"With {mask} one of the 3 positions in the cache would read")):
        model(TOKENS[:, 3:], mask=mask, cache=cache)


@pytest.mark.parametrize("mask", [Full(), Prefix(3), Graph(((0, 2), (2, 2), (5, 4)))])
def test_a_mask_that_shows_the_future_is_refused_by_name(mask: Mask) -> None:
    with pytest.raises(UserError, match=re.escape(f"A language model cannot train with {mask}:")):
        small_model().use_mask(mask)


@pytest.mark.parametrize("mask", [Causal(), Window(2), Prefix(), PerDocument(), Graph(((0, 2), (2, 2), (4, 5)))])
def test_a_mask_that_looks_back_only_is_used(mask: Mask) -> None:
    model = small_model()
    model.use_mask(mask)
    laws.the_future_is_not_read(model, 23)
    assert torch.equal(model(TOKENS), model(TOKENS, mask=mask))


def test_no_kind_of_mask_that_shows_the_future_can_be_set() -> None:
    with pytest.raises(UserError, match=r"model\.mask\.kind"):
        build(GptConfig, {"mask": {"kind": "full"}}, where="model")
