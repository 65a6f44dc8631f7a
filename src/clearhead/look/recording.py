"""A forward pass with everything on the way kept, and where one likes, changed."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from fnmatch import fnmatchcase

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from clearhead.core.errors import UserError, nearest
from clearhead.model.attention import Attention
from clearhead.model.encoder import Encoder
from clearhead.model.encoder_decoder import EncoderDecoder
from clearhead.model.tap import Tap
from clearhead.model.transformer import GPT


@dataclass(frozen=True, eq=False)
class Trace:
    """The named tensors of one forward pass: `trace["blocks.0.attn.pattern"]`, or `trace.layers("attn.pattern")`.

    Two more are computed when they are asked for: `blocks.0.attn.head_out`, (B, H, T, C), what each head adds to the
    stream (its part of the output projection, without the bias), and `final.scale`, (B, T, 1), what the final norm
    divides by.
    """

    model: nn.Module
    tokens: Int[Tensor, "B T"]
    tensors: Mapping[str, Tensor]

    def __getitem__(self, name: str) -> Tensor:
        if name in self.tensors:
            return self.tensors[name]
        if name.endswith(".attn.head_out"):
            return self._head_out(int(name.split(".")[1]))
        if name == "final.scale":
            return self._final_scale()
        raise KeyError(f"{name} was not recorded, only {', '.join(self.tensors)}")

    @property
    def logits(self) -> Float[Tensor, "B T V"]:
        """The logits of each position's next token."""
        return self.tensors["logits"]

    @property
    def num_bytes(self) -> int:
        """How much memory the tensors take."""
        return sum(tensor.nbytes for tensor in self.tensors.values())

    def layers(self, name: str) -> list[Tensor]:
        """Return what every block has under a name such as `attn.pattern`."""
        return [self[f"blocks.{index}.{name}"] for index in range(len(self._model().blocks))]

    @torch.no_grad()
    def _head_out(self, layer: int) -> Float[Tensor, "B H T C"]:
        attention = self._model().mixers[layer]
        assert isinstance(attention, Attention)
        z = self[f"blocks.{layer}.attn.z"]
        alone = torch.eye(z.size(1), device=z.device, dtype=z.dtype)[:, None, :, None, None] * z
        nothing = attention.output(torch.zeros_like(z[:1, :, :1]).transpose(1, 2).flatten(2))
        out: Tensor = attention.output(alone.transpose(2, 3).flatten(3)) - nothing
        return out.transpose(0, 1)

    def _final_scale(self) -> Float[Tensor, "B T 1"]:
        x = self[f"blocks.{len(self._model().blocks) - 1}.resid_post"]
        return norm_scale(self._model().final_norm, x)

    def _model(self) -> GPT:
        model = self.model.body if isinstance(self.model, Encoder) else self.model
        assert isinstance(model, GPT), "only a GPT, or an encoder's, has heads and a final norm"
        return model

    def as_transformer_lens(self) -> dict[str, Tensor]:
        """Return what was recorded under TransformerLens's names and in its order of axes (batch, position, head)."""
        renamed = {}
        for name, tensor in self.tensors.items():
            stem, _, last = name.rpartition(".")
            if last in ("q", "k", "v", "z") and tensor.ndim == 4:
                tensor = tensor.transpose(1, 2)
            if name in OUTER_NAMES:
                renamed[OUTER_NAMES[name]] = tensor
            elif name.startswith("blocks.") and last in INNER_NAMES:
                block = stem.removesuffix(".attn").removesuffix(".mlp")
                whole = name.removeprefix(f"{block}.")
                renamed[f"{block}.{WHOLE_NAMES.get(whole) or f'{whole[: -len(last)]}{INNER_NAMES[last]}'}"] = tensor
        return renamed


