"""Photograph every screen of the page by day and by night: `python docs/screens/make.py RUNS RUN OTHER`.

RUNS is a folder of runs with two runs in it. It needs Chromium and the extras `ui` and `dev`.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
import urllib.request
from io import BytesIO
from pathlib import Path

from PIL import Image

HERE = Path(__file__).parent
PORT = 8439
SIZE = {"width": 1280, "height": 1040}
COLOURS = 256  # enough for flat areas and a scale, at a third of the size of full colour
READY = """() => [...document.querySelectorAll('.q-btn')].every(each => each.innerText !== 'Stop')
  && (!document.querySelector('.inspection') || document.querySelector('.picture'))"""
"""JavaScript that says whether nothing is being written or computed any more."""
PROMPT = "To be or not to be"


def screens(run: str, other: str) -> dict[str, tuple[str, list[str]]]:
    """Return for each picture the address and what is clicked there first."""
    inside = f"/inside?run={run}&prompt={PROMPT}&subject="
    return {
        "train": (f"/train?run={run}", []),
        "write": (f"/write?run={run}&prompt=ROMEO:&length=400", ["[data-testid=write]"]),
        "compare": (f"/compare?left={run}&right={other}&prompt=ROMEO:", []),
        "runs": ("/runs", []),
        "attention": (f"{inside}attention", ["[data-testid=head-1-2]", "image.cells"]),
        "head-card": (f"{inside}head-card&layer=1&head=2", []),
        "next-token": (f"{inside}next-token&temperature=0.7&top_k=5", []),
        "embeddings": (f"{inside}embeddings", []),
        "lens": (f"{inside}lens", []),
        "why": (f"{inside}why", []),
        "sharpness": (f"{inside}sharpness", []),
    }


def photograph(address: str, run: str, other: str) -> None:
    """Write the pictures."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        for scheme in ("light", "dark"):
            page = browser.new_page(viewport=SIZE, color_scheme=scheme)
            for name, (path, clicks) in screens(run, other).items():
                page.goto(address + path)
                for click in clicks:
                    page.locator(click).first.click()
                    page.wait_for_timeout(1000)
                page.wait_for_load_state("networkidle")
                page.wait_for_function(READY)
                page.wait_for_timeout(1500)
                page.evaluate("window.scrollTo(0, 0)")
                image = Image.open(BytesIO(page.screenshot())).convert("RGB").quantize(COLOURS, dither=0)
                image.save(HERE / f"{name}-{scheme}.png", optimize=True)
        browser.close()


def main() -> None:
    """Serve the page, photograph it, and end."""
    folder, run, other = sys.argv[1:]
    address = f"http://127.0.0.1:{PORT}"
    server = subprocess.Popen([sys.executable, "-m", "clearhead", "ui", folder, "--no-open", "--port", str(PORT)])
    try:
        for _ in range(100):
            time.sleep(0.2)
            try:
                urllib.request.urlopen(address, timeout=1).close()
                break
            except OSError:
                continue
        photograph(address, run, other)
    finally:
        server.terminate()
        server.wait(20)


if __name__ == "__main__":
    main()
