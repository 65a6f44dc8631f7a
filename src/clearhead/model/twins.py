"""From-scratch twins of what torch does for us: slow, readable, and equal to it in outputs and gradients.

Each says in elementary operations what its torch counterpart computes. `replace` puts them into a GPT, which then
trains as before, only slower; `cross_entropy` and `AdamW` serve the same run.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterable
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from clearhead.model import layers
from clearhead.model.attention import KERNELS, Attention
from clearhead.model.masks import Mask
from clearhead.model.tap import Tap
from clearhead.model.transformer import GPT


def softmax(scores: Float[Tensor, "*B N"]) -> Float[Tensor, "*B N"]:
    """Return e^x_i / sum_j e^x_j along the last axis, the largest score first taken off all so that none overflows."""
    largest = scores.max(dim=-1, keepdim=True).values.detach()
    powers = (scores - largest).exp()
    return powers / powers.sum(dim=-1, keepdim=True)


def log_softmax(scores: Float[Tensor, "*B N"]) -> Float[Tensor, "*B N"]:
    """Return ln softmax(x)_i = x_i - ln sum_j e^x_j, without a logarithm of something that rounds to zero."""
    largest = scores.max(dim=-1, keepdim=True).values.detach()
    shifted = scores - largest
    return shifted - shifted.exp().sum(dim=-1, keepdim=True).log()


def cross_entropy(logits: Float[Tensor, "N V"], targets: Int[Tensor, " N"]) -> Float[Tensor, " N"]:
    """Return -ln of the probability that each row of logits gives its target."""
    return -log_softmax(logits)[torch.arange(targets.size(0)), targets]


class LayerNorm(nn.Module):
    """Take off the mean, divide by the standard deviation, scale and shift: (x - E[x]) / sqrt(Var[x] + eps) g + b.

    Source: Ba et al. 2016, section 3.
    """

    def __init__(self, weight: nn.Parameter | None, bias: nn.Parameter | None, epsilon: float) -> None:
        super().__init__()
        self.weight, self.bias, self.epsilon = weight, bias, epsilon

    def forward(self, x: Float[Tensor, "*B C"]) -> Float[Tensor, "*B C"]:
        mean = x.sum(dim=-1, keepdim=True) / x.size(-1)
        variance = ((x - mean) ** 2).sum(dim=-1, keepdim=True) / x.size(-1)
        normal = (x - mean) / (variance + self.epsilon) ** 0.5
        if self.weight is not None:
            normal = normal * self.weight
        return normal if self.bias is None else normal + self.bias


class RMSNorm(nn.Module):
    """Divide by the root mean square, and scale. Source: Zhang and Sennrich 2019, eq. 4."""

    def __init__(self, weight: nn.Parameter | None, epsilon: float) -> None:
        super().__init__()
        self.weight, self.epsilon = weight, epsilon

    def forward(self, x: Float[Tensor, "*B C"]) -> Float[Tensor, "*B C"]:
        normal = x / ((x**2).sum(dim=-1, keepdim=True) / x.size(-1) + self.epsilon) ** 0.5
        return normal if self.weight is None else normal * self.weight


class Embedding(nn.Module):
    """Look a row up by a product: a vector that is 1 at the token's id and 0 elsewhere, times the table."""

    def __init__(self, weight: nn.Parameter) -> None:
        super().__init__()
        self.weight = weight

    def forward(self, tokens: Int[Tensor, "*B"]) -> Float[Tensor, "*B C"]:
        ids = torch.arange(self.weight.size(0), device=tokens.device)
        one_hot = (tokens[..., None] == ids).to(self.weight.dtype)
        return one_hot @ self.weight


def kept_as_torch_draws(x: Float[Tensor, "*B"], probability: float) -> Float[Tensor, "*B"]:
    """Return 0 with a probability and 1 else for each number, as torch's dropout draws it."""
    return torch.empty_like(x).bernoulli_(1.0 - probability)


def kept_by_bytes(x: Float[Tensor, "*B"], probability: float) -> Float[Tensor, "*B"]:
    """Return 0 with a probability, a multiple of 1/256, and 1 else, as the dropout of our layers draws it."""
    return (layers.random_bytes(x.shape) >= 256 * probability).to(x.dtype)


class Dropout(nn.Module):
    """In training, set each number to zero with probability p and divide the others by 1 - p; else change nothing.

    So the expected value stays. Source: Srivastava et al. 2014, section 4, scaled in training and not in use.

    Args:
        kept: draws which numbers stay, for a tensor and p; torch's own way unless given, so that the same seed drops
            the same numbers.
    """

    def __init__(self, probability: float, kept: Callable[[Tensor, float], Tensor] = kept_as_torch_draws) -> None:
        super().__init__()
        self.probability = probability
        self.kept = kept

    def forward(self, x: Float[Tensor, "*B"]) -> Float[Tensor, "*B"]:
        if not self.training or self.probability == 0.0:
            return x
        return x * self.kept(x, self.probability) / (1.0 - self.probability)


