"""From states inside a GPT to what they say about the next token."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from clearhead.core.errors import UserError
from clearhead.look.recording import Trace, norm_scale
from clearhead.model.attention import Attention
from clearhead.model.transformer import GPT

TOKEN, POSITION, BIASES = "token", "position", "biases"


def lens(model: GPT, states: Float[Tensor, "*rows C"]) -> Float[Tensor, "*rows V"]:
    """Return the logits that states from anywhere in the stream would give if they were the last ones.

    The final norm is computed for each state anew, so the last layer's states give the model's own logits.
    """
    with torch.no_grad():
        return model.head(model.final_norm(states))


class Shares:
    """What each part of a model has added to the state of one position: vectors that sum to it.

    Norms are linear once what they divide by is held fixed, so every part can be followed through them; their
    biases, and those of the output projections, are a part of their own.
    """

    def __init__(self) -> None:
        self.parts: dict[str, Float[Tensor, " C"]] = {}

    def add(self, name: str, vector: Float[Tensor, " C"]) -> None:
        """Add a part, or to a part that is there already."""
        self.parts[name] = self.parts[name] + vector if name in self.parts else vector

    def pass_norm(self, norm: nn.Module, x: Float[Tensor, " C"]) -> None:
        """Follow all parts through a norm that reads the state x, their sum.

        Raises:
            UserError: the norm is of a kind that nothing fixed makes linear.
        """
        if isinstance(norm, nn.Identity):
            return
        if not isinstance(norm, nn.LayerNorm | nn.RMSNorm):
            raise UserError(
                f"What each part adds cannot be followed through {type(norm).__name__}, which is not linear."
            )
        scale, centred = norm_scale(norm, x), isinstance(norm, nn.LayerNorm)
        gain = torch.ones_like(x) if norm.weight is None else norm.weight.detach()
        for name, vector in self.parts.items():
            self.parts[name] = (vector - vector.mean() if centred else vector) / scale * gain
        if isinstance(norm, nn.LayerNorm) and norm.bias is not None:
            self.add(BIASES, norm.bias.detach())


@torch.no_grad()
def shares(trace: Trace, position: int) -> dict[str, Float[Tensor, " C"]]:
    """Return what each part of a GPT has added to the final state of one position, after the final norm.

    Parts are the token, its position, each head (`layer 0 head 1`), each feed-forward layer, and the biases. They sum
    to the final state, and their products with a row of the unembedding to a logit (before a soft-cap).

    Raises:
        UserError: a norm is not linear.
    """
    model = trace.model
    assert isinstance(model, GPT)
    found = Shares()
    token = trace["embed.tok"][0, position].double()
    found.add(TOKEN, F.pad(token, (0, model.config.width - len(token))))
    if "embed.pos" in trace.tensors:
        found.add(POSITION, trace["embed.pos"][0, position].double())
    found.pass_norm(model.embedding_norm, sum_of(found))
    for layer, block in enumerate(model.blocks):
        heard, thought = _heard(trace, layer, position), _thought(trace, layer, position)
        for parts, norm in ((heard, block.attention_norm), (thought, block.feed_forward_norm)):
            if not parts:
                continue
            if model.config.residual == "none":
                found.parts.clear()
            for name, vector in parts.items():
                found.add(name, vector)
            if model.config.residual == "post_norm":
                found.pass_norm(norm, sum_of(found))  # type: ignore[arg-type]
    found.pass_norm(model.final_norm, sum_of(found))
    return found.parts


def sum_of(found: Shares) -> Float[Tensor, " C"]:
    """Return the state that the parts sum to."""
    return torch.stack(list(found.parts.values())).sum(dim=0)


def _heard(trace: Trace, layer: int, position: int) -> dict[str, Float[Tensor, " C"]]:
    """Return what a layer's heads, or what stands in their place, add at a position."""
    assert isinstance(trace.model, GPT)
    whole = trace[f"blocks.{layer}.attn.out"][0, position].double()
    if not isinstance(trace.model.mixers[layer], Attention):
        return {f"layer {layer} mixer": whole}
    heads = trace[f"blocks.{layer}.attn.head_out"][0, :, position].double()
    parts = {f"layer {layer} head {head}": vector for head, vector in enumerate(heads)}
    return parts | {BIASES: whole - heads.sum(dim=0)}


def _thought(trace: Trace, layer: int, position: int) -> dict[str, Float[Tensor, " C"]]:
    name = f"blocks.{layer}.mlp.out"
    return {f"layer {layer} feed-forward": trace[name][0, position].double()} if name in trace.tensors else {}
