"""Subjects about a model as a whole: its tokens, tensors and parameters, what parts are worth, what leaks."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from clearhead import look
from clearhead.core.errors import UserError
from clearhead.look.specimen import Specimen
from clearhead.look.subjects.loss_by_position import useful_context
from clearhead.model.config import SubstitutedAttentionConfig
from clearhead.text.shards import in_memory
from clearhead.training.evaluate import Evaluator

TEXT = "a fine bee. Tom"


def test_tokens_are_the_tokenizers(make: Callable[..., Specimen]) -> None:
    specimen = make()
    view = look.tokens(specimen, "bee\n" * 20)
    assert view.id.tolist() == [specimen.tokenizer.end, *specimen.tokenizer.encode("bee\n" * 20)]
    assert dict(zip(view.labels["common"], view.times.tolist(), strict=True))["e"] == 40
    tables = specimen.gpt.embedding.weight.numel() + specimen.gpt.unembedding.weight.numel()
    assert f"hold {tables:,} of" in view.caption


def test_shapes_are_those_of_the_formulas(specimen: Specimen) -> None:
    view = look.shapes(specimen, TEXT)
    sizes = {"B": 1, "T": 16, "S": 16, "C": 48, "H": 6, "D": 8, "V": specimen.tokenizer.vocabulary_size}
    sizes |= {"K": specimen.gpt.config.kv_heads}
    rows = zip(view.labels["place"], view.arrays["axes"].tolist(), view.sizes.tolist(), strict=True)
    for name, axes, shown in rows:
        for letter, size in zip(axes.split(), shown.split(" x "), strict=True):
            concatenated = name == "embed.tok" and specimen.gpt.config.positions.kind == "concatenated"
            assert letter == "F" or concatenated or int(size) == sizes[letter], name
    assert "B H T S" in view.arrays["axes"].tolist()


def test_a_model_is_drawn_as_it_is_built(make: Callable[..., Specimen]) -> None:
    view = look.parameters(make())
    lines = view.made_of.tolist()
    trained = dict(zip(lines, view.trained.tolist(), strict=True))
    assert lines[0].startswith("embedding (Embedding)")
    assert lines[-1].startswith("unembedding")
    inside = [line for line in lines if line.startswith("│ ")]
    assert [line.split()[1] for line in inside] == ["attention", "attention", "feed", "convolution", "feed"]
    assert 3 * sum(trained[line] for line in inside) == trained["3 times:"]
    assert sum(number for line, number in trained.items() if line not in inside) == view.parameters.sum()


def test_parameters_are_all_there(specimen: Specimen) -> None:
    view = look.parameters(specimen)
    total = sum(parameter.numel() for parameter in specimen.model.parameters())
    assert view.parameters.sum() == view.numbers.sum() == total
    assert {"layer 0 attention", "layer 2 feed-forward", "embedding"} <= set(view.labels["part"])


def test_loss_by_position_is_that_of_the_evaluation_rule(specimen: Specimen) -> None:
    text = "a fine bee. " * 8
    view = look.loss_by_position(specimen, text)
    assert specimen.tokenizer.end is not None
    ids = np.array([specimen.tokenizer.end, *specimen.tokenizer.encode(text)], dtype=np.int32)
    tokens = in_memory(ids[: 19 * 5 + 1], specimen.tokenizer.vocabulary_size)
    scored = Evaluator(tokens, 19, None, None).score(specimen.model)
    np.testing.assert_allclose(view.nats, scored.by_position, rtol=1e-4)
    with pytest.raises(UserError, match="One whole window takes 20 tokens"):
        look.loss_by_position(specimen, "bee")


def test_context_is_useful_until_more_brings_nothing() -> None:
    assert useful_context(np.array([3.0, 2.0, 1.5, 1.2, 1.0, 1.0, 1.0, 1.0])) == 5
    assert useful_context(np.ones(8)) == 1


def test_nothing_moves_before_a_changed_token(specimen: Specimen) -> None:
    view = look.leaks(specimen, TEXT)
    assert not np.tril(view.moved, -1).any()
    assert (np.diagonal(view.moved) > 0).all()
    assert np.tril(view.moved_without_mask, -1).any()
    assert view.caption.startswith("No place sees")


def test_a_model_that_reads_ahead_is_caught(make: Callable[..., Specimen]) -> None:
    view = look.leaks(make(mixer=SubstitutedAttentionConfig(kind="unmasked")), TEXT)
    assert view.caption.startswith("THE FUTURE LEAKS")
    assert np.tril(view.moved, -1).any()


def test_a_switched_off_head_costs_what_a_model_without_it_loses(specimen: Specimen) -> None:
    view = look.ablate(specimen, TEXT)
    whole = look.minisamples(specimen, TEXT).nats.mean()
    np.testing.assert_allclose(view.loss[0], whole, rtol=1e-5)
    for layer, head in ((0, 0), (2, 5)):
        weight = specimen.attention(layer).output.weight.data
        kept = weight.clone()
        weight[:, 8 * head : 8 * head + 8] = 0.0
        alone = look.minisamples(specimen, TEXT).nats.mean()
        weight.copy_(kept)
        np.testing.assert_allclose(view.rise[layer, head], alone - whole, rtol=1e-3, atol=1e-4)


def test_patching_everything_that_follows_brings_everything_back(make: Callable[..., Specimen]) -> None:
    view = look.patch(make(convolution=1), "Tom ib a", other="bom ib a")
    np.testing.assert_allclose(view.recovered[0, 1], 1.0, atol=1e-4)
    np.testing.assert_allclose(view.recovered[-1, -1], 1.0, atol=1e-4)
    np.testing.assert_allclose(view.recovered[-1, :-1], 0.0, atol=1e-4)
    np.testing.assert_allclose(view.recovered[0, 2:], 0.0, atol=1e-4)
    assert view.labels["position"][:3] == ["<|end|>", "T/b", "o"]


def test_patching_takes_two_texts_of_one_length(make: Callable[..., Specimen]) -> None:
    specimen = make()
    for other, said in ((None, "takes two texts"), ("bee", "as many tokens"), (TEXT, "the same")):
        with pytest.raises(UserError, match=said):
            look.patch(specimen, TEXT, other=other)
