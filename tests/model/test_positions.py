"""Position schemes: what they add, and what a query and a key then know of each other."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import product

import pytest
import torch
from torch import Tensor

from clearhead.core.errors import UserError
from clearhead.model import laws
from clearhead.model.attention import explicit
from clearhead.model.config import (
    AlibiConfig,
    ConcatenatedConfig,
    FourierConfig,
    GptConfig,
    LearnedConfig,
    NoPositionsConfig,
    PositionsConfig,
    RotaryConfig,
    SinusoidalConfig,
)
from clearhead.model.masks import Causal
from clearhead.model.positions import (
    Alibi,
    Concatenated,
    Fourier,
    Learned,
    Positions,
    Rotary,
    Sinusoidal,
    build_positions,
)
from clearhead.model.transformer import GPT, extended

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
    for found in products:
        torch.testing.assert_close(found, products[0], rtol=0, atol=1e-5)


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


def test_sinusoids_are_those_of_the_paper_in_halves() -> None:
    x = random(2, 5, WIDTH)
    found = Sinusoidal(WIDTH, 100.0, 0.5).embed(x, 7) - x
    for t, i in product(range(5), range(WIDTH // 2)):
        angle = (7 + t) / 100.0 ** (2 * i / WIDTH)
        assert float(found[1, t, i]) == pytest.approx(0.5 * math.sin(angle), abs=1e-5)
        assert float(found[1, t, i + WIDTH // 2]) == pytest.approx(0.5 * math.cos(angle), abs=1e-5)


def test_near_positions_have_near_sinusoids() -> None:
    vectors = Sinusoidal(WIDTH, 10_000.0, 1.0).embed(torch.zeros(1, 40, WIDTH), 0)[0]
    products = vectors @ vectors.T
    assert bool((products[7, 7:12].diff() < 0).all())
    torch.testing.assert_close(products[3, 5], products[33, 35])


def test_an_odd_width_leaves_the_last_cosine_out() -> None:
    assert Sinusoidal(7, 100.0, 1.0).embed(random(2, 5, 7), 0).shape == (2, 5, 7)


def test_alibi_is_the_papers_series() -> None:
    bias = Alibi(8).bias(3, 5)
    for head, t, s in product(range(8), range(3), range(5)):
        assert float(bias[head, t, s]) == -(2.0 ** -(head + 1)) * abs(t + 2 - s)


def test_a_steeper_head_of_alibi_reads_nearer() -> None:
    q, k, v = (random(1, 6, 9, HEAD_WIDTH, seed=seed) for seed in (1, 2, 3))
    patterns: list[Tensor] = []
    explicit(0 * q, k, v, Causal(), Alibi(6).bias(9, 9), lambda name, x: patterns.append(x) or x)
    reach = (patterns[-1][0, :, -1] * torch.arange(8, -1, -1)).sum(dim=-1)
    assert bool((reach.diff() > 0).all())


def test_concatenated_positions_stand_beside_the_tokens() -> None:
    positions = Concatenated(CONTEXT_LENGTH, 7)
    positions.draw(1.0)
    assert positions.token_width(WIDTH) == WIDTH - 7
    x = random(2, 3, WIDTH - 7)
    found = positions.embed(x, 5)
    assert torch.equal(found[..., :-7], x)
    assert torch.equal(found[..., -7:], positions.table[5:8].expand(2, -1, -1))


def fourier(num_frequencies: int = 64, spread: float = 0.3, *, learned: bool = False) -> Fourier:
    positions = Fourier(WIDTH, num_frequencies, spread, learned=learned)
    positions.draw(0.1)
    return positions


def test_fourier_features_approach_a_normal_curve_of_the_distance() -> None:
    features = fourier(512).features(torch.arange(40.0))
    for distance in (0, 1, 3, 8):
        kernel = float(features[20] @ features[20 + distance])
        assert kernel == pytest.approx(math.exp(-((0.3 * distance) ** 2) / 2), abs=0.01)
        assert kernel == pytest.approx(float(features[0] @ features[distance]), abs=1e-5)


def test_fourier_features_are_mapped_and_added() -> None:
    positions, x = fourier(7), random(2, 3, WIDTH)
    angles = torch.outer(torch.tensor([5.0, 6.0, 7.0]), positions.frequencies)
    wanted = torch.cat((angles.cos(), angles.sin()), dim=1) / 7**0.5 @ positions.map.weight.T
    torch.testing.assert_close(positions.embed(x, 5) - x, wanted.expand(2, -1, -1), rtol=0, atol=1e-5)


def test_frequencies_are_trained_only_where_asked() -> None:
    assert [name for name, _ in fourier(learned=False).named_parameters()] == ["map.weight"]
    assert set(fourier(learned=False).state_dict()) == {"map.weight"}
    positions = fourier(learned=True)
    before = positions.frequencies.detach().clone()
    positions.embed(random(2, 3, WIDTH), 5).square().sum().backward()
    assert bool(positions.frequencies.grad.abs().gt(0).all())
    positions.draw(1.0)
    assert torch.equal(positions.frequencies, before)


# More positions than in training.

KINDS: dict[str, PositionsConfig] = {
    "rotary": RotaryConfig(),
    "none": NoPositionsConfig(),
    "sinusoidal": SinusoidalConfig(),
    "alibi": AlibiConfig(),
    "fourier": FourierConfig(num_frequencies=5),
    "learned": LearnedConfig(),
    "concatenated": ConcatenatedConfig(),
}
SMALL = GptConfig(num_layers=2, num_heads=2, width=24, context_length=7, initialization="normal")


def model_with(kind: str, context_length: int = 7) -> GPT:
    torch.manual_seed(3)
    model = GPT(replace(SMALL, positions=KINDS[kind], context_length=context_length), 23).eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.4)
    return model


@pytest.mark.parametrize("factor", [2, 4])
@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind not in ("learned", "concatenated")])
@torch.no_grad()
def test_a_scheme_without_a_table_reads_further(kind: str, factor: int) -> None:
    short, tokens = model_with(kind), torch.randint(23, (2, factor * 7), generator=torch.Generator().manual_seed(1))
    longer = extended(short, factor * 7)
    built = model_with(kind, factor * 7)
    built.load_state_dict(short.state_dict())
    assert longer.config == built.config
    assert torch.equal(longer(tokens), built(tokens))
    assert torch.equal(longer(tokens[:, :7]), short(tokens[:, :7]))
    laws.cached_equals_uncached(longer, 23)
    with pytest.raises(UserError, match="at most 7 positions"):
        short(tokens)


@pytest.mark.parametrize("kind", ["learned", "concatenated"])
def test_a_table_has_no_row_for_further_positions(kind: str) -> None:
    with pytest.raises(UserError, match="a trained vector for each of 7 positions and none for position 7"):
        extended(model_with(kind), 14)


def test_concatenated_positions_leave_the_embedding_narrower() -> None:
    model = GPT(replace(SMALL, positions=ConcatenatedConfig(share=1 / 3)), 23)
    assert model.embedding.weight.shape == (23, 16)
    assert model.positions.table.shape == (7, 8)
    assert set(model.roles()) == {name for name, _ in model.named_parameters()}


def test_no_positions_do_nothing() -> None:
    positions, x, q = Positions(), random(2, 3, WIDTH), random(2, 5, 3, HEAD_WIDTH)
    assert positions.embed(x, 7) is x
    assert positions.rotate(q, 7) is q
    assert positions.bias(3, 5) is None


@pytest.mark.parametrize(
    ("config", "kind"),
    [
        (LearnedConfig(), Learned),
        (RotaryConfig(base=7.0), Rotary),
        (NoPositionsConfig(), Positions),
        (SinusoidalConfig(), Sinusoidal),
        (AlibiConfig(), Alibi),
        (ConcatenatedConfig(), Concatenated),
        (FourierConfig(), Fourier),
    ],
)
def test_each_config_has_its_scheme(config: object, kind: type) -> None:
    built = build_positions(config, context_length=CONTEXT_LENGTH, width=WIDTH, head_width=HEAD_WIDTH)
    assert type(built) is kind


def test_the_base_reaches_the_angles() -> None:
    built = build_positions(RotaryConfig(base=7.0), context_length=CONTEXT_LENGTH, width=WIDTH, head_width=HEAD_WIDTH)
    assert isinstance(built, Rotary)
    assert float(built.cosine[1, 1]) == pytest.approx(math.cos(7.0 ** (-1 / 3)), abs=1e-6)
