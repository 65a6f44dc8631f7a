"""Every architecture obeys every law, and every law rejects models that break it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import combinations, product
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from clearhead.core.config import build
from clearhead.core.errors import UserError
from clearhead.model import laws
from clearhead.model.attention import explicit
from clearhead.model.build import LanguageModel, build_model
from clearhead.model.cache import Cache, Slot
from clearhead.model.config import BigramConfig, GptConfig, RotaryConfig
from clearhead.model.masks import Causal, Full, Mask
from clearhead.model.positions import Learned, Rotary
from clearhead.model.tap import Tap
from clearhead.model.transformer import GPT

Law = Callable[[Any, int], None]
LAWS: tuple[Law, ...] = (*laws.ANY_MODEL, *laws.OUR_MODELS)

VOCABULARY_SIZE = 29
SIZES = {"num_layers": 2, "num_heads": 4, "width": 40, "context_length": 11}
"""Different for every axis; the heads have divisors to be shared by, and an even width to be turned in."""

POSITIONS = ("learned", "rotary", "none", "sinusoidal", "alibi", "concatenated", "fourier")
MASKS = ("causal", "window", "per_document", "prefix")
MAIN_FACTORS: dict[str, Sequence[Any]] = {
    "kernel": ("fused", "explicit"),
    "positions.kind": POSITIONS,
    "mask.kind": MASKS,
    "num_kv_heads": (4, 2),
}
FACTORS: dict[str, Sequence[Any]] = {
    "kernel": ("fused", "explicit"),
    "positions.kind": POSITIONS,
    "mask.kind": MASKS,
    "norm.kind": ("layer", "rms"),
    "feed_forward.kind": ("relu", "gelu", "gelu_exact", "squared_relu", "swiglu"),
    "num_kv_heads": (4, 2, 1),
    "tied_head": (False, True),
    "convolution": (1, 4),
    "bias": (False, True),
    "qk_norm": (False, True),
    "embedding_norm": (False, True),
    "logit_softcap": (None, 13.0),
    "dropout": (0.0, 0.2),
}
IMPOSSIBLE = {frozenset({("positions.kind", "concatenated"), ("tied_head", True)})}
"""Pairs of choices that are refused."""

SMALLER = {"window": {"length": 4}, "prefix": {"longest": 5}, "fourier": {"num_frequencies": 7}}
"""What a kind needs to matter in models as small as these."""

DOCUMENTS = torch.tensor([[0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2]])
"""The same documents in every row of every input."""


def pairs(row: dict[str, Any]) -> set[tuple[tuple[str, Any], ...]]:
    """Return every two choices that stand together in a row."""
    return set(combinations(row.items(), 2))


Pairs = set[frozenset[tuple[str, Any]]]


def possible(row: dict[str, Any], impossible: Pairs) -> bool:
    """Say whether no two choices of a row exclude each other."""
    return not any(pair <= set(row.items()) for pair in impossible)


def possible_pairs(factors: dict[str, Sequence[Any]], impossible: Pairs) -> list[tuple[tuple[str, Any], ...]]:
    """Return every two choices of two factors that do not exclude each other."""
    found = [((a, x), (b, y)) for a, b in combinations(factors, 2) for x in factors[a] for y in factors[b]]
    return [pair for pair in found if possible(dict(pair), impossible)]


def pairwise(factors: dict[str, Sequence[Any]], impossible: Pairs) -> list[dict[str, Any]]:
    """Return a few rows of choices in which every two possible choices of two factors meet at least once.

    Each row begins with a pair that has not met yet, and grows by the choice that makes the most new pairs.
    """
    left = possible_pairs(factors, impossible)
    rows = []
    while left:
        row, unmet = dict(left[0]), set(map(frozenset, left))
        for name, values in factors.items():
            if name in row:
                continue
            choices = [value for value in values if possible({**row, name: value}, impossible)]
            new = {value: sum(frozenset({(name, value), other}) in unmet for other in row.items()) for value in choices}
            row[name] = max(new, key=lambda value: new[value])
        rows.append({name: row[name] for name in factors})
        left = [pair for pair in left if pair not in pairs(rows[-1])]
    return rows


def gpt_config(choices: dict[str, Any]) -> GptConfig:
    values: dict[str, Any] = dict(SIZES)
    for name, value in choices.items():
        section, _, key = name.partition(".")
        values[section] = {key: value, **SMALLER.get(value, {})} if key else value
    return build(GptConfig, values)


@torch.no_grad()
def randomize(model: LanguageModel, seed: int = 1) -> LanguageModel:
    """Draw all weights anew, so that nothing hides behind a zero or a one, and each part has a say."""
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in model.named_parameters():
        noise = torch.randn(parameter.shape, generator=generator)
        is_map = parameter.ndim == 2 and not name.endswith("taps")
        parameter.copy_(noise * parameter.size(-1) ** -0.5 * 1.5 if is_map else 1.0 + 0.3 * noise)
    return model.eval()


def random_model(config: GptConfig | BigramConfig) -> LanguageModel:
    """Return a model that says something; one that keeps documents apart has some to keep apart."""
    model = randomize(build_model(config, VOCABULARY_SIZE))
    if isinstance(model, GPT):
        model.mask = model.mask.bind(DOCUMENTS)
    return model


def label(choices: dict[str, Any]) -> str:
    return "-".join(str(value) for value in choices.values())


COVER = pairwise(FACTORS, IMPOSSIBLE)
CONFIGS = {"bigram": BigramConfig(context_length=11), **{label(choices): gpt_config(choices) for choices in COVER}}


def test_the_cover_holds_every_pair_of_choices() -> None:
    assert set(possible_pairs(FACTORS, IMPOSSIBLE)) <= set().union(*(pairs(row) for row in COVER))
    assert all(possible(row, IMPOSSIBLE) for row in COVER)
    assert len(COVER) < 40


@pytest.mark.parametrize("pair", IMPOSSIBLE)
def test_what_the_cover_leaves_out_is_refused(pair: frozenset[tuple[str, Any]]) -> None:
    with pytest.raises(UserError):
        gpt_config(dict(pair))


@pytest.mark.parametrize("config", list(CONFIGS.values()), ids=list(CONFIGS))
@pytest.mark.parametrize("law", LAWS)
def test_every_architecture_obeys(law: Law, config: GptConfig | BigramConfig) -> None:
    law(random_model(config), VOCABULARY_SIZE)


COMBINATIONS = [dict(zip(MAIN_FACTORS, values, strict=True)) for values in product(*MAIN_FACTORS.values())]


@pytest.mark.slow
@pytest.mark.parametrize("choices", COMBINATIONS, ids=label)
def test_every_combination_obeys(choices: dict[str, Any]) -> None:
    model = random_model(gpt_config(choices))
    for law in LAWS:
        law(model, VOCABULARY_SIZE)


class PlainModel(nn.Module):
    """A model of somebody's own: a running mean of embedded tokens, its positions looked up before its tokens."""

    context_length = 11

    def __init__(self) -> None:
        super().__init__()
        self.places = nn.Embedding(11, 40)
        self.tokens = nn.Embedding(VOCABULARY_SIZE, 40)
        self.head = nn.Sequential(nn.Linear(40, 40), nn.Tanh(), nn.Linear(40, VOCABULARY_SIZE))

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.tokens(tokens) + self.places(torch.arange(tokens.size(1)))
        return self.head(x.cumsum(dim=1) / torch.arange(1, tokens.size(1) + 1)[:, None])


