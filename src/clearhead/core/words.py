"""How sentences say numbers."""

from __future__ import annotations


def counted(number: int, noun: str) -> str:
    """Return so many of what a regular noun names: "1 token", "2,000 tokens"."""
    return f"{number:,} {noun if number == 1 else f'{noun}s'}"
