"""Devices and threads."""

import pytest
import torch

from clearhead.core import runtime
from clearhead.core.errors import UserError
from clearhead.core.runtime import Runtime, available_cores, choose_device, choose_precision, choose_threads


def test_an_unknown_device_is_one_sentence() -> None:
    for name in ("gpu", "cuda:99", ""):
        with pytest.raises(UserError, match="not available"):
            choose_device(name)
    assert choose_device("cpu") == "cpu"


def test_threads_are_probed_and_bounded() -> None:
    before = torch.get_num_threads()
    assert 1 <= choose_threads(None, probe_seconds=0.01) <= available_cores()
    assert torch.get_num_threads() == before
    assert choose_threads(1) == 1
    for wanted in (0, 10_000):
        with pytest.raises(UserError, match="--threads must lie between"):
            choose_threads(wanted)


def test_precision_is_probed_unless_it_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    before = torch.get_num_threads()
    assert choose_precision("bf16", "cpu", width=7, threads=1) == "bf16"
    assert choose_precision(None, "cpu", width=0, threads=1) == "fp32", "nothing is multiplied"
    for gain, wanted in ((1.4, "fp32"), (1.6, "bf16")):
        rates = iter((10.0, 10.0 * gain))
        monkeypatch.setattr(runtime, "_products_per_second", lambda *_, rates=rates: next(rates))
        assert choose_precision(None, "cpu", width=7, threads=1) == wanted
    assert torch.get_num_threads() == before


def test_bf16_products_leave_weights_alone() -> None:
    layer = torch.nn.Linear(3, 5)
    with Runtime(precision="bf16").products():
        assert layer(torch.ones(2, 3)).dtype == torch.bfloat16
    with Runtime().products():
        assert layer(torch.ones(2, 3)).dtype == torch.float32
    assert layer.weight.dtype == torch.float32
