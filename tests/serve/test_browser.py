"""The page in a browser: every screen opens, is used by mouse and keys, and shows the library's numbers.

Where no Chromium is installed these tests are skipped, unless CLEARHEAD_BROWSER=1 asks for them, as `.ci/run` does
where there is one.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import clearhead
from clearhead import look
from clearhead.core.events import read
from clearhead.core.run import Run
from clearhead.look.catalogue import SUBJECTS

CACHED = sorted(Path("~/.cache/ms-playwright").expanduser().glob("chromium-*/*/chrome"))
CHROMIUM = shutil.which("chromium") or next(map(str, reversed(CACHED)), None)
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not CHROMIUM and os.environ.get("CLEARHEAD_BROWSER") != "1", reason="there is no Chromium"),
    # Playwright's own loop and sockets are closed by the interpreter.
    pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning"),
]
SAYS = "said => document.querySelector('[data-testid=caption]')?.innerText?.startsWith(said)"
DROPPED = """text => {
  const data = new DataTransfer();
  data.items.add(new File([text], 'text.txt', {type: 'text/plain'}));
  return data;
}"""
NEEDED = ("patch", "compare")  # which begin with a question back
PORT = 8437 + int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))  # each worker has its own server
HERE = f"http://127.0.0.1:{PORT}"


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs")
    text = folder.parent / "text.txt"
    text.write_text("the cat sat on the mat and the dog sat on the log. " * 200)
    for name, width in (("first", 32), ("second", 16)):
        small = {"model__width": width, "model__context_length": 32, "train__steps": 12, "train__threads": 1}
        clearhead.train(text, preset="lecture", run=folder / name, **small)
    return folder


@pytest.fixture(scope="module")
def server(runs: Path) -> Iterator[str]:
    command = [sys.executable, "-m", "clearhead", "ui", str(runs), "--no-open", "--port", str(PORT)]
    # NiceGUI serves nothing where it finds itself in a test.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST")}
    environment["CLEARHEAD_CACHE"] = str(runs.parent / "cache")
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment)
    try:
        wait_for_answer()
        yield HERE
    finally:
        process.terminate()
        process.wait(20)


def wait_for_answer() -> None:
    until = time.monotonic() + 60
    while time.monotonic() < until:
        try:
            urllib.request.urlopen(f"{HERE}/runs", timeout=1).close()
            return
        except OSError:
            time.sleep(0.1)
    raise AssertionError("the server did not start")


def test_a_number_that_is_none_is_said_in_a_sentence(server: str) -> None:
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(f"{server}/inside?layer=first&head=two")
    with refused.value as answer:
        assert answer.status == 422
        assert answer.read().decode() == "The address says layer=first and head=two, where a number belongs."


@pytest.fixture(scope="module")
def window() -> Iterator[Any]:
    """A browser that keeps what it has loaded from one test to the next."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser.new_context(viewport={"width": 1400, "height": 900})
        browser.close()


@pytest.fixture
def page(window: Any, server: str) -> Iterator[Any]:
    """A page that fails the test when it asks anywhere else for anything, or when its scripts fail."""
    opened = window.new_page()
    opened.set_default_timeout(90_000)
    troubles: list[str] = []
    opened.on("request", lambda asked: ours(asked.url) or troubles.append(asked.url))
    opened.on("pageerror", lambda error: troubles.append(str(error)))
    yield opened
    opened.close()
    assert troubles == []


def ours(url: str) -> bool:
    return url.startswith((HERE, HERE.replace("http", "ws"), "data:", "blob:"))


STATES = [
    "/train",
    "/train?run=first",
    "/write",
    "/write?run=first&prompt=the+cat",
    "/inside",
    "/inside?run=first&prompt=the+cat",
    "/inside?run=first&subject=embeddings",
    "/inside?run=first&subject=lens&prompt=the+cat",
    "/inside?run=first&subject=next-token&prompt=the+cat&top_k=3",
    "/compare",
    "/compare?left=first&right=second",
    "/runs",
]


