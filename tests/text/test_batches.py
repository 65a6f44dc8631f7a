from __future__ import annotations

import itertools
from dataclasses import dataclass, replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clearhead.text import batches as text_batches
from clearhead.text.batches import (
    Batch,
    RandomOffsets,
    ShuffledWindows,
    TrainingBatches,
    evaluation_windows,
    permuted,
    sampled_windows,
)


@dataclass(frozen=True)
class Counting:
    """The text whose token at place i is i, so that every batch shows where it was read."""

    num_tokens: int

    def __len__(self) -> int:
        return self.num_tokens

    def gather(self, starts: np.ndarray, length: int) -> np.ndarray:
        rows = starts[:, None] + np.arange(length)
        assert rows.min() >= 0
        assert rows.max() < self.num_tokens
        return rows.astype(np.int32)


BOTH = pytest.mark.parametrize("kind", [ShuffledWindows, RandomOffsets])


def batches(
    kind: type[TrainingBatches] = ShuffledWindows, *, num_tokens: int = 997, seed: int = 5, micro_batches: int = 1
) -> TrainingBatches:
    return kind(
        tokens=Counting(num_tokens), context_length=7, sequences_per_step=11, seed=seed, micro_batches=micro_batches
    )


def all_starts(source: TrainingBatches, num_steps: int) -> np.ndarray:
    return np.concatenate([source.starts(step) for step in range(num_steps)])


# --- what a batch holds


@pytest.mark.parametrize("parts", [1, 2, 3, 5, 7, 11])
def test_a_cut_batch_has_the_same_rows(parts: int) -> None:
    batch = Batch(np.arange(35).reshape(7, 5), np.arange(35).reshape(7, 5) + 1, weights=np.ones((7, 5)))
    cut = batch.cut(parts)
    sizes = [len(part.tokens) for part in cut]
    assert len(cut) == min(parts, 7)
    assert 1 <= min(sizes) <= max(sizes) <= min(sizes) + 1
    for name in ("tokens", "targets", "weights"):
        assert np.array_equal(np.concatenate([getattr(part, name) for part in cut]), getattr(batch, name))
    assert all(part.documents is None for part in cut)


@BOTH
def test_targets_are_the_tokens_shifted_by_one(kind: type[TrainingBatches]) -> None:
    source = batches(kind)
    (batch,) = source(3)
    assert batch.tokens.shape == batch.targets.shape == (11, 7)
    assert batch.tokens.dtype == batch.targets.dtype == np.int32
    assert (batch.targets == batch.tokens + 1).all()
    assert (np.diff(batch.tokens, axis=1) == 1).all()
    assert (batch.tokens[:, 0] == source.starts(3)).all()
    assert batch.weights is None
    assert batch.tokens.flags.c_contiguous
    assert batch.targets.flags.c_contiguous


@BOTH
def test_documents_begin_at_their_end_mark(kind: type[TrainingBatches]) -> None:
    source = replace(batches(kind), tokens=Remainders(997), end=0)
    (batch,) = source(3)
    for tokens, documents in zip(batch.tokens.tolist(), batch.documents.tolist(), strict=True):
        for t in range(7):
            assert documents[t] == tokens[: t + 1].count(0)
    assert len(np.unique(batch.documents)) > 1
    assert batches(kind)(3)[0].documents is None


class Remainders(Counting):
    """The text whose token at place i is i modulo 5."""

    def gather(self, starts: np.ndarray, length: int) -> np.ndarray:
        return super().gather(starts, length) % 5


