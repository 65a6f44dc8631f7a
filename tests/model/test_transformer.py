"""The GPT as a whole: its size, its beginning, its head, its roles, and what it refuses to read."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import replace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from clearhead.core.errors import UserError
from clearhead.model import shapes
from clearhead.model.build import build_model
from clearhead.model.config import (
    BigramConfig,
    ConcatenatedConfig,
    GptConfig,
    LayerNormConfig,
    LearnedConfig,
    ModelConfig,
    PositionsConfig,
)
from clearhead.model.ladder import Bigram
from clearhead.model.masks import Full
from clearhead.model.transformer import GPT

VOCABULARY_SIZE, CONTEXT_LENGTH = 29, 11
SMALL = GptConfig(
    num_layers=2, num_heads=5, width=30, context_length=CONTEXT_LENGTH, initialization="normal", logit_softcap=None
)


def tokens(rows: int = 3, length: int = CONTEXT_LENGTH) -> Tensor:
    return torch.randint(VOCABULARY_SIZE, (rows, length), generator=torch.Generator().manual_seed(5))


def parameters(config: ModelConfig, vocabulary_size: int) -> int:
    with torch.device("meta"):
        model = GPT(config, vocabulary_size) if isinstance(config, GptConfig) else Bigram(config, vocabulary_size)
    return sum(parameter.numel() for parameter in model.parameters())


def first_loss(model: nn.Module) -> float:
    targets = tokens().roll(-1, dims=1)
    with torch.no_grad():
        return float(F.cross_entropy(model(tokens()).flatten(0, 1), targets.flatten()))


# Sizes.


def test_gpt2_has_its_published_number_of_parameters() -> None:
    assert parameters(shapes.gpt2_124m(), 50257) == 124_439_808


def test_tiny_is_small() -> None:
    assert parameters(shapes.tiny(), 65) <= 810_000


def test_the_lecture_has_its_number_of_parameters() -> None:
    assert parameters(shapes.lecture_large(), 65) == by_hand(6, 384, 256, 65)
    assert parameters(shapes.lecture(), 65) == by_hand(3, 32, 8, 65)


def by_hand(layers: int, width: int, context_length: int, vocabulary_size: int) -> int:
    """Count a model of learned positions, LayerNorms, biases, a factor of 4 and an untied head."""
    block = 4 * (width * width + width) + (4 * width * width + 4 * width) + (4 * width * width + width) + 4 * width
    return layers * block + 2 * vocabulary_size * width + context_length * width + 2 * width


def test_a_tied_head_has_no_weights_of_its_own() -> None:
    untied = parameters(SMALL, VOCABULARY_SIZE)
    assert parameters(replace(SMALL, tied_head=True), VOCABULARY_SIZE) == untied - VOCABULARY_SIZE * SMALL.width


def test_shared_keys_and_values_save_their_share() -> None:
    shared = parameters(replace(SMALL, num_kv_heads=1), VOCABULARY_SIZE)
    saved = SMALL.num_layers * 2 * (5 - 1) * SMALL.head_width * SMALL.width
    assert shared == parameters(SMALL, VOCABULARY_SIZE) - saved


# The beginning.


@pytest.mark.parametrize("config", [shapes.tiny(), shapes.modern(), replace(shapes.tiny(), logit_softcap=None)])
def test_a_zero_start_guesses_evenly(config: GptConfig) -> None:
    model = build_model(replace(config, num_layers=2), VOCABULARY_SIZE)
    assert not model(tokens()).any()
    assert first_loss(model) == pytest.approx(math.log(VOCABULARY_SIZE), abs=1e-6)


def test_a_zero_start_passes_the_embedding_through() -> None:
    model = build_model(replace(shapes.tiny(), num_layers=2), VOCABULARY_SIZE)
    assert isinstance(model, GPT)
    embedded = model.embedding_norm(model.embedding(tokens()))
    torch.testing.assert_close(model.features(tokens()), model.final_norm(embedded))


def test_a_normal_start_is_near_an_even_guess() -> None:
    assert first_loss(build_model(shapes.gpt2(), VOCABULARY_SIZE)) == pytest.approx(math.log(VOCABULARY_SIZE), abs=0.1)


def test_a_normal_start_has_gpt2s_spreads() -> None:
    config = shapes.gpt2(num_layers=8, width=96, num_heads=3)
    model = build_model(config, 997)
    assert isinstance(model, GPT)
    for name, parameter in model.named_parameters():
        if parameter.ndim == 2:
            wanted = 0.02 / math.sqrt(2 * 8) if name.endswith(".output.weight") else 0.02
            assert float(parameter.detach().std()) == pytest.approx(wanted, rel=0.05), name
        elif name.endswith("bias"):
            assert not parameter.any()


def test_the_stream_does_not_grow_with_depth() -> None:
    def spread(config: GptConfig) -> float:
        seen: dict[str, Tensor] = {}
        model = build_model(config, VOCABULARY_SIZE)
        model(tokens(), tap=seen.setdefault)
        return float(seen[f"blocks.{config.num_layers - 1}.resid_post"].detach().std())

    shallow, deep = spread(shapes.gpt2(num_layers=2)), spread(shapes.gpt2(num_layers=32))
    assert deep < 2 * shallow


# Building.


@pytest.mark.parametrize("config", [SMALL, BigramConfig()])
def test_a_seed_decides_the_weights_and_leaves_the_global_state(config: ModelConfig) -> None:
    before = torch.get_rng_state()
    first, again, other = (build_model(config, VOCABULARY_SIZE, seed=seed).state_dict() for seed in (3, 3, 4))
    assert torch.equal(before, torch.get_rng_state())
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not all(torch.equal(first[name], other[name]) for name in first)


def test_each_config_has_its_model() -> None:
    assert isinstance(build_model(SMALL, VOCABULARY_SIZE), GPT)
    assert isinstance(build_model(BigramConfig(), VOCABULARY_SIZE), Bigram)


def test_a_bigram_looks_at_one_token() -> None:
    model = build_model(BigramConfig(), VOCABULARY_SIZE)
    assert isinstance(model, Bigram)
    assert torch.equal(model(tokens()), model.table.weight[tokens()])
    assert first_loss(model) == pytest.approx(math.log(VOCABULARY_SIZE), abs=0.01)


# The head.


def test_forward_is_features_then_head() -> None:
    for config in (SMALL, replace(SMALL, logit_softcap=0.5), BigramConfig(context_length=CONTEXT_LENGTH)):
        model = build_model(config, VOCABULARY_SIZE).eval()
        assert torch.equal(model(tokens()), model.head(model.features(tokens())))


@torch.no_grad()
def test_a_softcap_bends_the_logits() -> None:
    plain = build_model(SMALL, VOCABULARY_SIZE)
    capped = build_model(replace(SMALL, logit_softcap=0.7), VOCABULARY_SIZE)
    features = 40.0 * plain.features(tokens())
    logits = plain.head(features)
    assert float(logits.abs().max()) > 2.0
    torch.testing.assert_close(capped.head(features), 0.7 * torch.tanh(logits / 0.7))
    assert float(capped.head(features).abs().max()) <= 0.7


def test_a_small_logit_passes_the_softcap_as_it_is() -> None:
    capped = build_model(replace(SMALL, logit_softcap=1000.0), VOCABULARY_SIZE)
    plain = build_model(SMALL, VOCABULARY_SIZE)
    torch.testing.assert_close(capped(tokens()), plain(tokens()), rtol=0, atol=1e-5)


def test_a_tied_head_reads_the_embedding() -> None:
    model = build_model(replace(SMALL, tied_head=True), VOCABULARY_SIZE)
    assert isinstance(model, GPT)
    features = model.features(tokens())
    torch.testing.assert_close(model.head(features), features @ model.embedding.weight.T)


# Roles.


def test_roles_are_told_by_what_a_parameter_does() -> None:
    config = replace(SMALL, bias=True, norm=LayerNormConfig(), positions=LearnedConfig(), convolution=3)
    model = GPT(config, VOCABULARY_SIZE)
    roles = model.roles()
    assert roles["embedding.weight"] == roles["positions.table"] == "embedding"
    assert roles["unembedding.weight"] == "head"
    assert roles["blocks.1.attention.key.weight"] == roles["blocks.0.feed_forward.output.weight"] == "hidden"
    assert roles["blocks.0.convolution.taps"] == roles["final_norm.weight"] == "gain"
    assert roles["blocks.1.attention.query.bias"] == "gain"
    # Each block has 6 matrices with a bias each, 2 norms of 2 vectors, and the taps; 2 more norms stand outside.
    assert Counter(roles.values()) == {"embedding": 2, "head": 1, "hidden": 12, "gain": 2 * (6 + 4 + 1) + 4}


def test_a_tied_head_is_an_embedding() -> None:
    roles = GPT(replace(SMALL, tied_head=True), VOCABULARY_SIZE).roles()
    assert "unembedding.weight" not in roles
    assert roles["embedding.weight"] == "embedding"


# Running.


def gradients(model: nn.Module, **changes: Any) -> list[Tensor]:
    torch.manual_seed(3)
    loss = F.cross_entropy(model(tokens(), **changes).flatten(0, 1), tokens().flatten())
    return list(torch.autograd.grad(loss, list(model.parameters())))


@pytest.mark.parametrize("dropout", [0.0, 0.4])
def test_recomputing_blocks_changes_no_gradient(dropout: float) -> None:
    model = GPT(replace(SMALL, dropout=dropout), VOCABULARY_SIZE).train()
    kept = gradients(model)
    model.recompute_blocks = True
    recomputed = gradients(model)
    assert all(torch.equal(left, right) for left, right in zip(kept, recomputed, strict=True))
    if dropout:
        torch.manual_seed(4)
        other = torch.autograd.grad(model(tokens()).square().sum(), list(model.parameters()))
        assert not all(torch.equal(left, right) for left, right in zip(kept, other, strict=True))


def test_recomputing_runs_each_block_twice() -> None:
    model = GPT(SMALL, VOCABULARY_SIZE).train()
    calls: list[int] = []
    model.blocks[1].attention.register_forward_hook(lambda *_: calls.append(1))
    gradients(model)
    assert len(calls) == 1
    model.recompute_blocks = True
    gradients(model)
    assert len(calls) == 3


def test_a_cache_is_not_filled_twice_by_recomputing() -> None:
    model = GPT(SMALL, VOCABULARY_SIZE).train()
    plain = model(tokens())
    model.recompute_blocks = True
    cache = model.new_cache(3)
    model(tokens(), cache=cache).sum().backward()
    assert [slot.length for slot in cache] == [CONTEXT_LENGTH] * 2
    cache.clear()
    torch.testing.assert_close(model(tokens(), cache=cache), plain)


def test_another_mask_lets_other_positions_be_read() -> None:
    model = GPT(SMALL, VOCABULARY_SIZE).eval()
    changed = tokens()
    changed[:, -1] = (changed[:, -1] + 1) % VOCABULARY_SIZE
    assert torch.equal(model(tokens())[:, 0], model(changed)[:, 0])
    assert not torch.equal(model(tokens(), mask=Full())[:, 0], model(changed, mask=Full())[:, 0])


@pytest.mark.parametrize("positions", [SMALL.positions, LearnedConfig()])
def test_more_than_the_context_is_refused(positions: Any) -> None:
    model = GPT(replace(SMALL, positions=positions), VOCABULARY_SIZE).eval()
    with pytest.raises(UserError, match="at most 11 positions, not 12"):
        model(tokens(length=12))
    cache = model.new_cache(3, capacity=20)
    model(tokens(), cache=cache)
    with pytest.raises(UserError, match="at most 11 positions, not 12"):
        model(tokens(length=1), cache=cache)


def test_dropout_is_off_in_evaluation() -> None:
    model = GPT(replace(SMALL, dropout=0.5), VOCABULARY_SIZE)
    assert not torch.equal(model(tokens()), model(tokens()))
    model.eval()
    assert torch.equal(model(tokens()), model(tokens()))
    assert torch.equal(model(tokens()), GPT.forward(model, tokens()))


def test_dropout_takes_its_share_of_the_embedding() -> None:
    model = build_model(replace(SMALL, dropout=0.3, initialization="zero_residual"), VOCABULARY_SIZE)
    torch.manual_seed(3)
    dropped = (model.features(tokens()) == 0).float().mean()
    assert 0.2 < float(dropped) < 0.4


def test_a_tap_sees_the_whole_way() -> None:
    model = GPT(replace(SMALL, convolution=3), VOCABULARY_SIZE).eval()
    seen: dict[str, Tensor] = {}
    model(tokens(), tap=seen.setdefault)
    block = "resid_pre attn.in attn.q attn.k attn.v attn.scores_raw attn.scores_scaled attn.scores_masked attn.pattern "
    block += "attn.z attn.out resid_mid mlp.in mlp.pre mlp.post mlp.out resid_post"
    blocks = [f"blocks.{index}.{name}" for index in range(2) for name in block.split()]
    assert list(seen) == ["embed.tok", *blocks, "final", "logits"]
    pattern = seen["blocks.1.attn.pattern"]
    assert pattern.shape == (3, 5, CONTEXT_LENGTH, CONTEXT_LENGTH)
    torch.testing.assert_close(pattern.sum(dim=-1), torch.ones(3, 5, CONTEXT_LENGTH))
    assert torch.equal(seen["blocks.0.resid_pre"] + seen["blocks.0.attn.out"], seen["blocks.0.resid_mid"])
    torch.testing.assert_close(
        seen["blocks.0.resid_mid"] + seen["blocks.0.mlp.out"], seen["blocks.0.resid_post"], rtol=0, atol=1e-6
    )
    assert torch.equal(model.head(seen["final"]), seen["logits"])


@pytest.mark.parametrize("positions", [LearnedConfig(), ConcatenatedConfig()])
def test_what_positions_add_can_be_taken_away(positions: PositionsConfig) -> None:
    model = GPT(replace(SMALL, positions=positions, embedding_norm=False), VOCABULARY_SIZE).eval()
    begun: dict[str, Tensor] = {}
    model(tokens(), tap=begun.setdefault)
    torch.testing.assert_close(
        begun["blocks.0.resid_pre"],
        F.pad(begun["embed.tok"], (0, 30 - begun["embed.tok"].size(-1))) + begun["embed.pos"],
    )
    alone: dict[str, Tensor] = {}

    def without_positions(name: str, tensor: Tensor) -> Tensor:
        return alone.setdefault(name, torch.zeros_like(tensor) if name == "embed.pos" else tensor)

    model(tokens(), tap=without_positions)
    assert torch.equal(begun["embed.tok"], alone["embed.tok"])
    width = alone["embed.tok"].size(-1)
    assert torch.equal(alone["blocks.0.resid_pre"][..., :width], alone["embed.tok"])
    assert not alone["blocks.0.resid_pre"][..., width:].any()