def test_everything_has_a_purpose_and_a_name_can_be_read_and_is_reached_in_order(page: Any) -> None:
    """Contrast as WCAG 2.2 computes it, at least 4.5 to 1, or 3 to 1 for large text."""
    measure = (Path(__file__).parent / "accessibility.js").read_text()
    page.goto(f"{HERE}/runs")
    page.evaluate("document.body.insertAdjacentHTML('beforeend', '<p style=\"color:#888;background:#999\">pale</p>')")
    assert [each.split()[1] for each in page.evaluate(measure)["pale"]] == ["pale"]
    for state in STATES:
        page.goto(f"{HERE}{state}")
        page.wait_for_selector("h1")
        screen = page.inner_text("h1")
        assert len(page.inner_text(".purpose")) > 40
        assert page.get_attribute("nav a[aria-current=page]", "href") == f"/{screen.lower()}" == state.split("?")[0]
        assert page.locator(".trouble").count() == 0
        for scheme in ("light", "dark"):
            page.emulate_media(color_scheme=scheme)
            page.wait_for_function(f"document.body.classList.contains('body--{scheme}')")
            page.wait_for_timeout(500)
            assert page.evaluate(measure) == {
                "pale": [],
                "unnamed": [],
                "pictures": [],
                "jumps": [],
                "title": f"{screen} · Clearhead",
                "language": "en",
                "headings": True,
                "overflow": 0,
            }, (state, scheme)


def test_every_subject_is_seen(page: Any) -> None:
    page.goto(f"{HERE}/inside?run=first")
    offered = page.locator(".subjects a").all_inner_texts()
    assert sorted(offered) == sorted(SUBJECTS)
    for subject in offered:
        page.goto(f"{HERE}/inside?run=first&subject={subject}&words=c+-+a+%2B+t")
        page.wait_for_selector(".picture, .trouble")
        assert page.inner_text(".inspection > div .said") == SUBJECTS[subject]
        if subject not in NEEDED:
            assert page.locator(".trouble").count() == 0, subject
            assert len(page.inner_text("[data-testid=caption]")) > 20


def test_a_subject_is_asked_more(page: Any, runs: Path) -> None:
    page.goto(f"{HERE}/inside?run=first&subject=next-token&prompt=the+cat")
    page.wait_for_selector(".picture")
    page.fill("[data-testid=option-top_k]", "2")
    page.wait_for_url(re.compile("top_k=2"))
    caption = look.next_token(clearhead.load(runs / "first"), "the cat", top_k=2).caption
    page.wait_for_function("said => document.querySelector('[data-testid=caption]')?.innerText === said", arg=caption)
    page.fill("[data-testid=option-top_k]", "two")
    page.wait_for_selector(".trouble")


def test_a_newcomer_comes_from_the_training_to_one_head_in_words(page: Any) -> None:
    page.goto(f"{HERE}/train?run=first")
    page.click("[data-testid=head-1-2]")
    page.wait_for_url(re.compile("/inside.*layer=1&head=2"))
    page.wait_for_function(
        "document.querySelector('[data-testid=caption]')?.innerText?.startsWith('Head 2 of layer 1 takes')"
    )
    page.click("text=what it looks for and says")
    page.wait_for_url(re.compile("subject=head-card&layer=1&head=2"))
    page.wait_for_function("document.querySelector('[data-testid=caption]')?.innerText?.includes('looks most for')")


def test_a_prompt_is_reached_by_a_key_and_read_while_it_is_written(page: Any, runs: Path) -> None:
    page.goto(f"{HERE}/inside?run=first&subject=surprisal&prompt=the+cat")
    page.wait_for_selector(".picture")
    page.keyboard.press("/")
    page.keyboard.press("End")
    page.keyboard.type(" sat")
    caption = look.surprisal(clearhead.load(runs / "first"), "the cat sat").caption
    page.wait_for_function("said => document.querySelector('[data-testid=caption]')?.innerText === said", arg=caption)
    page.wait_for_url(re.compile("prompt=the"))


