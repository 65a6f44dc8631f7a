"""Attention as one dataflow: project queries, keys and values; position them; kernel; gather; project out."""

from __future__ import annotations

import warnings
from functools import cache
from typing import Any, Protocol, runtime_checkable

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from clearhead.core.errors import UserError
from clearhead.model.cache import Slot, new_slot
from clearhead.model.kernels import rms_normalize, side_by_side
from clearhead.model.masks import Mask
from clearhead.model.positions import Positions
from clearhead.model.tap import Tap

QK_NORM_EPSILON = 1e-7
"""What is added to the mean square of a query or key, so that one of zeros stays zero."""


LONGEST_IN_PRODUCTS = 512
"""With more keys than these, storing all weights costs more memory than the speed is worth."""


@runtime_checkable
class Kernel(Protocol):
    """Average the values, weighted by how well each key answers each query."""

    def __call__(
        self,
        q: Float[Tensor, "B H T D"],
        k: Float[Tensor, "B K S D"],
        v: Float[Tensor, "B K S D"],
        mask: Mask,
        bias: Float[Tensor, "#H T S"] | None = None,
        tap: Tap | None = None,
    ) -> Float[Tensor, "B H T D"]: ...


def explicit(
    q: Float[Tensor, "B H T D"],
    k: Float[Tensor, "B K S D"],
    v: Float[Tensor, "B K S D"],
    mask: Mask,
    bias: Float[Tensor, "#H T S"] | None = None,
    tap: Tap | None = None,
) -> Float[Tensor, "B H T D"]:
    """Average the values, weighted by query-key similarity, one visible step after another.

    softmax(q k^T / sqrt(D) + bias) v over the keys that the mask allows. With fewer key/value heads than query
    heads, neighbouring query heads share one.
    Source: Vaswani et al. 2017, section 3.2.1; grouped heads: Ainslie et al. 2023. Departs: a query that may
    attend to nothing gets zeros.
    """
    read = tap or (lambda _, tensor: tensor)
    groups = q.size(1) // k.size(1)
    k, v = k.repeat_interleave(groups, dim=1), v.repeat_interleave(groups, dim=1)
    scores = read("scores_raw", q @ k.transpose(-2, -1))
    scores = read("scores_scaled", scores * q.size(-1) ** -0.5)
    if bias is not None:
        scores = scores + bias
    allowed = mask.dense(q.size(2), k.size(2), q.device)
    if allowed is not None:
        scores = scores.masked_fill(~allowed, float("-inf"))
    scores = read("scores_masked", scores)
    weights = scores.softmax(dim=-1)
    if allowed is not None:
        weights = weights.masked_fill(~allowed.any(dim=-1, keepdim=True), 0.0)
    return read("pattern", weights) @ v


def fused(
    q: Float[Tensor, "B H T D"],
    k: Float[Tensor, "B K S D"],
    v: Float[Tensor, "B K S D"],
    mask: Mask,
    bias: Float[Tensor, "#H T S"] | None = None,
    tap: Tap | None = None,
) -> Float[Tensor, "B H T D"]:
    """Compute what `explicit` computes in one call of torch, which never stores the T x S weights.

    A tap is not served here: the model switches to `explicit` when there is one.
    """
    if q.device.type == "cpu" and torch.is_autocast_enabled("cpu"):
        with torch.autocast("cpu", enabled=False):
            if bias is None and k.size(2) <= LONGEST_IN_PRODUCTS and mask.is_causal_square(q.size(2), k.size(2)):
                return causal_in_products(q.bfloat16(), k.bfloat16(), v.bfloat16())
            # Torch's backward pass of attention in bfloat16 is many times slower on a CPU than in float32.
            return fused(q.float(), k.float(), v.float(), mask, bias)
    grouped = q.size(1) != k.size(1)
    if bias is None and mask.is_causal_square(q.size(2), k.size(2)):
        return F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=grouped)
    allowed = mask.dense(q.size(2), k.size(2), q.device)
    added = allowed
    if bias is not None:
        bias = bias.to(q.dtype)
        added = bias if allowed is None else bias.masked_fill(~allowed, float("-inf"))
    return F.scaled_dot_product_attention(q, k, v, attn_mask=added, enable_gqa=grouped)


