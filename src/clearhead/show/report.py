"""A run as one HTML page, made from run.json, data.json and the events, and nothing else."""

from __future__ import annotations

import math
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from clearhead.core import events as journal
from clearhead.core import run as runs
from clearhead.core.files import write_atomically
from clearhead.core.words import counted
from clearhead.show import about, curves, labels
from clearhead.show.history import Event, History, nats, number
from clearhead.show.page import escape, page
from clearhead.show.readable import count, duration, fixed, one_line, percent, sentence, short_count

_EARLIER_SAMPLES = 6
_ENDINGS = {
    "budget": "plan completed",
    "patience": "no further gain",
    "signal": "stopped early",
    "non_finite": "a non-finite value",
    "error": "an error",
}


def write(run_folder: Path) -> Path:
    """Write `report.html` into a run's folder, anew, and return its path.

    The page is derived: it can be deleted and written again at any time, also while the run is going.

    Raises:
        DamagedFile: run.json is missing or is not one, or a line of the events is damaged.
    """
    run = runs.Run(run_folder)
    known = (runs.runs_folder() / run.name).resolve() == run_folder.resolve()
    page_file = run_folder / "report.html"
    content = render(
        run.describe(),
        journal.read(run_folder),
        run.data() if (run_folder / runs.DATA_FILE).exists() else None,
        reference=run.name if known else str(run_folder),
    )
    write_atomically(page_file, content)
    return page_file


def render(
    run: Mapping[str, Any],
    events: Sequence[Event],
    data: Mapping[str, Any] | None,
    *,
    reference: str | None = None,
) -> str:
    """Return the page of a run as HTML; parts whose facts are not there yet are left out.

    Args:
        run: the content of run.json.
        data: the content of data.json; its `sources` say what was read.
        reference: what the commands at the end call the run; its name if not given.
    """
    history = History(events)
    name = str(run.get("name", "run"))
    body = [
        _header(run, history, data),
        _warnings(history),
        _result(run, history),
        _facts(run, history),
        curves.loss(history),
        curves.by_position(history),
        labels.choices(history),
        curves.dynamics(history),
        _samples(run, history),
        _columns(about.model(run), about.text(history, data) + about.parameters(run, history)),
        _next_steps(run, reference or name, history),
        about.details(run, history),
        f"<footer>Written by Clearhead from this run's events{_until(history)}.</footer>",
    ]
    return page(f"{name} · Clearhead", "\n".join(part for part in body if part))


# The head of the page: what was trained, on what, how long, how good.


def _header(run: Mapping[str, Any], history: History, data: Mapping[str, Any] | None) -> str:
    created = str(run.get("created", ""))[:16].replace("T", " ")
    eyebrow = " · ".join(part for part in ("Clearhead run", created, _status(run, history)) if part)
    return (
        f'<header><p class="eyebrow">{escape(eyebrow)}</p><h1>{escape(run.get("name", "run"))}</h1>'
        f'<p class="lead">{escape(_summary(run, history, data))}</p></header>'
    )


def _status(run: Mapping[str, Any], history: History) -> str:
    if "imported" in run:
        return "imported"
    return f"ended: {_ending(history)}" if history.ending else "no end recorded: still running, or cut off"


def _ending(history: History) -> str:
    """Say how a run ended; a budget that ran out before the plan did was an early stop."""
    reason = str(history.ending.get("reason"))
    return _ENDINGS["signal"] if reason == "budget" and not _done(history) else _ENDINGS.get(reason, reason)


def _done(history: History) -> bool:
    """Whether the run came to the end of its plan."""
    planned, step = history.newest("steps"), history.ending.get("step", 0)
    return history.ending.get("reason") in {"budget", "patience"} and (planned is None or step >= planned)


def _summary(run: Mapping[str, Any], history: History, data: Mapping[str, Any] | None) -> str:
    if "imported" in run:
        return f"{_kind(run)}, imported from a {run['imported']['model_type']} of transformers."
    steps, seconds = history.newest("step"), history.newest("seconds")
    what = f"{_kind(run)}, trained on {_names(data)}"
    if steps and seconds:
        what += f" for {counted(steps, 'step')} in {duration(seconds)}"
    result = history.result()
    if not result:
        return f"{what}."
    said = f"{what}. On text that it was not trained on, its loss is {nats(result):.3f} nats per {_unit(run)}"
    five = nats(history.references().get("5-gram"))
    if five > 0:
        side = "below" if nats(result) < five else "above"
        said += f", {percent(abs(1 - nats(result) / five))} {side} that of a 5-gram model"
    even = nats(history.references().get("even guessing"))
    return f"{said}; guessing evenly costs {even:.3f}." if math.isfinite(even) else f"{said}."


