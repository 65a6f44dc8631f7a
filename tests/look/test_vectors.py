"""The geometry of token vectors, and the subjects that rest on it."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch

from clearhead import look
from clearhead.core.errors import UserError
from clearhead.look import vectors
from clearhead.look.classes import class_of, means_by_class
from clearhead.look.specimen import Specimen
from clearhead.look.subjects.dimensions import same_axes_and_neighbours
from clearhead.model.config import BigramConfig
from clearhead.text.tokenizer import WordTokenizer

GENERATOR = torch.Generator().manual_seed(3)


def drawn(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=GENERATOR, dtype=torch.float64)


# Geometry.


def test_counting_finds_what_stands_in_the_same_places() -> None:
    random = np.random.default_rng(5)
    # Ids 0 and 1 stand between 2 and 3, ids 4 and 5 between 6 and 7, and which of the two is chance.
    far = [8] * vectors.NEAR
    text = [[2, random.integers(2), 3, *far, 6, 4 + random.integers(2), 7, *far] for _ in range(211)]
    chosen = torch.tensor([0, 1, 4, 5, 2, 6])
    _, found = vectors.neighbours(vectors.counted_vectors(torch.tensor(text).flatten(), chosen, 4), 1)
    assert found[:4, 0].tolist() == [1, 0, 3, 2]


def test_counts_are_of_pairs_near_each_other_beyond_chance() -> None:
    text = torch.from_numpy(np.random.default_rng(3).integers(0, 7, 101))
    chosen = [5, 2, 3]
    counts = np.zeros((3, 3))
    for at, first in enumerate(text.tolist()):
        for other in text[at + 1 : at + 1 + vectors.NEAR].tolist():
            if first in chosen and other in chosen:
                counts[chosen.index(first), chosen.index(other)] += 1
                counts[chosen.index(other), chosen.index(first)] += 1
    ppmi = np.maximum(0, np.log(counts * counts.sum() / np.outer(counts.sum(1), counts.sum(0))))
    made = vectors.counted_vectors(text, torch.tensor(chosen), 3)
    np.testing.assert_allclose(made @ made.T, _root_of_square(ppmi), atol=1e-10)


def _root_of_square(matrix: np.ndarray) -> np.ndarray:
    """Return the square root of M M^T, which U S U^T is."""
    values, directions = np.linalg.eigh(matrix @ matrix.T)
    return directions @ np.diag(np.sqrt(np.maximum(values, 0))) @ directions.T


def test_a_probe_is_a_ridge_regression_that_leaves_each_token_out() -> None:
    x, belongs = drawn(13, 5), torch.arange(13) % 3 == 0
    x[belongs, 2] += 1.5
    whitened = np.asarray((x - x.mean(dim=0)) / x.std(dim=0))
    whitened = np.concatenate([whitened, np.ones((13, 1))], axis=1)
    left_out = []
    for row in range(13):
        others = np.delete(np.arange(13), row)
        gram = whitened[others].T @ whitened[others] + vectors.RIDGE * 6 * np.eye(6)
        weights = np.linalg.solve(gram, whitened[others].T @ belongs.numpy()[others])
        left_out.append(whitened[row] @ weights)
    ranked = torch.tensor(left_out)
    assert vectors.readable(x, belongs) == pytest.approx(vectors.ranked_above(ranked[belongs], ranked[~belongs]))
    assert vectors.readable(x, belongs) > 0.6


def test_ranking_counts_pairs() -> None:
    assert vectors.ranked_above(torch.tensor([2.0, 0.0]), torch.tensor([1.0, 0.0])) == pytest.approx(
        (1 + 1 + 0 + 0.5) / 4
    )


def test_principal_directions_hold_the_most_spread() -> None:
    x = drawn(17, 3) * torch.tensor([5.0, 0.1, 1.0])
    points, held = vectors.principal(x)
    assert abs(float(torch.corrcoef(torch.stack((points[:, 0], x[:, 0])))[0, 1])) > 0.99
    eigenvalues = np.sort(np.linalg.eigvalsh(np.cov(x.numpy().T)))[::-1]
    np.testing.assert_allclose(held, eigenvalues[:2] / eigenvalues.sum())


def test_neighbours_are_the_most_alike_others() -> None:
    x = drawn(11, 4)
    values, places = vectors.neighbours(x, 3)
    by_hand = np.asarray(torch.nn.functional.cosine_similarity(x[:, None], x[None], dim=-1))
    np.fill_diagonal(by_hand, -2)
    assert np.array_equal(places[:, 0], by_hand.argmax(axis=1))
    np.testing.assert_allclose(values, -np.sort(-by_hand, axis=1)[:, :3])


def test_an_embedding_that_was_turned_has_its_neighbours_and_other_axes() -> None:
    x = drawn(23, 7)
    turn = torch.linalg.qr(drawn(7, 7))[0]
    said = same_axes_and_neighbours(x, x @ turn)
    assert "100\u00a0% of the 5 nearest neighbours are the same" in said
    assert "correlates by 1.00" not in said
    assert "correlates by 1.00" in same_axes_and_neighbours(x, x.flip(1))


def test_classes_of_tokens() -> None:
    pairs = {"a": "vowel", "é": "vowel", "b": "consonant", "T": "capital", "7": "digit", "\n": "white space"}
    pairs |= {
        ".": "punctuation",
        " the": "word start",
        "ing": "word part",
        "a1": "mixed",
        "": "special",
        " 12": "digit",
    }
    assert {text: class_of(text) for text in pairs} == pairs
    assert class_of("x", special=True) == "special"
    means = means_by_class(torch.tensor([1.0, 3.0, 5.0]), ["vowel", "vowel", "digit"])
    assert list(means.items()) == [("digit", 5.0), ("vowel", 2.0)]


# Subjects.


def test_a_token_has_its_neighbours(make: Callable[..., Specimen]) -> None:
    specimen = make()
    ids = {text: int(specimen.tokenizer.encode(text)[0]) for text in "ab"}
    weight = specimen.gpt.embedding.weight.data
    weight[ids["a"]] = 2 * weight[ids["b"]]
    view = look.embeddings(specimen, token="a")
    assert view.labels["like"][0] == "b"
    assert view.cosine_with_token[0] == pytest.approx(1.0, abs=1e-6)
    at = view.labels["shown"].index("a")
    assert view.neighbour[at, 0] == "b"
    assert "<|end|>" not in view.labels["shown"]


def test_an_analogy_that_was_planted_is_found(make: Callable[..., Specimen]) -> None:
    specimen = make()
    a, b, c, d = (int(specimen.tokenizer.encode(text)[0]) for text in "abcd")
    weight = specimen.gpt.embedding.weight.data
    weight[d] = weight[a] - weight[b] + weight[c]
    view = look.analogy(specimen, "a - b + c")
    assert view.labels["answer"][0] == "d"
    assert "so this one stands out" in view.caption
    assert not {"a", "b", "c"} & set(view.labels["answer"])
    for wrong, said in (
        ("a - b", "as three words"),
        ("king - a + b", "not one token"),
        (None, "three words"),
    ):
        with pytest.raises(UserError, match=said):
            look.analogy(specimen, wrong)


def test_a_word_may_need_a_space_before_it(make: Callable[..., Specimen]) -> None:
    specimen = make(BigramConfig())
    words = WordTokenizer([" king", " man", " woman", " queen", " apple"], unknown="mark", end=False)
    model = make(BigramConfig()).model
    model.table = torch.nn.Embedding(6, 6)  # type: ignore[assignment]
    view = look.analogy(Specimen(model, words), "king - man + woman")
    assert set(view.labels["answer"]) <= {" queen", " apple", "<unk>"}
    assert specimen.tokenizer.end is not None


def test_a_dimension_that_tells_vowels_is_found(make: Callable[..., Specimen]) -> None:
    specimen = make()
    weight = specimen.gpt.embedding.weight.data
    for text in "abcdefghijklmnop":
        weight[int(specimen.tokenizer.encode(text)[0]), 7] = 50.0 if text in "aeio" else -50.0
    view = look.dimensions(specimen)
    at = view.labels["class"].index("vowel")
    assert view.which[at] == 7
    assert view.best_dimension[at] == 1.0
    assert view.probe[at] > view.probe_shuffled[at]
    assert view.by_dimension[at, 7] == 1.0
    assert "".join(view.labels["token"][:4]).strip("aeio") == ""
    with pytest.raises(UserError, match="no dimension 48"):
        look.dimensions(specimen, dimension=48)