def causal_in_products(
    q: Float[Tensor, "B H T D"], k: Float[Tensor, "B K T D"], v: Float[Tensor, "B K T D"]
) -> Float[Tensor, "B H T D"]:
    """Compute what `explicit` computes under a causal mask, as two products in the inputs' type and a softmax.

    It stores the T x T weights, but with instructions for bfloat16 a CPU makes them faster than torch's fused kernel,
    which has none in its backward pass (docs/log.md).
    """
    batch, heads, length, width = q.shape
    if k.size(1) < heads:
        k, v = (x.repeat_interleave(heads // x.size(1), dim=1) for x in (k, v))
    q, k, v = (x.flatten(0, 1) for x in (q, k, v))
    hidden = q.new_full((length, length), float("-inf")).triu_(1)
    scores = torch.baddbmm(hidden.expand(batch * heads, -1, -1), q, k.transpose(1, 2), alpha=width**-0.5)
    return torch.bmm(scores.softmax(dim=-1), v).view(batch, heads, length, width)


def flex(
    q: Float[Tensor, "B H T D"],
    k: Float[Tensor, "B K S D"],
    v: Float[Tensor, "B K S D"],
    mask: Mask,
    bias: Float[Tensor, "#H T S"] | None = None,
    tap: Tap | None = None,
) -> Float[Tensor, "B H T D"]:
    """Compute what `explicit` computes by FlexAttention, which skips blocks of keys that no query may read.

    Source: Dong et al. 2024, "Flex Attention". On a CPU it is not compiled, which saves nothing but computes the same.

    Raises:
        UserError: torch's FlexAttention cannot do this here: on a CPU, the backward pass.
    """
    from torch.nn.attention.flex_attention import flex_attention

    attend = flex_attention if q.device.type == "cpu" else _compiled_flex()
    # Unlike a function with annotated arguments, a lambda can be traced where shapes are checked.
    biased = None if bias is None else lambda score, b, h, t, s: score + bias[h % bias.size(0), t, s]
    settings = {"block_mask": _block_mask(mask, q, k), "enable_gqa": q.size(1) != k.size(1)}
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*flex_attention.*", category=UserWarning)
            out: Tensor = attend(q, k, v, score_mod=biased, **settings)
    except NotImplementedError as error:
        raise UserError(f"The flex kernel cannot do this here ({error}); set model.kernel = fused.") from None
    return out


def _block_mask(mask: Mask, q: Float[Tensor, "B H T D"], k: Float[Tensor, "B K S D"]) -> Any:
    from torch.nn.attention.flex_attention import create_block_mask

    allowed = mask.dense(q.size(2), k.size(2), q.device)
    if allowed is None:
        return None
    rows, heads = allowed.size(0), allowed.size(1)
    return create_block_mask(
        lambda b, h, t, s: allowed[b % rows, h % heads, t, s],
        None if rows == 1 else rows,
        None if heads == 1 else heads,
        q.size(2),
        k.size(2),
        device=str(q.device),
    )


@cache
def _compiled_flex() -> Any:
    from torch.nn.attention.flex_attention import flex_attention

    return torch.compile(flex_attention)


KERNELS: dict[str, Kernel] = {"explicit": explicit, "fused": fused, "flex": flex}


class Mixer(nn.Module):
    """What a block's positions gather from each other by: attention, or what stands in its place.

    `forward(x, *, mask, positions, slot, tap)` gives what each position gathered. One that reads ahead whatever the
    mask says is no part of a language model, and has no cache.
    """

    reads_ahead = False

    def new_slot(self, batch: int, capacity: int, like: Tensor) -> Slot:
        """Return an empty slot for what `capacity` positions leave behind; `like` has dtype, device and width.

        Raises:
            UserError: this one keeps nothing.
        """
        raise UserError(f"{type(self).__name__} keeps no cache; write with use_cache=False, or use Attention.")


class Attention(Mixer):
    """Let each position gather from the positions that it may read.

    A position says what it looks for (query), what it contains (key) and what it will communicate (value).
    Queries come from `x`, keys and values from `source` (cross-attention), or from `x` too (self-attention).
    Source: Vaswani et al. 2017, section 3.2. Departs: no dropout on the weights, since that rules fused kernels
    out on a CPU; with `qk_norm`, queries and keys are divided by their root mean square (Henry et al. 2020).
    """

    def __init__(
        self, width: int, num_heads: int, num_kv_heads: int, kernel: Kernel, *, bias: bool, qk_norm: bool
    ) -> None:
        super().__init__()
        self.head_width = width // num_heads
        self.num_heads = num_heads
        self.num_kv_heads = num_kv_heads
        self.kernel = kernel
        self.tapped_kernel: Kernel = explicit
        self.qk_norm = qk_norm
        self.query = nn.Linear(width, num_heads * self.head_width, bias=bias)
        self.key = nn.Linear(width, num_kv_heads * self.head_width, bias=bias)
        self.value = nn.Linear(width, num_kv_heads * self.head_width, bias=bias)
        self.output = nn.Linear(num_heads * self.head_width, width, bias=bias)

    def forward(
        self,
        x: Float[Tensor, "B T C"],
        source: Float[Tensor, "B S C"] | None = None,
        *,
        mask: Mask,
        positions: Positions,
        slot: Slot | None = None,
        tap: Tap | None = None,
    ) -> Float[Tensor, "B T C"]:
        """Return what each position gathered.

        Args:
            slot: the earlier positions' keys and values; the new ones are added to it. Those of a source, which does
                not grow, are stored when it is read first and used from then on.
        """
        start = 0 if slot is None else slot.length
        if source is None:
            q, k, v = self._looking_within(x, positions, start)
        else:
            q = self._position(self._split(self.query(x)), positions, start)
            k, v = self._contained_in(source, positions, slot)
        if tap is not None:
            q, k, v = tap("q", q), tap("k", k), tap("v", v)
        if slot is not None and (source is None or not slot.length):
            k, v = slot.append(k, v)
        kernel = self.kernel if tap is None else self.tapped_kernel
        gathered = kernel(q, k, v, mask, positions.bias(q.size(2), k.size(2)), tap)
        if tap is not None:
            gathered = tap("z", gathered)
        out: Tensor = self.output(gathered.transpose(1, 2).flatten(2))
        return out

    def _looking_within(
        self, x: Float[Tensor, "B T C"], positions: Positions, start: int
    ) -> tuple[Float[Tensor, "B H T D"], Float[Tensor, "B K T D"], Float[Tensor, "B K T D"]]:
        """Return queries, keys and values of the same positions; what can be done for all heads at once, is."""
        heads = self._split(side_by_side(x, (self.query, self.key, self.value)))
        placed, v = torch.split(heads, [self.num_heads + self.num_kv_heads, self.num_kv_heads], dim=1)
        q, k = torch.split(self._position(placed, positions, start), [self.num_heads, self.num_kv_heads], dim=1)
        return q, k, v

    def _contained_in(
        self, source: Float[Tensor, "B S C"], positions: Positions, slot: Slot | None
    ) -> tuple[Float[Tensor, "B K S D"], Float[Tensor, "B K S D"]]:
        """Return a source's keys and values, from the slot once they are in it."""
        if slot is not None and slot.length:
            return slot.stored()
        return self._position(self._split(self.key(source)), positions, 0), self._split(self.value(source))

    def new_slot(self, batch: int, capacity: int, like: Tensor) -> Slot:
        """Return an empty slot for the keys and values of `capacity` positions."""
        return new_slot(batch, self.num_kv_heads, capacity, self.head_width, like)

    def _split(self, x: Float[Tensor, "B T HD"]) -> Float[Tensor, "B H T D"]:
        return x.view(x.size(0), x.size(1), -1, self.head_width).transpose(1, 2)

    def _position(self, x: Float[Tensor, "B H T D"], positions: Positions, start: int) -> Float[Tensor, "B H T D"]:
        if self.qk_norm:
            x = rms_normalize(x, QK_NORM_EPSILON)
        return positions.rotate(x, start)