def test_a_head_is_chosen_and_a_cell_tells_the_librarys_numbers(page: Any, runs: Path) -> None:
    page.goto(f"{HERE}/inside?run=first&prompt=the+cat")
    page.click("[data-testid=head-2-1]")
    page.wait_for_function(
        "document.querySelector('[data-testid=caption]')?.innerText?.startsWith('Head 1 of layer 2')"
    )
    page.wait_for_url(re.compile("layer=2&head=1"))
    cells = page.locator("image.cells").first
    box = cells.bounding_box()
    view = look.attention(clearhead.load(runs / "first"), "the cat", layer=2, head=1)
    places = view.pattern.shape[0]
    cells.click(position={"x": box["width"] * 1.5 / places, "y": box["height"] * 4.5 / places})
    cell = page.locator("[data-testid=cell]")
    page.wait_for_function("document.querySelector('[data-testid=cell]')?.innerText?.includes('pattern')")
    assert f"{view.pattern[4, 1]:.4f}" in cell.inner_text()
    page.keyboard.press("ArrowDown")
    page.wait_for_function("document.querySelector('[data-testid=cell]')?.innerText?.includes('query 5')")
    assert f"{view.pattern[5, 1]:.4f}" in cell.inner_text()
    q, k = view.query_vector[5].astype(float), view.key_vector[1].astype(float)
    assert f"= {q @ k:.3f}" in cell.inner_text()
    page.locator("svg.map").nth(1).focus()
    page.keyboard.press("Shift+Tab")
    page.keyboard.press("Tab")
    page.wait_for_function("document.querySelector('[data-testid=cell]')?.innerText?.includes('query 0')")
    for key, head, layer in (("]", 1, 0), ("[", 1, 2), (".", 2, 2), (",", 1, 2)):
        page.keyboard.press(key)
        page.wait_for_function(SAYS, arg=f"Head {head} of layer {layer}")
        page.wait_for_url(re.compile(f"layer={layer}&head={head}"))


def test_the_steps_are_gone_through_and_a_damaged_one_is_said(page: Any, runs: Path) -> None:
    hurt = shutil.copytree(runs / "second", runs / "hurt")
    *_, early, middle, last = Run(hurt).steps()
    weights = hurt / "checkpoints" / f"step-{middle}" / "model.safetensors"
    weights.write_bytes(bytes(len(weights.read_bytes())))
    page.goto(f"{HERE}/inside?run=hurt&subject=surprisal&prompt=the+cat&step={early}")
    slider = page.locator("[aria-label='Step of the training'] [tabindex='0']")
    slider.press("ArrowRight")
    page.wait_for_selector(f".trouble:has-text('step-{middle}')")
    page.wait_for_url(re.compile(f"step={middle}"))
    slider.press("ArrowRight")
    page.wait_for_function(SAYS, arg=look.surprisal(clearhead.load(f"{hurt}@{last}"), "the cat").caption)
    slider.press("PageDown")
    page.wait_for_function(SAYS, arg=look.surprisal(clearhead.load(f"{hurt}@1"), "the cat").caption)
    page.wait_for_url(re.compile("step=1&"))
    shutil.rmtree(hurt)
    slider.press("ArrowRight")
    page.wait_for_selector(".trouble:has-text('There is no run hurt')")


def test_two_runs_write_beside_each_other_and_a_missing_one_is_said(page: Any, runs: Path) -> None:
    page.goto(f"{HERE}/compare?left=first&right=nobody&prompt=the+cat")
    assert "There is no nobody here" in page.inner_text(".trouble")
    page.goto(f"{HERE}/compare?left=first&right=second&prompt=the+cat")
    page.wait_for_function("document.querySelectorAll('.halves .text').length === 2")
    for name, text in zip(("first", "second"), page.locator(".halves .text").all_inner_texts(), strict=True):
        written = clearhead.load(runs / name).generate("the cat", num_tokens=300)[0]
        assert text.split() == f"the cat{written}".split()


