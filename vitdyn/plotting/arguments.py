"""One rule for what drawing functions are given: each argument is what its annotation says, or is refused by name."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache, wraps
from math import inf
from numbers import Integral
from pathlib import Path
from typing import Any, ParamSpec, TypeVar, get_args, get_origin, get_type_hints

from vitdyn._errors import as_path, invalid_value, require_kind, require_real, require_sequence

P, R = ParamSpec("P"), TypeVar("R")


def checked(function: Callable[P, R], *, filled: bool = False) -> Callable[P, R]:
    """Let a function refuse arguments of another kind than its annotations name, in one line that names them.

    Classes, sequences and mappings of a class, numbers and arrays are checked; a path may be a text. What an annotation
    leaves open is left to the function. With ``filled`` no sequence or mapping may be empty.
    """
    signature = inspect.signature(function)

    @cache
    def kinds() -> dict[str, Any]:
        try:
            return get_type_hints(function)
        except NameError:  # a name that is imported for type checkers alone
            return {}

    @wraps(function)
    def inside(*given: P.args, **named: P.kwargs) -> R:
        bound = signature.bind(*given, **named)
        for name, value in bound.arguments.items():
            bound.arguments[name] = _taken(name, value, kinds().get(name))
            if filled and isinstance(value, (Sequence, Mapping)) and not len(value):
                raise invalid_value(name, value, "must not be empty")
        return function(*bound.args, **bound.kwargs)

    return inside


def _taken(field: str, value: Any, kind: Any) -> Any:
    """Return the value as a function of this annotation takes it."""
    outer, inner = get_origin(kind), get_args(kind)
    if kind is Path:
        return as_path(field, value)
    if kind is int:
        if not isinstance(value, Integral) or isinstance(value, bool):
            raise invalid_value(field, value, "must be a whole number")
    elif kind is float:
        require_real(field, value, low=-inf, high=inf)
    elif hasattr(kind, "array_type"):  # of jaxtyping
        if not isinstance(value, kind.array_type):
            raise invalid_value(field, value, f"must be an array ({kind.array_type.__name__})")
    elif outer in (dict, Mapping):
        if not isinstance(value, Mapping):
            raise invalid_value(field, value, "must map names to values")
        for name, item in value.items():
            _taken(f"{field}[{name!r}]", item, inner[1])
    elif outer in (list, Sequence, Iterable) or (outer is tuple and inner[1:] == (...,)):
        if outer is not Iterable or not hasattr(value, "__next__"):  # a generator is gone through once
            require_sequence(field, value, getattr(inner[0], "__name__", "values"))
            for index, item in enumerate(value):
                _taken(f"{field}[{index}]", item, inner[0])
    elif (
        isinstance(kind, type)
        and outer is None
        and kind is not object
        and not getattr(kind, "_is_protocol", False)
    ):
        require_kind(field, value, kind)
    return value
