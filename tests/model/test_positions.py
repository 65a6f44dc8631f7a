"""Position schemes: what they add, and what a query and a key then know of each other."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from clearhead.model.config import LearnedConfig, NoPositionsConfig, RotaryConfig
from clearhead.model.positions import Learned, Positions, Rotary, build_positions

CONTEXT_LENGTH, HEAD_WIDTH, WIDTH = 17, 6, 30


def random(*shape: int, seed: int = 1) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def rotary(base: float = 100.0) -> Rotary:
    return Rotary(CONTEXT_LENGTH, HEAD_WIDTH, base)


def scores(positions: Positions, query_at: int, key_at: int) -> Tensor:
    """Return the product of one query and one key at two positions, for every head."""
    q, k = random(2, 5, 1, HEAD_WIDTH, seed=1), random(2, 5, 1, HEAD_WIDTH, seed=2)
    return (positions.rotate(q, query_at) * positions.rotate(k, key_at)).sum(dim=-1)


@pytest.mark.parametrize("distance", [0, 1, 5])
def test_rotary_products_depend_on_the_distance_alone(distance: int) -> None:
    products = [scores(rotary(), key_at + distance, key_at) for key_at in range(CONTEXT_LENGTH - distance)]
    for product in products:
        torch.testing.assert_close(product, products[0], rtol=0, atol=1e-5)


def test_rotary_products_change_with_the_distance() -> None:
    assert float((scores(rotary(), 7, 2) - scores(rotary(), 7, 3)).abs().max()) > 0.1
    assert float((scores(rotary(), 7, 2) - scores(rotary(), 2, 7)).abs().max()) > 0.1


def test_positions_that_are_added_do_not_depend_on_the_distance_alone() -> None:
    class Added(Positions):
        def rotate(self, x: Tensor, start: int) -> Tensor:
            return x + 0.1 * start

    assert float((scores(Added(), 7, 5) - scores(Added(), 9, 7)).abs().max()) > 0.1


def test_rotary_turns_pairs_by_their_angles() -> None:
    x = random(2, 3, CONTEXT_LENGTH, HEAD_WIDTH)
    turned = rotary().rotate(x, 0)
    half = HEAD_WIDTH // 2
    for t in (0, 1, 13):
        for i in range(half):
            angle = t / 100.0 ** (2 * i / HEAD_WIDTH)
            first, second = x[:, :, t, i], x[:, :, t, i + half]
            wanted = (
                math.cos(angle) * first - math.sin(angle) * second,
                math.sin(angle) * first + math.cos(angle) * second,
            )
            torch.testing.assert_close(turned[:, :, t, i], wanted[0], rtol=0, atol=1e-5)
            torch.testing.assert_close(turned[:, :, t, i + half], wanted[1], rtol=0, atol=1e-5)


def test_rotary_keeps_lengths() -> None:
    x = random(2, 3, CONTEXT_LENGTH, HEAD_WIDTH)
    torch.testing.assert_close(rotary().rotate(x, 0).norm(dim=-1), x.norm(dim=-1))


def test_rotary_leaves_embeddings_and_scores_alone() -> None:
    x = random(2, 3, WIDTH)
    assert rotary().embed(x, 5) is x
    assert rotary().bias(3, 5) is None


def test_rotary_stores_nothing() -> None:
    assert rotary().state_dict() == {}


@pytest.mark.parametrize("start", [0, 1, 11])
def test_a_start_continues_where_another_call_ended(start: int) -> None:
    positions = rotary()
    x = random(2, 3, CONTEXT_LENGTH, HEAD_WIDTH)
    assert torch.equal(positions.rotate(x[:, :, start:], start), positions.rotate(x, 0)[:, :, start:])
    learned = Learned(CONTEXT_LENGTH, WIDTH)
    torch.nn.init.normal_(learned.table)
    embedded = random(2, CONTEXT_LENGTH, WIDTH)
    assert torch.equal(learned.embed(embedded[:, start:], start), learned.embed(embedded, 0)[:, start:])


def test_learned_adds_a_row_of_the_table_to_each_position() -> None:
    learned = Learned(CONTEXT_LENGTH, WIDTH)
    torch.nn.init.normal_(learned.table)
    x = random(2, 3, WIDTH)
    found = learned.embed(x, 7)
    for t in range(3):
        assert torch.equal(found[:, t], x[:, t] + learned.table[7 + t])
    q = random(2, 5, 3, HEAD_WIDTH)
    assert learned.rotate(q, 7) is q
    assert learned.bias(3, 5) is None


def test_no_positions_do_nothing() -> None:
    positions, x, q = Positions(), random(2, 3, WIDTH), random(2, 5, 3, HEAD_WIDTH)
    assert positions.embed(x, 7) is x
    assert positions.rotate(q, 7) is q
    assert positions.bias(3, 5) is None


@pytest.mark.parametrize(
    ("config", "kind"), [(LearnedConfig(), Learned), (RotaryConfig(base=7.0), Rotary), (NoPositionsConfig(), Positions)]
)
def test_each_config_has_its_scheme(config: object, kind: type) -> None:
    built = build_positions(config, context_length=CONTEXT_LENGTH, width=WIDTH, head_width=HEAD_WIDTH)
    assert type(built) is kind


def test_the_base_reaches_the_angles() -> None:
    built = build_positions(RotaryConfig(base=7.0), context_length=CONTEXT_LENGTH, width=WIDTH, head_width=HEAD_WIDTH)
    assert isinstance(built, Rotary)
    assert float(built.cosine[1, 1]) == pytest.approx(math.cos(7.0 ** (-1 / 3)), abs=1e-6)
