"""The bag of words against scikit-learn's logistic regression on the same features."""

from __future__ import annotations

import numpy as np
import pytest

from clearhead.text.tales_sentiment import sentiments
from clearhead.training import bag_of_words
from clearhead.training.bag_of_words import feature_rows, features_of, fit, frequent_features, train_bag

SAID = list(sentiments(200, 1))
TEXTS = [said.text for said in SAID]
TARGETS = np.array([int(said.label == "good") for said in SAID])


def test_features_are_words_and_pairs() -> None:
    assert features_of("Not bad, NOT good") == {"not", "bad", ",", "good", "not bad", "bad ,", ", not", "not good"}


@pytest.mark.slow
@pytest.mark.parametrize("strength", [0.3, 3.0])
def test_it_finds_the_minimum_that_scikit_learn_finds(strength: float) -> None:
    from sklearn.feature_extraction.text import CountVectorizer
    from sklearn.linear_model import LogisticRegression

    features = frequent_features(TEXTS)
    weights = fit(feature_rows(TEXTS, features), TARGETS, (len(features) + 1, 2), strength, 200).numpy()
    vectorizer = CountVectorizer(analyzer=lambda text: sorted(features_of(text)), vocabulary=features, binary=True)
    # Two mirrored rows of weights, each half as long, are penalised half as much as one.
    reference = LogisticRegression(C=2 / strength, max_iter=5000, tol=1e-8).fit(vectorizer.transform(TEXTS), TARGETS)
    wanted = reference.decision_function(vectorizer.transform(TEXTS))
    bag = bag_of_words.BagOfWords(features, weights)
    nats = bag.nats(TEXTS)
    assert nats[:, 0] - nats[:, 1] == pytest.approx(wanted, abs=0.02)


def test_the_penalty_is_chosen_on_texts_held_out(monkeypatch: pytest.MonkeyPatch) -> None:
    noise = np.random.default_rng(1).integers(0, 2, len(TEXTS))
    found = train_bag(TEXTS, noise, 2)
    strongest = fit(feature_rows(TEXTS, found.features), noise, found.weights.shape, 10.0, 100).numpy()
    assert found.weights == pytest.approx(strongest, abs=1e-6)


def test_unknown_words_cost_nothing() -> None:
    bag = train_bag(["a b", "c d"] * 20, np.array([0, 1] * 20), 2)
    nats = bag.nats(["zzz", "a b", "c d"])
    assert nats[0] == pytest.approx(np.log(2), abs=0.01)
    assert nats[1].argmin() == 0
    assert nats[2].argmin() == 1
