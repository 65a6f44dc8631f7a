"""Every subject on every kind of decoder: it says something with numbers in it, and has all its faces."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from io import StringIO
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from rich.console import Console

from clearhead import look
from clearhead.core.errors import UserError
from clearhead.look.catalogue import SUBJECTS
from clearhead.look.specimen import Specimen
from clearhead.model.config import BigramConfig
from clearhead.show.view import View

TEXT = "a fine bee. Tom"


def seen(subject: str, specimen: Specimen) -> View:
    view: View = getattr(look, subject.replace("-", "_"))(specimen, TEXT)
    return view


@pytest.mark.parametrize("subject", SUBJECTS)
def test_a_view_describes_itself(subject: str, specimen: Specimen) -> None:
    view = seen(subject, specimen)
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
