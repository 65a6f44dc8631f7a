from __future__ import annotations

import math

import numpy as np
import pytest

from clearhead.core.errors import UserError
from clearhead.training import pair_score
from clearhead.training.pair_score import PairScore, overlap_of

RIGHT = ["a small dog runs .", "two men sit on a wall .", "the sea is calm today ."]
WRITTEN = ["a small dog runs .", "two men sit on the wall .", "the sea is wild ."]


def bleu_by_hand(written: list[str], right: list[str]) -> float:
    """Papineni et al. 2002: geometric mean of clipped n-gram precisions, times the brevity penalty."""
    logs = []
    for size in range(1, 5):
        matched = total = 0
        for one, other in zip(written, right, strict=True):
            grams = [tuple(one.split()[place : place + size]) for place in range(len(one.split()) - size + 1)]
            wanted = [tuple(other.split()[place : place + size]) for place in range(len(other.split()) - size + 1)]
            matched += sum(min(grams.count(gram), wanted.count(gram)) for gram in set(grams))
            total += len(grams)
        logs.append(math.log(matched / total))
    lengths = [sum(len(line.split()) for line in lines) for lines in (written, right)]
    brevity = min(0.0, 1 - lengths[1] / lengths[0])
    return 100 * math.exp(sum(logs) / 4 + brevity)


def test_bleu_is_that_of_the_paper() -> None:
    pytest.importorskip("sacrebleu")
    found = overlap_of(WRITTEN, RIGHT)
    assert found.bleu == pytest.approx(bleu_by_hand(WRITTEN, RIGHT))
    assert found.exact == pytest.approx(1 / 3)
    assert "tok:none" in found.signature
    assert found.chrf is not None
    assert 0 < found.chrf < 100
    assert overlap_of(RIGHT, RIGHT).metrics == pytest.approx({"bleu": 100.0, "chrf": 100.0, "exact": 1.0})


def test_without_sacrebleu_there_are_exact_matches_or_a_hint(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pair_score, "has_sacrebleu", lambda: False)
    assert overlap_of(WRITTEN, RIGHT, bleu=False).metrics == {"exact": pytest.approx(1 / 3)}
    with pytest.raises(UserError, match=r"clearhead\[translate\]"):
        overlap_of(WRITTEN, RIGHT)


def test_a_score_is_the_mean_over_tokens() -> None:
    score = PairScore(np.array([6.0, 1.0, 2.0]), np.array([3, 2, 4]), 7, 11)
    assert score.nats_per_token == pytest.approx(1.0)
    assert score.bits_per_byte == pytest.approx(9 / math.log(2) / 7)
    assert score.tokens_scored == 9
    assert score.metrics == {}
    assert score.details == {}
