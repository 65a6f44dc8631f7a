"""The cost of a text's tokens, against reading each token's window on its own."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from clearhead.generation import score
from clearhead.generation.score import text_nats, token_nats, windows_at_once

CONTEXT = 7
VOCABULARY = 13


class Remembering(nn.Module):
    """Logits that depend on every token read so far and on its place in the window."""

    def __init__(self, context_length: int = CONTEXT) -> None:
        super().__init__()
        self.context_length = context_length
        self.vocabulary_size = VOCABULARY
        random = torch.Generator().manual_seed(7)
        self.table = nn.Parameter(torch.randn(VOCABULARY, VOCABULARY, generator=random))
        self.places = nn.Parameter(torch.randn(context_length, VOCABULARY, generator=random))

    def forward(self, tokens: Tensor) -> Tensor:
        assert tokens.size(1) <= self.context_length
        return torch.sin(self.table[tokens].cumsum(1)) + self.places[: tokens.size(1)]


def ids_of(count: int) -> np.ndarray:
    return np.random.default_rng(3).integers(0, VOCABULARY, count, dtype=np.int32)


def slow_nats(model: Remembering, ids: np.ndarray, stride: int) -> list[float]:
    """Score each target in the first window that holds it, read only up to it."""
    nats = []
    for target in range(len(ids) - 1):
        start = stride * math.ceil(max(0, target + 1 - CONTEXT) / stride)
        window = torch.from_numpy(ids[start : target + 1].astype(np.int64))[None]
        with torch.no_grad():
            logits = model(window)[0, -1].double()
        nats.append(float(logits.logsumexp(0) - logits[int(ids[target + 1])]))
    return nats


@pytest.mark.parametrize("stride", [1, 2, 3, 5, CONTEXT])
@pytest.mark.parametrize("count", [2, CONTEXT, CONTEXT + 1, CONTEXT + 2, 3 * CONTEXT + 1, 53])
def test_each_token_is_scored_once_in_its_window(count: int, stride: int) -> None:
    model, ids = Remembering(), ids_of(count)
    found = text_nats(model, ids, stride=stride)
    assert found.tolist() == pytest.approx(slow_nats(model, ids, stride), abs=1e-5)
    assert found.sum() == pytest.approx(sum(slow_nats(model, ids, stride)), abs=1e-4)


def test_without_a_stride_windows_do_not_overlap() -> None:
    ids = ids_of(53)
    assert text_nats(Remembering(), ids).tolist() == text_nats(Remembering(), ids, stride=CONTEXT).tolist()


def test_another_stride_gives_other_costs() -> None:
    model, ids = Remembering(), ids_of(53)
    assert not np.allclose(text_nats(model, ids, stride=2), slow_nats(model, ids, 3), atol=1e-3)


@pytest.mark.parametrize("at_once", [1, 3 * CONTEXT])
def test_how_many_windows_are_read_at_once_changes_nothing(at_once: int, monkeypatch: pytest.MonkeyPatch) -> None:
    model, ids = Remembering(), ids_of(97)
    expected = text_nats(model, ids, stride=2)
    monkeypatch.setattr(score, "TOKENS_AT_ONCE", at_once)
    assert windows_at_once(model, CONTEXT) == max(1, at_once // CONTEXT)
    assert text_nats(model, ids, stride=2) == pytest.approx(expected, abs=1e-6)


def test_one_token_costs_nothing() -> None:
    assert text_nats(Remembering(), ids_of(1)).shape == (0,)


def test_a_context_of_one_token_is_enough() -> None:
    assert text_nats(Remembering(context_length=1), ids_of(11)).shape == (10,)


def test_token_nats_are_minus_the_logarithm_of_the_probability() -> None:
    logits = torch.randn(2, 3, VOCABULARY, generator=torch.Generator().manual_seed(1))
    targets = torch.tensor([[0, 5, 12], [7, 7, 1]])
    expected = -logits.softmax(-1).log().gather(-1, targets[..., None])[..., 0]
    assert torch.allclose(token_nats(logits, targets), expected, atol=1e-6)


def test_even_guessing_costs_ln_v() -> None:
    nats = token_nats(torch.zeros(1, 4, VOCABULARY), torch.tensor([[0, 1, 2, 3]]))
    assert nats[0].tolist() == pytest.approx([math.log(VOCABULARY)] * 4)
