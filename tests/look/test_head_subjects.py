"""One head in words, one token's way, positions, and two models side by side."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch

from clearhead import look
from clearhead.core.errors import UserError
from clearhead.generation.score import text_nats
from clearhead.look import specimen as specimens
from clearhead.look.recording import trace
from clearhead.look.specimen import Specimen, read
from clearhead.look.subjects.compare import character_bits
from clearhead.look.subjects.diary import spread_out
from clearhead.model.config import AlibiConfig, BigramConfig, LearnedConfig, NoPositionsConfig, RotaryConfig
from clearhead.text.tokenizer import ByteTokenizer

TEXT = "a fine bee. Tom"


def test_a_card_looks_for_what_the_head_looks_for(specimen: Specimen) -> None:
    place, head = 9, 4
    card = look.head_card(specimen, TEXT, head=head, position=place)
    scores = look.attention(specimen, TEXT, head=head).scores_scaled
    ids = read(specimen, TEXT).tokens[0]
    np.testing.assert_allclose(card.looks_for[ids[place - 1]], scores[place, place - 1], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(card.looked_for_by[ids[place + 1]], scores[place + 1, place], rtol=1e-4, atol=1e-5)
    assert card.fit[0] == card.looks_for.max()


def test_a_card_of_a_deeper_layer_looks_at_places_of_texts(specimen: Specimen) -> None:
    card = look.head_card(specimen, TEXT, layer=2, head=1, position=7)
    scores = look.attention(specimen, TEXT, layer=2, head=1)
    np.testing.assert_allclose(card.looks_for, scores.scores_scaled[7], rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(card.looked_for_by, scores.scores_scaled[:, 7], rtol=1e-4, atol=1e-4)
    assert card.labels["candidate"][3] == "<|end|>a [f]"


def test_a_card_says_what_the_value_does_to_the_logits(specimen: Specimen) -> None:
    layer, head, place = 1, 5, 6
    card = look.head_card(specimen, TEXT, layer=layer, head=head, position=place)
    seen = read(specimen, TEXT).trace("*")
    mixer, model = specimen.attention(layer), specimen.gpt
    v = seen[f"blocks.{layer}.attn.v"][0, head * mixer.num_kv_heads // 6, place]
    added = mixer.output.weight[:, 8 * head : 8 * head + 8] @ v / seen["final.scale"][0, place]
    gain = 1.0 if getattr(model.final_norm, "weight", None) is None else model.final_norm.weight
    moved = (model.unembedding.weight @ (added * gain)).detach()
    np.testing.assert_allclose(card.says, moved - moved.mean(), rtol=1e-3, atol=1e-3)


def test_a_kept_pass_is_used_for_the_same_text_alone(specimen: Specimen, monkeypatch: pytest.MonkeyPatch) -> None:
    keeping, passes = replace(specimen, latest={}), []
    monkeypatch.setattr(specimens, "trace", lambda *given, **named: passes.append(1) or trace(*given, **named))
    for text, head, expected in ((TEXT, 0, 1), (TEXT, 4, 1), (TEXT[:-1] + "a", 4, 2), (TEXT, 4, 3)):
        seen = look.attention(keeping, text, layer=1, head=head)
        assert len(passes) == expected
        np.testing.assert_array_equal(seen.pattern, look.attention(specimen, text, layer=1, head=head).pattern)
        passes.pop()


def test_a_walk_has_the_real_vectors(specimen: Specimen) -> None:
    view = look.walk(specimen, TEXT, position=5)
    seen = read(specimen, TEXT).trace("*")
    at = view.labels["stage"].index("1 attn.q")
    np.testing.assert_array_equal(view.vector[at, :48], seen["blocks.1.attn.q"][0, :, 5].flatten())
    last = view.labels["stage"].index("final")
    np.testing.assert_array_equal(view.vector[last], seen["final"][0, 5])
    np.testing.assert_allclose(view.size[last], seen["final"][0, 5].square().mean().sqrt(), rtol=1e-5)
    keys = view.labels["stage"].index("0 attn.k")
    assert np.isfinite(view.vector[keys]).sum() == 8 * specimen.gpt.config.kv_heads
    np.testing.assert_allclose(view.probability[0], seen.logits[0, 5].softmax(-1).max(), rtol=1e-5)


def test_positions_that_are_vectors_are_compared_and_taken_away(make: Callable[..., Specimen]) -> None:
    specimen = make(positions=LearnedConfig(), embedding_norm=False, qk_norm=False)
    view = look.positions(specimen, TEXT)
    table = specimen.gpt.positions.table.data  # type: ignore[union-attr]
    by_hand = torch.nn.functional.cosine_similarity(table[3], table[8], dim=0)
    np.testing.assert_allclose(view.alike[3, 8], by_hand, rtol=1e-4)
    table.zero_()  # type: ignore[operator]
    without = look.minisamples(specimen, TEXT).nats.mean()
    np.testing.assert_allclose(view.arrays["loss"][1], without, rtol=1e-4)


def test_rotary_positions_turn_what_fits(make: Callable[..., Specimen]) -> None:
    specimen = make(positions=RotaryConfig(base=50.0))
    view = look.positions(specimen, TEXT)
    x = torch.ones(1, 1, 16, 8)
    turned = specimen.gpt.positions.rotate(x, 0)[0, 0]
    np.testing.assert_allclose(view.fit, (turned @ turned[0]) / 8, atol=1e-5)


def test_alibi_and_no_positions_have_their_sentence(make: Callable[..., Specimen]) -> None:
    view = look.positions(make(positions=AlibiConfig()), TEXT)
    np.testing.assert_allclose(view.added_to_score[:, 5], -5 * 2.0 ** (-8 * np.arange(1, 7) / 6), rtol=1e-5)
    assert "adds nothing for positions" in look.positions(make(positions=NoPositionsConfig()), TEXT).caption


def test_two_models_are_compared_by_what_characters_cost(make: Callable[..., Specimen]) -> None:
    one, two = make(), make(BigramConfig())
    same = look.compare(one, TEXT, other=one)
    assert not same.difference[np.isfinite(same.difference)].any()
    assert not same.distance.any()
    view = look.compare(one, TEXT, other=two)
    np.testing.assert_allclose(view.difference, character_bits(two, TEXT) - character_bits(one, TEXT))
    ids = np.array([one.tokenizer.end, *one.tokenizer.encode(TEXT)])
    np.testing.assert_allclose(view.bits.sum() * math.log(2), text_nats(one.model, ids).sum(), rtol=1e-6)
    with pytest.raises(UserError, match="takes two models"):
        look.compare(one, TEXT)


def test_bytes_of_a_character_are_added_up(make: Callable[..., Specimen]) -> None:
    model = make(BigramConfig()).model
    model.table = torch.nn.Embedding(256, 256)  # type: ignore[assignment]
    specimen = Specimen(model, ByteTokenizer(end=False))
    bits = character_bits(specimen, "aéb")
    nats = text_nats(model, np.frombuffer("aéb".encode(), np.uint8).astype(np.int32))
    np.testing.assert_allclose(bits[1:] * math.log(2), [nats[:2].sum(), nats[2]])
    assert np.isnan(bits[0])


def test_steps_are_spread_out_by_factors() -> None:
    assert spread_out([1, 2, 4], 5) == [1, 2, 4]
    assert spread_out(list(range(1, 1025)), 11) == [2**power for power in range(11)]


def test_dead_units_and_doubled_heads_are_noticed(make: Callable[..., Specimen]) -> None:
    specimen = make()
    view = look.health(specimen, TEXT)
    rows = dict(zip(view.labels["check"], view.verdict.tolist(), strict=True))
    assert rows["finite weights"] == rows["heads that double"] == "fine"
    attention = specimen.attention(1)
    attention.query.weight.data[8:16] = attention.query.weight.data[:8]
    specimen.gpt.blocks[0].feed_forward.up.weight.data.zero_()  # type: ignore[union-attr, operator]
    specimen.gpt.final_norm = torch.nn.Identity()
    view = look.health(specimen, TEXT)
    rows = dict(zip(view.labels["check"], view.verdict.tolist(), strict=True))
    assert rows["dead units"] == rows["heads that double"] == "look"
    assert "Look at dead units: 192 of 576" in view.caption
