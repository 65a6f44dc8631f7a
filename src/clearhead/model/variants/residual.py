"""How a branch joins the stream: with its norm elsewhere, or in the stream's place."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor, nn

from clearhead.model.layers import Branch, Residual, pre_norm


def post_norm(x: Float[Tensor, "B T C"], norm: nn.Module, branch: Branch) -> Float[Tensor, "B T C"]:
    """Return norm(x + branch(x)). Source: Vaswani et al. 2017, section 3.1."""
    out: Tensor = norm(x + branch(x))
    return out


def no_residual(x: Float[Tensor, "B T C"], norm: nn.Module, branch: Branch) -> Float[Tensor, "B T C"]:
    """Return branch(norm(x)): what the branch does not pass on is lost."""
    return branch(norm(x))


RESIDUALS: dict[str, Residual] = {"pre_norm": pre_norm, "post_norm": post_norm, "none": no_residual}
