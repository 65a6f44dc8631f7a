"""Devices and threads."""

import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from clearhead.core import runtime
from clearhead.core.errors import UserError
from clearhead.core.runtime import (
    Runtime,
    available_cores,
    choose_device,
    choose_precision,
    choose_threads,
    multiplies_slowly,
    seed_random_numbers,
)


def test_an_unknown_device_is_one_sentence() -> None:
    for name in ("gpu", "cuda:99", "meta", "privateuseone", ""):
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


def test_random_numbers_begin_anew_as_by_torchs_own_seed() -> None:
    torch.manual_seed(2**61 - 1)
    wanted = torch.rand(13)
    seed_random_numbers(2**61 - 1, "cpu")
    assert torch.equal(torch.rand(13), wanted)
    seed_random_numbers(2**61 - 2, "cpu")
    assert not torch.equal(torch.rand(13), wanted)


def test_bf16_is_chosen_where_it_pays(monkeypatch: pytest.MonkeyPatch) -> None:
    for able in (True, False):
        monkeypatch.setattr(runtime, "multiplies_bf16", lambda _, able=able: able)
        assert choose_precision(None, "cpu", width=128) == ("bf16" if able else "fp32")
        assert choose_precision(None, "cpu", width=32) == "fp32"
        assert choose_precision("bf16", "cpu", width=32) == "bf16"
        assert choose_precision("fp32", "cpu", width=128) == "fp32"


def test_tf32_is_for_a_cuda_gpu_and_only_where_asked() -> None:
    try:
        Runtime(device="cuda", precision="tf32").apply()
        assert torch.get_float32_matmul_precision() == "high"
    finally:
        Runtime().apply()
    assert torch.get_float32_matmul_precision() == "highest"
    assert choose_precision("tf32", "cuda", width=128) == "tf32"
    with pytest.raises(UserError, match="tf32 is a precision of CUDA GPUs; on cpu"):
        choose_precision("tf32", "cpu", width=128)


def test_torchs_products_are_slow_on_amds_cpus_with_avx512(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for file, capability, slow in (
        ("AuthenticAMD", "AVX512", True),
        ("AuthenticAMD", "AVX2", False),
        ("GenuineIntel", "AVX512", False),
        (None, "AVX512", False),
    ):
        cpuinfo = tmp_path / f"{file}-{capability}"
        if file is not None:
            cpuinfo.write_text(f"processor\t: 0\nvendor_id\t: {file}\n")
        monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda said=capability: said)
        monkeypatch.setattr(torch.backends.mkl, "is_available", lambda: True)
        assert multiplies_slowly(cpuinfo) == (slow and torch.backends.mkldnn.is_available())


def test_a_cpu_that_tells_nothing_has_no_bf16(monkeypatch: pytest.MonkeyPatch) -> None:
    for told, able in (({}, False), ({"avx512_bf16": False}, False), ({"amx_bf16": True}, True)):
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda told=told: told, raising=False)
        assert runtime.multiplies_bf16("cpu") is able
    monkeypatch.delattr(torch.cpu, "get_capabilities")
    assert not runtime.multiplies_bf16("cpu")


def test_bf16_products_leave_weights_alone() -> None:
    layer = torch.nn.Linear(3, 5)
    with Runtime(precision="bf16").products():
        assert layer(torch.ones(2, 3)).dtype == torch.bfloat16
    with Runtime().products():
        assert layer(torch.ones(2, 3)).dtype == torch.float32
    assert layer.weight.dtype == torch.float32


FAULTS = """
import resource, sys
import torch
from clearhead.core.runtime import keep_freed_memory
torch.set_num_threads(1)
if sys.argv[1] == "kept":
    keep_freed_memory()
for _ in range(30):
    torch.ones(10_000_000)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(9):
    torch.ones(10_000_000)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library than glibc")
def test_memory_that_is_given_back_is_there_the_next_time() -> None:
    def faults(how: str) -> int:
        ran = subprocess.run([sys.executable, "-c", FAULTS, how], capture_output=True, text=True, check=True)
        return int(ran.stdout)

    # Nine times 40 MB of new pages, of whatever size pages have here.
    pages = 9 * 40_000_000 // os.sysconf("SC_PAGE_SIZE")
    assert faults("given back") > pages / 2
    assert faults("kept") < pages / 50


def test_another_c_library_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[object] = []
    monkeypatch.setattr("ctypes.CDLL", asked.append)
    runtime.keep_freed_memory()
    assert asked == [None]


def test_training_loads_no_compiler_unasked(tmp_path: Path) -> None:
    story = tmp_path / "story.txt"
    story.write_text("A tale of two lines.\nAnd of a third.\n" * 99)
    sizes = "--model.num_layers 1 --model.num_heads 1 --model.width 8 --model.context_length 8"
    program = f"""
import sys
from clearhead.cli.main import main
try:
    main(["train", {str(story)!r}, "--run", {str(tmp_path / "run")!r}, "--steps", "2", "--quiet", *{sizes.split()!r}])
except SystemExit as ended:
    assert not ended.code
assert "torch" in sys.modules and "clearhead.training.loop" in sys.modules
print(*[name for name in ("torch._dynamo", "torch._inductor") if name in sys.modules])
"""
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert ran.stdout.splitlines()[1:] == [""]