class OneHotModel(nn.Module):
    """A model without any nn.Embedding."""

    context_length = 11

    def __init__(self) -> None:
        super().__init__()
        self.maps = nn.Sequential(nn.Linear(VOCABULARY_SIZE, 40), nn.Tanh(), nn.Linear(40, VOCABULARY_SIZE))

    def forward(self, tokens: Tensor) -> Tensor:
        return self.maps(F.one_hot(tokens, VOCABULARY_SIZE).float())


@pytest.mark.parametrize("model", [PlainModel, OneHotModel])
@pytest.mark.parametrize("law", laws.ANY_MODEL)
def test_a_model_of_somebodys_own_obeys(law: Law, model: Callable[[], nn.Module]) -> None:
    law(model().eval(), VOCABULARY_SIZE)


# Broken models. Each breaks a sound one in one place.

SOUND = gpt_config({"positions.kind": "rotary", "num_kv_heads": 2, "convolution": 4, "logit_softcap": None})


def sound_model() -> GPT:
    model = random_model(SOUND)
    assert isinstance(model, GPT)
    return model


def with_kernel(kernel: Callable[..., Tensor]) -> GPT:
    model = sound_model()
    for block in model.blocks:
        block.attention.kernel = kernel
    return model


def with_forward(change: Callable[..., Tensor]) -> GPT:
    """Return a model whose logits pass through a change, which is told the tap."""
    model = sound_model()

    def forward(tokens: Tensor, **settings: Any) -> Tensor:
        return change(GPT.forward(model, tokens, **settings), settings.get("tap"))

    model.forward = forward
    return model


