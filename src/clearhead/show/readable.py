"""Values as people read them: counts, sizes, durations, and white space made visible."""

from __future__ import annotations

import math
import unicodedata
from typing import SupportsFloat

_WHITE_SPACE = {" ": "·", "\n": "↵", "\t": "→"}
_CONTROL_PICTURES = 0x2400  # Unicode draws the control character c at U+2400 + c

_JOINERS = "\u200c\u200d"  # part of the spelling in Persian, Hindi and composed emoji


def count(number: int | float) -> str:
    """Return a whole number with thousands separators: 804864 is "804,864"."""
    return f"{number:,.0f}"


def short_count(number: int | float) -> str:
    """Return a number with at most three digits and a unit: 804864 is "805k", 124000000 is "124M"."""
    value, thousands = _scaled(number)
    return f"{value:.3g}{('', 'k', 'M', 'B', 'T')[thousands]}"


def byte_size(number: int | float) -> str:
    """Return a number of bytes with a decimal unit: 1115394 is "1.12 MB"."""
    value, thousands = _scaled(number)
    smallest = "byte" if number == 1 else "bytes"
    return f"{value:.3g} {(smallest, 'kB', 'MB', 'GB', 'TB')[thousands]}"


def _scaled(number: int | float) -> tuple[int | float, int]:
    """Divide by 1000 until at most three digits stand before the point, at most four times; also say how often."""
    thousands = 0
    while abs(number) >= 999.5 and thousands < 4:
        number, thousands = number / 1000, thousands + 1
    return number, thousands


def fixed(value: object) -> str:
    """Return a number with three decimals, and nothing for what is not a finite number."""
    return f"{value:.3f}" if isinstance(value, int | float) and math.isfinite(value) else ""


def percent(share: SupportsFloat, digits: int = 0) -> str:
    """Return a share of one as a percentage that no line break parts: 0.0131 with one digit is "1.3 %"."""
    return f"{100 * float(share):.{digits}f}\u00a0%"


def duration(seconds: int | float) -> str:
    """Return a length of time in its two largest units: 103 is "1 min 43 s"."""
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    days, rest = divmod(whole, 86_400)
    hours, rest = divmod(rest, 3600)
    minutes, rest_seconds = divmod(rest, 60)
    parts = [(days, "d"), (hours, "h"), (minutes, "min"), (rest_seconds, "s")]
    first = next((index for index, (amount, _) in enumerate(parts) if amount), 3)
    return " ".join(f"{amount} {unit}" for amount, unit in parts[first : first + 2] if amount)


def clock(seconds: int | float) -> str:
    """Return a length of time as a clock shows it: 103 is "1:43", 4000 is "1:06:40"."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def sentence(text: str) -> str:
    """Return the text with a full stop at its end, unless it ends one already."""
    return text if text.endswith((".", "!", "?")) else f"{text}."


def visible(text: str, keep: str = "") -> str:
    """Return the text in one line with nothing invisible in it, but for the characters in `keep`.

    A space becomes "·", a line feed "↵", a tab "→", other control characters their Unicode pictures; characters
    that have no picture (zero-width and direction marks, lone surrogates) become their code point in brackets.
    So a terminal never obeys what a model wrote.
    """
    return "".join(each if each in keep else _visible_character(each) for each in text)


def label(text: str) -> str:
    """Return a name or a token in one line: white space at its ends is made visible, single spaces inside stay."""
    inside = text.strip(" ")
    before = len(text) - len(text.lstrip(" "))
    return "·" * before + visible(inside, keep=" ") + "·" * (len(text) - before - len(inside))


def _visible_character(character: str) -> str:
    if character in _WHITE_SPACE:
        return _WHITE_SPACE[character]
    code = ord(character)
    if code < 0x20:
        return chr(_CONTROL_PICTURES + code)
    if code == 0x7F:
        return "␡"
    hidden = unicodedata.category(character) in {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp", "Zs"}
    return f"⟨{code:X}⟩" if hidden else character


def one_line(text: str, length: int) -> str:
    """Return the text as prose in one line, white space folded, cut at a word to at most `length` characters."""
    folded = " ".join(visible(word, keep=_JOINERS) for word in text.split())
    if len(folded) <= length:
        return folded
    head = folded[: length - 1]
    words, space, _ = head.rpartition(" ")
    return (words if space and len(words) > length // 2 else head) + "…"
