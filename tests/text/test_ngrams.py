from __future__ import annotations

import math
import tracemalloc
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clearhead.text.ngrams import NgramModel, baselines, count_ngrams

Predict = Callable[[Sequence[int]], np.ndarray]


def ids(values: Sequence[int]) -> np.ndarray:
    return np.array(values, np.int32)


def counted(training: Sequence[int], vocabulary_size: int, order: int) -> NgramModel:
    return NgramModel(count_ngrams(ids(training), vocabulary_size, order), vocabulary_size)


# --- the same formula with dictionaries


def slow_discounts(amounts: Sequence[int]) -> list[float]:
    n1, n2, n3, n4 = (1 + sum(amount == value for amount in amounts) for value in (1, 2, 3, 4))
    first = n1 / (n1 + 2 * n2)
    second = 2 - 3 * first * n3 / n2
    third = 3 - 4 * first * n4 / n3
    return [0.0, first, min(max(second, first), 2.0), min(max(third, first), 3.0)]


def slow_amounts(training: Sequence[int], n: int, order: int) -> dict[tuple[int, ...], int]:
    """How often each n-gram occurs; for n < order, how many different tokens stand before it."""
    found = Counter(tuple(training[i : i + n]) for i in range(len(training) - n + 1))
    if n == order:
        return dict(found)
    before = defaultdict(set)
    for i in range(1, len(training) - n + 1):
        before[tuple(training[i : i + n])].add(training[i - 1])
    return {ngram: len(before[ngram]) for ngram in found}


def slow_model(training: Sequence[int], vocabulary_size: int, order: int, *, hand_down: bool = True) -> Predict:
    """The dictionary twin; without `hand_down` it forgets what discounting left for shorter n-grams."""
    order = min(order, len(training))
    levels = [slow_amounts(training, n, order) for n in range(1, order + 1)]
    discounts = [slow_discounts(list(level.values())) for level in levels]

    def predict(context: Sequence[int]) -> np.ndarray:
        likely = np.full(vocabulary_size, 1 / vocabulary_size)
        for n in range(1, min(order, len(context) + 1) + 1):
            suffix = tuple(context[len(context) - n + 1 :])
            amounts = [levels[n - 1].get((*suffix, token), 0) for token in range(vocabulary_size)]
            taken = [discounts[n - 1][min(amount, 3)] for amount in amounts]
            if sum(amounts) > 0:
                kept = np.array(amounts) - np.array(taken)
                likely = (kept + hand_down * sum(taken) * likely) / sum(amounts)
        return likely

    return predict


def sums_to_one(predict: Predict, contexts: Sequence[Sequence[int]]) -> bool:
    return all(abs(predict(context).sum() - 1) < 1e-9 for context in contexts)


texts = st.lists(st.integers(0, 4), min_size=1, max_size=60)


@settings(max_examples=150, deadline=None)
@given(training=texts, validation=texts, order=st.integers(1, 5), vocabulary_size=st.sampled_from([5, 7, 11]))
def test_the_fast_model_equals_the_dictionaries(
    training: list[int], validation: list[int], order: int, vocabulary_size: int
) -> None:
    model = counted(training, vocabulary_size, order)
    slow = slow_model(training, vocabulary_size, order)
    contexts = [validation[:i] for i in range(len(validation))]
    expected = [slow(context) for context in contexts]
    np.testing.assert_allclose([model.distribution(context) for context in contexts], expected, rtol=0, atol=1e-9)
    scored = [row[token] for row, token in zip(expected, validation, strict=True)]
    np.testing.assert_allclose(model.probabilities(ids(validation)), scored, rtol=0, atol=1e-9)
    assert min(row.min() for row in expected) > 0


@pytest.mark.parametrize("order", [1, 2, 3, 5])
def test_the_chances_of_all_tokens_sum_to_one(order: int) -> None:
    rng = np.random.default_rng(3)
    training = rng.integers(0, 5, 311).tolist()
    contexts = [rng.integers(0, 7, size).tolist() for size in range(13) for _ in range(5)]
    assert sums_to_one(counted(training, 7, order).distribution, contexts)
    assert not sums_to_one(slow_model(training, 7, order, hand_down=False), contexts)


# --- examples worked by hand


