from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from clearhead.core.errors import UserError
from clearhead.core.run import select
from clearhead.generation.beam import Search
from clearhead.generation.translator import Translator
from clearhead.model.config import GptConfig
from clearhead.model.encoder_decoder import EncoderDecoder
from clearhead.model.family_config import EncoderDecoderConfig
from clearhead.store.load import load
from clearhead.text.config import WordConfig
from clearhead.text.tales_language import pairs
from clearhead.training.config import MuonConfig, RunConfig, TrainConfig, TranslateTaskConfig
from clearhead.training.fit import create, resume, train
from clearhead.training.session import Session
from clearhead.training.table_task import spread
from clearhead.training.translation import TranslationTask, target_loss, write_targets

NUM_PAIRS = 43


@pytest.fixture
def table(tmp_path: Path) -> Path:
    rows = "".join(f"{pair.source}\t{pair.target}\n" for pair in pairs(NUM_PAIRS, 3))
    path = tmp_path / "pairs.tsv"
    path.write_text(f"source\ttarget\n{rows}")
    return path


def config_of(**changes: Any) -> RunConfig:
    settings: dict[str, Any] = {
        "task": TranslateTaskConfig(),
        "tokenizer": WordConfig(),
        "model": EncoderDecoderConfig(
            num_encoder_layers=1, num_decoder_layers=1, num_heads=2, width=20, context_length=37
        ),
        "optimizer": MuonConfig(head_learning_rate=0.01),
        "train": TrainConfig(steps=4, sequences_per_step=11, evaluate_every=2, threads=1, device="cpu"),
    }
    return RunConfig(**settings | changes)


def session_of(table: Path, tmp_path: Path, **changes: Any) -> Session:
    return create([table], config_of(**changes), tmp_path / "run")


def test_a_batch_holds_sources_and_shifted_targets(table: Path, tmp_path: Path) -> None:
    session = session_of(table, tmp_path)
    task, tokenizer = session.task, session.task.data.tokenizer
    assert isinstance(task, TranslationTask)
    known = {(row.first, row.second) for row in task.data.training.rows}
    (batch,) = session.batches(0)
    for row in range(len(batch.tokens)):
        length = int(batch.weights[row].sum())
        target, source = batch.targets[row, :length], batch.source[row, : batch.lengths[row]]
        assert batch.tokens[row, :length].tolist() == [tokenizer.end, *target[:-1]]
        assert target[-1] == source[-1] == tokenizer.end
        texts = tokenizer.decode(source[:-1])[1:], tokenizer.decode(target[:-1])[1:]
        assert texts in known


def test_an_epoch_has_every_pair_once(table: Path, tmp_path: Path) -> None:
    session = session_of(table, tmp_path)
    steps = -(-session.batches.sequences_per_epoch // 11)
    seen = [tuple(row) for step in range(steps) for row in session.batches(step)[0].source.tolist()]
    stripped = [tuple(np.trim_zeros(row, "b")) for row in seen]
    assert len(stripped) == session.batches.sequences_per_epoch
    assert len(set(stripped)) == len(stripped)


@pytest.mark.parametrize("label_smoothing", [0.0, 0.3])
def test_the_loss_of_a_batch_is_that_of_its_pairs_alone(table: Path, tmp_path: Path, label_smoothing: float) -> None:
    session = session_of(table, tmp_path)
    model = session.model.eval()
    assert isinstance(model, EncoderDecoder)
    torch.nn.init.normal_(model.embedding.weight, std=0.5, generator=torch.Generator().manual_seed(5))
    (arrays,) = session.batches(0)
    batch = type(arrays)(
        **{
            name: None if value is None else torch.as_tensor(value)
            for name, value in ((n, getattr(arrays, n)) for n in arrays.__dataclass_fields__)
        }
    )
    batch = type(arrays)(
        batch.tokens.long(), batch.targets.long(), batch.weights, None, batch.source.long(), batch.lengths
    )
    together = target_loss(model, batch, label_smoothing)
    total = 0.0
    for row in range(len(batch.tokens)):
        length = int(batch.weights[row].sum())
        source = model.encode(batch.source[row : row + 1, : int(batch.lengths[row])])
        logits = model(batch.tokens[row : row + 1, :length], source=source)[0]
        logs = logits.log_softmax(dim=-1)
        right = -logs.gather(1, batch.targets[row, :length, None]).sum()
        total += float(((1 - label_smoothing) * right - label_smoothing * logs.mean(dim=-1).sum()).detach())
    assert float(together.total.detach()) == pytest.approx(total, rel=1e-4)
    assert together.weight == float(batch.weights.sum())
    wrong = F.cross_entropy(
        model(batch.tokens, source=model.encode(batch.source)).flatten(0, 1), batch.targets.flatten()
    )
    assert float(wrong.detach()) * batch.targets.numel() != pytest.approx(total, rel=1e-2), "padding would count"


def test_a_run_that_was_interrupted_ends_with_the_same_weights(table: Path, tmp_path: Path) -> None:
    whole = session_of(table, tmp_path / "a")
    list(train(whole))
    broken = session_of(table, tmp_path / "b")
    list(train(broken, stop_after=2))
    resumed = resume(select(str(broken.run.path), "last"))
    assert resumed.exactness == "exact"
    list(train(resumed))
    for (name, one), (_, other) in zip(whole.model.named_parameters(), resumed.model.named_parameters(), strict=True):
        assert torch.equal(one, other), name


def test_what_is_written_is_scored_and_told(table: Path, tmp_path: Path) -> None:
    session = session_of(table, tmp_path)
    events = [event.to_dict() for event in train(session)]
    last = [line for line in events if line["event"] == "evaluated" and not line["sampled"]][-1]
    assert last["metrics"]["exact"] == 0.0
    assert last["tokens_scored"] == len(session.task.data.validation.targets.ids)  # type: ignore[attr-defined]
    assert {"validation", "train"} == {line["split"] for line in events if line["event"] == "evaluated"}
    assert any(" → " in line["text"] for line in events if line["event"] == "sampled")


def test_a_trained_run_translates_as_its_task_does(table: Path, tmp_path: Path) -> None:
    session = session_of(table, tmp_path)
    list(train(session))
    translator = Translator(load(str(session.run.path)))
    task = session.task
    assert isinstance(task, TranslationTask)
    part = spread(task.data.validation, 3)
    search = Search(beam=2)
    written = write_targets(translator.loaded.model, task.data.tokenizer, part, search)
    found = translator.translate([row.first for row in part.rows], search)
    assert [each.target for each in found] == written
    with pytest.raises(UserError, match="Text 2 is empty"):
        translator.translate(["The fox.", " "], search)
    with pytest.raises(UserError, match="at most 37"):
        translator.translate(["the fox " * 40], search)


def test_another_model_is_refused(table: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="encoder-decoder"):
        create([table], config_of(model=GptConfig(num_layers=1, num_heads=2, width=20)), tmp_path / "run")


def test_too_long_pairs_are_left_out_and_told(table: Path, tmp_path: Path) -> None:
    model = EncoderDecoderConfig(num_encoder_layers=1, num_decoder_layers=1, num_heads=2, width=20, context_length=14)
    said: list[str] = []
    session = create([table], config_of(model=model), tmp_path / "run", notify=said.append)
    assert any("were left out" in sentence for sentence in said)
    assert max(batch.source.shape[1] for batch in session.batches(0)) <= 14
    with pytest.raises(UserError, match="No training pair fits"):
        create(
            [table], config_of(model=EncoderDecoderConfig(width=20, num_heads=2, context_length=2)), tmp_path / "two"
        )
