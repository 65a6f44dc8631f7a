"""Each variant obeys the laws that apply to it, and breaks the one that it should."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from clearhead.core.config import build
from clearhead.core.errors import UserError
from clearhead.model import laws
from clearhead.model.attention import Attention, explicit, fused
from clearhead.model.build import LanguageModel, build_model
from clearhead.model.config import GptConfig, LstmConfig, ModelConfig
from clearhead.model.masks import Causal, Full
from clearhead.model.positions import Positions
from clearhead.model.transformer import GPT
from clearhead.model.variants.attention import SUBSTITUTIONS
from clearhead.model.variants.mixers import Averaging, CausalConvolution, FourierMixer

VOCABULARY_SIZE = 29
SIZES: dict[str, Any] = {"num_layers": 2, "num_heads": 4, "width": 40, "context_length": 11}
LAWS = (*laws.ANY_MODEL, *laws.OUR_MODELS)
READS_AHEAD = ("unmasked", "fnet")
LOOSE = 0.7
"""The size of random maps where nothing keeps states from growing."""


def gpt(**parts: Any) -> GptConfig:
    return build(GptConfig, {**SIZES, **parts})


MIXERS = [kind for kind in (*SUBSTITUTIONS, "averaging", "convolution", "fnet") if kind not in READS_AHEAD]
SOUND: dict[str, ModelConfig] = {
    **{kind: gpt(mixer={"kind": kind}) for kind in MIXERS},
    "post norm": gpt(residual="post_norm", norm={"kind": "layer"}),
    "no residual": gpt(residual="none"),
    "no norm": gpt(norm={"kind": "none"}, qk_norm=True),
    "no feed-forward": gpt(feed_forward={"kind": "none"}, positions={"kind": "learned"}),
    "frozen": gpt(embedding={"kind": "frozen"}),
    "one-hot": gpt(embedding={"kind": "one_hot"}),
    "lstm": LstmConfig(num_layers=2, width=40, context_length=11),
}


@torch.no_grad()
def random_model(config: ModelConfig, size: float = 1.5) -> LanguageModel:
    """Return a model whose weights all have a say, so that nothing hides behind a zero."""
    model = build_model(config, VOCABULARY_SIZE)
    generator = torch.Generator().manual_seed(1)
    for name, parameter in model.named_parameters():
        noise = torch.randn(parameter.shape, generator=generator)
        is_map = parameter.ndim == 2 and not name.endswith("taps")
        parameter.copy_(noise * parameter.size(-1) ** -0.5 * size if is_map else 1.0 + 0.3 * noise)
    return model.eval()


@pytest.mark.parametrize("law", LAWS)
@pytest.mark.parametrize("name", SOUND)
def test_a_variant_obeys(name: str, law: Callable[[Any, int], None]) -> None:
    law(random_model(SOUND[name], LOOSE if name == "no norm" else 1.5), VOCABULARY_SIZE)


@pytest.mark.parametrize("kind", READS_AHEAD)
def test_the_causal_laws_refuse_what_reads_ahead(kind: str) -> None:
    model = random_model(gpt(mixer={"kind": kind}))
    assert isinstance(model, GPT)
    for law in (laws.the_future_is_not_read, laws.the_future_gets_no_gradient):
        with pytest.raises(laws.LawBroken):
            law(model, VOCABULARY_SIZE)
    assert model.reads_ahead
    assert model.new_cache(3) is None
    for law in (laws.rows_are_independent, laws.a_tap_changes_nothing, laws.every_parameter_has_a_role):
        law(model, VOCABULARY_SIZE)


@pytest.mark.parametrize("kind", MIXERS)
def test_what_does_not_read_ahead_says_so(kind: str) -> None:
    model = build_model(gpt(mixer={"kind": kind}), VOCABULARY_SIZE)
    assert isinstance(model, GPT)
    assert not model.reads_ahead


# What each substitution is, beside the whole attention.

B, T, C, H = 3, 7, 20, 5


def attention(kind: str | None = None, **settings: Any) -> Attention:
    torch.manual_seed(5)
    module = Attention(C, H, H, explicit, bias=False, qk_norm=False, **settings)
    if kind is not None:
        SUBSTITUTIONS[kind](module)
    return module


def read(module: torch.nn.Module, x: torch.Tensor, **context: Any) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """Return what a mixer gives, and what a tap sees in it."""
    seen: dict[str, torch.Tensor] = {}

    def tap(name: str, tensor: torch.Tensor) -> torch.Tensor:
        seen[name] = tensor.detach()
        return tensor

    with torch.no_grad():
        given = {"mask": Causal(), "positions": Positions(), **context}
        return module(x, tap=tap, **given), seen


X = torch.randn(B, T, C, generator=torch.Generator().manual_seed(3))


def test_with_a_shared_map_scores_before_the_mask_are_symmetric() -> None:
    _, seen = read(attention("key_is_query"), X)
    torch.testing.assert_close(seen["scores_raw"], seen["scores_raw"].mT)
    _, whole = read(attention(), X)
    assert not torch.allclose(whole["scores_raw"], whole["scores_raw"].mT, atol=0.1)


def test_values_are_what_the_name_says() -> None:
    _, seen = read(attention("value_is_input"), X)
    assert torch.equal(seen["v"].transpose(1, 2).flatten(2), X)
    _, seen = read(attention("value_is_key"), X)
    assert torch.equal(seen["v"], seen["k"])


def test_a_constant_key_without_positions_reads_evenly() -> None:
    _, seen = read(attention("constant_key"), X)
    _, mean = read(Averaging(), X)
    torch.testing.assert_close(seen["pattern"], mean["pattern"][:, None].expand(B, H, T, T))


def test_with_a_constant_query_all_positions_weigh_alike() -> None:
    _, seen = read(attention("constant_query"), X)
    assert torch.equal(seen["scores_raw"][:, :, :1].expand_as(seen["scores_raw"]), seen["scores_raw"])


@pytest.mark.parametrize("kernel", [explicit, fused])
def test_unscaled_scores_are_the_products(kernel: Any) -> None:
    module = attention("unscaled")
    _, seen = read(module, X)
    torch.testing.assert_close(seen["scores_scaled"], seen["q"] @ seen["k"].mT)
    torch.manual_seed(5)
    other = Attention(C, H, H, kernel, bias=False, qk_norm=False)
    SUBSTITUTIONS["unscaled"](other)
    torch.testing.assert_close(
        other(X, mask=Causal(), positions=Positions()), module(X, mask=Causal(), positions=Positions())
    )


def test_unmasked_is_the_full_mask() -> None:
    found, _ = read(attention("unmasked"), X)
    wanted, _ = read(attention(), X, mask=Full())
    torch.testing.assert_close(found, wanted)


def test_without_an_output_map_heads_stand_side_by_side() -> None:
    found, seen = read(attention("no_output"), X)
    assert torch.equal(found, seen["z"].transpose(1, 2).flatten(2))


def test_averaging_is_a_running_mean() -> None:
    found, _ = read(Averaging(), X)
    torch.testing.assert_close(found, X.cumsum(dim=1) / torch.arange(1, T + 1)[:, None])


def test_a_convolution_reads_its_reach_by_distance() -> None:
    torch.manual_seed(2)
    module = CausalConvolution(C, 3, bias=False)
    found, seen = read(module, X)
    value = seen["v"]
    wanted = torch.zeros_like(value)
    for t in range(T):
        for distance in range(min(3, t + 1)):
            wanted[:, t] += module.taps[distance].detach() * value[:, t - distance]
    torch.testing.assert_close(seen["z"], wanted)
    torch.testing.assert_close(found, module.output(wanted).detach())


def test_the_fourier_mixer_is_two_transforms() -> None:
    found, _ = read(FourierMixer(), X)
    angles = [2 * torch.pi * torch.outer(torch.arange(n), torch.arange(n)) / n for n in (T, C)]
    rows, channels = (torch.polar(torch.ones(angle.shape), -angle) for angle in angles)
    wanted = (rows @ X.to(torch.complex64) @ channels).real / (T * C) ** 0.5
    torch.testing.assert_close(found, wanted, rtol=0, atol=1e-4)


# Embeddings, and what does not fit.


def test_a_fixed_table_is_kept_but_not_trained() -> None:
    for kind in ("frozen", "one_hot"):
        model = build_model(gpt(embedding={"kind": kind}), VOCABULARY_SIZE)
        assert "embedding.weight" in model.state_dict()
        assert "embedding.weight" not in dict(model.named_parameters())
        if kind == "one_hot":
            assert torch.equal(model.embedding.weight, torch.eye(VOCABULARY_SIZE, 40))


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(UserError, match="at least 41, or"):
        build_model(gpt(embedding={"kind": "one_hot"}), 41)
    with pytest.raises(UserError, match="needs tied_head = false"):
        gpt(embedding={"kind": "frozen"}, tied_head=True)
    with pytest.raises(UserError, match="num_kv_heads must be num_heads"):
        gpt(mixer={"kind": "value_is_input"}, num_kv_heads=2)


def test_without_residual_connections_no_branch_begins_at_zero() -> None:
    tokens = torch.zeros(1, 2, dtype=torch.long)
    for residual, std in (("pre_norm", 0.0), ("none", 40**-0.5)):
        model = build_model(gpt(residual=residual), VOCABULARY_SIZE)
        assert isinstance(model, GPT)
        weights = model.mixers[0].get_submodule("output").weight
        assert float(weights.detach().std()) == pytest.approx(std, rel=0.1)
        assert not model(tokens).any()


def test_an_lstm_begins_anew_after_its_window() -> None:
    model = random_model(SOUND["lstm"])
    with pytest.raises(UserError, match="windows of 11 positions, not 12"):
        model(torch.zeros(1, 12, dtype=torch.long))
