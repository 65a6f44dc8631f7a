"""The page in a browser: every screen opens, is used by mouse and keys, and shows the library's numbers.

Where no Chromium is installed these tests are skipped, unless CLEARHEAD_BROWSER asks for them.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import clearhead
from clearhead import look

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not CHROMIUM and "CLEARHEAD_BROWSER" not in os.environ, reason="there is no Chromium"),
    # Playwright's own loop and sockets are closed by the interpreter.
    pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning"),
]
PORT = 8437
HERE = f"http://127.0.0.1:{PORT}"


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs")
    text = folder.parent / "text.txt"
    text.write_text("the cat sat on the mat and the dog sat on the log. " * 200)
    for name, width in (("first", 32), ("second", 16)):
        clearhead.train(
            text, preset="lecture", run=folder / name, train__steps=30, model__width=width, train__threads=1
        )
    return folder


@pytest.fixture(scope="module")
def server(runs: Path) -> Iterator[str]:
    command = [sys.executable, "-m", "clearhead", "ui", str(runs), "--no-open", "--port", str(PORT)]
    # NiceGUI serves nothing where it finds itself in a test.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST")}
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


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield opened
        opened.close()


@pytest.fixture
def page(browser: Any, server: str) -> Iterator[Any]:
    """A page that fails the test when it asks anywhere else for anything, or when its scripts fail."""
    opened = browser.new_page(viewport={"width": 1400, "height": 900})
    opened.set_default_timeout(90_000)
    troubles: list[str] = []
    opened.on("request", lambda asked: ours(asked.url) or troubles.append(asked.url))
    opened.on("pageerror", lambda error: troubles.append(str(error)))
    yield opened
    opened.close()
    assert troubles == []


def ours(url: str) -> bool:
    return url.startswith((HERE, HERE.replace("http", "ws"), "data:", "blob:"))


@pytest.mark.parametrize("screen", ["train", "write", "inside", "compare", "runs"])
def test_every_screen_opens_and_says_what_it_is_for(page: Any, screen: str) -> None:
    page.goto(f"{HERE}/{screen}")
    page.wait_for_selector("h1")
    assert page.inner_text("h1").lower() == screen
    assert len(page.inner_text(".purpose")) > 40
    assert page.get_attribute("nav a[aria-current=page]", "href") == f"/{screen}"
    assert page.locator(".trouble").count() == 0
    unnamed = page.evaluate(
        """() => [...document.querySelectorAll('button, input, a, [role=slider], [role=button]')].filter(each => !(
            each.innerText?.trim() || each.ariaLabel || each.labels?.length || each.title || each.type === 'file'
            || each.closest('[aria-label]'))).map(each => each.outerHTML)"""
    )
    assert unnamed == []


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
    page.keyboard.press("]")
    page.wait_for_function(
        "document.querySelector('[data-testid=caption]')?.innerText?.startsWith('Head 1 of layer 0')"
    )


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


def test_a_training_is_begun_paused_and_stopped(page: Any, runs: Path) -> None:
    page.goto(f"{HERE}/train")
    page.fill("[data-testid=text] input, input[data-testid=text]", "nowhere.txt")
    page.click("[data-testid=start]")
    page.wait_for_selector(".trouble")
    page.fill("[data-testid=text] input, input[data-testid=text]", str(runs.parent / "text.txt"))
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
    assert page.locator("[data-testid=resume]").is_visible()