def test_a_bigram_model_by_hand() -> None:
    # In 0 1 0 2 the bigrams 01, 10, 02 occur once each, and each token stands after one other token. So both lengths
    # have amounts 1, 1, 1: n1 = 3 and n2 = n3 = n4 = 0, each plus one, and D = 4 / (4 + 2 x 1) = 2/3.
    # Unigrams: (1 - 2/3) / 3 + (3 x 2/3) / 3 x 1/3 = 1/3. After 0, of two: (1 - 2/3) / 2 + (2 x 2/3) / 2 x 1/3 = 7/18.
    model = counted([0, 1, 0, 2], 3, 2)
    np.testing.assert_allclose(model.distribution([0]), [4 / 18, 7 / 18, 7 / 18], rtol=1e-12)
    np.testing.assert_allclose(model.distribution([2, 1]), [5 / 9, 2 / 9, 2 / 9], rtol=1e-12)
    np.testing.assert_allclose(model.distribution([2]), [1 / 3, 1 / 3, 1 / 3], rtol=1e-12)
    np.testing.assert_allclose(model.probabilities(ids([0, 1, 2])), [1 / 3, 7 / 18, 2 / 9], rtol=1e-12)


def test_baselines_by_hand() -> None:
    # Unigrams of 0 1 0 2: amounts 2, 1, 1, so D(1) = 3/7, D(2) = 2 - 3 x 3/7 x 1/2 = 19/14, held = 31/14.
    unigram, bigram = baselines(ids([0, 1, 0, 2]), ids([0, 1, 2]), 3, ids([1, 2, 3]), orders=(1, 2))
    nats = -math.log(55 / 168) - math.log(55 / 168)
    assert unigram.name == "unigram"
    assert unigram.nats_per_token == pytest.approx(nats / 2, rel=1e-12)
    assert unigram.bits_per_byte == pytest.approx(nats / math.log(2) / 5, rel=1e-12)  # 2 + 3 bytes were scored
    assert bigram.name == "bigram"
    assert bigram.nats_per_token == pytest.approx(-math.log(7 / 18 * 2 / 9) / 2, rel=1e-12)


def test_a_lossy_tokenizer_has_no_bits_per_byte() -> None:
    assert [found.bits_per_byte for found in baselines(ids([0, 1, 0]), ids([1, 0]), 2, None)] == [None] * 3


# --- what the numbers mean


def chain(num_tokens: int, vocabulary_size: int, length: int, seed: int) -> tuple[np.ndarray, float]:
    """Draw a text whose next token depends on the last `length`, and return it with its exact nats a token."""
    rng = np.random.default_rng(seed)
    table = rng.dirichlet(np.full(vocabulary_size, 0.2), vocabulary_size**length)
    draws = rng.random(num_tokens)
    cumulative = table.cumsum(axis=1)
    state, text, nats = 0, [], 0.0
    for draw in draws:
        token = min(int(np.searchsorted(cumulative[state], draw)), vocabulary_size - 1)
        nats -= math.log(table[state, token])
        text.append(token)
        state = (state * vocabulary_size + token) % vocabulary_size**length
    return ids(text), nats / num_tokens


def test_the_bigram_model_learns_a_chain_of_one_step() -> None:
    text, floor = chain(30_000, 11, 1, seed=1)
    unigram, bigram, _ = baselines(text[:25_000], text[25_000:], 11, None)
    assert bigram.nats_per_token == pytest.approx(floor, abs=0.03)
    assert unigram.nats_per_token > bigram.nats_per_token + 0.2


def test_longer_contexts_help_where_there_is_structure() -> None:
    text, floor = chain(30_000, 5, 3, seed=2)
    unigram, bigram, five = baselines(text[:25_000], text[25_000:], 5, ids([1] * 5))
    assert [found.name for found in (unigram, bigram, five)] == ["unigram", "bigram", "5-gram"]
    assert floor - 0.05 < five.nats_per_token < bigram.nats_per_token < unigram.nats_per_token < math.log(5)
    assert five.nats_per_token < floor + 0.15


def test_a_text_twice_over_is_no_disaster() -> None:
    # No n-gram occurs just once then, so the usual estimate of the first discount would be 0.
    text, floor = chain(6_000, 5, 1, seed=4)
    training, validation = text[:5000], text[5000:]
    twice = baselines(np.tile(training, 2), validation, 5, None)[2]
    assert twice.nats_per_token < baselines(training, validation, 5, None)[2].nats_per_token + 0.05
    assert twice.nats_per_token < floor + 0.1


def test_tokens_never_seen_have_a_chance() -> None:
    for training in ([0], [0, 0], [0] * 50, [0, 1] * 50):
        (found,) = baselines(ids(training), ids([0, 12, 12, 0, 5]), 13, None, orders=(5,))
        assert math.isfinite(found.nats_per_token)


def test_counting_takes_few_bytes_a_token() -> None:
    text, _ = chain(100_000, 7, 1, seed=5)
    tracemalloc.start()
    try:
        baselines(text, text[:1000], 7, None)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 600e6 / 16e6 * len(text)
