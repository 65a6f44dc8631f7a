"""The encoder: padding that changes nothing, both directions, pooling, roles, and a body that is the GPT's."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from torch import nn

from clearhead.core.errors import UserError
from clearhead.model.build import build_model
from clearhead.model.config import CausalConfig
from clearhead.model.encoder import Encoder, mean_of
from clearhead.model.family_config import EncoderConfig, FullConfig
from clearhead.model.masks import Causal, Full, Padded, Window

CONFIG = EncoderConfig(
    num_classes=3, num_layers=2, num_heads=2, width=12, context_length=11, convolution=2, dropout=0.3
)
VOCABULARY = 23


def encoder(config: EncoderConfig = CONFIG) -> Encoder:
    model = build_model(config, VOCABULARY, seed=5)
    assert isinstance(model, Encoder)
    torch.manual_seed(5)
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.4)
    return model.eval()


def tokens(rows: int = 5, length: int = 7) -> torch.Tensor:
    return torch.randint(VOCABULARY, (rows, length), generator=torch.Generator().manual_seed(3))


@pytest.mark.parametrize("mask", [FullConfig(), CausalConfig()])
def test_padding_changes_nothing(mask: FullConfig | CausalConfig) -> None:
    model = encoder(dataclasses.replace(CONFIG, mask=mask))
    texts, lengths = tokens(), torch.tensor([7, 2, 1, 5, 3])
    together = model(texts, mask=Padded(model.mask, lengths))
    for row, length in enumerate(lengths.tolist()):
        assert torch.allclose(together[row], model(texts[row : row + 1, :length])[0], atol=1e-5)
    changed = texts.clone()
    changed[1, 2:] = (changed[1, 2:] + 1) % VOCABULARY
    assert torch.equal(model(changed, mask=Padded(model.mask, lengths)), together)
    # Read without the mask, the padding is text.
    assert not torch.allclose(model(changed), model(texts))


def test_kernels_agree_under_padding() -> None:
    lengths = torch.tensor([7, 2, 1, 5, 3])
    models = [encoder(dataclasses.replace(CONFIG, kernel=kernel)) for kernel in ("fused", "explicit")]
    models[1].load_state_dict(models[0].state_dict())
    outputs = [model(tokens(), mask=Padded(Full(), lengths)) for model in models]
    assert torch.allclose(*outputs, atol=1e-5)


def test_an_encoder_reads_what_comes_after() -> None:
    both, causal = encoder(), encoder(dataclasses.replace(CONFIG, mask=CausalConfig()))
    changed = tokens()
    changed[:, -1] = (changed[:, -1] + 1) % VOCABULARY
    assert not torch.allclose(both.features(changed)[:, 0], both.features(tokens())[:, 0])
    assert torch.allclose(causal.features(changed)[:, :-1], causal.features(tokens())[:, :-1], atol=1e-6)


def test_the_order_of_words_matters() -> None:
    model = encoder()
    assert not torch.allclose(model(tokens().flip(1)), model(tokens()), atol=1e-3)


def test_the_body_under_the_causal_mask_is_the_gpt() -> None:
    model = encoder(dataclasses.replace(CONFIG, mask=CausalConfig()))
    assert torch.equal(model.features(tokens()), model.body.features(tokens()))


def test_the_head_is_a_map_of_the_mean() -> None:
    model, features = encoder(), torch.randn(2, 5, 12)
    lengths = torch.tensor([5, 2])
    logits = model.head(features, Padded(Full(), lengths))
    for row, length in enumerate(lengths.tolist()):
        mean = torch.stack([features[row, place] for place in range(length)]).mean(0)
        assert torch.allclose(logits[row], model.classifier(mean), atol=1e-6)
    assert torch.allclose(mean_of(features, None), features.mean(1))


def test_a_new_encoder_has_no_opinion() -> None:
    model = build_model(CONFIG, VOCABULARY)
    assert not model(tokens()).any()


def test_every_parameter_has_a_role() -> None:
    model = encoder()
    roles = model.roles()
    assert set(roles) == {name for name, _ in model.named_parameters()}
    assert roles["classifier.weight"] == "head"
    assert roles["body.embedding.weight"] == "embedding"
    assert {roles[name] for name in roles if name.endswith("attention.query.weight")} == {"hidden"}
    model.recompute_blocks = True
    assert model.body.recompute_blocks


def test_recomputing_changes_no_gradient() -> None:
    gradients = []
    for recompute in (False, True):
        model = encoder(dataclasses.replace(CONFIG, dropout=0.0)).train()
        model.recompute_blocks = recompute
        model(tokens(), mask=Padded(Full(), torch.tensor([7, 2, 1, 5, 3]))).square().sum().backward()
        gradients.append(model.body.embedding.weight.grad)
    assert torch.allclose(gradients[0], gradients[1], atol=1e-5)


def test_a_tap_sees_the_way() -> None:
    seen: list[str] = []

    def tap(name: str, tensor: torch.Tensor) -> torch.Tensor:
        seen.append(name)
        return tensor

    model = encoder()
    assert torch.allclose(model(tokens(), tap=tap), model(tokens()), atol=1e-5)
    assert {"embed.tok", "blocks.1.attn.pattern", "final", "logits"} <= set(seen)


def test_too_long_a_text_is_refused() -> None:
    with pytest.raises(UserError, match="at most 11 positions, not 12"):
        encoder()(tokens(length=12))


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [({"num_classes": 1}, "num_classes must be at least 2"), ({"num_heads": 5}, "does not divide width")],
)
def test_settings_that_fit_nothing_are_refused(changes: dict[str, int], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        dataclasses.replace(CONFIG, **changes)


def test_padded_masks_are_both_masks_at_once() -> None:
    lengths = torch.tensor([3, 5])
    for inner in (Full(), Causal(), Window(2)):
        dense = Padded(inner, lengths).dense(5, 5, torch.device("cpu"))
        alone = inner.dense(5, 5, torch.device("cpu"))
        for row, query, key in ((b, t, s) for b in range(2) for t in range(5) for s in range(5)):
            allowed = True if alone is None else bool(alone[0, 0, query, key])
            wanted = key < lengths[row] and allowed
            assert bool(dense.expand(2, 1, 5, 5)[row, 0, query, key]) == wanted
    assert Padded(Full(), lengths).looks_ahead(2)
    assert not Padded(Causal(), lengths).looks_ahead(2)
    assert not Padded(Causal(), lengths).is_causal_square(5, 5)


def test_tokens_are_hidden_in_training_alone() -> None:
    model = encoder(dataclasses.replace(CONFIG, dropout=0.0, token_dropout=0.9))
    text = tokens()
    read = model(text)
    assert torch.equal(model(text), read)
    model.train()
    assert not torch.equal(model(text), read)
    with pytest.raises(ValueError, match="token_dropout must be at least 0 and below 1"):
        dataclasses.replace(CONFIG, token_dropout=1.0)
