"""Runs of small random models, made without training."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from clearhead.core import run as runs
from clearhead.core.config import to_dict
from clearhead.core.events import Evaluated, record
from clearhead.core.files import write_atomically
from clearhead.core.run import Run
from clearhead.model.build import build_model
from clearhead.model.config import ModelConfig
from clearhead.store import checkpoint
from clearhead.store.load import Loaded, load
from clearhead.text.config import TextConfig
from clearhead.text.tokenizer import Tokenizer

TEXT = 'The cat\'s 12 eggs\nwere "new", she said.\nÀ la carte, 数 of them! So it sang.\n' * 9
MakeRun = Callable[..., Loaded]


@pytest.fixture(scope="session")
def make_run(tmp_path_factory: pytest.TempPathFactory) -> MakeRun:
    """Lay down a run of a model whose every weight matters."""

    def make(config: ModelConfig, tokenizer: Tokenizer, name: str = "small", **data: Any) -> Loaded:
        model = build_model(config, tokenizer.vocabulary_size)
        generator = torch.Generator().manual_seed(3)
        with torch.no_grad():
            for parameter in model.parameters():
                noise = torch.randn(parameter.shape, generator=generator)
                parameter.copy_(0.2 * noise if parameter.ndim == 2 else 1.0 + 0.3 * noise)
        description = {
            "name": name,
            "config": {"text": to_dict(TextConfig()), "model": to_dict(config)},
            "parameters": {"total": sum(parameter.numel() for parameter in model.parameters())},
            "vocabulary_size": tokenizer.vocabulary_size,
            "tokenizer": {"kind": tokenizer.kind, "fingerprint": tokenizer.fingerprint},
            "versions": runs.versions(),
        }
        sources = [{"name": "/home/me/secret folder/tale.txt", "bytes": len(TEXT)}]
        path = tmp_path_factory.mktemp("runs") / name
        with runs.creating(path, description, {"sources": sources, "licence": None} | data) as folder:
            tokenizer.save(folder / runs.TOKENIZER_FOLDER)
            known = tokenizer.encode(tokenizer.drop_unknown(TEXT)[0])
            write_atomically(folder / runs.VALIDATION_FILE, known.astype("<i4").tobytes())
            state = {"step": 7, "best": None}
            checkpoint.save(Run(folder), checkpoint.Checkpoint(7, checkpoint.model_tensors(model), state))
        list(record(path, [evaluation()]))
        return load(str(path))

    return make


def evaluation() -> Evaluated:
    """Return what the run measured at its only step."""
    where = {"step": 7, "seconds": 2.0, "tokens": 70}
    return Evaluated(
        **where,
        split="validation",
        nats_per_token=1.2345,
        standard_error=0.01,
        bits_per_byte=1.5,
        tokens_scored=300,
        train_seconds=1.0,
        weights="raw",
        context_length=11,
        sampled=False,
    )
