"""What is not installed that parts of the program can use."""

from __future__ import annotations

import os
import re
import shutil
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from importlib import metadata

COMPILERS = ("c++", "g++", "clang++")
_OPTIONAL = re.compile(r"([\w.-]+).*;.*extra == ['\"]([\w-]+)['\"]")


@dataclass(frozen=True, slots=True)
class Missing:
    """Something that is not there, what goes without it, and what to type to get it."""

    name: str
    needed_for: str
    try_: str


def missing() -> list[Missing]:
    """Return what is not there: a compiler, and the libraries of the optional extras."""
    found = []
    if not any(shutil.which(name) for name in (os.environ.get("CXX", ""), *COMPILERS) if name):
        install = "apt install g++, or xcode-select --install on macOS"
        found.append(Missing("a C++ compiler", "--train.compile true on a CPU", install))
    for extra, names in libraries_by_extra(metadata.requires("clearhead") or ()).items():
        absent = [name for name in names if not is_installed(name)]
        if absent:
            found.append(Missing(", ".join(absent), f"the extra {extra}", f"pip install 'clearhead[{extra}]'"))
    return found


def libraries_by_extra(requirements: Iterable[str]) -> dict[str, list[str]]:
    """Return the libraries that each extra asks for, out of a package's requirements."""
    found: dict[str, list[str]] = defaultdict(list)
    for match in filter(None, map(_OPTIONAL.match, requirements)):
        found[match[2]].append(match[1])
    return dict(found)


def is_installed(name: str) -> bool:
    """Say whether a distribution of this name is installed."""
    try:
        metadata.version(name)
    except metadata.PackageNotFoundError:
        return False
    return True
