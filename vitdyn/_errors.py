"""The one form of complaint: which field, which value, and what would be right."""

from __future__ import annotations

from collections.abc import Iterable
from math import isfinite, nan
from numbers import Integral, Real


def wrong(field: str, value: object, remedy: str) -> ValueError:
    """Build the error for a bad input: ``field = value: remedy``, on one line."""
    shown = " ".join(repr(value).split())
    shown = shown if len(shown) <= 240 else shown[:237] + "..."
    return ValueError(f"{field} = {shown}: {remedy}")


def require_integer(field: str, value: object, *, at_least: int) -> None:
    """Raise unless ``value`` is a whole number of at least ``at_least``."""
    whole = type(value) is int or (isinstance(value, Integral) and not isinstance(value, bool))
    if not whole or value < at_least:  # type: ignore[operator]
        raise wrong(field, value, f"must be a whole number, {at_least} or more")


def require_real(
    field: str, value: object, *, low: float, high: float, open_low: bool = False, open_high: bool = False
) -> None:
    """Raise unless ``value`` is a finite number in the interval, whose ends may be left out."""
    interval = f"{'(' if open_low else '['}{low:g}, {high:g}{')' if open_high else ']'}"
    number = float(value) if isinstance(value, Real) and not isinstance(value, bool) else nan
    inside = isfinite(number) and (number > low if open_low else number >= low)
    inside = inside and (number < high if open_high else number <= high)
    if not inside:
        raise wrong(field, value, f"must be a number in {interval}")


def require_choice(field: str, value: object, choices: Iterable[str]) -> None:
    """Raise unless ``value`` is one of ``choices``."""
    known = tuple(choices)
    if value not in known:
        raise wrong(field, value, f"must be one of {', '.join(known)}")
