"""Products are what linear layers give, exactly or as far off as their weights are rounded."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from clearhead.core.errors import UserError
from clearhead.generation import folded, products
from clearhead.generation.engine import Request, write
from clearhead.generation.folded import Rounded
from clearhead.generation.products import PRODUCTS, Weights, rounded
from clearhead.generation.score import text_nats
from clearhead.model import shapes
from clearhead.model.build import build_model
from clearhead.model.config import GptConfig, LstmConfig, SubstitutedAttentionConfig
from clearhead.model.masks import PerDocument
from clearhead.text.tokenizer import CharTokenizer

LETTERS = CharTokenizer("\nabcdefghijkl", unknown="refuse", end=False)
V = LETTERS.vocabulary_size

BOUNDS: Mapping[Weights, float] = {"fp32": 1e-6, "bf16": 0.01, "int8": 0.01}
"""How far a product may be off, as a share of the largest number in it."""


def layers(inputs: int, *, bias: bool) -> tuple[nn.Linear, ...]:
    with torch.random.fork_rng():
        torch.manual_seed(3)
        return tuple(nn.Linear(inputs, outputs, bias=bias) for outputs in (7, 5, 19))


def furthest(weights: Weights, inputs: int, rows: int, *, bias: bool, usual_rows: int = 3) -> float:
    given = layers(inputs, bias=bias)
    x = torch.randn(rows, inputs, generator=torch.Generator().manual_seed(5))
    expected = torch.cat([layer(x) for layer in given], dim=1).detach()
    product = PRODUCTS[weights](usual_rows, *given)
    found = product(x.numpy())
    return float(np.abs(found - expected.numpy()).max() / expected.abs().max())


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("rows", [1, 3])
@pytest.mark.parametrize("inputs", [1, 11, 16, 53])
@pytest.mark.parametrize("weights", PRODUCTS)
def test_a_product_is_what_its_layers_give(weights: Weights, inputs: int, rows: int, bias: bool) -> None:
    assert furthest(weights, inputs, rows, bias=bias) <= BOUNDS[weights]


@pytest.mark.parametrize("rows", [1, 7, 23])
@pytest.mark.parametrize("slow", [False, True])
def test_both_libraries_give_the_product_of_many_rows(slow: bool, rows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    used: list[str] = []
    for name in ("by_onednn", "by_torch"):
        make = getattr(products, name)
        monkeypatch.setattr(products, name, lambda *given, n=name, m=make: (used.append(n), m(*given))[1])
    monkeypatch.setattr(products, "multiplies_slowly", lambda: slow)
    for inputs in (1, 11, 53):
        assert furthest("fp32", inputs, rows, bias=True, usual_rows=23) <= BOUNDS["fp32"]
    assert set(used) == {"by_onednn" if slow else "by_torch"}


def test_a_product_with_scales_of_a_neighbour_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    def shifted_scales(weight: Tensor) -> tuple[Tensor, Tensor]:
        levels, scales = rounded(weight)
        return levels, scales.roll(1)

    monkeypatch.setattr(products, "rounded", shifted_scales)
    assert furthest("int8", 53, 3, bias=False) > BOUNDS["int8"]


def test_rounding_moves_no_weight_by_more_than_half_a_level() -> None:
    weight = torch.randn(31, 17, generator=torch.Generator().manual_seed(7)) * torch.logspace(-9, 3, 31)[:, None]
    weight[4] = 0.0
    levels, scales = rounded(weight)
    assert int(levels.abs().max()) <= 127
    moved = (levels * scales.float()[:, None] - weight).abs()
    assert bool((moved <= 0.501 * scales.float()[:, None]).all())


def test_unknown_weights_are_one_sentence() -> None:
    request = Request(prompt=[1])
    object.__setattr__(request, "weights", "int4")
    with pytest.raises(UserError, match="weights must be one of fp32, bf16, int8, not int4"):
        request.__post_init__()


# Whole models.


def model_of(config: GptConfig) -> nn.Module:
    model = build_model(config, V)
    with torch.no_grad():
        for number, parameter in enumerate(model.parameters()):
            noise = torch.randn(parameter.shape, generator=torch.Generator().manual_seed(number))
            parameter.copy_(noise * parameter.size(-1) ** -0.5 if parameter.ndim == 2 else 1.0 + 0.1 * noise)
    return model.eval()


SMALL = GptConfig(num_layers=2, num_heads=2, width=44, context_length=17)
TEXT = np.random.default_rng(1).integers(0, V, 103).astype(np.int32)


def test_a_weight_that_is_no_number_is_not_rounded_away() -> None:
    weight = torch.ones(3, 5)
    weight[1, 2] = float("nan")
    weight[2] = 0.0
    levels, scales = rounded(weight)
    assert scales.isnan().tolist() == [False, True, False]
    assert not levels[2].any()


@pytest.mark.parametrize(("weights", "bound"), [("fp32", 1e-5), ("bf16", 0.05), ("int8", 0.05)])
def test_a_folded_model_scores_almost_as_the_model_does(weights: Weights, bound: float) -> None:
    model = model_of(SMALL)
    own, found = text_nats(model, TEXT), text_nats(Rounded(model, weights), TEXT)
    assert np.abs(found - own).max() < bound
    assert weights == "fp32" or np.abs(found - own).max() > 1e-5


def test_a_folded_model_is_bound_to_the_documents_of_a_batch() -> None:
    model, tokens = model_of(SMALL), torch.from_numpy(TEXT[:51].astype(np.int64)).view(3, 17)
    mask = PerDocument().bind(torch.tensor([[0] * 4 + [1] * 13, [0] * 8 + [1] * 9, [0] * 17]))
    with torch.no_grad():
        found, expected = Rounded(model, "fp32")(tokens, mask=mask), model(tokens, mask=mask)  # type: ignore[operator]
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


def test_rounded_weights_write_almost_what_exact_ones_write() -> None:
    model = model_of(SMALL)
    exact, bf16, int8 = (
        write(model, LETTERS, Request(prompt=[1], num_tokens=11, weights=weights))[0]
        for weights in ("fp32", "bf16", "int8")
    )
    assert exact[:3] == bf16[:3] == int8[:3]


def test_a_large_model_is_folded_with_rounded_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(folded, "LARGEST_FOLDED", 7)
    model = model_of(SMALL)
    cache = model.new_cache(1)  # type: ignore[operator]
    assert folded.fold(model, cache) is None
    assert folded.fold(model, cache, "int8") is not None


@pytest.mark.parametrize(
    "model",
    [
        build_model(LstmConfig(), V),
        build_model(shapes.lecture(), V).double(),
        build_model(GptConfig(mixer=SubstitutedAttentionConfig(kind="unmasked")), V),
    ],
    ids=["lstm", "double", "reads ahead"],
)
def test_weights_that_cannot_be_rounded_are_refused(model: nn.Module) -> None:
    with pytest.raises(UserError, match="leave them out"):
        write(model.eval(), LETTERS, Request(prompt=[1], num_tokens=1, weights="int8"))
    with pytest.raises(UserError, match="leave them out"):
        Rounded(model.eval(), "int8")


def test_rounded_weights_need_the_cache() -> None:
    with pytest.raises(UserError, match="leave use_cache on"):
        Request(prompt=[1], weights="int8", use_cache=False)
