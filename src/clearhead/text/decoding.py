"""From bytes to characters: which encoding a text is in, and what becomes of bytes that do not fit it."""

from __future__ import annotations

import codecs
import encodings.aliases
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from clearhead.core.errors import UserError, nearest

HEAD_BYTES = 1 << 20

_BYTE_ORDER_MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),  # before UTF-16, whose mark is the first half of this one
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
# Guessing among all codecs prefers rare ones on texts with few accents; these are tried first.
_COMMON = ["cp1252", "cp1250", "cp1251", "cp1253", "cp1255", "cp1256", "cp1258", "koi8_r"]
_COMMON += ["cp932", "euc_jp", "gb18030", "big5", "cp949"]
_LONE_SURROGATE = re.compile("[\ud800-\udfff]")
_MARK = "clearhead.mark"


def _mark(error: UnicodeError) -> tuple[str, int]:
    """Let a lone surrogate stand for each undecodable byte until `mend` counts them."""
    assert isinstance(error, UnicodeDecodeError)
    return "\udc80" * (error.end - error.start), error.end


codecs.register_error(_MARK, _mark)


@dataclass(frozen=True, kw_only=True, slots=True)
class Encoding:
    """How a file's bytes are decoded.

    Args:
        codec: Python's name of it.
        mark_bytes: the size of the byte order mark, which is left out.
        guessed: neither named nor certain.
    """

    codec: str
    mark_bytes: int = 0
    guessed: bool = False


def check_encoding(name: str) -> None:
    """Refuse a name that is not an encoding of texts.

    Raises:
        UserError: names the encoding and the nearest one.
    """
    try:
        b"a".decode(name, _MARK)
        codecs.getincrementaldecoder(name)(_MARK)
    except (LookupError, ValueError):
        known = {*encodings.aliases.aliases, *encodings.aliases.aliases.values()}
        raise UserError(
            f'--text.encoding "{name}" is not an encoding that Python knows.{nearest(name, known)}'
        ) from None


def detect(head: bytes, *, named: str | None) -> Encoding | None:
    """Choose the encoding of a file by its first `HEAD_BYTES`: named, marked, UTF-8, or else a guess.

    UTF-8 with a few bytes that do not fit is damaged UTF-8: at most 1 in 1,000, or 1 in 100 where more characters
    beyond ASCII are whole than broken. (In an older 8-bit encoding every character beyond ASCII looks broken.)

    Returns:
        None where nothing fits: the file is not text.
    """
    codec = codecs.lookup(named).name.removesuffix("-sig") if named else ""
    for mark, marked in _BYTE_ORDER_MARKS:
        if head.startswith(mark) and marked.startswith(codec):
            return Encoding(codec=marked, mark_bytes=len(mark))
    if codec:
        return Encoding(codec=codec)
    if b"\0" in head:
        return None
    decoder = codecs.getincrementaldecoder("utf-8")(_MARK)
    characters = decoder.decode(head, final=len(head) < HEAD_BYTES)
    broken = mend(characters)[1]
    whole = len(characters) - len(characters.encode("ascii", "ignore")) - broken
    if broken * 1000 <= len(head) or (broken * 100 <= len(head) and broken <= whole):
        return Encoding(codec="utf-8")
    return _guess(head)


def decode(blocks: Iterable[bytes], encoding: Encoding) -> Iterator[tuple[str, int]]:
    """Decode a file block by block; with each stretch of text comes the number of its bytes that became U+FFFD."""
    decoder = codecs.getincrementaldecoder(encoding.codec)(_MARK)
    skip = encoding.mark_bytes
    for block in blocks:
        yield mend(decoder.decode(block[skip:]))
        skip = 0
    yield mend(decoder.decode(b"", final=True))


def mend(text: str) -> tuple[str, int]:
    """Replace lone surrogates, which no UTF-8 can hold, by U+FFFD, and count them."""
    if text.isascii():
        return text, 0
    try:
        text.encode()
    except UnicodeEncodeError:
        return _LONE_SURROGATE.subn("\ufffd", text)
    return text, 0


def _guess(head: bytes) -> Encoding | None:
    from charset_normalizer import from_bytes

    # Cut at a line end, lest half a character at the end speaks against an encoding of several bytes a character.
    head = head[: head.rfind(b"\n") + 1] or head
    guesses = from_bytes(head, cp_isolation=_COMMON) or from_bytes(head)
    best = guesses.best()
    if best is None:
        return None
    # cp1252 and cp1250 often tie, where each accent is a letter in both; the first is far more common.
    ties = [guess for guess in guesses if (guess.chaos, guess.coherence) == (best.chaos, best.coherence)]
    western = any("cp1252" in guess.could_be_from_charset for guess in ties)
    return Encoding(codec="cp1252" if western else best.encoding, guessed=True)
