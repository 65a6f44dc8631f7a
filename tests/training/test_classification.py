"""Runs of a classifier: exactly resumable, scored as by hand, and refused in a sentence."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from clearhead import look
from clearhead.core.config import merge
from clearhead.core.errors import DamagedFile, UserError
from clearhead.core.events import read
from clearhead.core.files import MANIFEST, MANIFEST_FORMAT, manifest, sha256, to_json
from clearhead.core.run import DATA_FILE, Run, Selection
from clearhead.generation.classifier import Classifier, class_nats, encode_rows, groups
from clearhead.generation.writer import Writer
from clearhead.model.encoder import Encoder
from clearhead.model.ensemble import Ensemble
from clearhead.store import checkpoint
from clearhead.store.load import load
from clearhead.text.batches import Batch
from clearhead.text.tales_sentiment import sentiments
from clearhead.training import fit, labelled
from clearhead.training.classification import ClassificationTask, label_loss
from clearhead.training.config import RunConfig, override
from clearhead.training.loop import to_tensors
from clearhead.training.recipes import default_recipe, recipe
from clearhead.training.session import Session
from clearhead.training.table_task import spread
from clearhead.training.task import Further
from clearhead.training.tasks import TASKS

SMALL: dict[str, Any] = {
    "train.threads": 1,
    "train.evaluate_every": 3,
    "train.steps": 7,
    "train.sequences_per_step": 13,
    "train.averaging": 0.9,
    "model.num_layers": 1,
    "model.num_heads": 2,
    "model.width": 12,
    "model.context_length": 31,
    "model.num_members": 1,
}


@pytest.fixture
def table(place: Path) -> Path:
    path = place / "said.tsv"
    path.write_text("text\tlabel\n" + "".join(f"{said.text}\t{said.label}\n" for said in sentiments(211, 1)))
    return path


def small(**changes: Any) -> RunConfig:
    return override(recipe("classify"), {**SMALL, **changes})


def create(table: Path, config: RunConfig | None = None, **keywords: Any) -> Session:
    return fit.create([table], config or small(), **keywords)


def test_a_run_tells_what_a_classifier_is_worth(table: Path) -> None:
    session = create(table)
    events = list(fit.train(session))
    assert [event.name for event in events][-1] == "stopped"
    description = session.run.describe()
    assert (description["task"], description["unit"]) == ("classify", "label")
    assert description["config"]["model"]["num_classes"] == 2
    assert session.run.data()["labels"] == ["bad", "good"]
    lines = read(session.run.path)
    found = {line["name"]: line["values"] for line in lines if line["event"] == "measured"}
    assert set(found["baselines"]) == {"most frequent label", "bag of words"}
    assert "ln 2 = 0.693" in found["preflight"]["sentence"]
    last = [line for line in lines if line["event"] == "evaluated"][-1]
    assert last["tokens_scored"] == session.run.data()["split"]["validation_rows"]
    assert last["metrics"]["accuracy_low"] < last["metrics"]["accuracy"] < last["metrics"]["accuracy_high"]
    assert np.sum(found["confusion"]["counts"]) == last["tokens_scored"]
    assert any(" → " in line["text"] for line in lines if line["event"] == "sampled")


def tensors(run: Run, step: int) -> dict[str, torch.Tensor]:
    stored = checkpoint.load(run, step)
    assert stored.average is not None
    return {**stored.model, **{f"average.{name}": value for name, value in stored.average.items()}}


@pytest.mark.slow
def test_a_run_that_was_stopped_ends_with_the_same_bits(table: Path) -> None:
    config = small(**{"model.dropout": 0.3, "model.num_members": 2, "train.micro_batches": 3})
    whole, parted = create(table, config), create(table, config)
    for _ in fit.train(whole, baselines=False):
        pass
    for _ in fit.train(parted, stop_after=4, baselines=False):
        pass
    resumed = fit.resume(Selection(parted.run, "last"))
    assert (resumed.exactness, resumed.state.step) == ("exact", 4)
    for _ in fit.train(resumed, baselines=False):
        pass
    expected, found = tensors(whole.run, 7), tensors(parted.run, 7)
    assert set(expected) == set(found)
    assert all(torch.equal(expected[name], found[name]) for name in expected)
    other = create(table, merge(config, {"train.seed": 2}))
    for _ in fit.train(other, baselines=False):
        pass
    assert not all(torch.equal(expected[name], value) for name, value in tensors(other.run, 7).items())


def test_a_run_of_several_encoders_chooses_by_all_and_shows_the_first(table: Path) -> None:
    session = create(table, small(**{"model.num_members": 2}))
    for _ in fit.train(session, baselines=False):
        pass
    loaded = load(str(session.run.path))
    assert isinstance(loaded.model, Ensemble)
    texts = ["It was lovely.", "Nobody doubted that it was awful."]
    rows = Classifier(loaded).classify(texts)
    alone = [np.exp(-class_nats(each, encode_rows(texts, loaded.tokenizer, 31))) for each in loaded.model.encoders]
    np.testing.assert_allclose([row.probability for row in rows], np.mean(alone, axis=0).max(axis=1), rtol=1e-5)
    assert "the first of the 2 encoders" in look.attention(loaded, texts[0]).caption
    view = look.parameters(loaded)
    assert view.parameters.sum() == sum(each.numel() for each in loaded.model.parameters())
    assert view.made_of[0] == "2 times:"
    assert "members" not in view.labels["part"]


def test_the_loss_is_that_of_each_text_alone(table: Path) -> None:
    session = create(table)
    model = session.model.eval()
    torch.nn.init.normal_(model.get_submodule("classifier").weight)
    task = session.task
    assert isinstance(task, ClassificationTask)
    [batch] = task.batches(session.config)(0)
    loss = label_loss(model, to_tensors(batch, "cpu"))
    alone = []
    for row, length, target in zip(batch.tokens, batch.lengths, batch.targets, strict=True):
        logits = model(torch.from_numpy(row[None, :length]))
        alone.append(float(F.cross_entropy(logits, torch.tensor([target])).detach()))
    assert loss.weight == len(alone) in (12, 13)
    assert float(loss.total.detach()) == pytest.approx(sum(alone), rel=1e-4)
    blind = label_loss(
        model, replace(to_tensors(batch, "cpu"), lengths=torch.full((len(alone),), batch.tokens.shape[1]))
    )
    assert float(blind.total.detach()) != pytest.approx(sum(alone), rel=1e-4)


def test_micro_batches_see_the_same_texts(table: Path) -> None:
    session = create(table)
    whole = session.task.batches(session.config)(5)
    parts = session.task.batches(merge(session.config, {"train.micro_batches": 4}))(5)
    assert len(parts) == 4
    assert np.concatenate([part.targets for part in parts]).tolist() == whole[0].targets.tolist()
    assert np.concatenate([part.lengths for part in parts]).tolist() == whole[0].lengths.tolist()


def test_rows_are_scored_in_any_company(table: Path) -> None:
    session = create(table)
    torch.nn.init.normal_(session.model.get_submodule("classifier").weight)
    task = session.task
    assert isinstance(task, ClassificationTask)
    part = task.data.training
    together = class_nats(session.model, part.rows)
    for row in (0, 7, 100):
        assert class_nats(session.model, part.rows.take(np.array([row])))[0] == pytest.approx(together[row], abs=1e-5)
    assert np.exp(-together).sum(axis=1) == pytest.approx(np.ones(len(part)))


def test_groups_hold_every_row_and_no_more_tokens_than_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("clearhead.generation.classifier.TOKENS_AT_ONCE", 40)
    lengths = np.array([3, 50, 7, 11, 2, 13, 5])
    order = np.argsort(lengths)
    found = groups(order, lengths)
    assert np.concatenate(found).tolist() == order.tolist()
    assert all(len(rows) * lengths[rows].max() <= 40 or len(rows) == 1 for rows in found)
    assert len(found) < len(lengths)


def test_a_run_on_validation_files_takes_all_rows(table: Path, place: Path) -> None:
    other = place / "other.jsonl"
    other.write_text('{"text": "A fine day.", "label": "good"}\n')
    session = create(table, small(**{"task.validation": [str(other)]}))
    parts = session.run.data()["split"]
    assert (parts["training_rows"], parts["validation_rows"]) == (211, 1)
    other.write_text('{"text": "A fine day.", "label": "fine"}\n')
    with pytest.raises(UserError, match=r'other.jsonl", line 1 has the label .fine., which the training rows'):
        create(table, small(**{"task.validation": [str(other)]}))


def test_changed_rows_are_refused_on_resume(table: Path) -> None:
    session = create(table)
    content = table.read_text()
    table.write_text(content + "One more.\tgood\n")
    with pytest.raises(UserError, match=r"The rows of .* have changed"):
        fit.resume(Selection(session.run, "last"))
    table.write_text(content)
    assert fit.resume(Selection(session.run, "last")).exactness == "exact"


@pytest.mark.parametrize("labels", [None, ["good"], ["good", "bad", "ugly"], [["good"], "bad"]])
def test_labels_that_are_not_those_of_the_classes_are_refused(table: Path, labels: Any) -> None:
    """Whoever changes data.json can make its hash fit."""
    run = create_and_train(table)
    listed = manifest(run.path)
    file = run.path / DATA_FILE
    content = json.loads(file.read_text())
    if labels is None:
        del content["labels"]
    else:
        content["labels"] = labels
    file.write_text(to_json(content))
    listed[DATA_FILE] = {"bytes": file.stat().st_size, "sha256": sha256(file)}
    (run.path / MANIFEST).write_text(to_json({"format": MANIFEST_FORMAT, "files": listed}))
    uses = (
        lambda: Classifier(load(str(run.path))).classify(["x"]),
        lambda: TASKS["classify"].assess(load(str(run.path)), [], Further()),
        lambda: fit.resume(Selection(run, "last")),
    )
    for use in uses:
        with pytest.raises(DamagedFile, match=r"labels|name the classes"):
            use()


def test_a_trained_classifier_chooses_and_is_assessed(table: Path) -> None:
    session = create(table)
    for _ in fit.train(session):
        pass
    loaded = load(str(session.run.path))
    assert isinstance(loaded.model, Encoder)
    classifier = Classifier(loaded)
    texts = ["The cake was good.", "It is not true that the toy boat was nasty."]
    choices = classifier.classify(texts)
    assert [choice.text for choice in choices] == texts
    assert all(sum(choice.probabilities.values()) == pytest.approx(1.0) for choice in choices)
    assert all(choice.probability == max(choice.probabilities.values()) for choice in choices)
    assert classifier.classify(texts[1:])[0].probability == pytest.approx(choices[1].probability, abs=1e-6)
    with pytest.raises(UserError, match="Text 2 is empty"):
        classifier.classify(["x", " "])
    own = TASKS["classify"].assess(loaded, [], Further())
    parts = session.run.data()["split"]
    assert own["tokens_scored"] == parts["validation_rows"]
    assert own["baselines"]["bag of words"]["metrics"]["accuracy"] > 0
    every = TASKS["classify"].assess(loaded, [str(table)], Further())
    assert every["tokens_scored"] == 211
    right = sum(
        c.label == s.label
        for c, s in zip(classifier.classify([s.text for s in sentiments(211, 1)]), sentiments(211, 1), strict=True)
    )
    assert every["metrics"]["accuracy"] == pytest.approx(right / 211)
    with pytest.raises(UserError, match="--stride"):
        TASKS["classify"].assess(loaded, [], Further(stride=2))


def test_each_verb_refuses_the_other_kind_of_run(table: Path, place: Path) -> None:
    loaded = load(str(create_and_train(table).path))
    with pytest.raises(UserError, match=r"was trained with --task classify, so clearhead sample has no use for it"):
        Writer(loaded)
    with pytest.raises(UserError, match=r"clearhead sample said-1 has"):
        Classifier(replace(loaded, description={**loaded.description, "task": "lm"}))


def create_and_train(table: Path) -> Run:
    session = create(table, small(**{"train.steps": 1}))
    for _ in fit.train(session):
        pass
    return session.run


@pytest.mark.parametrize(
    ("content", "changes", "sentence"),
    [
        ("a\tgood\n" * 30, {"task.validation": ["said.tsv"]}, "All 30 training rows have the label good"),
        ("".join(f"a{i}\tb{i}\n" for i in range(40)), {}, "have 36 different labels, such as .*--task.label"),
        (
            "".join(f"a{i}\tb{i % 3}\n" for i in range(40)),
            {"model.num_classes": 2},
            "num_classes = 2, but the rows have 3",
        ),
        ("a\tgood\n" * 5, {}, "There are 5 rows"),
    ],
)
def test_rows_that_cannot_be_learned_from_are_refused(
    place: Path, content: str, changes: dict[str, Any], sentence: str
) -> None:
    (place / "said.tsv").write_text(content)
    with pytest.raises(UserError, match=sentence):
        create(place / "said.tsv", small(**changes))
    assert not (place / "runs").exists()


def test_long_texts_are_cut_and_that_is_said(table: Path) -> None:
    notices: list[str] = []
    create(table, small(**{"model.context_length": 5}), notify=notices.append)
    assert any("fill the context of 5 tokens" in notice for notice in notices)


def test_spread_rows_keep_texts_and_targets_together(table: Path) -> None:
    task = create(table).task
    assert isinstance(task, ClassificationTask)
    part = task.data.training
    some = spread(part, 7)
    assert len(some) == 7
    for place, text in enumerate(some.texts):
        whole = part.texts.index(text)
        assert some.targets[place] == part.targets[whole]
        assert some.rows.padded(np.array([place]))[0].tolist() == part.rows.padded(np.array([whole]))[0].tolist()


def test_without_a_table_the_tales_are_judged(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(labelled, "BUILT_IN_ROWS", 300)
    session = fit.create([], small())
    assert session.run.name == "sentiment-1"
    assert session.run.data()["licence"] == "MIT"
    assert fit.resume(Selection(session.run, "last")).exactness == "exact"


def test_presets_follow_from_the_task() -> None:
    assert default_recipe("lm", named=True) == "modern"
    for named in (False, True):
        assert recipe(default_recipe("classify", named=named)).task.kind == "classify"
    with pytest.raises(UserError, match=r'no task clasify.*Did you mean "classify"'):
        default_recipe("clasify", named=True)


def test_a_batch_has_lengths_where_there_is_padding(table: Path) -> None:
    session = create(table)
    [batch] = session.batches(0)
    assert isinstance(batch, Batch)
    assert batch.tokens.shape[1] == max(batch.lengths)
