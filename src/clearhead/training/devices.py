"""Whether a device computes right, how fast it is, and from which size of model on it is worth it."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from jaxtyping import Int
from torch import Tensor, nn

from clearhead.core.errors import UserError
from clearhead.core.runtime import Precision, Runtime, available_cores, available_devices, describe_device
from clearhead.model.build import build_model, build_outline
from clearhead.model.config import GptConfig, ModelConfig

LOSS_TOLERANCES: dict[Precision, float] = {"fp32": 1e-3, "tf32": 1e-2, "bf16": 1e-2}
GRADIENT_TOLERANCES: dict[Precision, float] = {"fp32": 1e-3, "tf32": 0.1, "bf16": 0.3}
"""How far from float64 numbers may lie, as shares of their size; what was measured is in docs/log.md, but for tf32."""

EXAMINED: tuple[Precision, ...] = ("fp32", "bf16")
"""What `clearhead doctor` compares on every device."""

TRUSTED = frozenset({"cpu"})
"""Devices whose numbers training does not check: a session starts faster, and the reference comes from there anyway."""

VOCABULARY_SIZE = 256
CHECKED_ROWS, CHECKED_POSITIONS, CHECKED_LAYERS = 2, 64, 2
"""The inputs of a check; all blocks of a model are alike, so a few of them tell."""

TIMED_TOKENS = 1024
"""The tokens of one forward and backward pass that is timed."""

OPERATIONS = 200

SMALL_CHANGE = 0.01
"""A gradient far smaller than the largest is compared on the scale of this share of it."""


@dataclass(frozen=True, slots=True)
class Deviation:
    """How far a device's numbers lie from those of float64 on the CPU, as shares of their size.

    Args:
        gradient: of the parameter whose gradient is furthest off.
        worst: that parameter.
    """

    loss: float
    gradient: float
    worst: str

    def is_rounding(self, precision: Precision) -> bool:
        """Say whether it is what rounding explains; NaN is not."""
        return self.loss <= LOSS_TOLERANCES[precision] and self.gradient <= GRADIENT_TOLERANCES[precision]


@dataclass(frozen=True, slots=True)
class Check:
    """A model's loss and gradients on a device, compared."""

    model: str
    precision: Precision
    deviation: Deviation
    right: bool


@dataclass(frozen=True, slots=True)
class Speed:
    """How fast a device trains a model; None where there was no time to try."""

    model: str
    parameters: int
    tokens_per_second: float | None


@dataclass(frozen=True, slots=True)
class DeviceReport:
    """What was found about a device.

    Args:
        operation_microseconds: what an operation costs that has nothing to compute; small models are made of those.
        bf16_gain: how many times faster the smallest model is with matrix products in bfloat16.
    """

    name: str
    description: str
    checks: tuple[Check, ...]
    speeds: tuple[Speed, ...]
    operation_microseconds: float
    bf16_gain: float

    @property
    def right(self) -> bool:
        """Whether every check found rounding only."""
        return all(check.right for check in self.checks)


def require_right(config: ModelConfig, runtime: Runtime) -> None:
    """Refuse a device that computes wrong numbers for a model of these shapes, or has no gradients for it.

    What the CPU computes is not compared.

    Raises:
        UserError: the loss or a gradient is further from float64 on the CPU than rounding explains, or a part of the
            model cannot be trained there.
    """
    if runtime.device in TRUSTED:
        loss_and_gradients(shortened(config), random_tokens(1, min(2, config.context_length)), runtime)
        return
    check = examine_model(config, "this model", runtime)
    if not check.right:
        off = check.deviation
        raise UserError(
            f"The device {runtime.device} computes wrong numbers: its loss is off by {off.loss:.2g} of its size and "
            f"the gradient of {off.worst} by {off.gradient:.2g}, which is more than "
            "rounding; train with --device cpu, or take it by --train.check_device false."
        )


def examine_model(config: ModelConfig, name: str, runtime: Runtime) -> Check:
    """Compare a model of these shapes on a device with float64 on the CPU."""
    model = stirred(shortened(config))
    tokens = random_tokens(CHECKED_ROWS, min(CHECKED_POSITIONS, config.context_length))
    deviation = compare(model, tokens, runtime)
    return Check(name, runtime.precision, deviation, deviation.is_rounding(runtime.precision))


def shortened(config: ModelConfig) -> nn.Module:
    """Return a model of these shapes with no more blocks and positions than a check needs."""
    config = replace(config, context_length=min(CHECKED_POSITIONS, config.context_length))
    if isinstance(config, GptConfig):
        config = replace(config, num_layers=min(CHECKED_LAYERS, config.num_layers))
    return build_model(config, VOCABULARY_SIZE, seed=1).eval()