def _kind(run: Mapping[str, Any]) -> str:
    model = run.get("config", {}).get("model", {})
    kind = model.get("kind", "")
    said = "A GPT" if kind == "gpt" else f"A {kind} model" if kind else "A model"
    if total := _num_parameters(run):
        said += f" of {short_count(total)} parameters"
    if model.get("num_layers"):
        heads = f"{counted(model['num_heads'], 'head')}, " if "num_heads" in model else ""
        said += f" ({counted(model['num_layers'], 'layer')}, {heads}width {model.get('width')})"
    return said


def _names(data: Mapping[str, Any] | None) -> str:
    names = [Path(str(source.get("name"))).name for source in (data or {}).get("sources", [])]
    if len(names) > 2:
        return f"{names[0]}, {names[1]} and {len(names) - 2} more"
    return " and ".join(names) or "its text"


def _num_parameters(run: Mapping[str, Any]) -> int:
    """Return the number of parameters, 0 if run.json does not tell."""
    return int(run.get("parameters", {}).get("total", 0))


def _warnings(history: History) -> str:
    """Show each different warning once, and what an unhappy end said."""
    said = [(str(event["message"]), event.get("try")) for event in history.of("warned")]
    stopped = history.ending
    if stopped.get("reason") in {"non_finite", "error"} and stopped.get("message"):
        said.append((str(stopped["message"]), None))
    notes = "".join(
        f'<div class="warning">{escape(sentence(message))}{f" <b>Try:</b> {escape(advice)}" if advice else ""}</div>'
        for message, advice in dict.fromkeys(said)
    )
    return f'<section class="close" aria-label="Warnings">{notes}</section>' if notes else ""


def _result(run: Mapping[str, Any], history: History) -> str:
    result = history.result()
    if not result:
        return ""
    bits = number(result.get("bits_per_byte"))
    bits_line = (
        f'<div class="unit"><b class="numbers">{bits:.3f}</b> bits per byte</div>' if math.isfinite(bits) else ""
    )
    rule = "an estimate during the run" if result.get("sampled") else "the whole validation text"
    note = rule + (f", {counted(result['tokens_scored'], _unit(run))}" if result.get("tokens_scored") else "")
    if math.isfinite(error := number(result.get("standard_error"))):
        note = f"± {error:.3f} nats; {note}"
    return (
        f'<div class="result"><div><div class="big">{nats(result):.3f}</div>'
        f'<div class="unit">nats per {_unit(run)}, validation</div>{bits_line}{_metrics(result)}'
        f'<p class="small note">{escape(note)}</p></div>{_ladder(history, result)}</div>'
    )


def _unit(run: Mapping[str, Any]) -> str:
    """Return what one target of the run is."""
    return str(run.get("unit", "token"))


def _metrics(result: Event) -> str:
    """Return the task's own figures, a line each."""
    metrics = result.get("metrics") or {}
    rows = (f"<b>{fixed(value)}</b> {escape(name.replace('_', ' '))}" for name, value in metrics.items())
    return "".join(f'<div class="unit">{row}</div>' for row in rows)


def _ladder(history: History, result: Event) -> str:
    """Draw the run's loss as a bar among its baselines and its floor, the worst on top."""
    compared = {**history.references(), "this model": result}
    rows = sorted(compared.items(), key=lambda row: -nats(row[1]))
    longest = nats(rows[0][1]) or 1.0  # a text of one repeated character costs nothing at all
    cells = ['<span></span><span></span><span class="head">nats</span><span class="head">bits/byte</span>']
    for name, values in rows:
        ours = " ours" if name == "this model" else ""
        cells.append(
            f'<span class="name{ours}">{escape(name)}</span>'
            f'<span class="bar{ours}" style="width:{100 * nats(values) / longest:.1f}%"></span>'
            f'<span class="number{ours}">{fixed(nats(values))}</span>'
            f'<span class="number{ours}">{fixed(values.get("bits_per_byte"))}</span>'
        )
    return f'<div class="ladder">{"".join(cells)}</div>'


