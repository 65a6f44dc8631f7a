"""Looking inside by the command line."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from conftest import Terminal

from clearhead.look.catalogue import SUBJECTS


def test_the_subjects_are_listed_with_a_sentence_each(terminal: Terminal) -> None:
    answer = terminal.type("look")
    assert answer.code == 0
    assert all(name in answer.out and about in answer.out for name, about in SUBJECTS.items())
    assert [each["subject"] for each in terminal.type("look", "--json").json] == list(SUBJECTS)


def test_a_head_is_seen_and_written_to_files(terminal: Terminal, trained: str) -> None:
    where = ("look", "attention", trained, "The cat", "--head", "1")
    answer = terminal.type(*where, "--npz", "head.npz", "--html", "head.html")
    assert answer.code == 0
    assert "Head 1 of layer 0" in answer.out
    assert "··T" not in answer.out
    shown = terminal.type(*where, "--json").json
    stored = np.load(terminal.folder / "head.npz", allow_pickle=False)
    np.testing.assert_array_equal(np.array(shown["arrays"]["pattern"]["values"]), stored["pattern"])
    assert shown["labels"]["query"][-3:] == ["c", "a", "t"]
    assert "Head 1 of layer 0" in (terminal.folder / "head.html").read_text()


def test_without_a_prompt_the_validation_text_is_read(terminal: Terminal, trained: str) -> None:
    shown = terminal.type("look", "minisamples", trained, "--json").json
    assert shown["arrays"]["nats"]["shape"] == [16]


def test_mistakes_are_told_in_a_sentence(terminal: Terminal, trained: str) -> None:
    for arguments, said in (
        (("look", "atention", trained), 'Did you mean "attention"?'),
        (("look", "attention"), "needs a RUN"),
        (("look", "attention", trained, "The", "--layer", "5"), "no layer 5"),
        (("look", "minisamples", trained, "The", "--head", "0"), "has no use for --head"),
        (("look", "attention", trained, "The", "--npz", "a.txt"), "call it a.txt.npz"),
    ):
        answer = terminal.type(*arguments)
        assert (answer.code, answer.err.count("\n")) == (2, 1)
        assert said in answer.err


def test_a_run_has_a_diary_and_copies(terminal: Terminal, trained: str) -> None:
    diary = terminal.type("look", "diary", trained, "--json").json
    assert diary["arrays"]["loss"]["shape"] == [len(diary["labels"]["step"])]
    assert all(text for text in diary["arrays"]["written"]["values"])
    copies = terminal.type("look", "copies", trained, "--json").json
    assert "characters" in copies["caption"]
    found = copies["arrays"]
    for words, source in zip(found["words"]["values"], found["source"]["values"], strict=True):
        assert words.lower().removesuffix("…")[:30] in source.lower()


def test_health_reads_the_history_of_a_run(terminal: Terminal, trained: str) -> None:
    checks = terminal.type("look", "health", trained, "--json").json["labels"]["check"]
    assert {"first loss", "overfitting", "finite weights", "vocabulary"} <= set(checks)