def test_a_model_writes_and_another_token_is_taken(page: Any, runs: Path) -> None:
    page.goto(f"{HERE}/write?run=first&prompt=the+cat&length=20")
    page.click("[data-testid=write]")
    page.wait_for_function("document.querySelectorAll('.tokens span').length === 27")
    text = page.inner_text(".tokens")
    assert clearhead.load(runs / "first").generate("the cat", num_tokens=20)[0].split() == text[7:].split()
    page.locator(".tokens span").nth(9).click()
    page.wait_for_function("document.querySelector('.stack h2')?.innerText?.startsWith('Instead of')")
    page.locator(".bars button").nth(1).click()
    page.wait_for_function("document.querySelectorAll('.tokens span').length === 10")


def test_a_text_that_is_changed_is_not_written_on(page: Any) -> None:
    page.goto(f"{HERE}/write?run=first&prompt=the+cat&length=2000")
    page.click("[data-testid=write]")
    page.wait_for_function("document.querySelectorAll('.tokens span').length > 10")
    page.fill("[data-testid=prompt]", "a dog")
    page.wait_for_function("document.querySelector('[data-testid=write]').innerText === 'Write'")
    assert page.inner_text(".tokens") == "a dog"


def test_a_temperature_reshapes_what_is_drawn_from(page: Any) -> None:
    page.goto(f"{HERE}/write?run=first&prompt=the+cat")
    page.wait_for_selector(".bars .chance")
    before = page.locator(".bars .chance").first.inner_text()
    page.locator("[data-testid=temperature]").locator("xpath=descendant-or-self::*[@tabindex='0']").first.focus()
    for said in ("Temperature: 0.5", "Temperature: 0"):
        page.keyboard.press("PageDown")  # ten steps
        page.wait_for_function(f"document.querySelector('.stack').innerText.includes('{said}')")
    page.wait_for_function("document.querySelector('.bars .chance')?.innerText === '100.0 %'")
    assert before != "100.0 %"
    page.wait_for_url(re.compile("temperature=0"))


def test_a_training_is_begun_paused_stopped_and_resumed(page: Any, runs: Path) -> None:
    page.goto(f"{HERE}/train")
    page.fill("[data-testid=text] input, input[data-testid=text]", "nowhere.txt")
    page.click("[data-testid=start]")
    page.wait_for_selector(".trouble")
    dropped = page.evaluate_handle(DROPPED, (runs.parent / "text.txt").read_text())
    page.dispatch_event(".q-uploader", "dragover", {"dataTransfer": dropped})
    page.dispatch_event(".q-uploader__dnd", "drop", {"dataTransfer": dropped})
    page.wait_for_function("document.querySelector('input[data-testid=text]').value.endsWith('dropped/text.txt')")
    page.click("[data-testid=start]")
    page.wait_for_url(re.compile("run=text-1"))
    page.wait_for_function(
        "document.querySelector('[data-testid=state]')?.innerText?.startsWith('Step')", timeout=60_000
    )
    page.click("[data-testid=pause]")
    page.wait_for_function("document.querySelector('[data-testid=state]')?.innerText?.startsWith('Paused')")
    page.click("[data-testid=stop]")
    page.wait_for_function(
        "document.querySelector('[data-testid=state]')?.innerText?.includes('saved')", timeout=60_000
    )
    page.click("[data-testid=resume]")
    while not any(event.get("resumed_from") for event in read(runs / "text-1")):
        page.wait_for_timeout(100)
    page.click("[data-testid=stop]")
    page.wait_for_function("document.querySelector('[data-testid=state]')?.innerText?.includes('saved')")
