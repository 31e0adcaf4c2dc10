"""The one form of complaint: which field, which value, and what would be right."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from math import isfinite, isinf, nan
from numbers import Integral, Real
from pathlib import Path
from typing import Any

import numpy as np


def invalid_value(field: str, value: object, remedy: str) -> ValueError:
    """Build the error for a bad input: ``field = value: remedy``, on one line."""
    # an array prints pages, an error is one line
    shown = " ".join(_shown(value).split())
    shown = shown if len(shown) <= 240 else shown[:237] + "..."
    return ValueError(f"{field} = {shown}: {remedy}")


def _shown(value: object) -> str:
    try:
        return repr(value)
    except Exception:  # a user's class, or an array without values
        return f"<{type(value).__name__}>"


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether an error says that memory did not suffice."""
    # torch has no class for it on CPU
    of_torch = isinstance(error, RuntimeError) and "alloc" in str(error).lower()
    return isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError" or of_torch


def require_integer(field: str, value: object, *, at_least: int, at_most: int | None = None) -> None:
    """Raise unless ``value`` is a whole number of at least ``at_least``, and at most ``at_most`` if that is given."""
    # bool is a whole number to Python, but True for a count is a mistake
    whole = type(value) is int or (isinstance(value, Integral) and not isinstance(value, bool))
    if not whole or value < at_least:  # type: ignore[operator]
        raise invalid_value(field, value, f"must be a whole number, {at_least} or more")
    if at_most is not None and value > at_most:  # type: ignore[operator]
        raise invalid_value(field, value, f"must be {at_most:,} or less")


def require_real(
    field: str, value: object, *, low: float, high: float, open_low: bool = False, open_high: bool = False
) -> None:
    """Raise unless ``value`` is a finite number in the interval, whose ends may be left out."""
    left, right = "(" if open_low or isinf(low) else "[", ")" if open_high or isinf(high) else "]"
    interval = f"{left}{low:g}, {high:g}{right}"
    number = float(value) if isinstance(value, Real) and not isinstance(value, bool) else nan
    inside = isfinite(number) and (number > low if open_low else number >= low)
    inside = inside and (number < high if open_high else number <= high)
    if not inside:
        raise invalid_value(field, value, f"must be a number in {interval}")


def require_boolean(field: str, value: object) -> None:
    """Raise unless ``value`` is True or False: "no" and 0 are neither."""
    if not isinstance(value, (bool, np.bool_)):
        raise invalid_value(field, value, "must be True or False")


def require_kind(field: str, value: object, kind: type) -> None:
    """Raise unless ``value`` is a ``kind``, an object of it and not the class itself."""
    if not isinstance(value, kind):
        raise invalid_value(field, value, f"must be {one_of(kind)}")


def one_of(kind: type) -> str:
    """Return the name of a class with its article."""
    return f"{'an' if kind.__name__[0] in 'AEIO' else 'a'} {kind.__name__}"


def as_path(field: str, value: object) -> Path:
    """Return a path, named by a text or a path that is not empty."""
    if not isinstance(value, (str, os.PathLike)) or not str(value) or "\0" in str(value):
        raise invalid_value(field, value, "must be a path")
    return Path(value)


def require_sequence(field: str, value: object, of: str) -> None:
    """Raise unless ``value`` is a sequence or an array that can be gone through; ``of`` says what it must hold."""
    many = isinstance(value, Sequence) and not isinstance(value, (str, bytes))
    if not many and not (hasattr(value, "__array__") and as_array(field, value).ndim):
        raise invalid_value(field, value, f"must be a sequence of {of}")


def as_tuple(field: str, value: Any, kind: type) -> tuple[Any, ...]:
    """Return what a sequence, an array or an iterator holds. Raises unless each is a ``kind``."""
    if isinstance(value, (str, bytes)) or hasattr(value, "__array__") or not isinstance(value, Iterable):
        require_sequence(field, value, f"{kind.__name__}s")
    each = tuple(value)
    for index, one in enumerate(each):
        require_kind(f"{field}[{index}]", one, kind)
    return each


def as_array(field: str, value: Any) -> np.ndarray:
    """Return ``value`` as an array of numpy. Raises where it has no values in memory (sparse, meta) or no one shape."""
    try:
        return np.asarray(value)
    except (TypeError, ValueError, RuntimeError) as error:
        raise invalid_value(
            field, value, "must be an array whose values lie in memory, all rows of one length"
        ) from error


def as_numbers(field: str, value: Any) -> np.ndarray:
    """Return a sequence of real numbers, NaN and infinities among them, as float64. Raises for anything else."""
    array = as_array(field, value)
    if array.ndim != 1 or array.dtype.kind not in "fiu":
        raise invalid_value(field, value, "must be real numbers along one axis")
    return array.astype(np.float64, copy=False)


def require_callable(field: str, value: object) -> None:
    """Raise unless ``value`` can be called."""
    if not callable(value):
        raise invalid_value(field, value, "must be a function")


def require_choice(field: str, value: object, choices: Iterable[str]) -> None:
    """Raise unless ``value`` is one of ``choices``."""
    known = tuple(choices)
    if not isinstance(value, str) or value not in known:
        raise invalid_value(field, value, f"must be one of {', '.join(known)}")