def with_tap(change: Callable[..., Any]) -> GPT:
    """Return a model that shows its tensors to a changed tap; `change` gets the tap, the name and the tensor."""
    model = sound_model()

    def forward(tokens: Tensor, *, tap: Any = None, **settings: Any) -> Tensor:
        changed = None if tap is None else lambda name, tensor: change(tap, name, tensor)
        return GPT.forward(model, tokens, tap=changed, **settings)

    model.forward = forward
    return model


def mask_forgotten() -> nn.Module:
    return with_kernel(lambda q, k, v, mask, bias=None, tap=None: explicit(q, k, v, Full(), bias, tap))


class OneTooMany(Mask):
    def dense(self, num_queries: int, num_keys: int, device: torch.device) -> Tensor:
        square = torch.ones(num_queries, num_keys, dtype=torch.bool, device=device)
        return square.tril(diagonal=num_keys - num_queries + 1)[None, None]


def mask_one_too_many() -> nn.Module:
    return with_kernel(lambda q, k, v, mask, bias=None, tap=None: explicit(q, k, v, OneTooMany(), bias, tap))


def over_the_wrong_axis(q: Tensor, k: Tensor, v: Tensor, mask: Mask, bias: Any = None, tap: Any = None) -> Tensor:
    k, v = k.repeat_interleave(2, dim=1), v.repeat_interleave(2, dim=1)
    scores = q @ k.mT * q.size(-1) ** -0.5
    square = torch.ones_like(scores, dtype=torch.bool).tril(k.size(2) - q.size(2))
    return scores.masked_fill(~square, float("-inf")).softmax(dim=-2) @ v


def softmax_over_the_wrong_axis() -> nn.Module:
    return with_kernel(over_the_wrong_axis)


def view_instead_of_transpose() -> nn.Module:
    model = sound_model()
    for block in model.blocks:
        block.attention._split = lambda x: x.view(x.size(0), -1, x.size(1), 10)
    return model


def heads_not_gathered() -> nn.Module:
    return with_kernel(lambda *given: explicit(*given).transpose(1, 2).reshape(given[0].shape))


def convolution_looks_ahead() -> nn.Module:
    model = sound_model()
    model.blocks[0].convolution.forward = lambda x, slot=None: x + x.roll(-1, dims=1)
    return model


def rows_are_centred() -> nn.Module:
    model = sound_model()
    model.final_norm.forward = lambda x: x - 0.1 * x.mean(dim=0, keepdim=True)
    return model


def dropout_is_always_on() -> nn.Module:
    model = sound_model()
    model.dropout.forward = lambda x: F.dropout(x, 0.3, training=True)
    return model


def logits_transposed() -> nn.Module:
    return with_forward(lambda logits, tap: logits.mT)


def single_tokens_squeezed() -> nn.Module:
    return with_forward(lambda logits, tap: logits.squeeze(1))


