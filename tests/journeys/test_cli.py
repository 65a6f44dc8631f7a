"""The program as its users meet it: what the verbs do, print and leave behind."""

from __future__ import annotations

from tests.journeys.conftest import Terminal  # noqa: F401
