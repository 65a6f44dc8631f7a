"""Changes to a forward pass, each beside another way to the same numbers."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from clearhead.look.interventions import replaced, sharpened, weighted_heads
from clearhead.look.recording import trace
from clearhead.look.specimen import Specimen

LENGTH = 11


def tokens(specimen: Specimen, seed: int = 3) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(specimen.tokenizer.vocabulary_size, (1, LENGTH), generator=generator)


def test_a_head_off_is_a_head_without_output_weights(specimen: Specimen) -> None:
    model, given, (layer, head) = specimen.gpt, tokens(specimen), (1, 4)
    weights = torch.ones(1, 3, 6)
    weights[0, layer, head] = 0.0
    off = trace(model, given, edits=[weighted_heads(weights)]).logits
    before = trace(model, given).logits
    with torch.no_grad():
        model.mixers[layer].output.weight[:, 8 * head : 8 * (head + 1)] = 0.0  # type: ignore[union-attr, index]
    torch.testing.assert_close(off, trace(model, given).logits, rtol=1e-5, atol=1e-5)
    assert not torch.allclose(off, before, atol=1e-3)


def test_all_heads_in_one_batch_are_heads_one_by_one(specimen: Specimen) -> None:
    given = tokens(specimen)
    weights = 1.0 - torch.eye(18).view(18, 3, 6)
    together = trace(specimen.model, given.expand(18, -1), edits=[weighted_heads(weights)]).logits
    for row in (0, 7, 17):
        alone = trace(specimen.model, given, edits=[weighted_heads(weights[row : row + 1])]).logits[0]
        torch.testing.assert_close(together[row], alone, rtol=1e-4, atol=1e-4)


def test_alpha_0_is_the_averaging_trick(specimen: Specimen) -> None:
    seen = trace(specimen.model, tokens(specimen), edits=[sharpened(0.0)])
    for layer, v in enumerate(seen.layers("attn.v")):
        mean = v.cumsum(dim=2) / torch.arange(1, LENGTH + 1)[:, None]
        shared = mean.repeat_interleave(6 // v.size(1), dim=1)
        torch.testing.assert_close(seen[f"blocks.{layer}.attn.z"], shared, rtol=1e-4, atol=1e-5)


def test_alpha_1_is_the_model_and_a_layer_can_be_chosen(specimen: Specimen) -> None:
    given = tokens(specimen)
    plain = trace(specimen.model, given)
    assert torch.equal(trace(specimen.model, given, edits=[sharpened(1.0)]).logits, plain.logits)
    one = trace(specimen.model, given, edits=[sharpened(3.0, layer=1)])
    patterns = zip(one.layers("attn.pattern"), plain.layers("attn.pattern"), strict=True)
    assert [torch.equal(left, right) for left, right in patterns] == [True, False, False]


def test_alpha_may_differ_by_row(specimen: Specimen) -> None:
    given, alphas = tokens(specimen), torch.tensor([0.0, 0.5, 4.0])
    together = trace(specimen.model, given.expand(3, -1), edits=[sharpened(alphas)]).logits
    for row, alpha in enumerate(alphas.tolist()):
        alone = trace(specimen.model, given, edits=[sharpened(alpha)]).logits[0]
        torch.testing.assert_close(together[row], alone, rtol=1e-4, atol=1e-4)


def test_patching_all_of_a_layer_carries_the_other_text_over(specimen: Specimen) -> None:
    name = "blocks.1.resid_post"
    other = trace(specimen.model, tokens(specimen, seed=5))
    mixed = trace(specimen.model, tokens(specimen), edits=[replaced({name: other[name]})])
    assert torch.equal(mixed.logits, other.logits)


def test_patching_one_position_leaves_those_before_it(make: Callable[..., Specimen]) -> None:
    specimen, name, place = make(), "blocks.0.resid_post", 6
    plain, other = (trace(specimen.model, tokens(specimen, seed)) for seed in (3, 5))
    mixed = trace(
        specimen.model, plain.tokens, edits=[replaced({name: other[name]}, torch.arange(LENGTH)[None] == place)]
    )
    assert torch.equal(mixed[name][:, place], other[name][:, place])
    assert torch.equal(mixed.logits[:, :place], plain.logits[:, :place])
    assert not torch.allclose(mixed.logits[:, place:], plain.logits[:, place:], atol=1e-3)


def test_rows_may_be_patched_at_places_of_their_own(make: Callable[..., Specimen]) -> None:
    specimen, name = make(), "blocks.1.attn.z"
    plain, other = (trace(specimen.model, tokens(specimen, seed)) for seed in (3, 5))
    where = torch.eye(LENGTH, dtype=torch.bool)
    together = trace(specimen.model, plain.tokens.expand(LENGTH, -1), edits=[replaced({name: other[name]}, where)])
    for place in (0, 6):
        alone = trace(specimen.model, plain.tokens, edits=[replaced({name: other[name]}, where[place : place + 1])])
        torch.testing.assert_close(together.logits[place], alone.logits[0], rtol=1e-4, atol=1e-4)


def test_edited_activations_are_what_is_recorded(make: Callable[..., Specimen]) -> None:
    specimen = make()
    seen = trace(specimen.model, tokens(specimen), edits=[lambda name, x: x * 0 if name == "embed.tok" else x])
    assert not seen["embed.tok"].any()