def one_logit_infinite() -> nn.Module:
    return with_forward(lambda logits, tap: logits / torch.ones(VOCABULARY_SIZE).index_fill(0, torch.tensor(7), 0.0))


def one_step_late() -> nn.Module:
    return with_forward(lambda logits, tap: F.pad(logits, (0, 0, 1, 0))[:, :-1])


def logits_cannot_grow() -> nn.Module:
    return with_forward(lambda logits, tap: 0.01 * torch.tanh(logits))


class UnmovedRotary(Rotary):
    def rotate(self, x: Tensor, start: int) -> Tensor:
        return super().rotate(x, 0)


class UnmovedLearned(Learned):
    def embed(self, x: Tensor, start: int) -> Tensor:
        return super().embed(x, 0)


def rotary_ignores_its_start() -> nn.Module:
    model = sound_model()
    model.positions = UnmovedRotary(11, 10, RotaryConfig().base)
    return model


def learned_ignores_its_start() -> nn.Module:
    model = sound_model()
    model.positions = UnmovedLearned(11, 40)
    nn.init.normal_(model.positions.table)
    return model


def with_slots(kind: type[Slot]) -> GPT:
    model = sound_model()

    def new_cache(batch: int, capacity: int | None = None) -> Cache:
        return Cache([kind(slot.keys, slot.values) for slot in GPT.new_cache(model, batch, capacity)])

    model.new_cache = new_cache
    return model


