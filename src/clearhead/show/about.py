"""What a run was made of: the model, its parameters, the text, the settings, and every number."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from clearhead.core.words import counted
from clearhead.show.history import History, nats, number
from clearhead.show.page import escape
from clearhead.show.readable import byte_size, count, duration, fixed, one_line, percent, sentence


@dataclass(frozen=True, slots=True)
class Use:
    """What a run of some task is good for: a sentence, the verb's arguments, and the heading of its samples."""

    sentence: str
    command: str
    heading: str


USES = {
    "lm": Use("Let it write.", "sample {run} --samples 3", "What it writes"),
    "classify": Use("Let it choose a label.", 'classify {run} "a text of yours"', "What it chooses"),
    "translate": Use("Let it translate.", 'translate {run} "a sentence of yours"', "What it translates"),
}
"""By the task of a run, as run.json names it."""

STILL_GAINING_SHARE = 0.8
"""A run whose best step lies in the last fifth may gain from more steps, and they are suggested."""

_MOST_SOURCES = 12
_FIRST = ("kind", "num_layers", "num_heads", "num_kv_heads", "width", "context_length")
"""The settings that come before the others, which follow in the order of their names."""


def is_still_gaining(best_step: int | None, step: int) -> bool:
    """Say whether a run that is complete may gain from more steps."""
    return best_step is None or best_step > STILL_GAINING_SHARE * step


def model(run: Mapping[str, Any]) -> str:
    """Return the table of the model's settings."""
    settings = run.get("config", {}).get("model", {})
    order = [*(key for key in _FIRST if key in settings), *sorted(settings.keys() - set(_FIRST))]
    rows = [(_term(key), _setting(settings[key])) for key in order if settings[key] is not None]
    if not rows:
        return ""
    body = "".join(f"<tr><th>{escape(term)}</th><td>{escape(said)}</td></tr>" for term, said in rows)
    return f"<section><h2>The model</h2><table><tbody>{body}</tbody></table></section>"


def parameters(run: Mapping[str, Any], history: History) -> str:
    """Return the table of the parameters by role, with bars for their shares."""
    preflight = history.measured("preflight")
    known = (preflight.get("parameters"), preflight.get("by_role"), run.get("parameters"))
    given: Mapping[str, Any] = next((each for each in known if isinstance(each, Mapping)), {})
    groups = {name: value for name, value in given.items() if name != "total" and number(value) > 0}
    if not groups:
        return ""
    total = sum(groups.values())
    rows = "".join(
        f'<tr><th>{escape(_term(name))}</th><td class="share"><div style="width:{100 * size / total:.1f}%"></div></td>'
        f'<td class="number">{count(size)}</td><td class="number">{percent(size / total, 1)}</td></tr>'
        for name, size in groups.items()
    )
    return f"<section><h2>Parameters</h2><table><tbody>{rows}</tbody></table></section>"


def _term(key: str) -> str:
    return key.removeprefix("num_").replace("_", " ").replace("kv ", "key/value ")


