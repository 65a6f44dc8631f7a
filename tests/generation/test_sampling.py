"""Filters and draws, against slow definitions of what they should do."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import Tensor

from clearhead.core.errors import UserError
from clearhead.generation.sampling import (
    Sampling,
    distribution,
    draw,
    keep_min_p,
    keep_top_k,
    keep_top_p,
    penalize_repetition,
)

quickly = settings(max_examples=60, deadline=None)
# Few different values, so that ties are common.
logit = st.one_of(st.integers(-3, 3).map(float), st.floats(-20, 20).map(lambda value: round(value, 9)))
rows = st.lists(logit, min_size=1, max_size=13)
shares = st.floats(0.01, 0.99)

NO_CONTEXT = torch.zeros(1, 0, dtype=torch.long)


def softmax(logits: Sequence[float]) -> list[float]:
    largest = max(logits)
    weights = [math.exp(value - largest) for value in logits]
    return [weight / sum(weights) for weight in weights]


def slow_penalty(logits: Sequence[float], context: Sequence[int], penalty: float) -> list[float]:
    return [
        value if token not in context else value / penalty if value > 0 else value * penalty
        for token, value in enumerate(logits)
    ]


def slow_top_k(logits: Sequence[float], k: int) -> set[int]:
    """The tokens that fewer than k others beat."""
    return {i for i, value in enumerate(logits) if sum(other > value for other in logits) < k}


def slow_top_p(logits: Sequence[float], p: float) -> set[int]:
    """The likeliest tokens, taken one by one (of equals the first) until they have p together."""
    probabilities, kept = softmax(logits), set()
    for token in sorted(range(len(logits)), key=lambda token: (-probabilities[token], token)):
        total = sum(probabilities[other] for other in kept)
        assume(abs(total - p) > 1e-9)  # else rounding decides
        if total >= p:
            break
        kept.add(token)
    return kept


def slow_min_p(logits: Sequence[float], p: float) -> set[int]:
    probabilities = softmax(logits)
    assume(all(abs(each - p * max(probabilities)) > 1e-9 for each in probabilities))
    return {i for i, probability in enumerate(probabilities) if probability >= p * max(probabilities)}


def row(values: Sequence[float]) -> Tensor:
    return torch.tensor([list(values)], dtype=torch.float64)


def kept(filtered: Tensor) -> set[int]:
    return set(torch.nonzero(filtered[0] > -math.inf).flatten().tolist())


def keep(logits: Sequence[float], tokens: set[int]) -> list[float]:
    return [value if token in tokens else -math.inf for token, value in enumerate(logits)]


@quickly
@given(rows, st.integers(1, 15))
def test_top_k(logits: list[float], k: int) -> None:
    assert kept(keep_top_k(row(logits), k)) == slow_top_k(logits, k)


@quickly
@given(rows, shares)
def test_top_p(logits: list[float], p: float) -> None:
    assert kept(keep_top_p(row(logits), p)) == slow_top_p(logits, p)


@quickly
@given(rows, shares)
def test_min_p(logits: list[float], p: float) -> None:
    assert kept(keep_min_p(row(logits), p)) == slow_min_p(logits, p)


@quickly
@given(rows, st.lists(st.integers(0, 12), max_size=17), st.floats(0.1, 5))
def test_repetition_penalty(logits: list[float], context: list[int], penalty: float) -> None:
    seen = [token for token in context if token < len(logits)]
    found = penalize_repetition(row(logits), torch.tensor([seen], dtype=torch.long), penalty)
    assert found[0].tolist() == pytest.approx(slow_penalty(logits, seen, penalty))


def test_a_token_said_twice_is_penalized_once() -> None:
    found = penalize_repetition(row([3.0, -3.0, 3.0]), torch.tensor([[0, 0, 1, 1, 1]]), 3.0)
    assert found[0].tolist() == [1.0, -9.0, 3.0]


def test_ties_with_the_kth_stay() -> None:
    assert kept(keep_top_k(row([1.0, 5.0, 1.0, 0.0]), 2)) == {0, 1, 2}


def test_of_equal_tokens_top_p_takes_the_first() -> None:
    even = row([math.log(0.25)] * 4)
    assert kept(keep_top_p(even, 0.5)) == {0, 1}
    assert kept(keep_top_p(even, 0.51)) == {0, 1, 2}


def test_top_p_always_leaves_a_token() -> None:
    assert kept(keep_top_p(row([0.0, 1.0, 0.5]), 1e-9)) == {1}


def test_min_p_of_one_leaves_the_likeliest_and_its_equals() -> None:
    assert kept(keep_min_p(row([2.0, 1.0, 2.0]), 1.0)) == {0, 2}


def test_rows_are_filtered_on_their_own() -> None:
    both = torch.tensor([[0.0, 1.0, 2.0], [9.0, 1.0, 0.0]], dtype=torch.float64)
    for one in (lambda x: keep_top_k(x, 2), lambda x: keep_top_p(x, 0.7), lambda x: keep_min_p(x, 0.3)):
        assert torch.equal(one(both), torch.cat((one(both[:1]), one(both[1:]))))


@quickly
@given(
    rows,
    st.lists(st.integers(0, 12), max_size=5),
    st.builds(
        Sampling,
        repetition_penalty=st.floats(0.5, 2),
        temperature=st.floats(0.2, 3),
        top_k=st.none() | st.integers(1, 13),
        top_p=shares,
        min_p=shares,
    ),
)
def test_the_filters_work_in_the_documented_order(logits: list[float], context: list[int], how: Sampling) -> None:
    seen = [token for token in context if token < len(logits)]
    expected = slow_penalty(logits, seen, how.repetition_penalty)
    # The largest becomes 0 first there as well: what differs by less than rounding is then equally likely here too.
    expected = [(value - max(expected)) / how.temperature for value in expected]
    if how.top_k is not None:
        expected = keep(expected, slow_top_k(expected, how.top_k))
    expected = keep(expected, slow_top_p(expected, how.top_p))
    expected = keep(expected, slow_min_p(expected, how.min_p))
    found = distribution(row(logits), torch.tensor([seen], dtype=torch.long), how)
    assert found[0].tolist() == pytest.approx(softmax(expected), abs=1e-9)


def test_another_order_would_give_another_distribution() -> None:
    logits = row([math.log(share) for share in (0.5, 0.3, 0.2)])
    found = distribution(logits, NO_CONTEXT, Sampling(temperature=10.0, top_p=0.45))
    assert kept(found.log()) == {0, 1}
    assert kept(keep_top_p(logits, 0.45) / 10.0) == {0}


def test_temperature_zero_takes_the_likeliest_and_of_equals_the_first() -> None:
    found = distribution(row([1.0, 7.0, 7.0, 0.0]), NO_CONTEXT, Sampling(temperature=0.0))
    assert found[0].tolist() == [0.0, 1.0, 0.0, 0.0]


@pytest.mark.parametrize("temperature", [1e-300, 1e-9, 1e-3])
def test_a_temperature_near_zero_comes_close_to_it(temperature: float) -> None:
    found = distribution(row([15.0, -15.0, 14.9, 3.0]), NO_CONTEXT, Sampling(temperature=temperature))
    assert found[0].tolist() == pytest.approx([1.0, 0.0, 0.0, 0.0], abs=1e-9)


def test_a_penalty_changes_what_temperature_zero_takes() -> None:
    said = torch.tensor([[1]])
    found = distribution(row([4.0, 5.0]), said, Sampling(temperature=0.0, repetition_penalty=2.0))
    assert found[0].tolist() == [1.0, 0.0]


@pytest.mark.parametrize("broken", [math.nan, math.inf, -math.inf])
def test_logits_that_are_not_finite_are_refused(broken: float) -> None:
    with pytest.raises(UserError, match="not finite"):
        distribution(row([0.0, broken, 1.0]), NO_CONTEXT, Sampling())


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("temperature", -0.1),
        ("temperature", math.nan),
        ("temperature", math.inf),
        ("top_k", 0),
        ("top_k", -3),
        ("top_p", 0.0),
        ("top_p", 1.1),
        ("top_p", math.nan),
        ("min_p", -0.1),
        ("min_p", 1.1),
        ("min_p", math.nan),
        ("repetition_penalty", 0.0),
        ("repetition_penalty", -1.0),
        ("repetition_penalty", math.inf),
        ("repetition_penalty", math.nan),
    ],
)
def test_numbers_out_of_range_are_refused_by_name(field: str, value: float) -> None:
    with pytest.raises(UserError, match=f"^{field} must be .*, not {value}"):
        Sampling(**{field: value})  # type: ignore[arg-type]


Draw = Callable[[Tensor, Tensor], Tensor]
NEARLY_ONE = math.nextafter(1.0, 0.0)


def follows_the_probabilities(drawing: Draw) -> bool:
    """Whether 10,000 evenly spaced numbers in [0, 1) give each token its share, and none to a token without one."""
    shares = torch.tensor([0.0, 0.37, 0.0, 0.125, 0.005, 0.5, 0.0], dtype=torch.float64)
    count = 10_000
    uniforms = torch.arange(count, dtype=torch.float64) / count
    uniforms = torch.cat((uniforms, torch.tensor([NEARLY_ONE], dtype=torch.float64)))
    drawn = drawing(shares.expand(count + 1, -1).contiguous(), uniforms)
    counts = torch.bincount(drawn, minlength=len(shares)).double()
    return bool(((counts - count * shares).abs() <= 2).all()) and not bool(counts[shares == 0].any())


def test_draws_follow_the_probabilities() -> None:
    assert follows_the_probabilities(draw)


def test_a_draw_that_meets_the_border_from_below_is_caught() -> None:
    def from_below(probabilities: Tensor, uniforms: Tensor) -> Tensor:
        return torch.searchsorted(probabilities.cumsum(-1), uniforms.unsqueeze(-1), right=False).squeeze(-1)

    assert not follows_the_probabilities(from_below)


@quickly
@given(st.lists(st.floats(0, 1), min_size=1, max_size=11), st.floats(0, NEARLY_ONE))
def test_a_draw_is_the_inverse_of_the_cumulated_distribution(weights: list[float], uniform: float) -> None:
    total = sum(weights)
    assume(total > 1e-6)
    shares = [weight / total for weight in weights]
    borders = [sum(shares[: end + 1]) for end in range(len(shares))]
    assume(all(abs(border - uniform) > 1e-9 for border in borders))
    expected = next(token for token, border in enumerate(borders) if border > uniform)
    found = draw(row(shares), torch.tensor([uniform], dtype=torch.float64))
    assert int(found) == expected


@pytest.mark.parametrize("uniform", [0.0, NEARLY_ONE])
def test_the_ends_of_the_unit_interval_draw_tokens_that_have_a_probability(uniform: float) -> None:
    shares = torch.tensor([[0.0, 0.1, 0.2, 0.0], [0.0, 0.0, 1 / 3, 0.0]], dtype=torch.float32)
    found = draw(shares, torch.full((2,), uniform, dtype=torch.float64))
    assert found.tolist() == ([1, 2] if uniform == 0.0 else [2, 2])


def test_what_must_never_come_takes_no_part_in_any_filter() -> None:
    logits, never = row([3.0, 9.0, 1.0, 8.0, 2.0]), torch.tensor([1, 3])
    for sampling in (
        Sampling(),
        Sampling(top_k=2),
        Sampling(top_p=0.7),
        Sampling(min_p=0.2),
        Sampling(temperature=0.0),
    ):
        found = distribution(logits, NO_CONTEXT, sampling, never=never)
        assert found[0, [1, 3]].tolist() == [0, 0]
        torch.testing.assert_close(found[:, [0, 2, 4]], distribution(row([3.0, 1.0, 2.0]), NO_CONTEXT, sampling))
