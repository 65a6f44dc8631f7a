"""Traces: the same numbers as without one, and a model that is left as it was."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from clearhead.core.errors import UserError
from clearhead.look.recording import trace
from clearhead.look.specimen import Specimen
from clearhead.model.config import BigramConfig
from clearhead.model.ladder import Bigram
from clearhead.model.transformer import GPT

LENGTH = 13


def tokens(specimen: Specimen, rows: int = 2) -> Tensor:
    generator = torch.Generator().manual_seed(3)
    return torch.randint(specimen.tokenizer.vocabulary_size, (rows, LENGTH), generator=generator)


def test_recorded_and_fused_numbers_agree(specimen: Specimen) -> None:
    with torch.no_grad():
        fused = specimen.model(tokens(specimen))
    seen = trace(specimen.model, tokens(specimen))
    torch.testing.assert_close(seen.logits, fused, rtol=1e-5, atol=1e-5)
    for pattern in seen.layers("attn.pattern"):
        torch.testing.assert_close(pattern.sum(dim=-1), torch.ones(pattern.shape[:-1]))
        assert not pattern.triu(1).any()


def test_heads_and_bias_add_up_to_what_attention_adds(specimen: Specimen) -> None:
    seen = trace(specimen.model, tokens(specimen), ("*.attn.*",))
    for layer, mixer in enumerate(specimen.gpt.mixers):
        bias = mixer.output.bias if mixer.output.bias is not None else 0.0  # type: ignore[union-attr]
        whole = seen[f"blocks.{layer}.attn.head_out"].sum(dim=1) + bias
        torch.testing.assert_close(whole, seen[f"blocks.{layer}.attn.out"], rtol=1e-4, atol=1e-5)


def test_the_final_scale_is_what_the_norm_divides_by(specimen: Specimen) -> None:
    seen = trace(specimen.model, tokens(specimen))
    x = seen["blocks.2.resid_post"]
    norm = specimen.gpt.final_norm
    centred = x - x.mean(dim=-1, keepdim=True) if isinstance(norm, nn.LayerNorm) else x
    gain = 1.0 if norm.weight is None else norm.weight  # type: ignore[union-attr]
    torch.testing.assert_close(centred / seen["final.scale"] * gain, seen["final"], rtol=1e-4, atol=1e-5)


def losses(model: GPT, batch: Tensor, look: Callable[[], object]) -> tuple[list[float], dict[str, Tensor]]:
    """Train a little with dropout, and look in between."""
    torch.manual_seed(11)
    model.train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    found = []
    for _ in range(3):
        look()
        loss = F.cross_entropy(model(batch[:, :-1]).flatten(0, 1), batch[:, 1:].flatten())
        loss.backward()  # type: ignore[no-untyped-call]
        look()
        optimizer.step()
        optimizer.zero_grad()
        found.append(loss.item())
    return found, {name: tensor.clone() for name, tensor in model.state_dict().items()}


def test_training_does_not_notice_a_trace(make: Callable[..., Specimen]) -> None:
    specimens = [make(dropout=0.3) for _ in range(2)]
    batch = tokens(specimens[0])
    models = [specimen.gpt for specimen in specimens]
    plain_losses, plain = losses(models[0], batch, lambda: None)
    seen_losses, watched = losses(models[1], batch, lambda: trace(models[1], batch))
    assert plain_losses == seen_losses
    assert all(torch.equal(plain[name], watched[name]) for name in plain)
    assert models[1].training


def test_each_module_gets_its_own_mode_back(make: Callable[..., Specimen]) -> None:
    model = make().gpt.train()
    model.blocks[1].eval()
    before = [module.training for module in model.modules()]
    trace(model, tokens(make()))
    assert [module.training for module in model.modules()] == before
    assert True in before
    assert False in before


class Wrapped(nn.Module):
    """Stands where `torch.compile` stands: it may not be called while something is recorded."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self._orig_mod = model

    def forward(self, tokens: Tensor) -> Tensor:
        raise AssertionError("the compiled path ran")


def test_a_compiled_model_is_recorded_by_its_plain_one(make: Callable[..., Specimen]) -> None:
    specimen = make()
    plain = trace(specimen.model, tokens(specimen)).logits
    assert torch.equal(trace(Wrapped(specimen.model), tokens(specimen)).logits, plain)


def test_patterns_choose_what_is_kept_and_a_wrong_one_is_named(make: Callable[..., Specimen]) -> None:
    specimen = make()
    seen = trace(specimen.model, tokens(specimen), ("blocks.*.attn.pattern",))
    assert list(seen.tensors) == [*(f"blocks.{layer}.attn.pattern" for layer in range(3)), "logits"]
    with pytest.raises(UserError, match=r'blocks\.0\.attn\.patern\. Did you mean "blocks\.0\.attn\.pattern"'):
        trace(specimen.model, tokens(specimen), ("blocks.0.attn.patern",))
    with pytest.raises(KeyError, match="was not recorded"):
        _ = seen["embed.tok"]


class Own(nn.Module):
    """A module of the user's own."""

    context_length = 19

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(23, 23)

    def forward(self, tokens: Tensor) -> Tensor:
        return self.table(tokens)


def test_a_module_without_taps_gives_its_logits_and_nothing_to_change() -> None:
    model, given = Own(), torch.tensor([[2, 3, 5]])
    assert torch.equal(trace(model, given).logits, model.table(given))
    with pytest.raises(UserError, match="Own takes no tap"):
        trace(model, given, edits=[lambda _, tensor: tensor])


def test_names_and_axes_of_transformer_lens(make: Callable[..., Specimen]) -> None:
    specimen = make()
    seen = trace(specimen.model, tokens(specimen))
    cache = seen.as_transformer_lens()
    wanted = "hook_embed ln_final.hook_normalized "
    inner = (
        "hook_resid_pre hook_resid_mid hook_resid_post hook_attn_out hook_mlp_out attn.hook_q attn.hook_k attn.hook_v "
    )
    inner += "attn.hook_v attn.hook_z attn.hook_pattern attn.hook_attn_scores mlp.hook_pre mlp.hook_post"
    blocks = {f"blocks.{layer}.{name}" for layer in range(3) for name in inner.split()}
    assert set(cache) == {*wanted.split(), *blocks}
    assert torch.equal(cache["blocks.1.attn.hook_q"], seen["blocks.1.attn.q"].transpose(1, 2))
    assert torch.equal(cache["blocks.2.hook_attn_out"], seen["blocks.2.attn.out"])


def test_a_bigram_has_an_embedding_and_logits() -> None:
    model: Any = Bigram(BigramConfig(), 23)
    assert list(trace(model, torch.tensor([[2, 3]])).tensors) == ["embed.tok", "logits"]
