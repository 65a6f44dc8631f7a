"""The loss against one target at a time."""

import re
from collections.abc import Callable
from dataclasses import replace
from itertools import permutations
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from clearhead.core.errors import UserError
from clearhead.model import laws
from clearhead.model.build import build_model
from clearhead.model.config import GptConfig, PerDocumentConfig, PrefixConfig
from clearhead.model.masks import RowPrefixes, SameDocument
from clearhead.model.transformer import GPT, run_block
from clearhead.text.batches import Batch
from clearhead.training.objective import Step, compiled, next_token


class Fixed(nn.Module):
    """A model whose logits are given."""

    def __init__(self, logits: Tensor) -> None:
        super().__init__()
        self.logits = logits

    def forward(self, tokens: Tensor) -> Tensor:
        return self.logits


def one_by_one(logits: Tensor, targets: Tensor) -> float:
    batch, time = targets.shape
    return sum(
        float(F.cross_entropy(logits[b, t][None], targets[b, t][None])) for b in range(batch) for t in range(time)
    )


@pytest.mark.parametrize("shape", [(2, 3, 5), (3, 3, 3)])
def test_the_total_is_the_sum_of_single_targets(shape: tuple[int, int, int]) -> None:
    torch.manual_seed(1)
    logits, targets = torch.randn(shape), torch.randint(shape[2], shape[:2])
    loss = next_token(Fixed(logits), Batch(targets, targets))
    assert float(loss.total) == pytest.approx(one_by_one(logits, targets), rel=1e-5)
    assert loss.weight == shape[0] * shape[1]


def test_forgotten_transposes_are_noticed_where_all_sizes_are_equal() -> None:
    """With B = T = V no shape error shows a transposed logit; the sum over single targets does."""
    torch.manual_seed(1)
    logits, targets = torch.randn(3, 3, 3), torch.randint(3, (3, 3))
    wrong = next_token(Fixed(logits.transpose(1, 2)), Batch(targets, targets))
    assert float(wrong.total) != pytest.approx(one_by_one(logits, targets), rel=1e-3)


def test_weights_count() -> None:
    torch.manual_seed(1)
    logits, targets = torch.randn(2, 3, 5), torch.randint(5, (2, 3))
    weights = torch.tensor([[1.0, 0.0, 0.5], [0.0, 2.0, 0.0]])
    loss = next_token(Fixed(logits), Batch(targets, targets, weights))
    nats = F.cross_entropy(logits.flatten(0, 1), targets.flatten(), reduction="none").view(2, 3)
    assert float(loss.total) == pytest.approx(float((nats * weights).sum()), rel=1e-6)
    assert loss.weight == pytest.approx(3.5)


def test_the_mean_of_mini_samples_is_the_loss_of_the_chunk() -> None:
    """Each of a chunk's T predictions could as well be trained as a sample of its own."""
    model = build_model(GptConfig(num_layers=2, num_heads=2, width=12, context_length=7), 11).eval()
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.3)
    tokens = torch.from_numpy(np.array([[3, 1, 4, 1, 5, 9, 2, 6]]))
    chunk = next_token(model, Batch(tokens[:, :-1], tokens[:, 1:]))
    with torch.no_grad():
        singles = [float(F.cross_entropy(model(tokens[:, :t])[:, -1], tokens[:, t])) for t in range(1, 8)]
    assert float(chunk.total.detach()) / chunk.weight == pytest.approx(sum(singles) / 7, rel=1e-5)


@pytest.mark.parametrize("axes", [axes for axes in permutations(range(3)) if axes != (0, 1, 2)])
def test_no_order_of_axes_passes_for_the_right_one_where_all_sizes_are_equal(axes: tuple[int, int, int]) -> None:
    torch.manual_seed(2)
    logits, targets = torch.randn(5, 5, 5), torch.randint(5, (5, 5))
    right = next_token(Fixed(logits), Batch(targets, targets))
    assert float(right.total) == pytest.approx(one_by_one(logits, targets), rel=1e-5)
    wrong = next_token(Fixed(logits.permute(axes)), Batch(targets, targets))
    assert float(wrong.total) != pytest.approx(float(right.total), rel=1e-3)


