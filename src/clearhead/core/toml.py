"""TOML files: reading them, and writing a config as one that explains itself."""

from __future__ import annotations

import dataclasses
import json
import re
import textwrap
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from clearhead.core.config import field_help, field_types, in_words, members, one_of, sections, summary
from clearhead.core.errors import UserError

if TYPE_CHECKING:
    from _typeshed import DataclassInstance


def load_toml(path: Path) -> dict[str, Any]:
    """Read a TOML file.

    Raises:
        UserError: the file cannot be read, or a line of it is not TOML.
    """
    try:
        text = path.read_bytes().decode("utf-8-sig")
        return tomllib.loads(text)
    except OSError as error:
        raise UserError(f"Cannot read {path}: {error.strerror or error}.") from None
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        raise UserError(f"{path}, line {line}: this is not UTF-8; save the file with that encoding.") from None
    except RecursionError:
        raise UserError(f"{path} nests its brackets too deeply.") from None
    except ValueError as error:
        raise UserError(_mistake(path, text, str(error))) from None


def _mistake(path: Path, text: str, message: str) -> str:
    """Word the parser's complaint, with the line that it names at its end."""
    found = re.fullmatch(r"(.*) \(at (?:line (\d+), column \d+|end of document)\)", message, re.DOTALL)
    if not found:
        return f"{path} is not TOML ({message})."
    reason, line = found[1], found[2] or str(len(text.splitlines()))
    return f"{path}, line {line}: this is not TOML ({reason[0].lower()}{reason[1:]})."


def to_toml(config: DataclassInstance, *, comments: bool = True) -> str:
    """Write a whole config as TOML, with the docstrings of its dataclasses as comments.

    `core.config.build` makes the same config of the text. None is written as "none"; but a text that is None is left
    out, since "none" would be a text, and must therefore be None by default.
    """
    return "\n".join(_lines(config, "", "", comments)).strip("\n") + "\n"


def _lines(config: DataclassInstance, where: str, kinds: str, comments: bool) -> Iterator[str]:
    """Write the values of one section, then the sections inside it.

    Args:
        kinds: the kinds that this section can be of, in words; empty if it has no alternatives.
    """
    types, helps = field_types(type(config)), field_help(type(config))
    inner = [name for name in types if dataclasses.is_dataclass(getattr(config, name))]
    for name in (name for name in types if name not in inner):
        value, absent = getattr(config, name), getattr(config, name) is None and str in members(types[name])
        if comments:
            yield from _comment(kinds if name == "kind" else "")
            yield from _comment(helps.get(name, ""))
        if comments or not absent:
            yield f"# {name} =" if absent else f"{name} = {_literal(value)}"
    for name in inner:
        section, key = getattr(config, name), f"{where}.{name}" if where else name
        alternatives = sections(types[name])
        yield ""
        if comments:
            yield from _comment(helps.get(name) or summary(type(section)))
        yield f"[{key}]"
        yield from _lines(section, key, in_words(one_of(alternatives)) if len(alternatives) > 1 else "", comments)


def _comment(text: str) -> list[str]:
    return textwrap.wrap(text, 100, initial_indent="# ", subsequent_indent="# ", break_long_words=False)


def _literal(value: object) -> str:
    """Write a scalar or a list as a TOML literal."""
    if value is None:
        return '"none"'
    if isinstance(value, tuple):
        return f"[{', '.join(map(_literal, value))}]"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return float.__repr__(value)
    # JSON's escapes are TOML's too, but for one character that TOML wants escaped and JSON does not.
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
