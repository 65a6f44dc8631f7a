"""The page of a run."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from clearhead.core.errors import DamagedFile
from clearhead.core.events import Journal, Sampled, Stepped
from clearhead.core.files import to_json, write_atomically
from clearhead.show import about, report

MakeRun = Callable[..., tuple[dict[str, Any], list[dict[str, Any]], dict[str, Any]]]
VOID = {"meta", "br"}
SECTIONS = {"html", "head", "title", "style", "body", "main", "header", "section", "footer", "details", "summary"}
WORDS = {"div", "span", "p", "h1", "h2", "h3", "b", "dl", "dt", "dd", "pre", "blockquote", "figure", "figcaption"}
PICTURES = {"table", "thead", "tbody", "tr", "th", "td", "svg", "line", "path", "text", "tspan", "circle"}
HARMLESS = {"meta", "br"} | SECTIONS | WORDS | PICTURES


class _Reader(HTMLParser):
    """Collects what a browser would see, and refuses a page that is not well formed or not self-contained."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.text = ""
        self._open: list[str] = []
        self.feed(page)
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert tag in HARMLESS, f"<{tag}> has no place in a report"
        for name, value in attrs:
            assert not name.startswith("on"), f"{name} would run a script"
            assert name not in {"src", "href", "srcset", "data"}, f"{name}={value} would fetch something"
        if tag not in VOID:
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "style" not in self._open:
            self.text += data


def test_a_finished_run_shows_its_numbers(make_run: MakeRun) -> None:
    text = _Reader(report.render(*make_run())).text
    for said in ("1.914", "nats per token", "2.761", "± 0.011", "111,539", "poem.txt", "9,001", "plan completed"):
        assert said in text
    for name, loss in [("even guessing", "4.174"), ("unigram", "3.347"), ("5-gram", "1.761"), ("floor", "0.612")]:
        assert f"{name}{loss}" in text.replace(" ", "").replace("evenguessing", "even guessing")
    assert "9\u00a0% above that of a 5-gram model" in text
    assert "What step is <b>37</b> & why?" in text
    assert "Some of it was seen. Try: clearhead eval" in text
    assert "bigram at step 22" in text
    assert "for 43\u00a0% of the targets the story began before the window" in text


def test_a_text_without_surprise_divides_by_nothing(make_run: MakeRun) -> None:
    run, events, data = make_run()
    for event in events:
        for values in (event, *event.get("values", {}).values()):
            if isinstance(values, dict) and "nats_per_token" in values:
                values["nats_per_token"] = 0.0
    events = [event for event in events if event.get("name") not in {"preflight", "floor"}]
    text = _Reader(report.render(run, events, data)).text
    assert "its loss is 0.000 nats per token." in text
    assert "that of a 5-gram model" not in text


def test_a_model_without_heads_has_none(make_run: MakeRun) -> None:
    run, events, data = make_run()
    run["config"]["model"] = {"kind": "lstm", "num_layers": 1, "width": 26, "context_length": 13}
    assert "(1 layer, width 26)" in _Reader(report.render(run, events, data)).text


def test_the_model_is_told_by_its_size_first(make_run: MakeRun) -> None:
    run, events, data = make_run()
    run["config"]["model"] = dict(sorted(run["config"]["model"].items()))
    text = _Reader(report.render(run, events, data)).text
    places = [text.index(said) for said in ("kindgpt", "layers3", "width26", "biasno", "positionsrotary, base 10,000")]
    assert places == sorted(places)
    assert "key/value heads" not in text


def test_the_commands_at_the_end_can_be_pasted(make_run: MakeRun) -> None:
    text = _Reader(report.render(*make_run(), reference="/tmp/my runs/a")).text
    assert "clearhead sample '/tmp/my runs/a'" in text
    assert "clearhead train --resume '/tmp/my runs/a' --steps 74" in text


def test_a_run_that_stopped_gaining_is_not_to_be_trained_for_longer(make_run: MakeRun) -> None:
    run, events, data = make_run(steps=101)
    assert "Train it for longer." in _Reader(report.render(run, events, data)).text
    early = [event | {"best": event["step"] < 50} if event["event"] == "saved" else event for event in events]
    text = _Reader(report.render(run, early, data)).text
    assert "Train it for longer." not in text
    assert "It stopped gaining before its end. See where.clearhead runs show poem-1" in text


def test_a_live_run_says_so_and_how_far_it_is(make_run: MakeRun) -> None:
    run, events, data = make_run(steps=101, until=23, reason=None)
    text = _Reader(report.render(run, events, data)).text
    assert "still running, or cut off" in text
    assert "23 of 101" in text
    assert "an estimate during the run" in text
    assert "clearhead train --resume poem-1" in text
    assert "--steps 46" not in text


def test_a_run_that_was_stopped_before_its_plan_goes_on_where_it_is(make_run: MakeRun) -> None:
    text = _Reader(report.render(*make_run(steps=101, until=23, reason="budget"))).text
    assert "ended: stopped early" in text
    assert text.count("clearhead train --resume poem-1\n") or "--resume poem-1Everything" in text


