"""How fast the page answers, and what watching costs a training: `python benchmarks/inside.py RUN [--repetitions 5]`.

RUN is a trained decoder whose context is at least 256; the trainings that are timed are of its first text. It needs
Chromium, two cores, and nothing else running; with five repetitions about eight minutes. Figures are printed as a
table and added to benchmarks/INSIDE.json, the machine and the commit with them.

- click to picture: from a click on a head that was not looked at before to the frame that shows its picture, in
  Chromium, reading 256 tokens.
- first paint: from the request to Chromium's first contentful paint.
- server ready: from starting the process to its first answer.
- probes and events: the same training with every event written and a probe that records all attention of 64 tokens
  twenty times, against one without either; then with the page open on it. The three follow each other, each time in
  another order, after one that only warms up.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
RECORD = HERE / "INSIDE.json"
PORT = 8443
ADDRESS = f"http://127.0.0.1:{PORT}"
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(HERE.parent / "src")}
TOKENS = 256
CLICKS = 36
LIMITS = {
    "click to picture, ms": 100,
    "first paint, ms": 2000,
    "server ready, s": 4,
    "probes and events, %": 2,
    "with the page open, %": 10,
}

CLICK = """([layer, head]) => new Promise((done) => {
  const picture = document.querySelector('.pictures'), before = performance.now();
  new MutationObserver((_, watcher) => {
    const image = picture.querySelector('image.cells');
    if (!image) return;
    watcher.disconnect();
    const shown = new Image();
    shown.src = image.getAttribute('href');
    const end = () => done(performance.now() - before);
    shown.decode().then(() => requestAnimationFrame(() => requestAnimationFrame(end)));
  }).observe(picture, { childList: true, subtree: true });
  document.querySelector(`[data-testid=head-${layer}-${head}]`).click();
})"""

TRAINING = """
import sys, time
import clearhead, torch
from clearhead.core import events
from clearhead.look.recording import trace
from clearhead.training import fit
watched, text, run, steps, threads = sys.argv[1] == "watched", *sys.argv[2:]
marks, build, write = [], fit.build_hooks, events.Journal.write
due = range(0, int(steps), max(1, int(steps) // 20))

def hooks(session, *others):
    made = build(session, *others)
    tokens = torch.arange(64)[None] % session.task.data.tokenizer.vocabulary_size
    def probe(state):
        if state.step in due:
            trace(session.model, tokens, ("blocks.*.attn.pattern",))
        return iter(())
    return fit.dataclasses.replace(made, probes=(probe,)) if watched else made

def timed(self, event):
    if isinstance(event, events.Stepped):
        marks.append(time.perf_counter())
    return write(self, event) if watched or not isinstance(event, events.Stepped) else {}

fit.build_hooks, events.Journal.write = hooks, timed
clearhead.train(text, run=run, preset="tiny", train__steps=int(steps), train__threads=int(threads))
print(marks[-1] - marks[0])
"""


def main() -> None:
    """Measure, print and record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--steps", type=int, default=400, help="of each timed training")
    parser.add_argument("--threads", type=int, default=1, help="of each timed training")
    parser.add_argument("--part", choices=("page", "training"), help="measure this alone")
    args = parser.parse_args()
    run = args.run.resolve()
    prompt = " ".join(text_of(run).split())[: 2 * TOKENS]
    figures: dict[str, list[float]] = {}
    with chromium() as browser:
        if args.part != "training":
            pages(browser, run, prompt, args.repetitions, figures)
        if args.part != "page":
            with tempfile.TemporaryDirectory() as folder:
                costs(browser, Path(folder), text_of(run), args, figures)
    show(figures)
    keep(figures, vars(args) | {"run": run.name})


def pages(browser: Any, run: Path, prompt: str, repetitions: int, figures: dict[str, list[float]]) -> None:
    """Time the server's start, the first paint, and clicks on heads."""
    for _ in range(repetitions):
        with served(run.parent, figures):
            figures.setdefault("first paint, ms", []).append(first_paint(browser, run.name))
    with served(run.parent, figures):
        figures["click to picture, ms"] = clicks(browser, run.name, prompt)


def text_of(run: Path) -> str:
    """Return what a run's validation part says, which is a text of the kind that it knows."""
    import numpy as np

    from clearhead.store.load import load

    ids = np.fromfile(run / "validation.bin", dtype="<i4")
    return load(str(run)).tokenizer.decode(ids)


@contextmanager
def chromium() -> Iterator[Any]:
    """Open Chromium."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        yield browser
        browser.close()


@contextmanager
def served(folder: Path, figures: dict[str, list[float]]) -> Iterator[None]:
    """Serve the page of a folder; how long it took to answer is one of the figures."""
    command = [sys.executable, "-m", "clearhead", "ui", str(folder), "--no-open", "--port", str(PORT)]
    began = time.perf_counter()
    process = subprocess.Popen(command, env=ENVIRONMENT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        while not answers():
            time.sleep(0.01)
        figures.setdefault("server ready, s", []).append(time.perf_counter() - began)
        yield
    finally:
        process.terminate()
        process.wait(20)


def answers() -> bool:
    """Whether the server is there."""
    try:
        urllib.request.urlopen(f"{ADDRESS}/train", timeout=5).close()
    except OSError:
        return False
    return True


def first_paint(browser: Any, run: str) -> float:
    """Return the milliseconds to the first contentful paint of Inside, nothing cached."""
    page = browser.new_page()
    page.goto(f"{ADDRESS}/inside?run={run}")
    page.wait_for_function("performance.getEntriesByName('first-contentful-paint').length")
    painted: float = page.evaluate("performance.getEntriesByName('first-contentful-paint')[0].startTime")
    page.close()
    return painted


def clicks(browser: Any, run: str, prompt: str) -> list[float]:
    """Return the milliseconds from a click on each head to its picture."""
    page = browser.new_page(viewport={"width": 1400, "height": 900})
    page.goto(f"{ADDRESS}/inside?run={run}&prompt={prompt}&layer=0&head=0")
    page.wait_for_selector("image.cells")
    places = page.locator("image.cells").first.get_attribute("data-rows")
    if int(places) < TOKENS:
        raise SystemExit(f"The model reads {places} tokens; give a run whose context is at least {TOKENS}.")
    heads = page.eval_on_selector_all(
        ".head-grid button", "all => all.map(each => each.dataset.i.split(',').map(Number))"
    )
    found: list[float] = []
    for head in heads[1 : CLICKS + 1]:
        found.append(page.evaluate(CLICK, head))
        page.wait_for_timeout(150)
    page.close()
    return found


def costs(browser: Any, folder: Path, text: str, args: argparse.Namespace, figures: dict[str, list[float]]) -> None:
    """Time trainings bare, watched, and with the page open, each time in another order, and compare the three."""
    source = folder / "text.txt"
    source.write_text(text)
    runs = folder / "runs"
    runs.mkdir()
    ways = [("bare", None), ("watched", None), ("seen", browser)]
    with served(runs, {}):
        trained("bare", source, runs / "warm-up", args)
        for at in range(args.repetitions):
            seconds = {}
            for name, opened in ways[at % 3 :] + ways[: at % 3]:
                how = "bare" if name == "bare" else "watched"
                seconds[name] = trained(how, source, runs / f"{name}-{at}", args, opened)
            figures.setdefault("probes and events, %", []).append(100 * (seconds["watched"] / seconds["bare"] - 1))
            figures.setdefault("with the page open, %", []).append(100 * (seconds["seen"] / seconds["bare"] - 1))


def trained(how: str, text: Path, run: Path, args: argparse.Namespace, browser: Any = None) -> float:
    """Return the seconds between the first and the last step of a training, with the page open on it or not."""
    command = [sys.executable, "-c", TRAINING, how, str(text), str(run), str(args.steps), str(args.threads)]
    process = subprocess.Popen(command, env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    page = browser.new_page() if browser else None
    while page and process.poll() is None and not (run / "run.json").exists():
        time.sleep(0.05)
    if page:
        page.goto(f"{ADDRESS}/train?run={run.name}")
    while process.poll() is None:
        page.wait_for_timeout(100) if page else time.sleep(0.1)
    if page:
        page.close()
    said, complaint = process.communicate()
    if process.returncode:
        raise SystemExit(complaint)
    return float(said.split()[-1])


def show(figures: dict[str, list[float]]) -> None:
    """Print the medians beside their limits."""
    print(f"{'':26}{'median':>9}{'least':>9}{'most':>9}{'limit':>8}")
    for name, found in figures.items():
        limit = LIMITS[name]
        print(f"{name:26}{statistics.median(found):9.2f}{min(found):9.2f}{max(found):9.2f}{limit:8}")


def keep(figures: dict[str, list[float]], asked: dict[str, Any]) -> None:
    """Add the figures to the record."""
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False, cwd=HERE
    )
    entry = {
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": commit.stdout.strip(),
        "machine": {"processor": platform.processor() or platform.machine(), "cores": os.cpu_count()},
        "asked": asked,
        "medians": {name: round(statistics.median(found), 3) for name, found in figures.items()},
        "all": {name: [round(each, 3) for each in found] for name, found in figures.items()},
    }
    before = json.loads(RECORD.read_text()) if RECORD.exists() else []
    RECORD.write_text(json.dumps([*before, entry], indent=1) + "\n")


if __name__ == "__main__":
    main()
