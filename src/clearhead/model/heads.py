"""Attention written in two other ways, with the numbers of `Attention`: head by head, and by torch's own module.

They show that nothing hides in the one dataflow that models use. What they cannot express they refuse by name.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from clearhead.core.errors import UserError
from clearhead.model.attention import KERNELS, QK_NORM_EPSILON, Attention, Kernel, Mixer, fused
from clearhead.model.cache import Slot
from clearhead.model.kernels import rms_normalize
from clearhead.model.layers import Block
from clearhead.model.masks import Mask
from clearhead.model.positions import Positions
from clearhead.model.tap import Tap
from clearhead.model.transformer import GPT

PROJECTIONS = ("query", "key", "value")


class Head(nn.Module):
    """One head of attention on its own: every position asks, and gathers what it is answered."""

    def __init__(self, width: int, head_width: int, kernel: Kernel, *, bias: bool, qk_norm: bool) -> None:
        super().__init__()
        self.kernel = kernel
        self.qk_norm = qk_norm
        self.query = nn.Linear(width, head_width, bias=bias)
        self.key = nn.Linear(width, head_width, bias=bias)
        self.value = nn.Linear(width, head_width, bias=bias)

    def forward(
        self,
        x: Float[Tensor, "B T C"],
        source: Float[Tensor, "B S C"],
        mask: Mask,
        positions: Positions,
        bias: Float[Tensor, "1 T S"] | None,
    ) -> Float[Tensor, "B T D"]:
        q, k, v = self.query(x)[:, None], self.key(source)[:, None], self.value(source)[:, None]
        if self.qk_norm:
            q, k = rms_normalize(q, QK_NORM_EPSILON), rms_normalize(k, QK_NORM_EPSILON)
        return self.kernel(positions.rotate(q, 0), positions.rotate(k, 0), v, mask, bias)[:, 0]


class HeadsLoop(Mixer):
    """Run one head after another, put what they gathered side by side, and project it.

    Source: Vaswani et al. 2017, section 3.2.2, as it is written there.
    """

    def __init__(self, width: int, num_heads: int, kernel: Kernel, *, bias: bool, qk_norm: bool) -> None:
        super().__init__()
        head_width = width // num_heads
        self.heads = nn.ModuleList(
            Head(width, head_width, kernel, bias=bias, qk_norm=qk_norm) for _ in range(num_heads)
        )
        self.output = nn.Linear(num_heads * head_width, width, bias=bias)

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

        Raises:
            UserError: a cache or a tap is given.
        """
        require_no_cache_or_tap(self, slot, tap)
        memory, count = x if source is None else source, len(self.heads)
        bias = positions.bias(x.size(1), memory.size(1))
        biases = [None] * count if bias is None else bias.expand(count, -1, -1).chunk(count)
        gathered = [head(x, memory, mask, positions, own) for head, own in zip(self.heads, biases, strict=True)]
        out: Tensor = self.output(torch.cat(gathered, dim=-1))
        return out

    @classmethod
    def of(cls, attention: Attention) -> HeadsLoop:
        """Return the loop that computes what an attention computes, with copies of its weights.

        Raises:
            UserError: query heads share keys and values, or a part was taken out or replaced.
        """
        num_heads = require_plain(cls, attention)
        heads = cls(
            attention.output.out_features,
            num_heads,
            attention.kernel,
            bias=attention.output.bias is not None,
            qk_norm=attention.qk_norm,
        )
        with torch.no_grad():
            for name in PROJECTIONS:
                for kind, joint in getattr(attention, name).named_parameters():
                    for head, part in zip(heads.heads, joint.chunk(num_heads), strict=True):
                        getattr(head, name).get_parameter(kind).copy_(part)
        heads.output.load_state_dict(attention.output.state_dict())
        return heads.to(attention.output.weight)

    def joined(self) -> Attention:
        """Return the attention that computes what this loop computes, with copies of its weights."""
        first = self.heads[0]
        assert isinstance(first, Head)
        width, num_heads = self.output.out_features, len(self.heads)
        bias = self.output.bias is not None
        attention = Attention(width, num_heads, num_heads, first.kernel, bias=bias, qk_norm=first.qk_norm)
        with torch.no_grad():
            for name in PROJECTIONS:
                for kind, joint in getattr(attention, name).named_parameters():
                    joint.copy_(torch.cat([getattr(head, name).get_parameter(kind) for head in self.heads]))
        attention.output.load_state_dict(self.output.state_dict())
        return attention.to(self.output.weight)


