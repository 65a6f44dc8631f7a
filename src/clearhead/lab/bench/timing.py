"""How training and writing are timed: the same code for us and for peers, in their own processes."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence

import torch

from clearhead.core.runtime import free_memory
from clearhead.lab.bench.shapes import Shape
from clearhead.lab.bench.workload import Repeat, Sample
from clearhead.training.devices import best_seconds

PEAK_SIZES = (512, 1024, 2048, 4096)
QUICK_PEAK_SIZES = (256,)
GPU_PEAK_SIZES = (4096, 8192)
PEAK_SECONDS = 0.2
WRITING_SECONDS = 1.0


def peak_flops(dtype: torch.dtype, sizes: Sequence[int], device: str = "cpu") -> float:
    """Return the most floating-point operations a second that this process reaches in products of square matrices."""

    def of_size(size: int) -> float:
        left, right = (torch.randn(size, size, device=device).to(dtype) for _ in range(2))
        product = torch.empty_like(left)

        def multiply() -> None:
            torch.mm(left, right, out=product)
            wait_for(device)

        return 2 * size**3 / best_seconds(multiply, PEAK_SECONDS)

    return max(map(of_size, sizes))


def wait_for(device: str) -> None:
    """Wait until a device has done all that it was asked for; a CPU does it at once."""
    if device != "cpu":
        torch.cuda.synchronize(device)


def timed_steps(
    step: Callable[[], object],
    shape: Shape,
    *,
    batch: int,
    steps: int,
    dtype: torch.dtype,
    quick: bool,
    device: str = "cpu",
) -> Repeat:
    """Return what times a number of training steps, with the speed of matrix products measured right after them.

    Args:
        step: does one whole step: data, gradients, update.
        dtype: of the matrix products.
    """
    sizes = PEAK_SIZES if device == "cpu" else GPU_PEAK_SIZES

    def repeat(_: int) -> Sample:
        times = []
        for _ in range(steps):
            began = time.perf_counter()
            step()
            wait_for(device)
            times.append(time.perf_counter() - began)
        rate = batch * shape.context_length * steps / sum(times)
        peak = peak_flops(dtype, QUICK_PEAK_SIZES if quick else sizes, device)
        # Others that wait for their turn share a GPU's memory.
        free_memory(device)
        return Sample(
            figures={
                "tokens_per_second": rate,
                "step_milliseconds": 1000 * statistics.median(times),
                "peak_gigaflops": peak / 1e9,
                "share_of_peak": shape.flops_per_token * rate / peak,
            }
        )

    return repeat


def timed_writing(write: Callable[[], object], *, num_tokens: int, seconds: float = WRITING_SECONDS) -> Repeat:
    """Return what times the writing of texts, on as many threads as it is fastest with: one, or all that are given.

    Args:
        write: writes `num_tokens` tokens in all.
    """
    given, rates = torch.get_num_threads(), dict[int, float]()
    for threads in sorted({1, given}):
        torch.set_num_threads(threads)
        write()
        rates[threads] = _rate(write, num_tokens, seconds / 4)
    threads = max(rates, key=lambda each: rates[each])
    torch.set_num_threads(threads)
    return lambda _: Sample(figures={"tokens_per_second": _rate(write, num_tokens, seconds), "threads": float(threads)})


def _rate(write: Callable[[], object], num_tokens: int, seconds: float) -> float:
    """Return the tokens a second of whole texts that together took at least so many seconds."""
    began, count = time.perf_counter(), 0
    while count == 0 or time.perf_counter() - began < seconds:
        write()
        count += 1
    return count * num_tokens / (time.perf_counter() - began)
