"""The models that we and peers are measured with."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Shape:
    """The sizes of a GPT-2 without biases, as nanoGPT trains it."""

    num_layers: int
    num_heads: int
    width: int
    context_length: int
    vocabulary_size: int = 65

    @property
    def flops_per_token(self) -> int:
        """6 N + 12 L C T of training, with N the parameters of matrix products: the blocks' and the head's.

        Attention is counted over the whole context, though a causal one needs half of it.
        """
        layers, width = self.num_layers, self.width
        products = 12 * layers * width**2 + self.vocabulary_size * width
        return 6 * products + 12 * layers * width * self.context_length

    def to_dict(self) -> dict[str, Any]:
        """Return the sizes by name."""
        return asdict(self)


SHAPES = {
    "0.8M": Shape(4, 4, 128, 64),
    "10.6M": Shape(6, 6, 384, 256),
    "124M": Shape(12, 12, 768, 1024, vocabulary_size=50304),
}
"""nanoGPT's models: for Shakespeare, of its command for a CPU and of its config for a GPU; and its GPT-2, for a GPU."""