class Forgetful(Slot):
    def append(self, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        super().append(keys, values)
        return keys, values


def earlier_keys_are_lost() -> nn.Module:
    return with_slots(Forgetful)


class KeepsNoInputs(Slot):
    def with_recent(self, x: Tensor, count: int) -> Tensor:
        self.recent = None
        return super().with_recent(x, count)


def convolution_begins_anew() -> nn.Module:
    return with_slots(KeepsNoInputs)


class KeepsTheFirstInputs(Slot):
    def with_recent(self, x: Tensor, count: int) -> Tensor:
        joined = super().with_recent(x, count)
        self.recent = joined[:, :count]
        return joined


def convolution_keeps_the_wrong_inputs() -> nn.Module:
    return with_slots(KeepsTheFirstInputs)


class KeepsInputsForever(Slot):
    def clear(self) -> None:
        self.length = 0


def convolution_is_not_cleared() -> nn.Module:
    return with_slots(KeepsInputsForever)


def nobody_counts() -> nn.Module:
    model = sound_model()

    def new_cache(batch: int, capacity: int | None = None) -> Cache:
        cache = GPT.new_cache(model, batch, capacity)
        cache.advance = lambda num_positions: None
        return cache

    model.new_cache = new_cache
    return model


class TopLeft(Causal):
    """Forgets that the queries are the last positions."""

    def dense(self, num_queries: int, num_keys: int, device: torch.device) -> Tensor | None:
        if num_queries == 1:
            return None
        return torch.ones(num_queries, num_keys, dtype=torch.bool).tril()[None, None]


def chunks_see_too_little() -> nn.Module:
    return with_kernel(lambda q, k, v, mask, bias=None, tap=None: explicit(q, k, v, TopLeft(), bias, tap))


def tap_is_not_called() -> nn.Module:
    model = sound_model()
    model.forward = lambda tokens, tap=None, **settings: GPT.forward(model, tokens, **settings)
    return model


def tap_is_called_twice() -> nn.Module:
    return with_tap(lambda tap, name, tensor: tap(name, tap(name, tensor)))


def tap_moves_the_logits() -> nn.Module:
    return with_forward(lambda logits, tap: logits if tap is None else logits * 1.001)


def tap_cuts_the_gradient() -> nn.Module:
    return with_tap(lambda tap, name, tensor: tap(name, tensor.detach() if name == "blocks.0.resid_post" else tensor))


def ignored_at_one_place(tap: Tap, name: str, tensor: Tensor) -> Tensor:
    replaced = tap(name, tensor)
    return tensor if name == "blocks.1.attn.pattern" else replaced


def tap_is_asked_in_vain() -> nn.Module:
    return with_tap(ignored_at_one_place)


def gradients_are_scaled() -> nn.Module:
    return with_forward(lambda logits, tap: 1.01 * logits - 0.01 * logits.detach())


def taps_get_no_gradient() -> nn.Module:
    model = sound_model()
    convolution = model.blocks[1].convolution
    forward, taps = convolution.forward, convolution.taps
    convolution.forward = lambda x, slot=None: forward(x, slot) + 0 * taps.sum()
    taps.register_hook(torch.zeros_like)
    return model


def a_role_is_missing() -> nn.Module:
    model = sound_model()
    roles = model.roles()
    roles.pop("blocks.1.attention.key.weight")
    model.roles = lambda: roles
    return model


def a_role_is_unknown() -> nn.Module:
    model = sound_model()
    model.roles = lambda: {**GPT.roles(model), "embedding.weight": "table"}
    return model


def without_rescue(q: Tensor, k: Tensor, v: Tensor, mask: Mask, bias: Any = None, tap: Any = None) -> Tensor:
    k, v = k.repeat_interleave(2, dim=1), v.repeat_interleave(2, dim=1)
    allowed = mask.dense(q.size(2), k.size(2), q.device)
    return (q @ k.mT).masked_fill(~allowed, float("-inf")).softmax(dim=-1) @ v


def masked_rows_are_not_numbers() -> nn.Module:
    return with_kernel(without_rescue)


BROKEN: dict[Law, Iterable[Callable[[], nn.Module]]] = {
    laws.logits_have_the_right_shape: (logits_transposed, single_tokens_squeezed, one_logit_infinite),
    laws.the_future_is_not_read: (
        mask_forgotten,
        mask_one_too_many,
        softmax_over_the_wrong_axis,
        view_instead_of_transpose,
        heads_not_gathered,
        convolution_looks_ahead,
    ),
    laws.the_future_gets_no_gradient: (mask_forgotten, mask_one_too_many, convolution_looks_ahead, one_step_late),
    laws.rows_are_independent: (rows_are_centred,),
    laws.evaluation_repeats: (dropout_is_always_on,),
    laws.one_batch_can_be_learned: (logits_cannot_grow,),
    laws.cached_equals_uncached: (
        rotary_ignores_its_start,
        learned_ignores_its_start,
        earlier_keys_are_lost,
        convolution_begins_anew,
        convolution_keeps_the_wrong_inputs,
        convolution_is_not_cleared,
        nobody_counts,
        chunks_see_too_little,
    ),
    laws.a_tap_changes_nothing: (
        tap_is_not_called,
        tap_is_called_twice,
        tap_moves_the_logits,
        tap_cuts_the_gradient,
    ),
    laws.what_a_tap_returns_is_used: (tap_is_asked_in_vain,),
    laws.gradients_are_those_of_differences: (gradients_are_scaled, taps_get_no_gradient),
    laws.every_parameter_has_a_role: (a_role_is_missing, a_role_is_unknown),
    laws.masked_rows_stay_finite: (masked_rows_are_not_numbers,),
}


@pytest.mark.parametrize("law", LAWS)
def test_a_law_accepts_a_sound_model_and_leaves_it_as_it_was(law: Law) -> None:
    model = sound_model()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    model.train()
    law(model, VOCABULARY_SIZE)
    assert model.training
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())


@pytest.mark.parametrize(("law", "broken"), [(law, broken) for law, models in BROKEN.items() for broken in models])
def test_a_law_rejects_a_broken_model(law: Law, broken: Callable[[], nn.Module]) -> None:
    """It accepts the sound one, as the test before shows."""
    with pytest.raises(laws.LawBroken):
        law(broken().eval(), VOCABULARY_SIZE)


def test_every_law_has_a_model_to_reject() -> None:
    assert set(BROKEN) == set(LAWS)
    assert all(BROKEN.values())
