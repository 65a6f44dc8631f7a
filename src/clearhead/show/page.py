"""The frame of every page we write: one self-contained file, light and dark, on screen and on paper."""

from __future__ import annotations

import html

# Nothing may be fetched and no script may run, whatever a text or a model wrote into the page.
_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"

LIGHT = """--paper: #fbfaf7; --raised: #f3f1ea; --ink: #1c1b19; --soft: #5f5d57; --faint: #75726b; --rule: #e3dfd5;
  --blue: #24609f; --orange: #b84e00; --warn: #fbf0e2;"""
DARK = """--paper: #141517; --raised: #1d1f22; --ink: #e9e6df; --soft: #a9a69f; --faint: #8d8b85; --rule: #2d2f33;
  --blue: #7db4ec; --orange: #f59b55; --warn: #2c2418;"""
FACES = """--sans: system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif;
  --serif: "Iowan Old Style", "Palatino Linotype", Palatino, "Book Antiqua", Georgia, serif;
  --mono: ui-monospace, "SF Mono", Menlo, Consolas, "Liberation Mono", monospace;"""
"""Colours by day and by night, and type faces, as the variables that style sheets use."""

_ROOT = f"""
:root {{ color-scheme: light dark; {LIGHT} {FACES} }}
@media (prefers-color-scheme: dark) {{
  :root {{ {DARK} }}
  .chart [class*="series-"] {{ filter: brightness(1.5); }}
}}
"""
CHART = """
.chart { display: block; width: 100%; height: auto; overflow: visible; font-family: var(--sans); }
.chart text { font-size: 12px; fill: var(--soft); font-variant-numeric: tabular-nums; }
.chart .note { fill: var(--faint); font-size: 11px; }
.chart .grid { stroke: var(--rule); stroke-width: 1; }
.chart .level { stroke: var(--faint); stroke-width: 1; stroke-dasharray: 2 4; }
.chart text.level { stroke: none; }
.chart .leader { fill: none; stroke: var(--faint); stroke-width: .75; opacity: .6; }
.chart .line { fill: none; stroke-width: 2; stroke-linejoin: round; stroke-linecap: round; }
.chart .line.raw { stroke: var(--blue); stroke-width: 1; opacity: .3; }
.chart .line.training { stroke: var(--blue); }
.chart .line.validation { stroke: var(--orange); }
.chart .line.plain { stroke: var(--soft); stroke-width: 1.5; }
.chart .line.validation.raw { stroke-width: 1; opacity: .45; }
.chart .line.plain.raw { stroke-width: 1; opacity: .4; }
.chart .series-0 { --series: #6d6a63; }
.chart .series-1 { --series: #8a6d3b; }
.chart .series-2 { --series: #b84e00; }
.chart .series-3 { --series: #c2334d; }
.chart .series-4 { --series: #9d4ab8; }
.chart .series-5 { --series: #5a56c4; }
.chart .series-6 { --series: #24609f; }
.chart .series-7 { --series: #1d7f86; }
.chart .series-8 { --series: #2f7d46; }
.chart .series-9 { --series: #75801c; }
.chart .line[class*="series-"] { stroke: var(--series); }
.chart .label[class*="series-"] { fill: var(--series); font-weight: 600; }
.chart .dot { stroke: var(--paper); stroke-width: 1.5; fill: var(--orange); }
.chart .dot.training { fill: var(--blue); }
.chart .label.training { fill: var(--blue); font-weight: 600; }
.chart .label.validation { fill: var(--orange); font-weight: 600; }
"""
"""The style of charts, for every page that shows one."""