@BOTH
def test_a_prefix_of_each_sequence_weighs_nothing(kind: type[TrainingBatches]) -> None:
    source = replace(batches(kind), longest_prefix=4)
    weights = np.concatenate([source(step)[0].weights for step in range(50)])
    assert weights.dtype == np.float32
    assert set(np.unique(weights)) == {0.0, 1.0}
    assert (np.diff(weights, axis=1) >= 0).all()
    given = (weights == 0).sum(axis=1)
    assert set(given) == {0, 1, 2, 3}
    assert np.bincount(given).min() > len(given) / 8
    cut = np.concatenate([part.weights for part in replace(source, micro_batches=3)(7)])
    assert (cut == source(7)[0].weights).all()
    other = replace(source, seed=6)(7)[0].weights
    assert (other != source(7)[0].weights).any()


def test_a_prefix_never_takes_the_last_target() -> None:
    weights = replace(batches(), longest_prefix=100)(3)[0].weights
    assert (weights[:, -1] == 1).all()


def test_batches_are_compared_by_identity() -> None:
    ids = np.zeros((2, 3), np.int32)
    assert Batch(ids, ids) != Batch(ids, ids)


@BOTH
@pytest.mark.parametrize("micro_batches", [2, 3, 11])
def test_the_number_of_micro_batches_changes_nothing_but_the_cut(
    kind: type[TrainingBatches], micro_batches: int
) -> None:
    whole = batches(kind)
    cut = replace(whole, micro_batches=micro_batches)
    for step in range(20):
        parts = cut(step)
        sizes = [len(part.tokens) for part in parts]
        assert len(parts) == micro_batches
        assert max(sizes) - min(sizes) <= 1
        assert np.array_equal(np.concatenate([part.tokens for part in parts]), whole(step)[0].tokens)


@BOTH
def test_a_step_is_a_function_of_seed_and_step(kind: type[TrainingBatches]) -> None:
    forwards = [batches(kind).starts(step) for step in range(30)]
    source = batches(kind)
    backwards = [source.starts(step) for step in reversed(range(30))][::-1]
    assert np.array_equal(forwards, backwards)
    others = [batches(kind, seed=seed).starts(0).tolist() for seed in (0, 1, 2, -1, 2**63, 2**64 - 2)]
    assert all(one != other for one, other in itertools.combinations(others, 2))


def test_what_is_done_to_a_batch_does_not_reach_the_next_one() -> None:
    source = ShuffledWindows(tokens=Counting(997), context_length=7, sequences_per_step=1, seed=5)
    batch = source(0)[0]
    kept = batch.targets.copy()
    batch.tokens[:] = -1
    assert np.array_equal(batch.targets, kept)
    assert source(0)[0].tokens.min() >= 0


@BOTH
def test_how_many_steps_are_read_together_changes_nothing(
    kind: type[TrainingBatches], monkeypatch: pytest.MonkeyPatch
) -> None:
    together = [batches(kind)(step)[0] for step in (0, 1, 63, 64, 1000)]
    monkeypatch.setattr(text_batches, "TOKENS_AT_ONCE", 5 * 7 * 11 + 3)
    in_fives = [batches(kind)(step)[0] for step in (0, 1, 63, 64, 1000)]
    monkeypatch.setattr(text_batches, "TOKENS_AT_ONCE", 1)
    alone = [batches(kind)(step)[0] for step in (0, 1, 63, 64, 1000)]
    for three in zip(together, in_fives, alone, strict=True):
        assert np.array_equal(three[0].tokens, three[1].tokens)
        assert np.array_equal(three[0].targets, three[2].targets)


GOLDEN = {
    (ShuffledWindows, 0, 0): [219, 688, 583, 835, 660, 681, 653, 849, 23, 205, 772],
    (ShuffledWindows, 5, 0): [337, 50, 15, 323, 1, 743, 862, 540, 946, 568, 736],
    (ShuffledWindows, 5, 1000): [582, 757, 302, 561, 57, 92, 43, 841, 29, 64, 120],
    (RandomOffsets, 0, 0): [781, 847, 856, 40, 640, 878, 937, 176, 543, 908, 341],
    (RandomOffsets, 5, 1000): [191, 916, 503, 150, 356, 191, 62, 223, 767, 190, 27],
}


