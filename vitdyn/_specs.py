"""Specifications as JSON, both ways: a frozen dataclass becomes ``{"kind": its class name, field: value, ...}``.

A field of metadata ``ADDED_LATER`` is left out at its default, so that what was kept before it was there keeps its key.
Code that is not vitdyn's own goes in by name and by a digest of all that it computes (``"code"``; None where there is
none), so that specifications with different numbers have different texts.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

import numpy as np

from vitdyn._code import NoDigestError, digest, is_of_library, own_state, patched
from vitdyn._errors import invalid_value, one_of

Spec = TypeVar("Spec")
ADDED_LATER = {"added later": True}
_PLAIN = frozenset((type(None), bool, int, float, str))


def encode(value: Any) -> Any:
    """Turn a specification into plain JSON values. Functions and classes of users are named and digested."""
    return _Encoder().encode(value)


def why_unnamed(value: Any) -> str | None:
    """Return why a specification cannot be told from others of other numbers, None where it can."""
    encoder = _Encoder()
    encoder.encode(value)
    return next(iter(encoder.unnamed), None)


class _Encoder:
    """Encodes one specification, and keeps why parts of it have no digest."""

    def __init__(self) -> None:
        self.unnamed: list[str] = []

    def encode(self, value: Any) -> Any:
        if type(value) in _PLAIN:  # most values of a specification are the numbers of a partition
            return value
        if isinstance(value, np.generic):  # 0.5 of numpy and of Python are one specification, and one text
            value = value.item()
        if isinstance(value, (int, float, str)) and is_of_library(type(value)):
            return value
        if type(value) is dict and all(isinstance(name, str) for name in value):
            return {name: self.encode(item) for name, item in value.items()}
        if type(value) in (tuple, list, range):
            return [self.encode(item) for item in value]
        if dataclasses.is_dataclass(value) and not isinstance(value, type):
            return self._dataclass(value)
        named = value if hasattr(value, "__qualname__") else type(value)
        word = "function" if callable(value) else "value"
        return {word: f"{named.__module__}:{named.__qualname__}", "code": self._digest(value)}

    def _dataclass(self, value: Any) -> dict[str, Any]:
        kind = type(value)
        if name := getattr(value, "spec_name", None):
            return {"kind": kind_name(kind), "name": name}
        fields = dataclasses.fields(value)
        told = [field.name for field in fields if not _is_left_out(field, getattr(value, field.name))]
        written = {"kind": kind_name(kind), **{name: self.encode(getattr(value, name)) for name in told}}
        if not is_of_library(kind):
            written["code"] = self._digest(kind)
        elif changed := patched(kind):
            written["code"] = self._digest(changed)
        names = [field.name for field in fields]
        if rest := {name: part for name, part in own_state(value).items() if name not in names}:
            written["state"] = {"code": self._digest(rest)}
        return written

    def _digest(self, value: Any) -> str | None:
        try:
            return digest(value)
        except NoDigestError as error:
            named = value if hasattr(value, "__qualname__") else type(value)
            self.unnamed.append(f"{named.__qualname__}: {error}")
            return None


def _is_left_out(field: dataclasses.Field[Any], value: Any) -> bool:
    return bool(field.metadata == ADDED_LATER and value == field.default)


def kind_name(kind: type) -> str:
    """Return the name of a class in a specification, with its module where it is not vitdyn's.

    Classes of vitdyn that share a name tell themselves apart by ``spec_kind``.
    """
    if not is_of_library(kind):
        return f"{kind.__module__}:{kind.__qualname__}"
    return getattr(kind, "spec_kind", kind.__name__)


def has_only_fields(value: Any) -> bool:
    """Return whether a specification's object holds nothing but its fields: nothing has been put into it."""
    return own_state(value).keys() <= getattr(type(value), "__dataclass_fields__", {}).keys()


def from_text(field: str, text: Any, kind: type[Spec], parts: Iterable[type]) -> Spec:
    """Build a specification of this kind from ``to_text``'s line; its parts are of the kinds ``parts``.

    Raises ``ValueError`` for anything else: no text, no JSON, JSON nested too deep, of something else.
    """
    if not isinstance(text, str):
        raise invalid_value(field, text, "must be a text of JSON")
    try:
        values = json.loads(text)
    except (ValueError, RecursionError) as error:  # a number of 5000 digits is a ValueError
        raise invalid_value(field, text, f"must be JSON ({error})") from error
    try:
        made = decode(values, (kind, *parts))
    except RecursionError as error:
        raise invalid_value(field, text, "is nested too deep") from error
    if not isinstance(made, kind):
        raise invalid_value(field, text, f"must describe {one_of(kind)}")
    return made


def decode(value: Any, kinds: Iterable[type]) -> Any:
    """Rebuild a specification from ``encode``'s values; lists come back as tuples.

    Only the classes in ``kinds`` are built, and each validates its own fields. Raises ``ValueError``
    for an unknown kind, a field that the kind lacks, or a function, which JSON cannot hold.
    """
    by_name = {kind_name(kind): kind for kind in kinds}
    return _decode(value, by_name)


def _decode(value: Any, by_name: Mapping[str, type]) -> Any:
    if isinstance(value, list):
        return tuple(_decode(item, by_name) for item in value)
    if not isinstance(value, dict):
        return value
    for word in ("function", "value"):
        if word in value and "code" in value:
            remedy = f"a {word} is not rebuilt from JSON; build the spec in Python"
            raise invalid_value(word, value[word], remedy)
    if "kind" not in value:
        return {key: _decode(item, by_name) for key, item in value.items()}
    kind = value["kind"]
    if not isinstance(kind, str) or kind not in by_name:
        raise invalid_value("kind", kind, f"must be one of {', '.join(sorted(by_name))}")
    # a class may list objects that stand in JSON by name alone, as vitdyn's observables do
    if (listed := getattr(by_name[kind], "from_spec", None)) and (found := listed(value)) is not None:
        return found
    code = value.get("code")
    if "state" in value or ("code" in value and code != _Encoder()._digest(by_name[kind])):
        remedy = "was written with other code than it has now: build the specification in Python"
        raise invalid_value(kind, code, remedy)
    given = {key: item for key, item in value.items() if key not in ("code", "kind")}
    fields = {field.name for field in dataclasses.fields(by_name[kind])}
    if unknown := sorted(given.keys() - fields):
        remedy = f"{kind} has the fields {', '.join(sorted(fields))}"
        raise invalid_value(f"{kind}.{unknown[0]}", given[unknown[0]], remedy)
    try:
        return by_name[kind](**{key: _decode(item, by_name) for key, item in given.items()})
    except TypeError as error:  # a field without a default is missing
        raise invalid_value(kind, sorted(given), f"lacks a field: {error}") from error


def to_text(value: Any) -> str:
    """Write a specification as one line of JSON with sorted keys: equal specs give equal text."""
    return text_or_reason(value)[0]


def text_or_reason(value: Any) -> tuple[str, str | None]:
    """Return a specification's text, and why that cannot tell it from others of other numbers (None where it can)."""
    encoder = _Encoder()
    text = json.dumps(encoder.encode(value), sort_keys=True, allow_nan=False)
    return text, next(iter(encoder.unnamed), None)
