"""Every subject on every kind of decoder: it says something with numbers in it, and has all its faces."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from rich.console import Console

from clearhead import look
from clearhead.core.errors import UserError
from clearhead.generation.score import text_nats
from clearhead.look.catalogue import SUBJECTS
from clearhead.look.specimen import Specimen, read
from clearhead.look.subjects.heads import head_scores, repeated, tags_of
from clearhead.model.config import BigramConfig, GptConfig
from clearhead.show.view import View

TEXT = "a fine bee. Tom"


GIVEN: dict[str, dict[str, Any]] = {
    "parameters": {},
    "loss-by-position": {"prompt": "a fine bee. " * 5},
    "patch": {"prompt": "Tom ib a", "other": "bee ib a"},
    "analogy": {"prompt": "a - b + c"},
    "embeddings": {},
    "dimensions": {},
}
"""What subjects are given that take something else than a text."""


OF_RUNS = {"copies", "diary"}
"""What needs a run on disk; the journeys look at these."""


KINDS = ("default", "learned", "rotary", "alibi", "concatenated", "post_norm", "softcap")
PAIRS = [
    (subject, KINDS[(at + further) % len(KINDS)])
    for at, subject in enumerate(subject for subject in SUBJECTS if subject not in OF_RUNS)
    for further in (0, 3)
]
"""Each subject on two kinds of decoder, each kind with several subjects."""

Family = dict[str, GptConfig]


def seen(subject: str, specimen: Specimen) -> View:
    given = GIVEN.get(subject, {"prompt": TEXT})
    if subject == "compare":
        given = given | {"other": specimen}
    view: View = getattr(look, subject.replace("-", "_"))(specimen, **given)
    return view


@pytest.mark.parametrize(("subject", "kind"), PAIRS)
def test_a_view_describes_itself(subject: str, kind: str, make: Callable[..., Specimen], family: Family) -> None:
    view = seen(subject, make(family[kind]))
    assert view.name == subject
    assert view.about == SUBJECTS[subject]
    assert re.search(r"\d", view.caption), "a caption has numbers that were computed"
    assert view.caption.endswith((".", "!"))
    stored = json.loads(json.dumps(view.to_json(), allow_nan=False))
    assert stored["pictures"]
    assert stored["shape"]
    stream = StringIO()
    view.show(Console(file=stream, width=100))
    assert view.caption.split()[0] in stream.getvalue()


@pytest.mark.parametrize("subject", sorted(OF_RUNS))
def test_what_needs_a_run_says_so(subject: str, make: Callable[..., Specimen]) -> None:
    with pytest.raises(UserError, match=r"comes (from none|without one)"):
        seen(subject, make())


def test_every_subject_is_found_by_its_name() -> None:
    assert {name.replace("-", "_") for name in SUBJECTS} <= set(dir(look))
    with pytest.raises(AttributeError, match="has no tea"):
        _ = look.tea


# One by one.


def test_next_token_is_what_the_model_says(specimen: Specimen) -> None:
    view = look.next_token(specimen, TEXT, temperature=0.5, top_k=3)
    ids = torch.from_numpy(specimen.tokenizer.encode(TEXT)).long()
    with torch.no_grad():
        logits = specimen.model(torch.cat((torch.tensor([specimen.tokenizer.end]), ids))[None])[0, -1]
    wanted = logits.softmax(-1).sort(descending=True).values[:12]
    np.testing.assert_allclose(view.probability, wanted, rtol=1e-4)
    sharp = (logits.double() / 0.5).softmax(-1)
    kept = sharp.topk(3)
    np.testing.assert_allclose(view.arrays["top-k"][:3], kept.values / kept.values.sum(), rtol=1e-4)
    assert not view.arrays["top-k"][3:].any()
    np.testing.assert_allclose(view.drawn[:3], view.arrays["top-k"][:3], atol=0.02)
    np.testing.assert_allclose(view.luck_to - view.luck_from, np.where(view.drawn > 0, view.arrays["top-k"], np.nan))


def test_minisamples_cost_what_cross_entropy_says(specimen: Specimen) -> None:
    view = look.minisamples(specimen, TEXT)
    ids = torch.tensor([[specimen.tokenizer.end, *specimen.tokenizer.encode(TEXT)]])
    with torch.no_grad():
        loss = F.cross_entropy(specimen.model(ids[:, :-1]).flatten(0, 1), ids[:, 1:].flatten())
    np.testing.assert_allclose(view.nats.mean(), loss, rtol=1e-5)
    np.testing.assert_allclose(view.mean_so_far[-1], loss, rtol=1e-5)
    assert view.target.tolist()[:4] == ["a", "·", "f", "i"]


def test_attention_is_softmax_of_masked_scaled_products(specimen: Specimen) -> None:
    view = look.attention(specimen, TEXT, layer=1, head=4)
    np.testing.assert_allclose(view.query_vector @ view.key_vector.T, view.scores_raw, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(view.scores_raw / np.sqrt(8), view.scores_scaled, rtol=1e-5)
    weights = np.exp(view.scores_masked - view.scores_masked.max(axis=1, keepdims=True))
    np.testing.assert_allclose(weights / weights.sum(axis=1, keepdims=True), view.pattern, rtol=1e-5, atol=1e-7)
    assert not np.triu(view.pattern, 1).any()
    np.testing.assert_allclose(view.pattern.sum(axis=1), 1.0, rtol=1e-6)
    assert (view.entropy <= np.log(np.arange(1, len(view.entropy) + 1)) + 1e-9).all()


def test_surprisal_is_what_scoring_says(specimen: Specimen) -> None:
    view = look.surprisal(specimen, TEXT)
    ids = np.array([specimen.tokenizer.end, *specimen.tokenizer.encode(TEXT)])
    np.testing.assert_allclose(view.nats[1:], text_nats(specimen.model, ids), rtol=1e-4, atol=1e-5)
    assert np.isnan(view.nats[0])
    best = view.rank[1:] == 1
    np.testing.assert_allclose(np.exp(-view.nats[1:])[best], view.alternative_probability[best, 0], rtol=1e-6)


def test_the_last_row_of_the_lens_is_the_model(specimen: Specimen) -> None:
    view = look.lens(specimen, TEXT)
    logits = read(specimen, TEXT).trace().logits[0]
    assert np.array_equal(view.logits[-1], logits.double())
    assert view.agreement[-1] == 1.0
    assert view.nats_from_final[-1] == 0.0
    assert (view.nats_from_final[:-1] > 0).all()


def test_the_ledger_sums_to_the_difference_of_the_logits(specimen: Specimen) -> None:
    for position in (-1, 3):
        view = look.why(specimen, TEXT, token="b", instead="T", position=position)
        logits = read(specimen, TEXT).trace("final", "logits")
        weight = specimen.gpt.unembedding.weight
        chosen, other = (int(specimen.tokenizer.encode(text)[0]) for text in "bT")
        linear = logits["final"][0, position] @ (weight[chosen] - weight[other]).detach()
        np.testing.assert_allclose(view.share.sum(), float(linear), rtol=1e-4, atol=1e-4)
        if specimen.gpt.config.logit_softcap is None:
            real = logits.logits[0, position, chosen] - logits.logits[0, position, other]
            np.testing.assert_allclose(view.share.sum(), float(real), rtol=1e-4, atol=1e-4)
        assert {"token", "layer 0 head 5", "layer 2 feed-forward"} <= set(view.labels["part"])
        np.testing.assert_allclose(view.contribution[:-1].sum(), view.contribution[-1], rtol=1e-9)


def test_leaving_a_token_out_is_reading_the_shorter_text(make: Callable[..., Specimen]) -> None:
    specimen = make()
    view = look.why(specimen, "fade", token="b", instead="T")
    shorter = look.why(specimen, "fde", token="b", instead="T")
    np.testing.assert_allclose(view.difference - shorter.difference, view.left_out[2], rtol=1e-4)


def test_a_ledger_needs_linear_norms_and_single_tokens(make: Callable[..., Specimen]) -> None:
    specimen = make()
    with pytest.raises(UserError, match="'ab' is 2 tokens"):
        look.why(specimen, TEXT, token="ab")
    specimen.gpt.final_norm = torch.nn.Tanh()
    with pytest.raises(UserError, match="cannot be followed through Tanh"):
        look.why(specimen, TEXT)


@pytest.mark.parametrize("residual", ["none", "post_norm"])
def test_the_ledger_knows_every_residual(make: Callable[..., Specimen], residual: str) -> None:
    view = look.why(make(residual=residual, convolution=1), TEXT, token="b", instead="T")
    np.testing.assert_allclose(view.share.sum(), view.difference[0], rtol=1e-4)


def test_heads_are_tagged_by_where_they_look(make: Callable[..., Specimen]) -> None:
    specimen = make()
    tokens = repeated(specimen, 1)
    assert torch.equal(tokens[:, : tokens.size(1) // 2], tokens[:, tokens.size(1) // 2 :])
    assert specimen.tokenizer.end not in tokens
    half = tokens.size(1) // 2
    made = torch.full((tokens.size(1), tokens.size(1)), 1e-9).tril()
    for place in range(tokens.size(1)):
        made[place, max(0, place - half + 1) if place >= half else place] = 1.0
    shifted = torch.eye(tokens.size(1)).roll(-1, dims=1)
    patterns = torch.stack([made, shifted, torch.ones_like(made).tril(), torch.eye(len(made)), made, made])
    patterns = patterns / patterns.sum(dim=-1, keepdim=True)
    specimen.gpt.mixers[1].tapped_kernel = lambda q, k, v, mask, bias, tap: (  # type: ignore[union-attr]
        tap("pattern", patterns.expand(q.size(0), -1, -1, -1)) @ v.repeat_interleave(2, dim=1)
    )
    scores = head_scores(specimen, tokens)
    tags = tags_of(scores)
    assert tags[1].tolist() == ["induction", "previous", "even", "itself", "induction", "induction"]
    assert float(scores["induction"][1, 0]) > 0.99
    assert 0 < float(scores["previous"][0].max()) < 1


def test_sharpness_runs_from_averaging_to_unscaled(specimen: Specimen) -> None:
    view = look.sharpness(specimen, TEXT)
    alphas = view.alpha_value.tolist()
    plain = look.minisamples(specimen, TEXT).nats.mean()
    np.testing.assert_allclose(view.loss[alphas.index(1.0)], plain, rtol=1e-4)
    np.testing.assert_allclose(view.evenness_by_layer[0], 1.0, rtol=1e-6)
    assert view.evenness[-1] < 0.99
    assert any(abs(alpha - np.sqrt(8)) < 1e-9 for alpha in alphas)
    assert float(re.search(r"differ by at most (\S+)\.$", view.caption)[1]) < 1e-5  # type: ignore[index]


# What cannot be seen.


def test_a_bigram_has_no_attention_but_a_next_token(make: Callable[..., Specimen]) -> None:
    bigram = make(BigramConfig())
    with pytest.raises(UserError, match="A Bigram has no attention"):
        look.attention(bigram, TEXT)
    table = bigram.model.table.weight  # type: ignore[union-attr]
    last = int(bigram.tokenizer.encode(TEXT)[-1])
    np.testing.assert_allclose(look.next_token(bigram, TEXT).all_logits, table[last].detach())
    assert len(look.minisamples(bigram, TEXT).nats) == len(TEXT)


def test_a_layer_or_head_that_is_not_there_is_named(make: Callable[..., Specimen]) -> None:
    with pytest.raises(UserError, match="no layer 3: the model has layers 0 to 2"):
        look.attention(make(), TEXT, layer=3)
    with pytest.raises(UserError, match="no head 6"):
        look.attention(make(), TEXT, head=6)


def test_a_long_text_is_read_from_its_end(make: Callable[..., Specimen]) -> None:
    view = look.attention(make(), "abcdefghij" * 3)
    assert "".join(view.labels["query"]) == ("abcdefghij" * 3)[-19:]
    assert "the last 19 of 31 tokens" in view.caption


def test_without_a_text_there_is_a_sentence(make: Callable[..., Specimen]) -> None:
    with pytest.raises(UserError, match="comes without a text of its own"):
        look.attention(make())


def test_a_view_is_saved_with_its_pictures(make: Callable[..., Specimen], tmp_path: Path) -> None:
    for ending in ("html", "npz", "png"):
        look.attention(make(), TEXT).save(tmp_path / f"view.{ending}")
    page = (tmp_path / "view.html").read_text()
    assert "rows sum to 1" in page
    assert "From affinities to weights" in page
