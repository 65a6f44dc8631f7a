"""Runs under other masks: what their batches carry, how they are scored, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from clearhead.core.config import merge
from clearhead.core.errors import UserError
from clearhead.generation.engine import Request, prompt_ids, write
from clearhead.generation.score import text_nats
from clearhead.model.config import GptConfig, PerDocumentConfig
from clearhead.model.masks import PerDocument
from clearhead.model.transformer import GPT
from clearhead.store.load import load
from clearhead.text.shards import in_memory
from clearhead.training import fit
from clearhead.training.assess import assess
from clearhead.training.evaluate import Evaluator
from clearhead.training.recipes import recipe

SMALL: dict[str, Any] = {
    "train.threads": 1,
    "train.steps": 6,
    "train.evaluate_every": 3,
    "train.sample_tokens": 5,
    "train.sequences_per_step": 6,
    "model.num_layers": 2,
    "model.num_heads": 2,
    "model.width": 12,
    "model.context_length": 13,
}
MASKS: dict[str, dict[str, Any]] = {
    "window": {"model.mask.kind": "window", "model.mask.length": 4},
    "per_document": {"model.mask.kind": "per_document"},
    "prefix": {"model.mask.kind": "prefix", "model.mask.longest": 5},
}


@pytest.fixture
def rows(place: Path) -> Path:
    """Documents so short that most windows hold several."""
    lines = (f'{{"text": "row {i} of {i * i % 97}"}}' for i in range(300))
    (place / "rows.jsonl").write_text("\n".join(lines))
    return place / "rows.jsonl"


@pytest.mark.parametrize("kind", list(MASKS))
def test_a_run_under_another_mask_is_stored_scored_and_written_with(rows: Path, kind: str) -> None:
    session = fit.create([rows], merge(recipe("tiny"), SMALL | MASKS[kind]))
    (batch,) = session.batches(0)
    assert (batch.documents is not None) == (kind == "per_document")
    assert (batch.weights is not None) == (kind == "prefix")
    events = list(fit.train(session))
    losses = [event.loss for event in events if event.name == "stepped"]
    assert len(losses) == 6
    last = [event for event in events if event.name == "evaluated" and event.split == "validation"][-1]
    loaded = load(f"{session.run.path}@last")
    assert loaded.model.mask == session.model.mask
    assert assess(loaded, stride=5)["nats_per_token"] == pytest.approx(last.nats_per_token, rel=1e-6)
    texts = [
        write(loaded.model, loaded.tokenizer, request)
        for request in (
            Request(prompt=prompt_ids(loaded.tokenizer, "row 7"), num_tokens=40, use_cache=use_cache)
            for use_cache in (True, False)
        )
    ]
    assert texts[0] == texts[1]


def test_documents_are_asked_of_a_text_that_has_none(place: Path) -> None:
    with pytest.raises(UserError, match=r"model\.mask\.kind = per_document keeps documents apart, and this text is"):
        fit.create([place / "text.txt"], merge(recipe("tiny"), SMALL | MASKS["per_document"]))
    assert not (place / "runs").exists()


def test_the_evaluation_rule_keeps_documents_apart_too() -> None:
    torch.manual_seed(1)
    config = GptConfig(num_layers=1, num_heads=2, width=12, context_length=7, mask=PerDocumentConfig())
    model = GPT(config, 11).eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.4)
    ids = np.random.default_rng(3).integers(0, 11, 53).astype(np.int32)
    documents = torch.from_numpy(np.cumsum(ids[None, :7] == 1, axis=1))
    window = torch.from_numpy(ids[None, :8]).long()
    logits = model(window[:, :-1], mask=PerDocument().bind(documents))
    wanted = F.cross_entropy(logits[0], window[0, 1:], reduction="none").detach().numpy()
    apart, together = (text_nats(model, ids, end=end) for end in (1, None))
    assert apart[:7] == pytest.approx(wanted, rel=1e-5)
    assert (ids[:7] == 1).any()
    assert together != pytest.approx(apart, rel=1e-3)
    for end, nats in ((1, apart), (None, together)):
        score = Evaluator(in_memory(ids, 11), 7, None, end).score(model)
        assert score.nats_per_token == pytest.approx(float(nats.mean()), rel=1e-6)