def compare(model: nn.Module, tokens: Int[Tensor, "B T"], runtime: Runtime) -> Deviation:
    """Compare a model's loss and gradients on a device with those in float64 on the CPU."""
    wanted_loss, wanted = loss_and_gradients(model.double(), tokens, Runtime())
    loss, found = loss_and_gradients(model.float().to(runtime.device), tokens.to(runtime.device), runtime)
    largest = max(float(gradient.norm()) for gradient in wanted.values())
    off = {
        name: float((found[name] - gradient).norm()) / max(float(gradient.norm()), SMALL_CHANGE * largest)
        for name, gradient in wanted.items()
    }
    # NaN compares with nothing, so it is made the worst there is.
    worst = max(off, key=lambda name: off[name] if math.isfinite(off[name]) else math.inf)
    return Deviation(abs(loss - wanted_loss) / abs(wanted_loss), off[worst], worst)


def loss_and_gradients(
    model: nn.Module, tokens: Int[Tensor, "B T"], runtime: Runtime
) -> tuple[float, dict[str, Tensor]]:
    """Return the loss of predicting each token's successor and its gradients, in float64 on the CPU."""
    model.zero_grad()
    loss = next_token_loss(model, tokens, runtime)
    loss.backward()  # type: ignore[no-untyped-call]
    named = {name: parameter.grad for name, parameter in model.named_parameters()}
    gradients = {name: gradient.double().cpu() for name, gradient in named.items() if gradient is not None}
    model.zero_grad()
    return float(loss.detach()), gradients


def next_token_loss(model: nn.Module, tokens: Int[Tensor, "B T"], runtime: Runtime) -> Tensor:
    """Return the mean cross-entropy, in the dtype of the weights."""
    with runtime.products():
        logits = model(tokens)
    rows = logits[:, :-1].flatten(0, 1).to(next(model.parameters()).dtype)
    return F.cross_entropy(rows, tokens[:, 1:].flatten())


def random_tokens(rows: int, length: int) -> Int[Tensor, "B T"]:
    """Return tokens drawn with equal chances, always the same."""
    generator = torch.Generator().manual_seed(7)
    return torch.randint(VOCABULARY_SIZE, (rows, length), generator=generator)


@torch.no_grad()
def stirred(model: nn.Module) -> nn.Module:
    """Add noise to all weights of a model: behind those that begin at zero or one nothing could be seen."""
    generator = torch.Generator().manual_seed(3)
    for parameter in model.parameters():
        scale = parameter.size(-1) ** -0.5 if parameter.ndim > 1 else 0.1
        parameter += scale * torch.randn(parameter.shape, generator=generator)
    return model