OUTER_NAMES = {"embed.tok": "hook_embed", "embed.pos": "hook_pos_embed", "final": "ln_final.hook_normalized"}
WHOLE_NAMES = {"attn.out": "hook_attn_out", "mlp.out": "hook_mlp_out"}
INNER_NAMES = {
    **{name: f"hook_{name}" for name in ("resid_pre", "resid_mid", "resid_post", "q", "k", "v", "z")},
    **{name: f"hook_{name}" for name in ("pattern", "pre", "post", "out")},
    "scores_masked": "hook_attn_scores",
}
"""TransformerLens's names of the places that it has too."""


def trace(
    model: nn.Module,
    tokens: Int[Tensor, "B T"],
    names: Sequence[str] = ("*",),
    edits: Sequence[Tap] = (),
    *,
    source: Int[Tensor, "B S"] | None = None,
) -> Trace:
    """Read tokens once and keep the tensors whose names fit one of the patterns.

    Attention is computed step by step instead of in one fused call, and nothing is compiled, for this pass only. The
    model stays as it was: its mode, its gradients and the random state too. A module of the user's own that takes no
    `tap` gives its logits alone.

    Args:
        names: patterns such as `blocks.*.attn.pattern`; the logits are always kept.
        edits: taps that replace tensors on the way, one after another; what they return is what is kept.
        source: what an encoder-decoder reads, where the tokens are what it writes; tensors of the encoder have
            `encoder.` before their names.

    Raises:
        UserError: nothing in the model has such a name, or the module takes no tap and there are edits.
    """
    # torch.compile wraps a module; what it wraps is the plain one.
    plain = getattr(model, "_orig_mod", model)
    recorder = _Recorder((*names, "logits"), edits)
    with _undisturbed(plain, tokens.device), torch.no_grad():
        if isinstance(plain, EncoderDecoder):
            assert source is not None, "an encoder-decoder reads a source"
            plain.forward(tokens, source=plain.encode(source, tap=recorder), tap=recorder)
        elif "tap" in inspect.signature(plain.forward).parameters:
            plain.forward(tokens, tap=recorder)
        elif edits:
            raise UserError(f"{type(plain).__name__} takes no tap, so nothing inside it can be changed.")
        else:
            recorder("logits", plain(tokens))
    for pattern in names:
        if not any(fnmatchcase(name, pattern) for name in recorder.seen):
            raise UserError(f"The model has no place called {pattern}.{nearest(pattern, recorder.seen)}")
    return Trace(plain, tokens, recorder.kept)


class _Recorder:
    """A tap that passes each tensor through the edits and keeps those that are wanted."""

    def __init__(self, wanted: Sequence[str], edits: Sequence[Tap]) -> None:
        self.wanted, self.edits = wanted, edits
        self.seen: list[str] = []
        self.kept: dict[str, Tensor] = {}

    def __call__(self, name: str, tensor: Tensor) -> Tensor:
        for edit in self.edits:
            tensor = edit(name, tensor)
        self.seen.append(name)
        if any(fnmatchcase(name, pattern) for pattern in self.wanted):
            self.kept[name] = tensor
        return tensor


@contextmanager
def _undisturbed(model: nn.Module, device: torch.device) -> Iterator[None]:
    """Evaluate inside the block; afterwards every module's mode and the random state are what they were."""
    modes = {module: module.training for module in model.modules()}
    try:
        with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
            model.eval()
            yield
    finally:
        for module, mode in modes.items():
            module.training = mode


def norm_scale(norm: nn.Module, x: Float[Tensor, "*rows C"]) -> Float[Tensor, "*rows 1"]:
    """Return what a norm divides a state by: its standard deviation, its root mean square, or 1 without a norm."""
    if isinstance(norm, nn.LayerNorm):
        return (x.var(dim=-1, correction=0, keepdim=True) + norm.eps).sqrt()
    if isinstance(norm, nn.RMSNorm):
        return (x.square().mean(dim=-1, keepdim=True) + (norm.eps or 0.0)).sqrt()
    return torch.ones_like(x[..., :1])
