"""Tables of classes by the name by which command line and JSON call them, and how others add theirs."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import MISSING, fields, is_dataclass
from typing import Any

from vitdyn._errors import wrong

_TABLES: list[Registry] = []

OBJECTS: dict[type, Callable[[Any], Any]] = {}
"""What else has a name of its own: objects of these classes, each with what takes one into its table."""


class Registry(Mapping[str, type]):
    """The classes of one kind by name: vitdyn's own, then what ``register`` added. ``needs`` is what each must have."""

    def __init__(self, what: str, needs: Callable[[type], bool], own: Mapping[str, type]) -> None:
        self.what, self.needs, self._own, self.added = what, needs, dict(own), dict[str, type]()
        _TABLES.append(self)

    def __getitem__(self, name: str) -> type:
        return self._own[name] if name in self._own else self.added[name]

    def __iter__(self) -> Iterator[str]:
        yield from self._own
        yield from self.added

    def __len__(self) -> int:
        return len(self._own) + len(self.added)

    def add(self, name: str, kind: type) -> None:
        """Add a class, or the same once more, reloaded. Raises ``ValueError`` for a name that another one has."""
        if not isinstance(name, str) or not re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", name):
            raise wrong("name", name, "must be made of small letters and digits, with single hyphens between")
        if name in self and _place(self[name]) != _place(kind):
            raise wrong(
                "name", name, f"is that of {self[name].__qualname__}: give {kind.__qualname__} another one"
            )
        self.added[name] = kind


def register(kind: Any, *, name: str | None = None) -> Any:
    """Make an objective, a distribution of latents, an optimizer or an observable known by its name; return it.

    JSON, result stores and the command line take it from then on (``vitdyn --module FILE.py run NAME``). An
    ``Observable`` is an object and has its name. Of a class the name is ``name``, or the class's own, or made of the
    class's: ``HeavyTail`` is ``heavy-tail``; use it as a decorator above ``dataclass``. Raises ``ValueError`` for
    anything else, or a name that is taken.

    >>> from dataclasses import dataclass
    >>> @vd.register
    ... @dataclass(frozen=True, kw_only=True)
    ... class HalfReconstruction(vd.MaskedReconstruction):
    ...     '''Half the squared error of masked reconstruction.'''
    ...     name = "half-mae"
    ...     def loss(self, forward):
    ...         return 0.5 * super().loss(forward)
    """
    for other, add in OBJECTS.items():
        if isinstance(kind, other):
            return add(kind)
    tables = [table for table in _TABLES if isinstance(kind, type) and table.needs(kind)]
    if not tables:
        known = ", ".join(table.what for table in _TABLES)
        raise wrong(
            "kind",
            kind,
            f"must be an Observable or the class of an objective, a distribution or an optimizer (here: {known})",
        )
    if not isinstance(kind, type) or not is_dataclass(kind):
        raise wrong(
            "kind", kind, "must be a dataclass(frozen=True, kw_only=True): its fields are its specification"
        )
    for field in fields(kind):
        if tables[0].what == "objective" and field.default is MISSING:
            raise wrong(
                f"{kind.__name__}.{field.name}", None, "must have a default, which the command line offers"
            )
    own = getattr(
        kind, "name", None
    )  # inherited too: it is then taken, which says that the class needs its own
    hyphened = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "-", kind.__name__).lower()
    tables[0].add(name or (own if isinstance(own, str) else hyphened), kind)
    return kind


def added(what: str) -> dict[str, type]:
    """Return the classes that were added to a table; none where nobody has loaded it."""
    return next((table.added for table in _TABLES if table.what == what), {})


def has_all(kind: type, *names: str) -> bool:
    """Return whether a class has all of these as attributes or fields."""
    there = {*dir(kind), *(getattr(kind, "__dataclass_fields__", ()))}
    return there.issuperset(names)


def _place(kind: type) -> tuple[str, str]:
    return kind.__module__, kind.__qualname__
