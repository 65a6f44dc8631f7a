"""What is missing is told with what to type."""

from importlib import metadata

import pytest

from clearhead.core import extras

REQUIREMENTS = ["torch<3,>=2.11", 'left-pad>=1; extra == "pad"', "no.such_thing; extra == 'pad'", 'numpy; extra == "x"']


def test_extras_are_read_off_the_requirements() -> None:
    assert extras.libraries_by_extra(REQUIREMENTS) == {"pad": ["left-pad", "no.such_thing"], "x": ["numpy"]}


def test_what_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metadata, "requires", lambda _: REQUIREMENTS)
    monkeypatch.setattr(extras.shutil, "which", lambda name: None)
    compiler, pad = extras.missing()
    assert compiler.name == "a C++ compiler"
    assert (pad.name, pad.try_) == ("left-pad, no.such_thing", "pip install 'clearhead[pad]'")
    monkeypatch.setattr(extras.shutil, "which", lambda name: "/usr/bin/g++" if name == "g++" else None)
    assert extras.missing() == [pad]