def test_a_run_that_broke_says_why(make_run: MakeRun) -> None:
    run, events, data = make_run(reason="non_finite")
    events.insert(-1, {**events[-3], "event": "stepped", "loss": None, "grad_norm": None})
    text = _Reader(report.render(run, events, data)).text
    assert "Loss of step 37 is not finite." in text
    assert "nan" not in text


@pytest.mark.parametrize("kept", range(0, 60, 3))
def test_every_beginning_of_a_run_makes_a_page(make_run: MakeRun, kept: int) -> None:
    run, events, _ = make_run()
    assert "poem-1" in _Reader(report.render(run, events[:kept], None)).text
    assert "nan" not in report.render({"name": "x"}, events[:kept], {}).split("</style>")[1]


def test_a_lossy_tokenizer_has_no_bits_per_byte(make_run: MakeRun) -> None:
    run, events, data = make_run()
    lossy = [event | {"bits_per_byte": None} if event["event"] == "evaluated" else event for event in events]
    assert "2.761" not in _Reader(report.render(run, lossy, data)).text


def test_nothing_that_a_text_or_a_model_wrote_becomes_markup(make_run: MakeRun) -> None:
    evil = '</pre><script>alert(1)</script><img src="http://x" onerror=alert(1)>"\'&\x00\ud800'
    run, events, data = make_run()
    run |= {"name": evil, "command": evil, "config": {"model": {"kind": evil, evil: evil}, "seed": evil}}
    data["sources"][0] |= {"name": evil, "encoding": evil, "notes": [evil]}
    for event in events:
        for key in {"prompt", "text", "message", "try", "time"} & event.keys():
            event[key] = evil
        if event.get("name") == "overlap":
            event["values"] = {"share": 0.5, "longest": [evil]}
        if event.get("name") == "preflight":
            event["values"] = {"sentence": evil, "parameters": {evil: 7}}
        if event.get("name") == "baselines":
            event["values"] = {evil: {"nats_per_token": 3.0}}
    page = report.render(run, events, data)
    assert "<script>alert(1)</script>" in _Reader(page).text
    page.encode("utf-8")
    with pytest.raises(AssertionError, match="script"):
        _Reader(page.replace("&lt;script&gt;", "<script>"))  # a twin that does not escape


def test_the_policy_forbids_scripts_and_fetching(make_run: MakeRun) -> None:
    page = report.render(*make_run())
    assert "default-src 'none'" in page
    assert "script-src" not in page
    assert re.search("url\\(|@import|https?:", page) is None


def test_a_long_run_makes_a_small_page(make_run: MakeRun) -> None:
    assert len(report.render(*make_run(steps=5003))) < 250_000


def test_samples_are_thinned_and_code_keeps_its_columns(make_run: MakeRun) -> None:
    run, events, data = make_run(steps=220)
    code = "def f(x):\n    if x:\n        return 1\n    return 2\n"
    latest = max(event["step"] for event in events)
    events.append({"event": "sampled", "step": latest, "prompt": "", "text": code, "seed": 2})
    page = report.render(run, events, data)
    assert 'class="text code"' in page
    assert code.strip("\n") in page
    assert "7 of 20 steps shown" in page


def test_write_puts_a_page_beside_the_run(make_run: MakeRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run, _, data = make_run()
    folder = tmp_path / "runs" / "poem-1"
    folder.mkdir(parents=True)
    with pytest.raises(DamagedFile):
        report.write(folder)
    write_atomically(folder / "run.json", to_json(run))
    write_atomically(folder / "data.json", to_json(data))
    journal = Journal(folder)
    at = {"tokens": 3, "seconds": 1.0}
    for step in (1, 2, 3):
        rates = {"learning_rate": 0.1, "grad_norm": 1.0, "tokens_per_second": 3.0}
        journal.write(Stepped(step=step, loss=4.0 / step, **rates, **at))
    journal.write(Sampled(step=3, prompt="", text="Đêm xuống.", seed=1, **at))
    journal.close()
    monkeypatch.chdir(tmp_path)
    path = report.write(folder)
    first = path.read_bytes()
    assert path == folder / "report.html"
    assert "Đêm xuống." in first.decode()
    assert "clearhead sample poem-1" in first.decode()
    assert report.write(folder).read_bytes() == first
    monkeypatch.chdir(folder)
    assert f"clearhead sample {folder}" in report.write(folder).read_text()


def test_settings_are_toml_again() -> None:
    settings = {
        "seed": 7,
        "model": {"kind": "gpt", "bias": False, "positions": {"kind": "rotary", "base": 1e4}},
        "x": [1],
    }
    assert tomllib.loads(about.toml(settings)) == settings
    assert about.toml({"a": None, "b": {"c": None}}) == "# a is not set\n\n[b]\n# c is not set"
