"""Ranges that numbers of a config must lie in; each refusal names the number."""

from __future__ import annotations


def require_positive(name: str, value: int) -> None:
    """Raise a ValueError that names a size which must be at least 1."""
    if value < 1:
        raise ValueError(f"{name} must be at least 1, not {value}.")


def require_above_zero(name: str, value: float) -> None:
    """Raise a ValueError that names a number which must lie above 0."""
    if not value > 0.0:
        raise ValueError(f"{name} must be above 0, not {value}.")


def nearest_divisors(number: int, wanted: int) -> str:
    """Name the two divisors of `number` that lie closest to `wanted`; of two as close, the larger."""
    divisors = sorted((d for d in range(1, number + 1) if number % d == 0), key=lambda d: (abs(d - wanted), -d))
    return " and ".join(str(divisor) for divisor in sorted(divisors[:2]))


def require_not_negative(name: str, value: int | float) -> None:
    """Raise a ValueError that names a number which must not lie below 0."""
    if value < 0:
        raise ValueError(f"{name} must be 0 or more, not {value}.")


def require_share(name: str, value: float) -> None:
    """Raise a ValueError that names a number which must lie between 0 and 1, without 1."""
    if not 0.0 <= value < 1.0:
        raise ValueError(f"{name} must be at least 0 and below 1, not {value}.")
