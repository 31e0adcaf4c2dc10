"""Specifications as JSON, both ways: a frozen dataclass becomes ``{"kind": its class name, field: value, ...}``."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from vitdyn._errors import wrong


def encode(value: Any) -> Any:
    """Turn a specification into plain JSON values. Functions are named, not stored."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {field.name: encode(getattr(value, field.name)) for field in dataclasses.fields(value)}
        return {"kind": type(value).__name__, **fields}
    if isinstance(value, Mapping):
        return {str(key): encode(item) for key, item in value.items()}
    if isinstance(value, (tuple, list)):
        return [encode(item) for item in value]
    if callable(value):
        return {"function": f"{value.__module__}:{getattr(value, '__qualname__', type(value).__qualname__)}"}
    return value.item() if isinstance(value, np.generic) else value


def decode(value: Any, kinds: Iterable[type]) -> Any:
    """Rebuild a specification from ``encode``'s values; lists come back as tuples.

    Only the classes in ``kinds`` are built, and each validates its own fields. Raises ``ValueError``
    for an unknown kind, a field that the kind lacks, or a function, which JSON cannot hold.
    """
    by_name = {kind.__name__: kind for kind in kinds}
    return _decode(value, by_name)


def _decode(value: Any, by_name: Mapping[str, type]) -> Any:
    if isinstance(value, list):
        return tuple(_decode(item, by_name) for item in value)
    if not isinstance(value, dict):
        return value
    if "function" in value:
        raise wrong(
            "function", value["function"], "a function is not rebuilt from JSON; build the spec in Python"
        )
    if "kind" not in value:
        return {key: _decode(item, by_name) for key, item in value.items()}
    kind = value["kind"]
    if kind not in by_name:
        raise wrong("kind", kind, f"must be one of {', '.join(sorted(by_name))}")
    fields = {field.name for field in dataclasses.fields(by_name[kind])}
    unknown = sorted(set(value) - fields - {"kind"})
    if unknown:
        raise wrong(
            f"{kind}.{unknown[0]}", value[unknown[0]], f"{kind} has the fields {', '.join(sorted(fields))}"
        )
    try:
        return by_name[kind](**{key: _decode(item, by_name) for key, item in value.items() if key != "kind"})
    except TypeError as error:  # a field without a default is missing
        raise wrong(kind, sorted(set(value) - {"kind"}), f"lacks a field: {error}") from error


def to_text(value: Any) -> str:
    """Write a specification as one line of JSON with sorted keys: equal specs give equal text."""
    return json.dumps(encode(value), sort_keys=True, allow_nan=False)
