"""Classifiers and translators: what can be seen in them, and what is refused."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from clearhead import look
from clearhead.core.errors import UserError
from clearhead.look.catalogue import SUBJECTS
from clearhead.look.recording import trace
from clearhead.look.specimen import FOR_ALL, FOR_ENCODERS, Specimen, read
from clearhead.model.attention import QK_NORM_EPSILON
from clearhead.model.config import CausalConfig
from clearhead.model.encoder_decoder import EncoderDecoder
from clearhead.model.family_config import EncoderConfig, EncoderDecoderConfig
from clearhead.show.view import View

Make = Callable[..., Specimen]
TEXT = "a fine bee."
CLASSIFIER = EncoderConfig(num_classes=3, num_layers=2, num_heads=3, width=24, context_length=19)
TRANSLATOR = EncoderDecoderConfig(
    num_encoder_layers=1, num_decoder_layers=2, num_heads=3, width=24, context_length=19, dropout=0.0
)


def test_every_subject_is_shown_or_refused_in_a_sentence(make: Make) -> None:
    models = ((CLASSIFIER, "chooses a label", FOR_ENCODERS), (TRANSLATOR, "translates", FOR_ALL))
    for config, does, by in models:
        shown = set(re.split(r", | and ", by))
        assert shown < SUBJECTS.keys()
        specimen = make(config)
        for subject in SUBJECTS:
            given: dict[str, Any] = {"prompt": "a - b + c" if subject == "analogy" else TEXT}
            if subject in ("embeddings", "dimensions", "parameters"):
                given = {}
            if subject in ("patch", "compare"):
                given["other"] = "b" if subject == "patch" else specimen
            if subject in shown:
                assert getattr(look, subject)(specimen, **given).caption
            else:
                with pytest.raises(UserError, match=f"This model {does} and continues no text; it can be looked at by"):
                    getattr(look, subject.replace("-", "_"))(specimen, **given)


def test_a_classifier_looks_in_both_directions(make: Make) -> None:
    specimen = make(CLASSIFIER)
    model: Any = specimen.model
    nn.init.normal_(model.classifier.weight)
    reading = read(specimen, TEXT, writes=False)
    with torch.no_grad():
        torch.testing.assert_close(reading.trace()["logits"], model(reading.tokens), rtol=1e-5, atol=1e-5)
    view = look.attention(specimen, TEXT, layer=1, head=2)
    fits = view.query_vector @ view.key_vector.T / np.sqrt(8)
    weights = np.exp(fits - fits.max(axis=1, keepdims=True))
    np.testing.assert_allclose(view.pattern, weights / weights.sum(axis=1, keepdims=True), rtol=1e-4, atol=1e-6)
    assert view.allowed.all()
    assert "from the one after" in view.caption
    assert f"even ones would have {np.log(len(reading)):.2f}" in view.caption
    causal = look.attention(make(CLASSIFIER, mask=CausalConfig()), TEXT, layer=1, head=2)
    assert not np.triu(causal.pattern, 1).any()
    assert "from the one after" not in causal.caption


def test_heads_of_a_classifier_are_held_against_what_they_may_read(make: Make) -> None:
    view = look.heads(make(CLASSIFIER), TEXT)
    kinds, length = view.labels["kind"], len(view.labels["query"])
    np.testing.assert_allclose(
        view.score[kinds.index("next")], view.pattern.diagonal(1, -2, -1).mean(axis=-1), rtol=1e-5
    )
    weights = view.pattern.astype(float)
    spread = -(weights * np.log(weights)).sum(axis=-1).mean(axis=-1) / np.log(length)
    np.testing.assert_allclose(view.score[kinds.index("even")], spread, rtol=1e-4)
    even = dict(zip(kinds, view.score_of_even_weights, strict=True))
    assert even["previous"] == pytest.approx(1 / length) == pytest.approx(even["next"])
    assert even["even"] == pytest.approx(1.0)
    assert "next" not in look.heads(make(CLASSIFIER, mask=CausalConfig()), TEXT).labels["kind"]


def seen_by(cross: nn.Module, call: Callable[[], object]) -> dict[str, Any]:
    """Return what a layer is given while something is called."""
    found: dict[str, Any] = {}
    hook = cross.register_forward_pre_hook(lambda _, given: found.update(x=given[0], source=given[1]))
    call()
    hook.remove()
    return found


def test_an_alignment_is_the_softmax_of_what_is_written_against_what_is_read(make: Make) -> None:
    specimen = make(TRANSLATOR)
    model = specimen.model
    assert isinstance(model, EncoderDecoder)
    view = look.attention(specimen, TEXT, layer=1, head=2)
    cross: Any = model.blocks[1].cross
    reading = read(specimen, TEXT, writes=False)
    given = seen_by(cross, reading.trace)
    q, k = cross.query(given["x"]).unflatten(-1, (3, 8)), cross.key(given["source"]).unflatten(-1, (3, 8))
    if cross.qk_norm:
        q, k = (each * (each.square().mean(dim=-1, keepdim=True) + QK_NORM_EPSILON).rsqrt() for each in (q, k))
    weights = (torch.einsum("bthd,bshd->bhts", q, k) / 8**0.5).softmax(dim=-1)[0].detach()
    np.testing.assert_allclose(view.pattern, weights[2], rtol=1e-4, atol=1e-6)
    assert view.labels["key"] == [*f" {TEXT}", "<|end|>"]
    assert view.labels["query"][-1] == "<|end|>"
    assert view.alignment.shape == view.pattern.shape == (reading.written.size(1), len(reading))
    np.testing.assert_allclose(view.alignment.sum(axis=1), 1.0, rtol=1e-6)
    layers = [look.attention(specimen, TEXT, layer=at, head=head).pattern for at in range(2) for head in range(3)]
    np.testing.assert_allclose(view.alignment, np.mean(layers, axis=0), rtol=1e-6)


def test_a_translator_is_recorded_with_its_encoder(make: Make) -> None:
    specimen = make(TRANSLATOR)
    source, target = torch.tensor([[2, 3, 5, 7, 11]]), torch.tensor([[13, 17, 19]])
    seen = trace(specimen.model, target, source=source)
    with torch.no_grad():
        plain = specimen.model(target, source=specimen.model.encode(source))  # type: ignore[operator]
    torch.testing.assert_close(seen.logits, plain, rtol=1e-5, atol=1e-5)
    assert seen["encoder.blocks.0.attn.pattern"].shape == (1, 3, 5, 5)
    assert seen["blocks.1.cross.pattern"].shape == (1, 3, 3, 5)
    assert not seen["blocks.1.attn.pattern"].triu(1).any()


def test_shapes_and_parameters_name_the_parts_of_each(make: Make) -> None:
    meanings = dict(zip(*of(look.shapes(make(CLASSIFIER), TEXT), "place", "meaning"), strict=True))
    assert meanings["logits"].endswith("a score for each label")
    assert all(meanings.values())
    translator = look.shapes(make(TRANSLATOR), TEXT)
    axes = dict(zip(*of(translator, "place", "axes"), strict=True))
    assert axes["blocks.0.cross.pattern"] == "B H T S"
    assert all(axes.values())
    parts = look.parameters(make(TRANSLATOR)).labels["part"]
    assert {"encoder layer 0 attention", "layer 1 cross-attention", "layer 1 feed-forward"} <= set(parts)


def of(view: View, axis: str, array: str) -> tuple[list[str], list[str]]:
    return list(view.labels[axis]), view.arrays[array].tolist()
