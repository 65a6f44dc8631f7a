"""What is said before the first update."""

import math

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from clearhead.model.build import build_model
from clearhead.model.config import GptConfig
from clearhead.training.preflight import explain_first_loss, measure_sizes


def test_the_lectures_first_loss_is_put_right() -> None:
    """-ln(1/65) is 4.174; the 4.87 that notes give comes from confident random logits."""
    assert "ln 65 = 4.174" in explain_first_loss(4.174, 65)
    assert "as it should" in explain_first_loss(4.2, 65)
    assert "standard deviation of 1.18" in explain_first_loss(4.87, 65)
    assert "below" in explain_first_loss(3.0, 65)


def test_random_logits_cost_half_their_variance() -> None:
    torch.manual_seed(1)
    logits = torch.randn(20_000, 65)
    cost = float(torch.nn.functional.cross_entropy(logits, torch.randint(65, (20_000,))))
    assert cost - math.log(65) == pytest.approx(0.5, abs=0.05)


def test_flops_are_those_that_torch_counts() -> None:
    config = GptConfig(num_layers=3, num_heads=2, width=44, context_length=52, kernel="explicit", convolution=1)
    model = build_model(config, 31)
    tokens = torch.randint(31, (5, 52))
    with FlopCounterMode(display=False) as counter:
        model(tokens).sum().backward()
    stated = measure_sizes(model, 5 * 52).flops_per_token * tokens.numel()
    assert counter.get_total_flops() == pytest.approx(stated, rel=0.05)


def test_parameters_are_counted_by_role() -> None:
    model = build_model(GptConfig(num_layers=1, num_heads=2, width=12, context_length=7), 11)
    sizes = measure_sizes(model, 42)
    assert sum(sizes.by_role.values()) == sizes.parameters == sum(p.numel() for p in model.parameters())
    assert sizes.by_role["embedding"] == sizes.by_role["head"] == 11 * 12