class Swapped(nn.Module):
    """A table of bigrams, over a context as long as its vocabulary, that answers with swapped axes."""

    context_length = 5

    def __init__(self, axes: tuple[int, int, int]) -> None:
        super().__init__()
        self.axes = axes
        self.table = nn.Embedding(5, 5)

    def forward(self, tokens: Tensor) -> Tensor:
        return self.table(tokens).permute(self.axes)


def test_a_law_finds_swapped_axes_by_a_batch_of_another_size() -> None:
    laws.logits_have_the_right_shape(Swapped((0, 1, 2)), 5)
    for axes in list(permutations(range(3)))[1:]:
        with pytest.raises(laws.LawBroken, match="logits have shape"):
            laws.logits_have_the_right_shape(Swapped(axes), 5)


@pytest.mark.parametrize("shape", [(2, 5, 3), (3, 2, 5), (6, 5), (2, 3), (2, 3, 5, 1), (2, 4, 5)])
def test_logits_without_a_row_for_each_target_are_refused(shape: tuple[int, ...]) -> None:
    targets = torch.zeros(2, 3, dtype=torch.long)
    with pytest.raises(UserError, match=re.escape(f"logits of the shape {shape} for targets of the shape (2, 3)")):
        next_token(Fixed(torch.zeros(shape)), Batch(targets, targets))


def test_the_mask_of_a_model_is_bound_to_the_batch() -> None:
    config = GptConfig(num_layers=1, num_heads=2, width=12, context_length=7, initialization="normal")
    tokens = torch.randint(11, (2, 7), generator=torch.Generator().manual_seed(1))
    documents = torch.tensor([[0, 0, 1, 1, 1, 2, 2], [0, 1, 1, 1, 1, 1, 1]])
    weights = torch.tensor([[0.0, 0, 0, 1, 1, 1, 1], [1.0] * 7])
    prefixes = RowPrefixes(torch.tensor([4, 1]))
    for kind, mask in ((PerDocumentConfig(), SameDocument(documents)), (PrefixConfig(), prefixes)):
        torch.manual_seed(1)
        model = GPT(replace(config, mask=kind), 11)
        batch = Batch(tokens, tokens, weights, documents)
        nats = F.cross_entropy(model(tokens, mask=mask).flatten(0, 1), tokens.flatten(), reduction="none")
        wanted = float((nats * weights.flatten()).sum().detach())
        assert float(next_token(model, batch).total.detach()) == pytest.approx(wanted, rel=1e-6)
        causal = float(next_token(GPT(config, 11), batch).total.detach())
        assert causal != pytest.approx(wanted, rel=1e-4)


# Steps that a compiler wraps.


class Compiler:
    """Stands where `torch.compile` stands: it remembers what it was given, and how often that was run."""

    def __init__(self) -> None:
        self.given: list[object] = []
        self.runs = 0

    def __call__(self, function: Callable[..., Any]) -> Callable[..., Any]:
        self.given.append(function)

        def run(*arguments: Any, **named: Any) -> Any:
            self.runs += 1
            return function(*arguments, **named)

        return run


@pytest.fixture
def compiler(monkeypatch: pytest.MonkeyPatch) -> Compiler:
    found = Compiler()
    monkeypatch.setattr(torch, "compile", found)
    return found


def small_batch() -> Batch[Tensor]:
    tokens = torch.randint(11, (2, 8), generator=torch.Generator().manual_seed(3))
    return Batch(tokens[:, :-1], tokens[:, 1:])


def small_model() -> GPT:
    return GPT(GptConfig(num_layers=3, num_heads=1, width=6, context_length=7), 11).train()


def test_on_a_cpu_one_block_is_compiled_for_all_and_for_training_only(compiler: Compiler) -> None:
    model, batch = small_model(), small_batch()
    plain = Step(model, next_token)(batch)
    loss = compiled(Step(model, next_token), "cpu")(batch)
    assert (compiler.given, compiler.runs) == ([run_block], 3)
    torch.testing.assert_close(loss.total, plain.total)
    model.eval()
    model(batch.tokens)
    assert compiler.runs == 3


def test_on_a_gpu_and_without_a_stack_the_step_is_compiled(compiler: Compiler) -> None:
    steps = [Step(small_model(), next_token), Step(Fixed(torch.zeros(2, 7, 11)), next_token)]
    for step, device in zip(steps, ("cuda", "cpu"), strict=True):
        compiled(step, device)(small_batch())
    assert (compiler.given, compiler.runs) == (steps, 2)