def _setting(value: object) -> str:
    """Say a setting's value in words: a part is named by its kind, its own settings after it."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, Mapping):
        own = [f"{_term(key)} {_setting(each)}" for key, each in value.items() if key != "kind" and each is not None]
        return ", ".join([str(value.get("kind", "")).replace("_", " "), *own])
    return f"{value:,.6g}" if isinstance(value, int | float) else str(value).replace("_", " ")


def text(history: History, data: Mapping[str, Any] | None) -> str:
    """Return what was read, how it was split, and how much of the validation part stands in the training part too."""
    parts = []
    sources = (data or {}).get("sources", [])
    if sources:
        rows = "".join(map(_source, sources[:_MOST_SOURCES]))
        more = f'<p class="small">and {len(sources) - _MOST_SOURCES} more</p>' if len(sources) > _MOST_SOURCES else ""
        parts.append(f"<table><tbody>{rows}</tbody></table>{more}")
    split = (data or {}).get("split")
    if isinstance(split, Mapping):
        split = split.get("description")
    if split:
        parts.append(f'<p class="small">{escape(sentence(split[:1].upper() + split[1:]))}</p>')
    parts.append(_overlap(history.measured("overlap")))
    content = "".join(parts)
    return f"<section><h2>The text</h2>{content}</section>" if content else ""


def _source(source: Mapping[str, Any]) -> str:
    return (
        f'<tr><td>{escape(source.get("name"))}<br><span class="small">{escape(_source_notes(source))}</span></td>'
        f'<td class="number">{escape(byte_size(source.get("bytes", 0)))}</td></tr>'
    )


def _source_notes(source: Mapping[str, Any]) -> str:
    notes = []
    if number(source.get("documents")) > 1:
        notes.append(counted(source["documents"], "document"))
    if source.get("characters"):
        notes.append(counted(source["characters"], "character"))
    notes += [str(source["encoding"])] if source.get("encoding") else []
    return ", ".join(notes + [str(note) for note in source.get("notes") or ()])


def _overlap(values: Mapping[str, Any]) -> str:
    share = number(values.get("share"))
    if not math.isfinite(share):
        return ""
    amount = percent(share, 1) if share else "Nothing"
    said = f"{amount} of the validation text stands in a stretch that also occurs in the training text"
    longest = [one_line(str(each), 160) for each in values.get("longest") or ()][:3]
    quotes = "".join(f'<blockquote class="text short">{escape(each)}</blockquote>' for each in longest)
    return f'<p class="apart">{said}{"; the longest:" if quotes else "."}</p>{quotes}'


def details(run: Mapping[str, Any], history: History) -> str:
    """Return, folded, every evaluation and all settings: the numbers behind the pictures."""
    parts = [_evaluation_table(history)]
    if run.get("config"):
        parts.append(_folded("Settings", f"<pre>{escape(toml(run['config']))}</pre>"))
    rest = {key: run[key] for key in ("command", "runtime", "tokenizer", "versions", "machine") if run.get(key)}
    preflight = history.measured("preflight")
    if preflight:
        parts.append(_folded("Measured before the first step", f"<pre>{escape(toml(preflight))}</pre>"))
    if rest:
        parts.append(_folded("Command, versions and machine", f"<pre>{escape(toml(rest))}</pre>"))
    shown = "".join(part for part in parts if part)
    return f'<section class="folded"><h2>Everything else</h2>{shown}</section>' if shown else ""


def _folded(title: str, content: str) -> str:
    return f"<details><summary>{title}</summary><div>{content}</div></details>"


def _evaluation_table(history: History) -> str:
    train = {int(event["step"]): event for event in history.evaluations("train")}
    rows = []
    for event in history.evaluations():
        step = int(event["step"])
        cells = (
            count(step),
            duration(number(event.get("seconds", 0))),
            fixed(nats(train.get(step))),
            fixed(nats(event)),
            fixed(event.get("bits_per_byte")),
            count(event.get("tokens_scored") or 0),
        )
        rows.append("<tr>" + "".join(f'<td class="number">{cell}</td>' for cell in cells) + "</tr>")
    if not rows:
        return ""
    titles = ("step", "time", "train nats", "validation nats", "bits per byte", "tokens scored")
    head = "".join(f'<th class="number">{title}</th>' for title in titles)
    return _folded("Every evaluation", f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(rows)}</tbody></table>")


def toml(values: Mapping[str, Any], prefix: str = "") -> str:
    """Return nested settings as TOML; what is not set (None) is said in a comment."""
    lines = []
    for key, value in values.items():
        if not isinstance(value, Mapping):
            said = json.dumps(value, ensure_ascii=False)
            lines.append(f"# {key} is not set" if value is None else f"{key} = {said}")
    text = "\n".join(lines)
    for key, value in values.items():
        if isinstance(value, Mapping):
            text += f"\n\n[{prefix}{key}]\n{toml(value, f'{prefix}{key}.')}"
    return text.strip("\n")
