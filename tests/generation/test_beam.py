from __future__ import annotations

import itertools
import math

import pytest
import torch

from clearhead.core.errors import UserError
from clearhead.generation.beam import Hypothesis, Search, batches_by_length, best_targets
from clearhead.model.encoder_decoder import EncoderDecoder
from clearhead.model.family_config import EncoderDecoderConfig
from clearhead.model.masks import Full, Padded

VOCABULARY = 4
END = 3


def random_model(seed: int, sharpness: float = 0.5) -> EncoderDecoder:
    torch.manual_seed(seed)
    config = EncoderDecoderConfig(
        num_encoder_layers=1, num_decoder_layers=2, num_heads=2, width=12, context_length=17, tied_head=False
    )
    model = EncoderDecoder(config, VOCABULARY).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(std=sharpness)
    return model


def sources() -> tuple[torch.Tensor, torch.Tensor]:
    lengths = torch.tensor([5, 2, 3])
    return torch.randint(VOCABULARY, (3, 5), generator=torch.Generator().manual_seed(5)), lengths


@torch.no_grad()
def log_probability(model: EncoderDecoder, source: torch.Tensor, ids: tuple[int, ...]) -> float:
    """Read a whole target at once, without a cache."""
    tokens = torch.tensor([[END, *ids]])
    logits = model(tokens, source=model.encode(source[None]))
    targets = torch.tensor([*ids, END])
    return float(logits[0].log_softmax(-1).gather(1, targets[:, None]).sum())


@torch.no_grad()
def exhaustive(model: EncoderDecoder, source: torch.Tensor, longest: int, search: Search) -> Hypothesis:
    """Score every target there is, those of one length at once, without a cache."""
    others = [id_ for id_ in range(VOCABULARY) if id_ != END]
    found: list[Hypothesis] = []
    for length in range(longest):
        targets = list(itertools.product(others, repeat=length))
        tokens = torch.tensor([[END, *ids] for ids in targets])
        states, mask = model.encode(source[None])
        log_probabilities = model(tokens, source=(states.expand(len(targets), -1, -1), mask)).log_softmax(-1)
        wanted = torch.tensor([[*ids, END] for ids in targets])
        totals = log_probabilities.gather(2, wanted[..., None]).sum(dim=(1, 2))
        found += map(Hypothesis, targets, totals.tolist())
    return max(found, key=lambda h: search.compared(h.log_probability, len(h.ids) + 1))


@torch.no_grad()
def greedy(model: EncoderDecoder, source: torch.Tensor, longest: int) -> tuple[int, ...]:
    """Take the likeliest token each time, reading everything anew."""
    ids: list[int] = []
    for _ in range(longest - 1):
        logits = model(torch.tensor([[END, *ids]]), source=model.encode(source[None]))
        token = int(logits[0, -1].argmax())
        if token == END:
            break
        ids.append(token)
    return tuple(ids)


@pytest.mark.parametrize("seed", range(2))
def test_one_beam_is_greedy(seed: int) -> None:
    model, (ids, lengths) = random_model(seed), sources()
    search = Search(beam=1, spare=1)
    longest = search.longest(ids.size(1), model.context_length)
    found = best_targets(model, ids, lengths, END, search)
    for row, hypothesis in enumerate(found):
        source = ids[row, : lengths[row]]
        assert hypothesis.ids == greedy(model, source, longest)
        assert hypothesis.log_probability == pytest.approx(log_probability(model, source, hypothesis.ids), abs=1e-4)


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("length_penalty", [0.0, 1.0])
def test_a_beam_of_every_target_is_exhaustive_search(seed: int, length_penalty: float) -> None:
    model, (ids, _) = random_model(seed), sources()
    search = Search(beam=40, length_penalty=length_penalty, spare=2)
    ids = ids[:, :1]  # targets of at most 4 tokens: 1 + 3 + 9 + 27 of them
    found = best_targets(model, ids, torch.tensor([1, 1, 1]), END, search)
    for row, hypothesis in enumerate(found):
        best = exhaustive(model, ids[row], 4, search)
        assert hypothesis.ids == best.ids
        assert hypothesis.log_probability == pytest.approx(best.log_probability, abs=1e-4)


def test_a_narrow_beam_can_miss_the_best() -> None:
    """Else the test of exhaustive search would say nothing."""
    search = Search(beam=1, length_penalty=0.0, spare=2)

    def misses(seed: int) -> bool:
        model, (ids, _) = random_model(seed), sources()
        found = best_targets(model, ids[:, :1], torch.tensor([1, 1, 1]), END, search)
        return any(found[row].ids != exhaustive(model, ids[row, :1], 4, search).ids for row in range(3))

    assert any(map(misses, range(6)))


def test_sources_of_a_batch_do_not_disturb_each_other() -> None:
    model, (ids, lengths) = random_model(7), sources()
    search = Search(beam=3, spare=1)
    together = best_targets(model, ids, lengths, END, search)
    for row, hypothesis in enumerate(together):
        source = ids[row : row + 1, : lengths[row]]
        # The longest target depends on the longest source of the batch.
        same_room = Search(beam=3, spare=search.spare + 2 * (5 - int(lengths[row])))
        alone = best_targets(model, source, lengths[row : row + 1], END, same_room)[0]
        assert alone.ids == hypothesis.ids
        assert alone.log_probability == pytest.approx(hypothesis.log_probability, abs=1e-4)


def test_the_length_penalty_lets_longer_targets_win() -> None:
    short, long = (math.log(0.3), 2), (math.log(0.2), 9)
    assert Search(length_penalty=0.0).compared(*short) > Search(length_penalty=0.0).compared(*long)
    assert Search(length_penalty=1.0).compared(*short) < Search(length_penalty=1.0).compared(*long)


@torch.no_grad()
def test_padding_says_nothing() -> None:
    model, (ids, lengths) = random_model(2), sources()
    search = Search(beam=2, spare=1)
    changed = torch.where(torch.arange(5) < lengths[:, None], ids, (ids + 1) % VOCABULARY)
    assert best_targets(model, ids, lengths, END, search) == best_targets(model, changed, lengths, END, search)
    broken = model.encode(changed)[0] - model.encode(ids)[0]
    assert float(broken[1, :2].abs().max()) > 1e-3, "without its mask padding is read"
    kept = model.encode(changed, Padded(Full(), lengths))[0] - model.encode(ids, Padded(Full(), lengths))[0]
    assert float(kept[1, :2].abs().max()) == 0.0


def test_batches_hold_neighbours_in_length() -> None:
    lengths = [7, 2, 5, 3, 11, 2]
    groups = batches_by_length(lengths, 12)
    assert sorted(itertools.chain.from_iterable(groups)) == list(range(6))
    assert groups == [[1, 5, 3], [2, 0][:1], [0], [4]]


def test_a_beam_of_none_is_refused() -> None:
    for beam in (0, 1001):
        with pytest.raises(UserError, match=f"--beam must lie between 1 and 1000, not {beam}"):
            Search(beam=beam)
    with pytest.raises(UserError, match="length penalty"):
        Search(length_penalty=-1.0)


def test_a_broken_model_finds_nothing() -> None:
    model = random_model(1)
    torch.nn.init.constant_(next(model.parameters()), torch.nan)
    read, lengths = sources()
    for beam in (1, 3):
        found = best_targets(model, read, lengths, END, Search(beam=beam))
        assert [each.log_probability for each in found] == [-math.inf] * len(read)
