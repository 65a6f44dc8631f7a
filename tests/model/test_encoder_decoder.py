from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from clearhead.core.errors import UserError
from clearhead.model import laws
from clearhead.model.build import build_model
from clearhead.model.cache import Cache
from clearhead.model.config import AlibiConfig, LearnedConfig, SinusoidalConfig
from clearhead.model.encoder_decoder import EncoderDecoder
from clearhead.model.family_config import EncoderDecoderConfig
from clearhead.model.masks import Full, Mask, Padded

VOCABULARY = 13
SOURCE = torch.tensor([[3, 1, 4, 1, 5, 9, 2]])


def model_of(**changes: Any) -> EncoderDecoder:
    config = EncoderDecoderConfig(
        **{
            "num_encoder_layers": 1,
            "num_decoder_layers": 2,
            "num_heads": 2,
            "width": 28,
            "context_length": 11,
            "dropout": 0.25,
        }
        | changes
    )
    model = build_model(config, VOCABULARY)
    assert isinstance(model, EncoderDecoder)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.2 * torch.randn(parameter.shape, generator=generator))
    return model.eval()


class OfOneSource(nn.Module):
    """A model of targets alone, which the laws of language models hold for: every row has the same source."""

    def __init__(self, model: EncoderDecoder) -> None:
        super().__init__()
        self.model = model
        self.context_length = model.context_length

    def forward(self, tokens: Tensor, **given: Any) -> Tensor:
        states, mask = self.model.encode(SOURCE, tap=given.get("tap"))
        logits: Tensor = self.model(tokens, source=(states.expand(len(tokens), -1, -1), mask), **given)
        return logits

    def new_cache(self, batch: int) -> Cache:
        return self.model.new_cache(batch)

    def roles(self) -> dict[str, str]:
        return {f"model.{name}": role for name, role in self.model.roles().items()}


VARIANTS: dict[str, dict[str, Any]] = {
    "default": {},
    "alibi, explicit": {"positions": AlibiConfig(), "kernel": "explicit"},
    "untied": {"tied_head": False},
    "learned": {"positions": LearnedConfig()},
    "sinusoidal, convolution": {"positions": SinusoidalConfig(), "convolution": 3},
}


LAWS = [*laws.ANY_MODEL, *laws.OUR_MODELS]
FIRST, *OTHERS = VARIANTS
SLOW = (laws.one_batch_can_be_learned, laws.what_a_tap_returns_is_used, laws.gradients_are_those_of_differences)


@pytest.mark.parametrize("law", [law for law in LAWS if law not in SLOW], ids=lambda law: law.__name__)
@pytest.mark.parametrize("variant", [FIRST, *(pytest.param(name, marks=pytest.mark.slow) for name in OTHERS)])
def test_the_laws_hold_for_the_decoder(law: Any, variant: str) -> None:
    law(OfOneSource(model_of(**VARIANTS[variant])), VOCABULARY)


@pytest.mark.slow
@pytest.mark.parametrize("law", SLOW, ids=lambda law: law.__name__)
@pytest.mark.parametrize("variant", VARIANTS)
def test_the_slower_laws_hold_too(law: Any, variant: str) -> None:
    law(OfOneSource(model_of(**VARIANTS[variant])), VOCABULARY)


def test_a_decoder_that_reads_its_future_breaks_the_law() -> None:
    model = OfOneSource(model_of())
    bidirectional = model.forward
    model.forward = lambda tokens, **given: bidirectional(tokens, mask=Full(), **given)  # type: ignore[method-assign]
    with pytest.raises(laws.LawBroken):
        laws.the_future_is_not_read(model, VOCABULARY)


def test_a_cache_that_reads_the_source_again_breaks_the_law() -> None:
    model = OfOneSource(model_of())
    whole = model.forward

    def forgetful(tokens: Tensor, **given: Any) -> Tensor:
        if given.get("cache") is not None:
            for slot in given["cache"].slots[1::2]:
                slot.values = slot.values + 1.0  # what is stored of the source has changed
        return whole(tokens, **given)

    model.forward = forgetful  # type: ignore[method-assign]
    with pytest.raises(laws.LawBroken):
        laws.cached_equals_uncached(model, VOCABULARY)


@torch.no_grad()
def test_every_source_token_reaches_every_target_position() -> None:
    model, targets = model_of(), torch.tensor([[7, 1, 2, 8, 6]])
    before = model(targets, source=model.encode(SOURCE))
    for place in range(SOURCE.size(1)):
        changed = SOURCE.clone()
        changed[0, place] = 12
        moved = (model(targets, source=model.encode(changed)) - before).abs().amax(dim=-1)
        assert bool((moved > 1e-6).all())