_STYLE = """
* { box-sizing: border-box; }
html { -webkit-text-size-adjust: 100%; }
body {
  margin: 0; padding: 56px 24px 80px; background: var(--paper); color: var(--ink);
  font: 16px/1.55 var(--sans); text-rendering: optimizeLegibility;
}
main { max-width: 880px; margin: 0 auto; }
h1 { font-size: 40px; line-height: 1.1; letter-spacing: -0.022em; font-weight: 660; margin: 0;
  overflow-wrap: anywhere; }
h2 { font-size: 20px; line-height: 1.3; letter-spacing: -0.011em; font-weight: 630; margin: 0 0 4px; }
h3 { font-size: 13px; line-height: 1.4; font-weight: 600; margin: 0 0 8px; }
p { margin: 0; }
a { color: inherit; }
section { margin-top: 64px; }
.eyebrow { font-size: 13px; color: var(--soft); margin-bottom: 10px; }
.lead { font-size: 20px; line-height: 1.5; color: var(--ink); margin-top: 20px; max-width: 40em; text-wrap: pretty; }
.said { color: var(--soft); max-width: 44em; margin-bottom: 20px; text-wrap: pretty; }
.small { font-size: 13px; color: var(--soft); }
.numbers, td.number, th.number, .value { font-variant-numeric: tabular-nums; }

.result { display: grid; grid-template-columns: 250px 1fr; gap: 40px; margin-top: 48px;
  border-top: 1px solid var(--rule); padding-top: 28px; }
.result .big { font-size: 68px; line-height: 1; letter-spacing: -0.035em; font-weight: 640; color: var(--orange);
  font-variant-numeric: tabular-nums; }
.result .unit { margin-top: 8px; font-size: 16px; }
.ladder { display: grid; grid-template-columns: max-content 1fr max-content max-content; gap: 7px 14px;
  align-items: center; font-size: 13px; align-content: start; }
.ladder .head { color: var(--faint); text-align: right; }
.ladder .bar { height: 10px; border-radius: 2px; background: var(--faint); opacity: .45; }
.ladder .name { color: var(--soft); }
.ladder .number { text-align: right; font-variant-numeric: tabular-nums; color: var(--soft); }
.ladder .ours { color: var(--ink); font-weight: 630; }
.ladder .bar.ours { background: var(--orange); opacity: 1; }

.facts { display: grid; grid-template-columns: repeat(auto-fit, minmax(180px, 1fr)); gap: 20px 24px;
  margin: 36px 0 0; padding: 20px 0; border-top: 1px solid var(--rule); border-bottom: 1px solid var(--rule); }
.facts dt { font-size: 13px; color: var(--soft); }
.facts dd { margin: 2px 0 0; font-size: 18px; font-weight: 560; font-variant-numeric: tabular-nums;
  letter-spacing: -0.01em; }

.warning { background: var(--warn); border-left: 3px solid var(--orange); padding: 12px 16px; margin-top: 12px;
  border-radius: 0 4px 4px 0; }
.columns { display: grid; grid-template-columns: repeat(auto-fit, minmax(340px, 1fr)); gap: 64px 48px; }
.columns section { margin-top: 0; }
.columns section + section { margin-top: 40px; }
.thirds { display: grid; grid-template-columns: repeat(auto-fit, minmax(250px, 1fr)); gap: 24px 28px; }
section.thirds { margin-top: 40px; }
.thirds figure { max-width: 360px; }
section.close { margin-top: 32px; }
.apart { margin-top: 28px; }
.note { margin-top: 10px; }
table + .small { margin-top: 12px; }
figure { margin: 0; break-inside: avoid; }
.scroll { overflow-x: auto; }
.scroll > .chart { min-width: 620px; }
.scroll > svg:not(.chart) { max-width: 100%; height: auto; }

.samples { display: grid; grid-template-columns: 116px 1fr; margin: 0; }
.samples > * { padding: 14px 0; border-top: 1px solid var(--rule); margin: 0; }
.samples dt { font-size: 13px; line-height: 1.5; color: var(--soft); font-variant-numeric: tabular-nums;
  padding-top: 17px; }
.samples dt b { display: block; font-weight: 600; color: var(--ink); }
.text { font: 16px/1.55 var(--serif); white-space: pre-wrap; overflow-wrap: anywhere; margin: 0; }
.text .prompt { color: var(--faint); }
.text.short { font-size: 15px; color: var(--soft); white-space: normal; }
.text.code { font: 13.5px/1.6 var(--mono); }
.whole { columns: 2 310px; column-gap: 36px; }
.whole > :only-child { column-span: all; }
.whole > * { break-inside: avoid; padding-bottom: 28px; }
blockquote.text { margin-top: 10px; padding-left: 14px; border-left: 2px solid var(--rule); }

table { border-collapse: collapse; width: 100%; font-size: 14px; }
th, td { text-align: left; padding: 6px 12px 6px 0; border-top: 1px solid var(--rule); vertical-align: top;
  font-weight: 400; }
thead th { border-top: 0; font-size: 13px; color: var(--faint); }
tbody th { color: var(--soft); }
th.number, td.number { text-align: right; padding-right: 0; padding-left: 12px; }
th.number + th:not(.number), td.number + td:not(.number) { padding-left: 24px; }
tr:last-child > * { border-bottom: 1px solid var(--rule); }
td.share { width: 34%; padding-right: 0; }
td.share div { height: 8px; margin-top: 7px; border-radius: 2px; background: var(--blue); opacity: .75; }

pre { font: 13px/1.6 var(--mono); background: var(--raised); padding: 14px 16px; border-radius: 6px; margin: 0;
  overflow-x: auto; }
.next { display: grid; gap: 16px; margin-top: 16px; }
h2 + table { margin-top: 12px; }
h2 + details { margin-top: 16px; }
.next p { margin-bottom: 6px; }
.next pre { font-size: 14px; user-select: all; }
details { border-top: 1px solid var(--rule); padding: 12px 0; }
details:last-of-type { border-bottom: 1px solid var(--rule); }
summary { cursor: pointer; font-weight: 560; font-size: 15px; }
details > :not(summary) { margin-top: 14px; }
footer { margin-top: 48px; font-size: 13px; color: var(--faint); }

@media (max-width: 700px) {
  body { padding: 32px 18px 56px; }
  h1 { font-size: 32px; }
  .lead { font-size: 18px; }
  .result { grid-template-columns: 1fr; gap: 24px; }
  .samples { grid-template-columns: 1fr; }
  .samples dd { border-top: 0; padding-top: 0; }
  .columns { grid-template-columns: 1fr; }
}
@media print {
  :root { color-scheme: light; --paper: #fff; --raised: #f5f5f2; --ink: #000; --soft: #444; --faint: #777; --rule: #ccc;
    --blue: #24609f; --orange: #b84e00; --warn: #fff; }
  body { padding: 0; font-size: 11pt; print-color-adjust: exact; -webkit-print-color-adjust: exact; }
  main { max-width: none; }
  section { margin-top: 32px; }
  h2, .said { break-after: avoid; }
  .result, .facts, .samples > *, table, .next > div { break-inside: avoid; }
  .samples > .whole, .whole > * { break-inside: auto; }
  .folded:not(:has([open])) { display: none; }
  footer { margin-top: 16px; }
  pre { white-space: pre-wrap; overflow-wrap: anywhere; }
}
"""


def page(title: str, body: str) -> str:
    """Return a whole HTML document around a body that is already HTML."""
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>{_ROOT}{CHART}{_STYLE}</style>\n</head>\n"
        f"<body>\n<main>\n{body}\n</main>\n</body>\n</html>\n"
    )


def escape(value: object) -> str:
    """Return a value as HTML text: nothing in it can be markup, and a half character becomes a "?"."""
    return html.escape(str(value).encode("utf-8", "replace").decode("utf-8"))
