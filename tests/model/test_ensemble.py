"""Several encoders as one: the mean of their probabilities, each with its own draw, its own loss, its own gradient."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from clearhead.generation.classifier import class_nats
from clearhead.model.build import build_model
from clearhead.model.encoder import Encoder
from clearhead.model.ensemble import Ensemble
from clearhead.model.family_config import EncoderConfig
from clearhead.text.batches import Batch
from clearhead.text.rows import Rows
from clearhead.training.classification import label_loss

CONFIG = EncoderConfig(
    num_classes=5, num_members=3, num_layers=1, num_heads=2, width=12, context_length=11, dropout=0.0
)
VOCABULARY = 23
TEXTS = [[3, 1, 4], [1], [5, 9, 2, 6, 5, 3, 5], [8, 9, 7]]


def ensemble() -> Ensemble:
    model = build_model(CONFIG, VOCABULARY, seed=5)
    assert isinstance(model, Ensemble)
    torch.manual_seed(7)
    for encoder in model.encoders:
        nn.init.normal_(encoder.classifier.weight)
    return model


def batch() -> Batch[torch.Tensor]:
    tokens, lengths = Rows.of(np.array(ids, np.int32) for ids in TEXTS).padded(np.arange(4))
    targets = torch.tensor([4, 0, 2, 2])
    return Batch(torch.from_numpy(tokens), targets, lengths=torch.from_numpy(lengths))


def test_the_probabilities_are_the_mean_of_the_members() -> None:
    model = ensemble()
    rows = Rows.of(np.array(ids, np.int32) for ids in TEXTS)
    alone = [np.exp(-class_nats(encoder, rows)) for encoder in model.encoders]
    np.testing.assert_allclose(np.exp(-class_nats(model, rows)), np.mean(alone, axis=0), rtol=1e-5)
    assert not np.allclose(alone[0], alone[1])
    # The mean of the logits would be another choice.
    logits = np.mean([np.log(each) for each in alone], axis=0)
    assert not np.allclose(np.exp(-class_nats(model, rows)), np.exp(logits) / np.exp(logits).sum(1, keepdims=True))


def test_each_member_learns_as_if_it_were_alone() -> None:
    model = ensemble()
    loss = label_loss(model, batch())
    alone = [label_loss(encoder, batch()) for encoder in model.encoders]
    assert loss.total.item() == pytest.approx(np.mean([each.total.item() for each in alone]), rel=1e-6)
    assert loss.weight == alone[0].weight == 4
    loss.total.backward()  # type: ignore[no-untyped-call]
    weight = model.encoders[1].classifier.weight
    [expected] = torch.autograd.grad(alone[1].total, weight)
    torch.testing.assert_close(weight.grad, expected / 3, rtol=1e-5, atol=1e-7)


def test_one_member_is_an_encoder_and_every_parameter_has_its_role() -> None:
    assert isinstance(build_model(replace(CONFIG, num_members=1), VOCABULARY), Encoder)
    model = ensemble()
    assert model.roles().keys() == dict(model.named_parameters()).keys()
    assert model.roles()["members.2.body.embedding.weight"] == "embedding"
    model.recompute_blocks = True
    assert all(encoder.recompute_blocks for encoder in model.encoders)
    with pytest.raises(ValueError, match="num_members must be at least 1"):
        replace(CONFIG, num_members=0)
