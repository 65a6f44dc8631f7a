"""Where and how numbers are computed: device, dtype, threads and rank as one frozen value."""

from __future__ import annotations

import contextlib
import ctypes
import functools
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch

from clearhead.core.errors import UserError

Precision = Literal["fp32", "tf32", "bf16"]

GLIBC_KEEPS = {-1: 2**31 - 1, -2: 2**26, -4: 0}
"""mallopt's M_TRIM_THRESHOLD, M_TOP_PAD and M_MMAP_MAX: give nothing back, take much at once, map nothing apart."""

NARROWEST_BF16 = 64
"""The width of a model from which on bfloat16 is worth the casts around it (docs/log.md)."""


@dataclass(frozen=True, slots=True)
class Runtime:
    """The frozen choice of how a run computes.

    Args:
        device: a torch device name, such as cpu, cuda or mps.
        precision: fp32, or tf32 or bf16 for matrix products while the weights stay fp32; tf32 is of CUDA GPUs.
        threads: threads of one operation on the CPU.
        deterministic: only algorithms that give the same bits every time.
        rank: this process's number among `world_size` that train together.
    """

    device: str = "cpu"
    precision: Precision = "fp32"
    threads: int = 1
    deterministic: bool = True
    rank: int = 0
    world_size: int = 1

    def apply(self) -> None:
        """Set torch up for this process."""
        torch.set_num_threads(self.threads)
        if torch.device(self.device).type == "cpu":
            keep_freed_memory()
        torch.set_float32_matmul_precision("high" if self.precision == "tf32" else "highest")
        # Torch's use_deterministic_algorithms does the same, but loads its compiler first: seconds of a busy core.
        torch.set_deterministic_debug_mode("error" if self.deterministic and self.device == "cpu" else "default")
        # Determinism alone would also fill all new memory first, which costs 5 % and helps only programs that read it.
        torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]

    def products(self) -> contextlib.AbstractContextManager[object]:
        """Return the context in which a forward pass runs, which sets the dtype of its matrix products."""
        if self.precision != "bf16":
            return contextlib.nullcontext()
        return torch.autocast(torch.device(self.device).type, dtype=torch.bfloat16)


def keep_freed_memory() -> None:
    """Have this process keep the memory that tensors give back, where its C library is glibc.

    Otherwise every step asks the kernel for the same pages again, which takes up to a sixth of the time of a model of
    10M parameters (docs/log.md). A little more memory is taken, since holes wait until something fits them.
    """
    with contextlib.suppress(AttributeError, OSError, TypeError):
        set_option = ctypes.CDLL(None).mallopt
        for option, value in GLIBC_KEEPS.items():
            set_option(option, value)


def free_memory(device: str) -> None:
    """Give back what a device's allocator holds in reserve; on a CPU there is nothing of the kind."""
    if torch.device(device).type == "cuda":
        torch.cuda.empty_cache()


def seed_random_numbers(seed: int, device: str) -> None:
    """Begin the random numbers of the CPU and of a device anew.

    `torch.manual_seed` does so for every device that torch knows, and notes where it was called from for those that are
    not in use: half a millisecond, deep in a program. On the CPU alone that is too much.
    """
    if torch.device(device).type == "cpu":
        torch.default_generator.manual_seed(seed)
    else:
        torch.manual_seed(seed)


def choose_device(name: str | None) -> str:
    """Return the device that a user names, or a CUDA GPU where there is one, else the CPU.

    MPS is not chosen unasked: it has been slower and wrong for small models.

    Raises:
        UserError: the device is unknown or not there.
    """
    if name is None:
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
        torch.zeros(1, device=device).cpu()
    except (RuntimeError, AssertionError, NotImplementedError, ImportError):
        raise UserError(f"The device {name} is not available here; --device cpu is.") from None
    return str(device)


def available_devices() -> list[str]:
    """Return the devices that torch can compute on here, the CPU first."""
    gpus = [f"cuda:{index}" for index in range(torch.cuda.device_count())]
    return ["cpu", *gpus, *(["mps"] if torch.backends.mps.is_available() else [])]


def describe_device(name: str) -> str:
    """Return what a device is, in words."""
    if name.startswith("cuda"):
        return torch.cuda.get_device_name(name)
    if name == "cpu":
        return f"{available_cores()} cores, {torch.backends.cpu.get_cpu_capability()}"
    return "Apple's GPU, through Metal"


def choose_threads(wanted: int | None, *, probe_seconds: float = 0.05) -> int:
    """Return the number of threads that multiplies matrices of a small model fastest here.

    Two threads beside another busy process can be many times slower than one, so both are tried.
    """
    cores = available_cores()
    if wanted is not None:
        if not 1 <= wanted <= 4 * cores:
            raise UserError(f"--threads must lie between 1 and {4 * cores} on this machine, not {wanted}.")
        return wanted
    if cores == 1:
        return 1
    before = torch.get_num_threads()
    rates = {threads: _products_per_second(threads, probe_seconds) for threads in (1, cores)}
    torch.set_num_threads(before)
    return max(rates, key=lambda threads: rates[threads])


def choose_precision(wanted: Precision | None, device: str, *, width: int) -> Precision:
    """Return bf16 where it makes a model of this width faster here, else fp32.

    That is where the device multiplies bfloat16 by instructions of its own, and where the products are large enough to
    pay for the casts. It is not timed: the same machine must always choose the same, busy or not.

    Raises:
        UserError: tf32 is wanted of another device than a CUDA GPU.
    """
    if wanted == "tf32" and torch.device(device).type != "cuda":
        raise UserError(f"tf32 is a precision of CUDA GPUs; on {device}, train.precision is fp32 or bf16.")
    if wanted is not None:
        return wanted
    return "bf16" if width >= NARROWEST_BF16 and multiplies_bf16(device) else "fp32"


def multiplies_bf16(device: str) -> bool:
    """Say whether a device has instructions for products in bfloat16."""
    kind = torch.device(device).type
    if kind == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    # Torch before 2.12 cannot tell what a CPU has.
    known: Mapping[str, object] = getattr(torch.cpu, "get_capabilities", dict)()
    return kind == "cpu" and any(known.get(name) for name in ("avx512_bf16", "amx_bf16"))


@functools.cache
def multiplies_slowly(cpuinfo: Path = Path("/proc/cpuinfo")) -> bool:
    """Say whether torch's products in fp32 leave half of this CPU unused, as MKL's do on AMD's that have AVX-512.

    Where oneDNN, torch's other library, is there to take its place (docs/log.md).
    """
    able = torch.backends.mkl.is_available() and torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
    if not able or torch.backends.cpu.get_cpu_capability() != "AVX512" or not cpuinfo.exists():
        return False
    return "AuthenticAMD" in cpuinfo.read_text()


def use_threads(wanted: int | None = None) -> None:
    """Let operations on the CPU use this many threads in this process; without a number, as many as are fastest."""
    torch.set_num_threads(choose_threads(wanted))


def available_cores() -> int:
    """Return how many cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _products_per_second(threads: int, seconds: float, width: int = 192, dtype: torch.dtype = torch.float32) -> float:
    torch.set_num_threads(threads)
    left, right = torch.ones(1024, width, dtype=dtype), torch.ones(width, 4 * width, dtype=dtype)
    left @ right
    count, start = 0, time.perf_counter()
    while time.perf_counter() - start < seconds:
        left @ right
        count += 1
    return count / (time.perf_counter() - start)