@pytest.mark.parametrize(("kind", "seed", "step"), GOLDEN)
def test_the_order_never_changes_between_versions(kind: type[TrainingBatches], seed: int, step: int) -> None:
    assert batches(kind, seed=seed).starts(step).tolist() == GOLDEN[kind, seed, step]


# --- epochs


def epochs(source: TrainingBatches, num_epochs: int) -> np.ndarray:
    """The starts of the first epochs, one row each, cut out of the stream of steps."""
    per_epoch = source.sequences_per_epoch
    num_steps = -(-num_epochs * per_epoch // source.sequences_per_step)
    return all_starts(source, num_steps)[: num_epochs * per_epoch].reshape(num_epochs, per_epoch)


def visits_each_window_once(starts: np.ndarray, context_length: int) -> bool:
    return bool((np.diff(np.sort(starts)) == context_length).all())


@pytest.mark.parametrize("num_tokens", [8, 13, 14, 15, 21, 22, 97, 997])
def test_an_epoch_visits_every_window_once(num_tokens: int) -> None:
    source = batches(num_tokens=num_tokens)
    per_epoch = epochs(source, 12)
    assert all(visits_each_window_once(epoch, 7) for epoch in per_epoch)
    # Fewer than two windows' worth of the tokens that can be targets are left out.
    assert num_tokens - 1 - source.sequences_per_epoch * 7 < 2 * 7
    source(0)


def test_sampling_with_replacement_is_told_from_visiting_once() -> None:
    twin = batches(RandomOffsets)
    assert not any(visits_each_window_once(epoch, 7) for epoch in epochs(twin, 10))


def test_steps_cross_the_borders_of_epochs() -> None:
    source = batches(num_tokens=50)  # six windows an epoch, eleven a step
    assert source.sequences_per_epoch == 6
    assert source.tokens_per_step == 77
    assert source.epoch_of(0) == 0
    assert source.epoch_of(12) == 22
    assert all(visits_each_window_once(epoch, 7) for epoch in epochs(source, 22))


def test_each_epoch_has_a_phase_and_an_order_of_its_own() -> None:
    per_epoch = epochs(batches(num_tokens=164), 200)
    phases = per_epoch.min(axis=1)
    assert set(phases) == set(range(10))  # 22 windows of 7 leave room for 0 to 9 tokens before the first
    orders = (per_epoch - phases[:, None]) // 7
    assert len({tuple(order) for order in orders.tolist()}) == 200


def test_every_token_but_the_first_becomes_a_target() -> None:
    source = batches(num_tokens=50)
    targets = np.unique(np.concatenate([source(step)[0].targets for step in range(90)]))
    assert targets.tolist() == list(range(1, 50))


def test_a_text_shorter_than_a_window_is_refused() -> None:
    assert batches(num_tokens=8).starts(0).tolist() == [0] * 11
    with pytest.raises(AssertionError, match="shorter context"):
        batches(num_tokens=7)


def test_more_parts_than_sequences_are_refused() -> None:
    with pytest.raises(AssertionError):
        batches(micro_batches=12)


def test_a_billion_tokens_cost_no_memory() -> None:
    source = batches(num_tokens=10**9 + 7)
    starts = all_starts(source, 300)
    assert len(np.unique(starts)) == len(starts)
    assert abs(starts.mean() / 10**9 - 0.5) < 5 / np.sqrt(12 * len(starts))
    source(10**9)


# --- the permutation


def is_permutation(values: np.ndarray) -> bool:
    return np.array_equal(np.sort(values), np.arange(len(values)))


def one_key(size: int, key: int) -> np.ndarray:
    return np.full(size, key, np.uint64)


@settings(max_examples=60, deadline=None)
@given(size=st.integers(1, 3000), key=st.integers(0, 2**64 - 1))
def test_a_key_names_a_permutation_of_any_size(size: int, key: int) -> None:
    assert is_permutation(permuted(np.arange(size, dtype=np.uint64), one_key(size, key), size))


@pytest.mark.parametrize("size", [2, 31, 64, 65, 1009, 65537])
def test_a_permutation_that_wraps_instead_of_walking_is_rejected(size: int) -> None:
    indices = np.arange(size, dtype=np.uint64)
    key = one_key(size, 3)
    assert is_permutation(permuted(indices, key, size))
    if size & (size - 1) and size > 2:
        next_power = 1 << size.bit_length()
        wrapped = permuted(indices, key, next_power) % size
        assert not is_permutation(wrapped)


def chi_square_z(counts: np.ndarray) -> float:
    """How many standard deviations the counts' chi-square lies above that of equal chances."""
    expected = counts.mean()
    degrees = counts.size - 1
    return float((((counts - expected) ** 2 / expected).sum() - degrees) / np.sqrt(2 * degrees))


@pytest.mark.parametrize("size", [3, 4, 5, 6])
def test_all_orders_of_few_windows_are_equally_frequent(size: int) -> None:
    num_keys = 30_000
    keys = np.arange(num_keys, dtype=np.uint64) * 0x9E3779B97F4A7C15
    columns = [permuted(np.full(num_keys, index, np.uint64), keys, size) for index in range(size)]
    codes = sum(column.astype(np.int64) * size**place for place, column in enumerate(columns))
    _, counts = np.unique(codes, return_counts=True)
    assert len(counts) == np.prod(np.arange(1, size + 1))
    assert chi_square_z(counts) < 4


# --- random offsets


def test_random_offsets_are_uniform() -> None:
    source = batches(RandomOffsets, num_tokens=107)  # offsets 0 to 99
    counts = np.bincount(all_starts(source, 2000), minlength=100)
    assert len(counts) == 100
    assert abs(chi_square_z(counts)) < 4
    skewed = np.minimum(all_starts(source, 2000), 97)
    assert chi_square_z(np.bincount(skewed, minlength=100)) > 4


# --- evaluation


@settings(max_examples=100, deadline=None)
@given(num_tokens=st.integers(2, 400), context_length=st.integers(1, 60))
def test_evaluation_scores_every_token_but_the_first_once(num_tokens: int, context_length: int) -> None:
    starts, lengths = evaluation_windows(num_tokens, context_length)
    targets = np.concatenate(
        [np.arange(start + 1, start + 1 + length) for start, length in zip(starts, lengths, strict=True)]
    )
    assert targets.tolist() == list(range(1, num_tokens))
    assert (lengths[:-1] == context_length).all()
    assert 1 <= lengths[-1] <= context_length


@settings(max_examples=100, deadline=None)
@given(num_tokens=st.integers(2, 4000), context_length=st.integers(1, 60), num_targets=st.sampled_from([1, 100, 1000]))
def test_sampled_windows_are_evenly_spaced_full_windows(num_tokens: int, context_length: int, num_targets: int) -> None:
    starts, lengths = sampled_windows(num_tokens, context_length, num_targets)
    all_full, _ = evaluation_windows(num_tokens, context_length)
    if num_tokens <= context_length:
        assert starts.tolist() == [0]
        assert lengths.tolist() == [num_tokens - 1]
        return
    assert (lengths == context_length).all()
    assert set(starts) <= set(all_full)
    assert len(set(starts)) == len(starts)
    full_targets = (num_tokens - 1) // context_length * context_length
    assert abs(lengths.sum() - min(num_targets, full_targets)) <= context_length
    gaps = np.diff(starts) // context_length
    assert gaps.size == 0 or gaps.max() - gaps.min() <= 1


def test_sampled_windows_of_a_validation_text() -> None:
    starts, lengths = sampled_windows(111_540, 64)
    assert lengths.sum() == 8192
    # 128 of the 1,742 full windows, each from the middle of its stretch of 13.6 windows.
    assert (starts[0], starts[-1]) == (6 * 64, 1735 * 64)