def _facts(run: Mapping[str, Any], history: History) -> str:
    rate = history.series("tokens_per_second")
    planned, best = history.newest("steps"), history.best()
    step = history.newest("step")
    facts = {
        "Steps": step and (f"{count(step)} of {count(planned)}" if planned and planned != step else count(step)),
        "Tokens": history.newest("tokens") and short_count(history.newest("tokens")),
        "Time": history.newest("seconds") and duration(history.newest("seconds")),
        "Tokens per second": np.isfinite(rate).any() and count(float(np.nanmedian(rate))),
        "Parameters": _num_parameters(run) and count(_num_parameters(run)),
        "On training text": history.result("train") and f"{nats(history.result('train')):.3f} nats",
        "Best evaluation": best and f"{nats(best):.3f}, step {count(best['step'])}",
        "Ended": history.ending and _ending(history),
    }
    shown = "".join(f"<div><dt>{term}</dt><dd>{escape(said)}</dd></div>" for term, said in facts.items() if said)
    return f'<dl class="facts">{shown}</dl>' if shown else ""


# What it writes.


def _samples(run: Mapping[str, Any], history: History) -> str:
    by_step: dict[int, list[Event]] = {}
    for event in history.of("sampled"):
        by_step.setdefault(int(event["step"]), []).append(event)
    if not by_step:
        return ""
    steps = sorted(by_step)
    shown = sorted({steps[round(share**2 * (len(steps) - 1))] for share in np.linspace(0, 1, _EARLIER_SAMPLES + 1)})
    rows = [_sample_row(history, step, by_step[step], whole=step == steps[-1]) for step in reversed(shown)]
    said = "The newest, whole; below it, shortened, what came earlier."
    if len(shown) < len(steps):
        said += f" {len(shown)} of {len(steps)} steps shown."
    head = f'<h2>{_use(run).heading}</h2><p class="said">{said}</p>'
    return f'<section>{head}<dl class="samples">{"".join(rows)}</dl></section>'


def _use(run: Mapping[str, Any]) -> about.Use:
    return about.USES[str(run.get("task", "lm"))]


def _sample_row(history: History, step: int, samples: Sequence[Event], *, whole: bool) -> str:
    losses = {int(event["step"]): nats(event) for event in history.evaluations()}
    loss = f"{losses[step]:.3f} nats" if step in losses else ""
    term = f"<dt><b>step {count(step)}</b>{loss}</dt>"
    if not whole:
        return f'{term}<dd><p class="text short" dir="auto">{escape(one_line(samples[0]["text"], 170))}</p></dd>'
    return f'{term}<dd class="whole">{"".join(map(_whole_sample, samples))}</dd>'


def _whole_sample(event: Event) -> str:
    """Return what the model wrote, after the prompt where there was one to see."""
    prompt, text = str(event.get("prompt") or ""), str(event["text"])
    shown = (
        f'<span class="prompt">{escape(prompt)}</span>{escape(text)}' if prompt.strip() else escape(text.strip("\n"))
    )
    return f'<p class="{"text code" if _looks_like_code(text) else "text"}" dir="auto">{shown}</p>'


def _looks_like_code(text: str) -> bool:
    """Whether a text needs a typewriter face: a fifth of its lines are indented."""
    lines = [line for line in text.splitlines() if line.strip()]
    return len(lines) > 2 and sum(line[0] in " \t" for line in lines) * 5 >= len(lines)


def _columns(*sections: str) -> str:
    shown = [section for section in sections if section]
    return f'<section class="columns">{"".join(f"<div>{part}</div>" for part in shown)}</section>' if shown else ""


def _next_steps(described: Mapping[str, Any], reference: str, history: History) -> str:
    run = shlex.quote(reference)
    done, use = _done(history), _use(described)
    last = int(history.newest("step") or 0)
    best = max((int(event["step"]) for event in history.of("saved") if event["best"]), default=None)
    if not done:
        more = ("Go on from the last saved step.", f"clearhead train --resume {run}")
    elif about.is_still_gaining(best, last):
        more = ("Train it for longer.", f"clearhead train --resume {run} --steps {2 * last}")
    else:
        more = ("It stopped gaining before its end. See where.", f"clearhead runs show {run}")
    steps = [
        (use.sentence, f"clearhead {use.command.format(run=run)}"),
        ("Measure it on the whole validation part, beside the baselines.", f"clearhead eval {run}"),
        more,
    ]
    if "imported" in described:
        steps = [steps[0], ("Measure it on a text of yours.", f"clearhead eval {run} my.txt")]
    blocks = "".join(f"<div><p>{said}</p><pre>{escape(command)}</pre></div>" for said, command in steps)
    return f'<section><h2>What to do next</h2><div class="next">{blocks}</div></section>'


def _until(history: History) -> str:
    last = history.newest("time")
    return f" up to {escape(str(last)[:19].replace('T', ' '))} UTC" if last else ""
