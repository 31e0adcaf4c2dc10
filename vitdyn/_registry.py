"""Names on the command line and in JSON: one table for each kind of thing, and how users add to it."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import MISSING, fields, is_dataclass
from inspect import get_annotations
from typing import Any

from vitdyn._errors import invalid_value

_TABLES: list[Registry] = []


class Registry(Mapping[str, Any]):
    """Classes or objects of one kind by name: ``own`` are vitdyn's, ``added`` those that ``register`` added.

    ``takes`` says whether something is of this kind.
    """

    def __init__(self, what: str, takes: Callable[[Any], bool], own: Mapping[str, Any]) -> None:
        self.what, self.takes, self.own, self.added = what, takes, dict(own), dict[str, Any]()
        _TABLES.append(self)

    def __getitem__(self, name: str) -> Any:
        return self.own[name] if name in self.own else self.added[name]

    def __iter__(self) -> Iterator[str]:
        yield from self.own
        yield from self.added

    def __len__(self) -> int:
        return len(self.own) + len(self.added)

    def add(self, name: str, entry: Any) -> None:
        """Add a class or an object, or once more what was reloaded. Raises ``ValueError`` for another one's name."""
        if name in self.own or (name in self.added and _place(self.added[name]) != _place(entry)):
            raise invalid_value("name", name, f"is that of {_place(self[name])[1]}: take another one")
        self.added[name] = entry


def register(kind: Any, *, name: str | None = None) -> Any:
    """Make an objective, model, distribution of latents, optimizer, observable or claim known by name; return it.

    JSON, result stores and the command line take it from then on (``vitdyn --module FILE.py run NAME``, ``check
    --claims ID``). An ``Observable`` or a ``Claim`` is an object and has its name. Of a class the name is ``name``,
    or the class's own, or made of the class's: ``HeavyTail`` is ``heavy-tail``; use it as a decorator above
    ``dataclass``. Raises ``ValueError`` for anything else, or a name that is taken.

    >>> from dataclasses import dataclass
    >>> @vd.register
    ... @dataclass(frozen=True, kw_only=True)
    ... class HalfReconstruction(vd.MaskedReconstruction):
    ...     '''Half the squared error of masked reconstruction.'''
    ...     name = "half-mae"
    ...     def loss(self, forward):
    ...         return 0.5 * super().loss(forward)
    """
    table = next((table for table in _TABLES if table.takes(kind)), None)
    if table is None:
        words = "must be an Observable, a Claim, or the class of an objective, a distribution, an optimizer or a model"
        raise invalid_value("kind", kind, words)
    if isinstance(kind, type):
        table.add(_name_of(kind, name, table), kind)
    else:
        table.add(kind.id if table.what == "claim" else kind.name, kind)
    return kind


def _name_of(kind: Any, name: str | None, table: Registry) -> str:
    """Return the name of a class. Raises ``ValueError`` where command line and JSON cannot call it, or make one."""
    title: str = kind.__name__
    if not _has_its_fields(kind):
        words = "must be a dataclass(frozen=True, kw_only=True): its fields are its specification"
        raise invalid_value("kind", kind, words)
    for field in fields(kind):
        if table.what in ("objective", "model") and field.default is MISSING:
            words = "must have a default, which the command line offers"
            raise invalid_value(f"{title}.{field.name}", None, words)
    own = getattr(kind, "name", None)  # a parent's too: it is taken, which tells that the class needs its own
    found = name or (own if isinstance(own, str) else hyphened(title))
    if not isinstance(found, str) or not re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", found):
        words = "must be made of small letters and digits, with single hyphens between"
        raise invalid_value("name", found, words)
    return found


def _has_its_fields(kind: Any) -> bool:
    """Return whether a class is a dataclass: without the decorator it has its parent's fields, and none of its own."""
    own = get_annotations(kind).keys()
    return is_dataclass(kind) and own <= {*kind.__dataclass_fields__}


def hyphened(title: str) -> str:
    """Return the name of a class in small letters: ``HeavyTail`` is ``heavy-tail``."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "-", title).lower()


def added(what: str) -> dict[str, Any]:
    """Return what was added to a table; nothing where nobody has loaded it."""
    return next((table.added for table in _TABLES if table.what == what), {})


def class_with(*names: str) -> Callable[[Any], bool]:
    """Return a function that tells whether something is a class with all of these names as attributes or fields."""

    def is_one(kind: Any) -> bool:
        there = {*dir(kind), *getattr(kind, "__dataclass_fields__", ())}
        return isinstance(kind, type) and there.issuperset(names)

    return is_one


def _place(entry: Any) -> tuple[str, str]:
    kind = entry if isinstance(entry, type) else type(entry)
    return kind.__module__, kind.__qualname__
