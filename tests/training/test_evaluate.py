"""The evaluation rule against a loop that scores one token after another."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from clearhead.generation.score import text_nats
from clearhead.model.build import build_model
from clearhead.model.config import GptConfig
from clearhead.text.shards import in_memory
from clearhead.training.evaluate import Evaluator

MODEL = build_model(GptConfig(num_layers=2, num_heads=2, width=12, context_length=7, dropout=0.3), 11, seed=2)
for _parameter in MODEL.parameters():
    torch.nn.init.normal_(_parameter, std=0.3)
LENGTHS = np.array([1, 2, 3, 1, 1, 2, 4, 1, 1, 1, 0], dtype=np.int32)


def ids(count: int) -> np.ndarray:
    return np.random.default_rng(7).integers(0, 11, count, dtype=np.int32)


def naive(tokens: np.ndarray) -> list[float]:
    """Score each token but the first, from the start of its window on, one forward pass a token."""
    model, nats = MODEL.eval(), []
    for target in range(1, len(tokens)):
        start = (target - 1) // 7 * 7
        with torch.no_grad():
            logits = model(torch.from_numpy(tokens[None, start:target]))[0, -1]
        nats.append(float(F.cross_entropy(logits[None], torch.tensor([int(tokens[target])]))))
    return nats


@pytest.mark.parametrize("count", [2, 5, 8, 15, 53])
def test_every_token_but_the_first_is_scored_once(count: int) -> None:
    tokens = ids(count)
    score = Evaluator(in_memory(tokens, 11), 7, LENGTHS).score(MODEL)
    expected = naive(tokens)
    assert score.tokens_scored == count - 1
    assert score.nats_per_token == pytest.approx(np.mean(expected), rel=1e-5)
    assert score.bits_per_byte == pytest.approx(sum(expected) / math.log(2) / LENGTHS[tokens[1:]].sum(), rel=1e-5)
    assert text_nats(MODEL, tokens) == pytest.approx(expected, rel=1e-4)


def test_dropout_is_off_and_the_mode_comes_back() -> None:
    MODEL.train()
    evaluator = Evaluator(in_memory(ids(53), 11), 7, None)
    assert evaluator.score(MODEL).nats_per_token == evaluator.score(MODEL).nats_per_token
    assert MODEL.training


def test_a_lossy_tokenizer_has_no_bits_per_byte() -> None:
    assert Evaluator(in_memory(ids(53), 11), 7, None).score(MODEL).bits_per_byte is None


def test_sampling_scores_fewer_full_windows() -> None:
    tokens = np.tile(ids(53), 400)
    evaluator = Evaluator(in_memory(tokens, 11), 7, LENGTHS)
    part, whole = evaluator.score(MODEL, sampled=True), evaluator.score(MODEL)
    assert part.tokens_scored < 8200 < whole.tokens_scored == len(tokens) - 1
    assert abs(part.nats_per_token - whole.nats_per_token) < 5 * part.standard_error + 0.02


def test_by_position_averages_full_windows() -> None:
    tokens = ids(50)
    score = Evaluator(in_memory(tokens, 11), 7, None).score(MODEL)
    assert score.by_position == pytest.approx(np.array(naive(tokens)).reshape(7, 7).mean(axis=0), rel=1e-4)


def test_a_smaller_stride_gives_more_to_look_back_on() -> None:
    tokens, model = ids(53), MODEL.eval()
    nats = text_nats(model, tokens, stride=2)
    assert len(nats) == 52
    for target in (3, 9, 30, 52):
        start = 2 * max(0, -(-(target - 7) // 2))
        with torch.no_grad():
            logits = model(torch.from_numpy(tokens[None, start:target]).long())[0, -1]
        expected = float(F.cross_entropy(logits[None], torch.tensor([int(tokens[target])])))
        assert nats[target - 1] == pytest.approx(expected, rel=1e-4)
