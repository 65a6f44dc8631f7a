"""The frame of every screen: its style, its navigation, and the sentence that says what is seen and why it matters."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from urllib.parse import urlencode

from nicegui import ui

from clearhead.core.errors import UserError
from clearhead.serve.page.studio import Studio
from clearhead.show.page import CHART, DARK, FACES, LIGHT, escape

SCREENS = {"train": "Train", "write": "Write", "inside": "Inside", "compare": "Compare", "runs": "Runs"}

STYLE = f"""
body {{ {FACES} {LIGHT} color-scheme: light; --green: #2f7d46; --violet: #8f3fa9; --brown: #80642f; }}
body.body--dark {{ {DARK} color-scheme: dark; --green: #67c083; --violet: #cf8ee6; --brown: #cbaa6a; }}
body.body--dark .chart [class*="series-"] {{ filter: brightness(1.5); }}
{CHART}
"""

# One type scale (13, 16, 20, 28, 48), one unit of space (8), and Quasar's own colours replaced by ours.
LAYOUT = """
body, body.body--dark { background: var(--paper); color: var(--ink); font: 16px/1.5 var(--sans); }
body.body--dark { --q-primary: #7db4ec !important; }
body.body--dark .q-btn.bg-primary { --q-primary: #2f6fb0 !important; }
body .nicegui-content { --nicegui-default-padding: 0; padding: 0; display: block; }
:focus-visible { outline: 2px solid var(--blue); outline-offset: 2px; }
nav.screens { display: flex; gap: 8px; align-items: center; width: 100%;
  padding: 8px 24px; border-bottom: 1px solid var(--rule); }
nav.screens .brand { font-weight: 660; letter-spacing: -.02em; font-size: 20px; margin-right: 24px; }
nav.screens a { color: var(--soft); text-decoration: none; padding: 6px 12px; border-radius: 6px; }
nav.screens a:hover { background: var(--raised); color: var(--ink); }
nav.screens a[aria-current] { color: var(--ink); font-weight: 630; background: var(--raised); }
nav.screens .end { margin-left: auto; }
main { max-width: 1320px; margin: 0 auto; padding: 24px 24px 80px; }
.heading { display: grid; grid-template-columns: 188px minmax(0, 1fr); align-items: baseline; }
h1 { font-size: 28px; line-height: 1.2; letter-spacing: -.02em; font-weight: 660; margin: 0; }
h2 { font-size: 20px; line-height: 1.3; letter-spacing: -.01em; font-weight: 630; margin: 0 0 4px; }
h3 { font-size: 16px; line-height: 1.4; font-weight: 630; margin: 0 0 4px; }
p { margin: 0; }
.purpose { color: var(--soft); max-width: 60em; text-wrap: pretty; }
.said, .small { color: var(--soft); text-wrap: pretty; max-width: 46em; }
.small { font-size: 13px; }
.said { margin-bottom: 16px; }
.trouble { background: var(--warn); border-left: 3px solid var(--orange); padding: 12px 16px;
  border-radius: 0 4px 4px 0; max-width: 52em; overflow-wrap: anywhere; }
.places + .trouble, .heading + .trouble { margin-top: 24px; }
.numbers, td.number, th.number { font-variant-numeric: tabular-nums; }
.aside { display: grid; grid-template-columns: 320px minmax(0, 1fr); gap: 48px; margin-top: 32px; align-items: start; }
.beside { display: grid; grid-template-columns: minmax(0, 1fr) 340px; gap: 48px; margin-top: 24px; align-items: start; }
.halves { display: grid; grid-template-columns: repeat(2, minmax(0, 1fr)); gap: 48px; margin-top: 24px; }
.stack { display: flex; flex-direction: column; gap: 16px; align-items: stretch; }
.row { display: flex; gap: 16px; align-items: center; flex-wrap: wrap; }
.places { display: grid; grid-template-columns: 240px 280px minmax(0, 1fr); gap: 24px; align-items: center;
  padding: 8px 0; margin-top: 16px; border-top: 1px solid var(--rule); border-bottom: 1px solid var(--rule); }
section { margin-top: 40px; }
section:first-child { margin-top: 0; }
.big { font-size: 48px; line-height: 1; letter-spacing: -.03em; font-weight: 640; color: var(--orange);
  font-variant-numeric: tabular-nums; }
.text { font: 18px/1.6 var(--serif); white-space: pre-wrap; overflow-wrap: anywhere; }
.text .prompt { color: var(--soft); }
.text .changed { background: color-mix(in srgb, var(--orange) 16%, transparent); }
.tokens { font: 18px/1.75 var(--serif); white-space: pre-wrap; overflow-wrap: anywhere; }
.tokens span { border-radius: 2px; cursor: pointer; padding: 2px 0;
  background: color-mix(in srgb, var(--orange) calc(var(--nats) * 9%), transparent); }
.tokens span.prompt { background: none; color: var(--soft); }
.tokens span:hover { box-shadow: inset 0 -2px var(--blue); }
.tokens span[aria-pressed=true] { outline: 2px solid var(--blue); }
table.plain { border-collapse: collapse; width: 100%; font-size: 16px; }
table.plain th, table.plain td { text-align: left; padding: 8px 16px 8px 0; border-top: 1px solid var(--rule);
  font-weight: 400; vertical-align: top; }
table.plain thead th { border-top: 0; font-size: 13px; color: var(--soft); }
table.plain .number { text-align: right; }
table.plain a { color: var(--blue); }
.bars { display: grid; grid-template-columns: minmax(48px, max-content) minmax(0, 1fr) 64px; gap: 4px 12px;
  align-items: center; }
.bars button { font: 16px/1.4 var(--mono); color: var(--ink); background: none; border: 0; text-align: right;
  padding: 0 4px; cursor: pointer; white-space: pre; border-radius: 2px; }
.bars button:hover { background: var(--raised); }
.bars .bar { position: relative; height: 16px; }
.bars .bar i { position: absolute; inset: 0 auto 0 0; border-radius: 2px; }
.bars .bar i.raw { background: var(--rule); }
.bars .chance { text-align: right; font-size: 13px; color: var(--soft); font-variant-numeric: tabular-nums; }
.bars.wide { grid-template-columns: minmax(64px, max-content) minmax(0, 1fr) max-content; }
.shade-0 { background: var(--blue); } .shade-1 { background: var(--orange); } .shade-2 { background: var(--green); }
.shade-3 { background: var(--violet); } .shade-4 { background: var(--brown); } .shade-5 { background: var(--faint); }
.bars:not(.wide) .bar i + i { top: 5px; bottom: 5px; }
.bars .bar:has(i:nth-child(3)) { height: 24px; }
.keys { display: flex; gap: 16px; flex-wrap: wrap; margin: 0 0 8px; }
.keys i { display: inline-block; width: 12px; height: 12px; border-radius: 2px; margin-right: 6px; }
.inspection { display: grid; grid-template-columns: 164px minmax(0, 1fr) 272px; gap: 32px; margin-top: 24px;
  align-items: start; }
.inspection > aside { position: sticky; top: 24px; max-height: calc(100vh - 48px); overflow-y: auto; padding: 2px; }
.subjects { display: flex; flex-direction: column; }
.subjects h3 { font-size: 13px; color: var(--soft); margin: 16px 0 2px; padding: 0 8px; }
.subjects h3:first-child { margin-top: 0; }
.options { margin-bottom: 16px; } .options:empty { display: none; }
.options .q-field { width: 140px; } .options .against { width: 260px; }
.asked { margin: 8px 0 0; } .asked a { color: var(--blue); }
.q-uploader { border: 1px dashed var(--faint); border-radius: 6px; background: none; }
.q-uploader__header { background: none !important; color: var(--ink) !important; }
.q-uploader__subtitle, .q-uploader__list:empty { display: none; } .q-uploader__title { font-weight: 400; }
ul.links { margin: 8px 0; padding: 0; list-style: none; } ul.links a { color: var(--blue); line-height: 2; }
table.plain .q-btn { font: inherit; min-height: 0; padding: 0 4px; line-height: 1.5; }
table.plain .row { gap: 12px; align-items: baseline; flex-wrap: nowrap; }
.busy { animation: appear 0s 300ms both; }
@keyframes appear { from { visibility: hidden; } }
kbd { font: 13px var(--mono); color: var(--ink); background: var(--raised); border: 1px solid var(--rule);
  border-radius: 3px; padding: 0 5px; margin-right: 2px; }
code { font: 13px/1.4 var(--mono); color: var(--ink); overflow-wrap: anywhere; }
.keyboard { line-height: 1.9; margin: 24px 0 16px; }
.sum { color: var(--ink); line-height: 1.7; }
[data-chosen] { outline: 2px solid var(--orange); outline-offset: 1px; }
.subjects a { color: var(--soft); text-decoration: none; padding: 2px 8px; border-radius: 4px; }
.subjects a:hover { background: var(--raised); color: var(--ink); }
.subjects a[aria-current] { background: var(--raised); color: var(--ink); font-weight: 630; }
.caption { max-width: 46em; margin: 16px 0 8px; text-wrap: pretty; }
.pictures { display: grid; grid-template-columns: repeat(2, minmax(0, 1fr)); gap: 32px; margin-top: 24px; }
.picture { margin: 0; grid-column: 1 / -1; }
.picture.as-map { max-width: 620px; }
.picture.square:not(:first-child) { grid-column: auto; }
svg.map .hatch { stroke: var(--rule); stroke-width: 2; }
svg.map .chosen { fill: none; stroke: var(--orange); stroke-width: 2; }
svg.map { width: 100%; height: auto; display: block; font-family: var(--mono); }
svg.map text { font-size: 12px; fill: var(--soft); white-space: pre; }
svg.map text[class^=shade] { background: none; font-size: 13px; font-weight: 600; }
svg.map .shade-0 { fill: var(--blue); } svg.map .shade-1 { fill: var(--orange); }
svg.map .shade-2 { fill: var(--green); } svg.map .shade-3 { fill: var(--violet); }
svg.map .shade-4 { fill: var(--brown); } svg.map .shade-5 { fill: var(--soft); }
svg.map:focus:not(:focus-visible) { outline: none; }
svg.map image { image-rendering: pixelated; cursor: crosshair; }
.head-grid { display: grid; grid-template-columns: max-content 1fr; gap: 4px 8px; align-items: center; margin: 4px 0; }
.head-grid .heads { display: flex; gap: 4px; flex-wrap: wrap; }
.head-grid button { border: 0; padding: 0; background: none; cursor: pointer; line-height: 0; border-radius: 2px; }
.head-grid img { width: 56px; height: 56px; image-rendering: pixelated; border-radius: 2px; background: var(--raised); }
aside .head-grid img { width: 30px; height: 30px; }
aside section { margin: 0 0 24px; }
.head-grid button:hover { box-shadow: 0 0 0 2px var(--rule); }
.head-grid button[aria-pressed=true] { box-shadow: 0 0 0 2px var(--orange); }
.layers { display: flex; gap: 6px; flex-wrap: wrap; margin: 8px 0; }
.layers button { font: inherit; color: var(--ink); background: var(--raised); border: 0; padding: 4px 12px;
  border-radius: 4px; cursor: pointer; }
.layers button[aria-pressed=true] { background: var(--blue); color: var(--paper); }
.legend { display: flex; gap: 8px; align-items: center; margin-top: 8px; }
.legend i { display: block; height: 8px; width: 160px; border-radius: 2px; }
.chips { font: 16px/1.9 var(--mono); }
.chips button { font: inherit; border: 0; padding: 1px 2px; margin: 0 1px 2px 0; border-radius: 2px; cursor: pointer; }
dl.cell { display: grid; grid-template-columns: max-content 1fr; gap: 4px 16px; margin: 0 0 16px; font-size: 14px; }
dl.cell dt { color: var(--soft); } dl.cell dd { margin: 0; font-variant-numeric: tabular-nums; text-align: right; }
@media (max-width: 1000px) { .inspection { grid-template-columns: minmax(0, 1fr); }
  .aside, .beside, .halves, .places, .heading { grid-template-columns: minmax(0, 1fr); } }
@media (prefers-reduced-motion: reduce) { * { transition: none !important; animation: none !important; } }
"""


@contextmanager
def frame(studio: Studio, screen: str, purpose: str) -> Iterator[None]:
    """Lay out a screen around what the block draws; a mistake in what was asked for is told there.

    Args:
        purpose: what is seen here and why it matters.
    """
    ui.add_css(STYLE + LAYOUT)
    ui.add_head_html("<script>document.documentElement.lang = 'en'</script>")
    dark = ui.dark_mode(studio.dark)

    def turn() -> None:
        dark.set_value(not dark.value)
        studio.dark = dark.value

    ui.page_title(f"{SCREENS[screen]} · Clearhead")
    ui.colors(primary="#24609f")
    with ui.element("nav").classes("screens").props('aria-label="Screens"'):
        ui.label("Clearhead").classes("brand")
        for name, title in SCREENS.items():
            link = ui.link(title, f"/{name}")
            if name == screen:
                link.props('aria-current="page"')
        ui.button("Light or dark", on_click=turn).props("flat no-caps dense").classes("end")
    with ui.element("main"):
        heading(SCREENS[screen], purpose)
        try:
            yield
        except UserError as error:
            trouble(str(error))


def heading(title: str, purpose: str) -> None:
    """Write a screen's title and what it is for."""
    with ui.element("header").classes("heading"):
        title_line(title, level=1)
        ui.label(purpose).classes("purpose")


def title_line(text: str, level: int = 2) -> ui.html:
    """Write a title of a level, as a heading that a screen reader finds."""
    return ui.html(escape(text), tag=f"h{level}", sanitize=False)


def address(screen: str, **state: object) -> str:
    """Return the address of a screen in a state; what is empty is left out."""
    given = {key: value for key, value in state.items() if value not in (None, "")}
    return f"/{screen}?{urlencode(given)}" if given else f"/{screen}"


def keep(screen: str, state: Mapping[str, object]) -> None:
    """Put the present state into the address, so that it can be shared, reloaded and gone back to."""
    ui.navigate.history.replace(address(screen, **state))


def trouble(sentence: str) -> None:
    """Say what went wrong, where it went wrong."""
    ui.label(sentence).classes("trouble").props('role="alert"')
