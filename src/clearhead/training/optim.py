"""Optimizers: AdamW and Muon, each parameter treated by its role."""

from __future__ import annotations

import inspect
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from clearhead.core.errors import DamagedFile
from clearhead.core.runtime import Precision
from clearhead.training.config import AdamWConfig, MuonConfig, OptimizerConfig

NEWTON_SCHULZ = (3.4445, -4.7750, 2.0315)
"""Coefficients of the quintic that Jordan et al. 2024 chose: steep at zero, so small singular values grow fast."""


def orthogonalize(matrices: Float[Tensor, "N R C"], steps: int) -> Float[Tensor, "N R C"]:
    """Move the singular values of each matrix near 1, keeping its singular vectors.

    X <- a X + (b A + c A A) X with A = X X^T, begun at X / |X|: a polynomial in the singular values, without an SVD.
    Source: Jordan et al. 2024 (Muon). Departs: in the matrices' own dtype, and many matrices at once.
    """
    a, b, c = NEWTON_SCHULZ
    tall = matrices.size(-2) > matrices.size(-1)
    x = matrices.mT if tall else matrices
    x = x / (x.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    for _ in range(steps):
        gram = x @ x.mT
        x = a * x + (b * gram + c * gram @ gram) @ x
    result: Tensor = x.mT if tall else x
    return result


class Quick(torch.optim.Optimizer):
    """An optimizer that is there at once.

    Torch hides parts of its optimizers from its compiler, and loads the compiler to do so, which takes seconds on
    a busy core. Here these parts are called as they are.
    """

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add a group of parameters."""
        inspect.unwrap(torch.optim.Optimizer.add_param_group)(self, param_group)


class AdamW(Quick, torch.optim.AdamW):
    """Torch's AdamW."""

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """Update every parameter that has a gradient."""
        inspect.unwrap(torch.optim.AdamW.step)(self, closure)


class Muon(Quick):
    """Momentum whose update is made orthogonal before it is taken.

    update = orthogonalize(gradient + momentum * buffer) * sqrt(max(1, rows / columns)), with Nesterov momentum.
    Source: Jordan et al. 2024. Departs: matrices of one shape are stacked and treated in one batched product, which
    on a CPU is several times faster than one by one; weight decay is decoupled (Liu et al. 2025).

    Args:
        dtype: of the products that make an update orthogonal, the parameters' own unless given; the momentum always
            has their own.
    """

    def __init__(
        self,
        parameters: Iterable[Tensor],
        *,
        lr: float,
        momentum: float = 0.95,
        weight_decay: float = 0.0,
        newton_schulz_steps: int = 5,
        dtype: torch.dtype | None = None,
    ) -> None:
        self._dtype = dtype
        settings = {"momentum": momentum, "weight_decay": weight_decay, "newton_schulz_steps": newton_schulz_steps}
        super().__init__(parameters, {"lr": lr, **settings})
        self._stacks = [stack for group in self.param_groups for stack in self._stack(group)]

    def _stack(self, group: dict[str, Any]) -> Iterator[tuple[dict[str, Any], list[Tensor], Tensor]]:
        by_shape: dict[torch.Size, list[Tensor]] = defaultdict(list)
        for parameter in group["params"]:
            by_shape[parameter.shape].append(parameter)
        for same in by_shape.values():
            buffers = torch.zeros(len(same), *same[0].shape, dtype=same[0].dtype, device=same[0].device)
            for parameter, buffer in zip(same, buffers, strict=True):
                self.state[parameter]["momentum"] = buffer
            yield group, same, buffers

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """Update every matrix that has a gradient, and leave the others and their momentum as they are."""
        for group, parameters, buffers in self._stacks:
            reached = [index for index, parameter in enumerate(parameters) if parameter.grad is not None]
            if len(reached) == len(parameters):
                self._move(group, parameters, buffers)
            elif reached:
                some = buffers[reached]
                self._move(group, [parameters[index] for index in reached], some)
                buffers[reached] = some

    def _move(self, group: dict[str, Any], parameters: list[Tensor], buffers: Tensor) -> None:
        """Update matrices of one shape, and their momentum in place."""
        gradients = torch.stack([parameter.grad for parameter in parameters])
        buffers.lerp_(gradients, 1.0 - group["momentum"])
        wanted = gradients.lerp_(buffers, group["momentum"])
        updates = orthogonalize(wanted.to(self._dtype), group["newton_schulz_steps"]).to(wanted.dtype)
        rows, columns = parameters[0].shape
        rate = group["lr"] * max(1.0, rows / columns) ** 0.5
        torch._foreach_mul_(parameters, 1.0 - group["lr"] * group["weight_decay"])
        torch._foreach_add_(parameters, list(updates), alpha=-rate)


class OptimizerSet:
    """Optimizers that together own all of a model's parameters and move as one."""

    def __init__(self, model: nn.Module, optimizers: Sequence[torch.optim.Optimizer]) -> None:
        self.optimizers = tuple(optimizers)
        self._names: dict[Tensor, str] = {parameter: name for name, parameter in model.named_parameters()}
        for group in self.groups():
            group["peak_lr"] = group["lr"]

    def groups(self) -> Iterator[dict[str, Any]]:
        """Yield the parameter groups of every optimizer."""
        for optimizer in self.optimizers:
            yield from optimizer.param_groups

    def set_factor(self, factor: float) -> None:
        """Set each group's learning rate to this share of its peak."""
        for group in self.groups():
            group["lr"] = group["peak_lr"] * factor

    @property
    def learning_rate(self) -> float:
        """The present learning rate of the first group."""
        return float(next(self.groups())["lr"])

    def step(self) -> None:
        """Update every parameter from its gradient."""
        for optimizer in self.optimizers:
            optimizer.step()

    def zero_grad(self) -> None:
        """Forget all gradients."""
        for parameter in self._names:
            parameter.grad = None

    def tensors(self) -> dict[str, Tensor]:
        """Return the optimizers' memory, each tensor named `parameter/key`."""
        return {
            f"{self._names[parameter]}/{key}": value
            for optimizer in self.optimizers
            for parameter, memory in optimizer.state.items()
            for key, value in memory.items()
        }

    def load_tensors(self, tensors: Mapping[str, Tensor]) -> None:
        """Bring back a memory that `tensors` returned.

        Raises:
            DamagedFile: it is not the memory of these optimizers for these parameters.
        """
        owned = {
            self._names[parameter]: (parameter, optimizer.state)
            for optimizer in self.optimizers
            for group in optimizer.param_groups
            for parameter in group["params"]
        }
        for name, value in tensors.items():
            parameter_name, _, key = name.rpartition("/")
            parameter, memory = owned.get(parameter_name, (None, {}))
            if parameter is None or not fits(key, value, parameter):
                raise DamagedFile(f"The saved optimizer remembers {name}, which does not fit this one.")
            if key in memory[parameter]:
                memory[parameter][key].copy_(value)
            else:
                memory[parameter][key] = value.to(parameter.device, copy=True)
        self._require_whole_memory()

    def _require_whole_memory(self) -> None:
        for optimizer in self.optimizers:
            for parameter, memory in optimizer.state.items():
                for key in MEMORY.get(type(optimizer), frozenset()) - memory.keys():
                    raise DamagedFile(f"The saved optimizer does not remember {self._names[parameter]}/{key}.")


MEMORY = {AdamW: frozenset({"step", "exp_avg", "exp_avg_sq"}), Muon: frozenset({"momentum"})}
"""What our optimizers remember of a parameter that a gradient has reached."""

SINGLE_NUMBERS = frozenset({"step", "mu_product"})
"""What torch's optimizers remember as one number; everything else has its parameter's shape and type."""


def fits(key: str, value: Tensor, parameter: Tensor) -> bool:
    """Say whether a stored tensor can be what an optimizer remembers of a parameter."""
    if key in SINGLE_NUMBERS:
        return value.ndim == 0 and value.dtype == torch.float32
    return value.shape == parameter.shape and value.dtype == parameter.dtype


def build_optimizer(config: OptimizerConfig, model: nn.Module, precision: Precision = "fp32") -> OptimizerSet:
    """Return the optimizers that a config names for a model.

    A model without `roles()` gets AdamW for every parameter.

    Args:
        precision: of the products inside the optimizer; its memory is of the weights' dtype.
    """
    parameters = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
    roles: dict[str, str] = model.roles() if hasattr(model, "roles") else {}  # type: ignore[operator]
    if isinstance(config, AdamWConfig) or not roles:
        matrices = [p for _, p in parameters if p.ndim >= 2]
        vectors = [p for _, p in parameters if p.ndim < 2]
        decay = config.weight_decay if isinstance(config, AdamWConfig) else 0.0
        rate = config.learning_rate if isinstance(config, AdamWConfig) else config.gain_learning_rate
        groups = [{"params": matrices, "weight_decay": decay}, {"params": vectors, "weight_decay": 0.0}]
        return OptimizerSet(model, [adamw(config, [group for group in groups if group["params"]], rate)])
    by_role = {role: [p for name, p in parameters if roles[name] == role] for role in sorted(set(roles.values()))}
    optimizers: list[torch.optim.Optimizer] = []
    hidden = by_role.pop("hidden", [])
    if hidden:
        optimizers.append(muon(config, hidden, precision))
    rates = {
        "embedding": config.embedding_learning_rate,
        "head": config.head_learning_rate,
        "gain": config.gain_learning_rate,
    }
    groups = [{"params": params, "lr": rates[role], "weight_decay": 0.0} for role, params in by_role.items()]
    return OptimizerSet(model, [*optimizers, adamw(config, groups, config.gain_learning_rate)])


def muon(config: MuonConfig, matrices: list[nn.Parameter], precision: Precision) -> Muon:
    """Return Muon for the matrices inside the blocks."""
    return Muon(
        matrices,
        lr=config.learning_rate,
        momentum=config.momentum,
        weight_decay=config.weight_decay,
        newton_schulz_steps=config.newton_schulz_steps,
        dtype=torch.bfloat16 if precision == "bf16" else None,
    )


def adamw(config: AdamWConfig | MuonConfig, groups: list[dict[str, Any]], rate: float) -> AdamW:
    """Return torch's AdamW, in its fused form, for groups of parameters."""
    return AdamW(groups, lr=rate, betas=(config.beta1, config.beta2), eps=config.epsilon, fused=True, weight_decay=0.0)