def attend(
    q: Float[Tensor, "B H T D"],
    k: Float[Tensor, "B K S D"],
    v: Float[Tensor, "B K S D"],
    mask: Mask,
    bias: Float[Tensor, "#H T S"] | None = None,
    tap: Tap | None = None,
) -> Float[Tensor, "B H T D"]:
    """Average the values by loops: for each row, head and query, over the keys that it may read.

    The kernel `explicit` says the same for all of them at once.
    """
    (batch, heads, queries, width), keys = q.shape, k.size(2)
    allowed = mask.dense(queries, keys, q.device)
    everywhere = torch.ones(1, 1, 1, 1, dtype=torch.bool) if allowed is None else allowed
    readable = everywhere.expand(batch, heads, queries, keys)
    biases = q.new_zeros(1, 1, 1) if bias is None else bias
    biases = biases.expand(heads, queries, keys)
    rows = []
    for b in range(batch):
        for h in range(heads):
            shared = h * k.size(1) // heads
            for t in range(queries):
                read = readable[b, h, t].nonzero().flatten().tolist()
                scores = [(q[b, h, t] * k[b, shared, s]).sum() / math.sqrt(width) + biases[h, t, s] for s in read]
                rows.append(average(scores, [v[b, shared, s] for s in read], like=q[b, h, t]))
    return torch.stack(rows).view(q.shape)


def average(scores: list[Tensor], values: list[Float[Tensor, " D"]], like: Float[Tensor, " D"]) -> Float[Tensor, " D"]:
    """Return the values' mean, weighted by the softmax of their scores; zeros where there are none."""
    if not scores:
        return torch.zeros_like(like)
    weights = softmax(torch.stack(scores))
    gathered = torch.zeros_like(like)
    for weight, value in zip(weights, values, strict=True):
        gathered = gathered + weight * value
    return gathered


class AdamW(torch.optim.Optimizer):
    """Step along the mean gradient divided by the root of the mean square gradient, and pull each weight to zero.

    m <- b1 m + (1 - b1) g;  v <- b2 v + (1 - b2) g^2;  w <- w - lr decay w;
    w <- w - lr (m / (1 - b1^t)) / (sqrt(v / (1 - b2^t)) + eps)
    Source: Loshchilov and Hutter 2019, algorithm 2.
    """

    def __init__(
        self,
        parameters: Iterable[Any],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.01,
    ) -> None:
        super().__init__(parameters, {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        """Update every parameter that has a gradient."""
        for group in self.param_groups:
            rate, (beta1, beta2) = group["lr"], group["betas"]
            for parameter in group["params"]:
                if parameter.grad is None:
                    continue
                memory, gradient = self.state[parameter], parameter.grad
                if not memory:
                    zeros = torch.zeros_like(parameter)
                    memory.update(steps=torch.zeros(()), mean=zeros, square=zeros)
                memory["steps"] = memory["steps"] + 1
                memory["mean"] = beta1 * memory["mean"] + (1 - beta1) * gradient
                memory["square"] = beta2 * memory["square"] + (1 - beta2) * gradient**2
                steps = int(memory["steps"])
                mean, square = memory["mean"] / (1 - beta1**steps), memory["square"] / (1 - beta2**steps)
                parameter -= rate * group["weight_decay"] * parameter
                parameter -= rate * mean / (square.sqrt() + group["eps"])


def draw(probabilities: Float[Tensor, " V"], uniform: float) -> int:
    """Return the first id at which the running sum of probabilities passes a random number from [0, 1).

    An id with probability p owns a stretch of length p of that interval, so it is drawn with probability p:
    sampling by the inverse of the cumulative distribution.
    """
    total = 0.0
    for id_, probability in enumerate(probabilities.tolist()):
        total += probability
        if uniform < total:
            return id_
    # Rounding can leave the sum a little below 1; the stretch up to 1 belongs to the last id that can come.
    return int(probabilities.nonzero()[-1])


TWINS: dict[type[nn.Module], Callable[[Any], nn.Module]] = {
    nn.LayerNorm: lambda norm: LayerNorm(norm.weight, norm.bias, norm.eps),
    nn.RMSNorm: lambda norm: RMSNorm(norm.weight, norm.eps),
    nn.Embedding: lambda table: Embedding(table.weight),
    layers.Dropout: lambda dropout: Dropout(round(256 * dropout.p) / 256, kept_by_bytes),
    nn.Dropout: lambda dropout: Dropout(dropout.p),
}
"""What stands in for each of torch's modules; the parameters stay the same ones, under the same names."""


def twin_of(module: nn.Module) -> nn.Module:
    """Return the twin of one of torch's modules; any other module is its own."""
    return next((make(module) for kind, make in TWINS.items() if isinstance(module, kind)), module)


def replace(model: GPT) -> GPT:
    """Return a copy of a model whose norms, embedding, dropout and attention are the twins of this file.

    Its parameters have the names and the values of the original's, so either can load what the other saved.
    """
    twin = copy.deepcopy(model)
    for parent in list(twin.modules()):
        for name, child in list(parent.named_children()):
            setattr(parent, name, twin_of(child))
        if isinstance(parent, Attention) and parent.kernel in KERNELS.values():
            parent.kernel = attend
    return twin