def tokens_per_second(config: GptConfig, runtime: Runtime, *, seconds: float) -> float:
    """Return how many tokens a device takes through a forward and a backward pass, timed for so many seconds."""
    model = build_model(config, VOCABULARY_SIZE).to(runtime.device)
    tokens = random_tokens(max(1, TIMED_TOKENS // config.context_length), config.context_length).to(runtime.device)
    return tokens.numel() / best_seconds(lambda: one_pass(model, tokens, runtime), seconds)


def one_pass(model: nn.Module, tokens: Int[Tensor, "B T"], runtime: Runtime) -> None:
    """Compute all gradients, and wait until they are there."""
    model.zero_grad()
    next_token_loss(model, tokens, runtime).backward()  # type: ignore[no-untyped-call]
    # The embedding's gradient comes last; a device works in the background until a number of it is asked for.
    gradient = next(model.parameters()).grad
    assert gradient is not None
    gradient.sum().item()


def operation_microseconds(device: str) -> float:
    """Return what one operation on one number costs on a device."""
    number = torch.zeros(1, device=device)

    def operations() -> None:
        for _ in range(OPERATIONS):
            number.add_(1.0)
        number.item()

    return 1e6 * best_seconds(operations, 0.05) / OPERATIONS


def best_seconds(work: Callable[[], None], seconds: float) -> float:
    """Return the shortest time that a piece of work took, after one round to warm up and as long as there is time."""
    work()
    until = time.perf_counter() + seconds
    best = math.inf
    while best == math.inf or time.perf_counter() < until:
        began = time.perf_counter()
        work()
        best = min(best, time.perf_counter() - began)
    return best


def examine_device(
    name: str,
    checked: Mapping[str, ModelConfig],
    sizes: Mapping[str, GptConfig],
    runtime: Runtime,
    seconds: float,
) -> DeviceReport:
    """Check a device, and time it for models of growing size as long as there is time.

    Args:
        checked: the models whose numbers are compared, by name.
        sizes: the models that are timed, the smallest first.
        seconds: about how long it may take.
    """
    until = time.perf_counter() + seconds
    checks = tuple(
        examine_model(config, model, replace(runtime, precision=precision))
        for model, config in checked.items()
        for precision in EXAMINED
    )
    smallest = next(iter(sizes.values()))
    plain, halved = (
        tokens_per_second(smallest, replace(runtime, precision=precision), seconds=seconds / 20)
        for precision in EXAMINED
    )
    speeds = tuple(timed_sizes(sizes, runtime, until, seconds / 20))
    return DeviceReport(name, describe_device(name), checks, speeds, operation_microseconds(name), halved / plain)


def timed_sizes(sizes: Mapping[str, GptConfig], runtime: Runtime, until: float, seconds_each: float) -> Iterator[Speed]:
    """Yield how fast each size is; those that would last beyond `until`, judged by the one before, are not tried."""
    pass_seconds, last = 0.0, 1
    for name, config in sizes.items():
        parameters = sum(parameter.numel() for parameter in build_outline(config, VOCABULARY_SIZE).parameters())
        # A pass to warm up, one to time.
        if time.perf_counter() + 2 * pass_seconds * parameters / last > until:
            yield Speed(name, parameters, None)
            continue
        rate = tokens_per_second(config, runtime, seconds=seconds_each)
        pass_seconds, last = TIMED_TOKENS / rate, parameters
        yield Speed(name, parameters, rate)


def examine_threads(config: GptConfig, *, seconds: float) -> dict[int, float]:
    """Return the tokens a second of a model on the CPU, by the number of threads."""
    before = torch.get_num_threads()
    rates = {}
    for threads in sorted({1, 2, available_cores() // 2, available_cores()} & set(range(1, available_cores() + 1))):
        torch.set_num_threads(threads)
        rates[threads] = tokens_per_second(config, Runtime(), seconds=seconds)
    torch.set_num_threads(before)
    return rates


@dataclass(frozen=True, slots=True)
class Examination:
    """What was found about a machine.

    Args:
        threads: tokens a second of the smallest model on the CPU, by the number of threads.
        crossovers: for each device beside the CPU, the parameters of the smallest model that it trains faster than
            the CPU does; None where it trained none faster.
    """

    devices: tuple[DeviceReport, ...]
    threads: Mapping[int, float]
    crossovers: Mapping[str, int | None]


def examine(
    checked: Mapping[str, ModelConfig],
    sizes: Mapping[str, GptConfig],
    *,
    seconds: float = 20.0,
    notify: Callable[[str], None] = lambda _: None,
) -> Examination:
    """Check and time every device of this machine.

    Args:
        seconds: about how long it may take.
        notify: told in a few words what is being done.
    """
    names, before = available_devices(), torch.get_num_threads()
    share = seconds / (len(names) + 1)
    notify("threads of the CPU")
    threads = examine_threads(next(iter(sizes.values())), seconds=share / 10)
    best = max(threads, key=lambda number: threads[number])
    torch.set_num_threads(best)
    found = []
    for name in names:
        notify(name)
        found.append(examine_device(name, checked, sizes, Runtime(name, threads=best), share))
    torch.set_num_threads(before)
    cpu, *others = found
    return Examination(tuple(found), threads, {device.name: crossover(cpu, device) for device in others})


def crossover(cpu: DeviceReport, other: DeviceReport) -> int | None:
    """Return the parameters of the smallest model that another device trains faster than the CPU does.

    A size that there was no time for on the CPU alone is one that the CPU is slower at.
    """
    for ours, theirs in zip(cpu.speeds, other.speeds, strict=True):
        if theirs.tokens_per_second is not None and theirs.tokens_per_second > (ours.tokens_per_second or 0.0):
            return theirs.parameters
    return None


def verdicts(found: Examination) -> list[str]:
    """Return what follows from an examination, in sentences."""
    cpu, *others = found.devices
    said = [wrong(device) for device in found.devices if not device.right]
    said += [worth(device, cpu, found.crossovers[device.name]) for device in others if device.right]
    if not others:
        said.append("There is no GPU that torch can use; small models do well without.")
    best = max(found.threads, key=lambda threads: found.threads[threads])
    if best > 1:
        gain = found.threads[best] / found.threads[1]
        said.append(f"{best} threads are {gain:.2g} times as fast as one; train finds the number by itself.")
    elif len(found.threads) > 1:
        said.append("One thread is fastest: others wait for each other, or for whatever else this machine is doing.")
    gains = {device.name: device.bf16_gain for device in found.devices}
    said += [
        f"On {name}, --train.precision bf16 has {gain:.2g} times the speed of fp32 for the smallest model."
        for name, gain in gains.items()
    ]
    return said


def wrong(device: DeviceReport) -> str:
    """Say that a device computes wrong numbers, and which."""
    check = next(check for check in device.checks if not check.right)
    off = check.deviation
    return (
        f"{device.name} computes wrong numbers: for {check.model} in {check.precision}, the loss is off by "
        f"{off.loss:.2g} of its size and the gradient of {off.worst} by {off.gradient:.2g}. Train refuses it; "
        "use --device cpu."
    )


def worth(device: DeviceReport, cpu: DeviceReport, crossing: int | None) -> str:
    """Say from which size on a device is faster than the CPU, and why it is not below."""
    smallest = device.speeds[0]
    if crossing == smallest.parameters:
        return f"{device.name} is faster than the CPU at every size from {smallest.model} on."
    cost = (
        f"an operation costs {device.operation_microseconds:.3g} microseconds there and "
        f"{cpu.operation_microseconds:.3g} on the CPU, and a small model has little to compute in each"
    )
    if crossing is None:
        return f"{device.name} is slower than the CPU at every size that was tried: {cost}. Use --device cpu."
    name = next(speed.model for speed in device.speeds if speed.parameters == crossing)
    return f"{device.name} is slower than the CPU below {name} ({crossing:,} parameters): {cost}."
