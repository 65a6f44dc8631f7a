"""Studies from the command line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from clearhead.lab.catalogue import STUDIES

SMALL = [
    *("--model.num_layers", "1", "--model.num_heads", "2", "--model.width", "16", "--model.context_length", "11"),
    *("--train.threads", "1", "--train.sequences_per_step", "5", "--train.sample_tokens", "3"),
]


def test_the_questions_are_listed(terminal: Any) -> None:
    assert [each["study"] for each in terminal.do("lab", "list", "--json").json] == list(STUDIES)
    assert "query, key and value" in terminal.do("lab", "list").out


def test_a_study_trains_prints_its_table_and_goes_on(terminal: Any) -> None:
    text = terminal.write("my.txt", "".join(f"The hen had {i * i % 97} eggs.\n" for i in range(150)))
    command = ("lab", "run", "projection", text, "--seeds", "2", "--steps", "2", *SMALL)
    answer = terminal.do(*command)
    assert answer.err.count("nats per token after 2 steps") == 4
    for word in ("with", "without", "5-gram counts", "95 % interval", "report.html"):
        assert word in answer.out
    stored = terminal.do(*command, "--json").json
    assert Path(stored["folder"]).joinpath("report.html").exists()
    assert [row[""] for row in stored["rows"][:2]] == ["with", "without"]
    quiet = terminal.do(*command, "--quiet")
    assert (quiet.out.strip(), quiet.err) == (stored["folder"], "")


def test_mistakes_get_a_sentence(terminal: Any) -> None:
    text = terminal.write("my.txt", "some words to read\n" * 50)
    assert 'Did you mean "norms"' in terminal.refused("lab", "run", "norm", text)
    assert "give one of them" in terminal.refused("lab", "run", "norms", text, "--steps", "2", "--minutes", "1")
    assert "must be above 0" in terminal.refused("lab", "run", "norms", text, "--minutes", "-1")
    assert "There is no model.widht" in terminal.refused("lab", "run", "norms", text, "--model.widht", "8")