@torch.no_grad()
@pytest.mark.parametrize("variant", VARIANTS)
def test_a_padded_batch_gives_what_each_pair_gives_alone(variant: str) -> None:
    model = model_of(**VARIANTS[variant])
    lengths = torch.tensor([7, 2, 5])
    sources, targets = torch.randint(VOCABULARY, (3, 7)), torch.randint(VOCABULARY, (3, 5))
    together = model(targets, source=model.encode(sources, Padded(Full(), lengths)))
    unmasked = model(targets, source=model.encode(sources))
    for row, length in enumerate(lengths.tolist()):
        alone = model(targets[row : row + 1], source=model.encode(sources[row : row + 1, :length]))
        assert torch.allclose(together[row], alone[0], atol=1e-5)
        assert torch.allclose(unmasked[row], alone[0], atol=1e-5) == (length == 7), "without a mask padding is read"


@torch.no_grad()
def test_the_source_is_read_once_through_a_cache() -> None:
    model, targets = model_of(), torch.tensor([[7, 1, 2, 8, 6]])
    states, mask = model.encode(SOURCE)
    cache = model.new_cache(1, 5, source_length=7)
    first = model(targets[:, :1], source=(states, mask), cache=cache)
    nonsense = torch.full_like(states, torch.nan)
    rest = model(targets[:, 1:], source=(nonsense, mask), cache=cache)
    assert torch.allclose(torch.cat((first, rest), dim=1), model(targets, source=(states, mask)), atol=1e-5)


@torch.no_grad()
def test_rows_of_a_cache_can_be_kept() -> None:
    """As beam search does: rows swapped, dropped and doubled in the middle of a target."""
    model = model_of(convolution=3)
    sources, targets = torch.randint(VOCABULARY, (3, 7)), torch.randint(VOCABULARY, (3, 5))
    states, mask = model.encode(sources)
    cache = model.new_cache(3)
    model(targets[:, :2], source=(states, mask), cache=cache)
    rows = torch.tensor([2, 0, 2, 2])
    cache.keep(rows)
    kept = model(targets[rows, 2:], source=(states[rows], mask), cache=cache)
    assert torch.allclose(kept, model(targets, source=(states, mask))[rows, 2:], atol=1e-5)


def test_one_embedding_serves_both_sides_and_the_head() -> None:
    tied, untied = model_of(), model_of(tied_head=False)
    assert tied.unembedding.weight is tied.embedding.weight is tied.encoder.embedding.weight
    names = {name for name, _ in tied.named_parameters()}
    assert {name for name, _ in untied.named_parameters()} == names | {"unembedding.weight"}
    assert tied.roles()["encoder.embedding.weight"] == "head"
    assert untied.roles()["encoder.embedding.weight"] == "embedding"
    assert untied.roles()["unembedding.weight"] == "head"
    assert {role for name, role in tied.roles().items() if name.endswith("cross.query.weight")} == {"hidden"}


def test_the_first_loss_is_that_of_a_guess() -> None:
    model = build_model(EncoderDecoderConfig(width=28, num_heads=2, tied_head=False), VOCABULARY)
    assert isinstance(model, EncoderDecoder)
    logits = model(torch.tensor([[7, 1, 2]]), source=model.encode(SOURCE))
    assert float(logits.detach().abs().max()) == 0.0


def test_too_long_texts_are_refused() -> None:
    model = model_of()
    with pytest.raises(UserError, match="at most 11"):
        model.encode(torch.zeros(1, 12, dtype=torch.long))
    with pytest.raises(UserError, match="at most 11"):
        model(torch.zeros(1, 12, dtype=torch.long), source=model.encode(SOURCE))


def test_a_wrong_shape_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match="num_heads = 3 does not divide width = 28"):
        EncoderDecoderConfig(num_heads=3, width=28)
    with pytest.raises(ValueError, match="num_decoder_layers"):
        EncoderDecoderConfig(num_decoder_layers=0)


def test_masks_of_padding_say_where_text_is() -> None:
    mask: Mask = Padded(Full(), torch.tensor([2, 3]))
    dense = mask.dense(5, 4, torch.device("cpu"))
    assert dense is not None
    assert dense[:, 0, 0].tolist() == [[True, True, False, False], [True, True, True, False]]