class TorchAttention(Mixer):
    """Torch's `nn.MultiheadAttention` where `Attention` stands."""

    def __init__(self, width: int, num_heads: int, *, bias: bool) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(width, num_heads, bias=bias, batch_first=True)

    @property
    def output(self) -> nn.Linear:
        """The map back to the width."""
        return self.attention.out_proj

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

        Raises:
            UserError: a cache or a tap is given, or the positions turn queries and keys.
        """
        require_no_cache_or_tap(self, slot, tap)
        if type(positions).rotate is not Positions.rotate:
            raise UserError(
                f"TorchAttention keeps its queries and keys to itself, so {type(positions).__name__} positions cannot "
                "turn them; use Attention or HeadsLoop."
            )
        memory = x if source is None else source
        allowed = mask.dense(x.size(1), memory.size(1), x.device)
        added = self._added(x, allowed, positions.bias(x.size(1), memory.size(1)))
        out: Tensor = self.attention(x, memory, memory, attn_mask=added, need_weights=False)[0]
        return out

    def _added(
        self,
        x: Float[Tensor, "B T C"],
        allowed: Bool[Tensor, "#B #H T S"] | None,
        bias: Float[Tensor, "#H T S"] | None,
    ) -> Float[Tensor, "N T S"] | None:
        """Return what torch's module adds to the scores, for every head of every row."""
        if allowed is None and bias is None:
            return None
        rows, heads = x.size(0), self.attention.num_heads
        added = x.new_zeros(1, 1, 1, 1) if bias is None else bias.to(x.dtype)[None]
        if allowed is not None:
            added = added.masked_fill(~allowed, float("-inf"))
        return added.expand(rows, heads, -1, -1).flatten(0, 1)

    @classmethod
    def of(cls, attention: Attention) -> TorchAttention:
        """Return torch's module with copies of an attention's weights.

        Raises:
            UserError: query heads share keys and values, queries and keys are normalized, or a part was taken out or
                replaced.
        """
        num_heads = require_plain(cls, attention)
        if attention.kernel not in KERNELS.values():
            raise UserError("TorchAttention computes attention its own way, so it cannot take another kernel's place.")
        if attention.qk_norm:
            raise UserError(
                "TorchAttention keeps its queries and keys to itself, so they cannot be normalized; "
                "set model.qk_norm = false, or use HeadsLoop."
            )
        module = cls(attention.output.out_features, num_heads, bias=attention.output.bias is not None)
        inner = module.attention
        with torch.no_grad():
            for kind in dict(attention.output.named_parameters()):
                joint = [getattr(attention, name).get_parameter(kind) for name in PROJECTIONS]
                inner.get_parameter(f"in_proj_{kind}").copy_(torch.cat(joint))
        inner.out_proj.load_state_dict(attention.output.state_dict())
        return module.to(attention.output.weight)

    def joined(self) -> Attention:
        """Return the attention that computes what torch's module computes, with copies of its weights."""
        inner = self.attention
        width, num_heads = inner.embed_dim, inner.num_heads
        bias = inner.in_proj_bias is not None
        attention = Attention(width, num_heads, num_heads, fused, bias=bias, qk_norm=False)
        with torch.no_grad():
            for kind in dict(attention.output.named_parameters()):
                for name, part in zip(PROJECTIONS, inner.get_parameter(f"in_proj_{kind}").chunk(3), strict=True):
                    getattr(attention, name).get_parameter(kind).copy_(part)
        attention.output.load_state_dict(inner.out_proj.state_dict())
        return attention.to(inner.in_proj_weight)


def with_attention(model: GPT, convert: Callable[[Any], Mixer]) -> GPT:
    """Return a copy of a model whose blocks attend by another module, such as `HeadsLoop.of` makes.

    Raises:
        UserError: the other module cannot express the model's attention.
    """
    other = copy.deepcopy(model)
    for block in other.blocks:
        assert isinstance(block, Block)
        block.attention = convert(block.attention)
    return other


def require_no_cache_or_tap(module: nn.Module, slot: Slot | None, tap: Tap | None) -> None:
    """Refuse what an alternative module does not serve, by name."""
    name = type(module).__name__
    if slot is not None:
        raise UserError(f"{name} keeps no cache; write with use_cache=False, or use Attention.")
    if tap is not None:
        raise UserError(f"{name} shows nothing to a tap; use Attention to look inside.")


def require_plain(kind: type[nn.Module], attention: Attention) -> int:
    """Return the number of heads of an attention whose parts are all its own; refuse any other by name."""
    parts = [getattr(attention, name) for name in (*PROJECTIONS, "output")]
    if len(set(map(id, parts))) < len(parts) or not all(isinstance(part, nn.Linear) for part in parts):
        raise UserError(
            f"{kind.__name__} needs linear maps to query, key, value and output, each with weights of its own; "
            "convert an attention that has them all."
        )
    if attention.num_heads != attention.num_kv_heads:
        raise UserError(
            f"{kind.__name__} gives each head keys and values of its own, so {attention.num_heads} heads cannot share "
            f"{attention.num_kv_heads}; set model.num_kv_heads = {attention.num_heads}, or use Attention."
        )
    return attention.num_heads
