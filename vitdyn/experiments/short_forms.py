"""Specifications as people write them in a file: names for classes, and tables without what goes without saying.

A table becomes the encoding of ``Experiment.to_json``, by the types of the fields that it stands in: a ``kind`` may be
a registered name (``mae``), a text alone stands for a table of that kind, a field of one possible kind needs none,
``none`` stands for None where a field may be that, and ``{from_exponents = {...}}`` calls a constructor of the class.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import is_dataclass
from functools import cache
from types import UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

from vitdyn._errors import invalid_value
from vitdyn._specs import decode, kind_name
from vitdyn.data import DISTRIBUTIONS, Distribution
from vitdyn.dynamics import OPTIMIZERS
from vitdyn.dynamics.optimizers import Optimizer
from vitdyn.experiments.experiment import Experiment
from vitdyn.models import MODELS, Model
from vitdyn.objectives import OBJECTIVES, Objective
from vitdyn.vits.methods import METHODS, Method

_NAMED: dict[Any, Mapping[str, type]] = {
    Objective: OBJECTIVES,
    Distribution: DISTRIBUTIONS,
    Optimizer: OPTIMIZERS,
    Model: MODELS,
    Method: METHODS,
}
"""The classes that a field of a type may hold, by name, where the type is none of them itself."""

CONSTRUCTOR = "from_"
"""How the names of constructors begin."""


def built(name: str, table: Mapping[str, Any]) -> Experiment:
    """Return the experiment of a table's short forms. Raises ``ValueError`` naming the field that is wrong."""
    met: set[type] = set()
    encoded = _expanded(table, _hints(Experiment)["training"], "training", met)
    return Experiment(name=name, training=decode(encoded, met))


def _expanded(value: Any, annotation: Any, place: str, met: set[type]) -> Any:
    """Return the encoding of a value in short forms, and note the classes in it.

    What a constructor made stands in it as an object.
    """
    kinds, others = _possible(annotation)
    if value == "none" and type(None) in others and str not in others:
        return None
    if isinstance(value, str) and kinds and str not in others:
        value = {"kind": value}
    if isinstance(value, list | tuple):
        inner = next((each for each in others if get_origin(each) is tuple), None)
        element = get_args(inner)[0] if inner else Any
        return [_expanded(item, element, f"{place}[{index}]", met) for index, item in enumerate(value)]
    if not isinstance(value, Mapping) or not kinds:
        return value
    kind = _kind(value.get("kind"), kinds, place)
    rest = {name: item for name, item in value.items() if name != "kind"}
    if called := [name for name in rest if name.startswith(CONSTRUCTOR)]:
        return _constructed(kind, called[0], rest, place)
    met.add(kind)
    hints = _hints(kind)
    fields = {
        name: _expanded(item, hints.get(name, Any), f"{place}.{name}", met) for name, item in rest.items()
    }
    return {"kind": kind_name(kind), **fields}


def _possible(annotation: Any) -> tuple[dict[str, type], tuple[Any, ...]]:
    """Return the classes that a field of a type may hold, by each of their names, and its other types."""
    return _listed(annotation, sum(map(len, _NAMED.values())))


@cache
def _listed(annotation: Any, _registered: int) -> tuple[dict[str, type], tuple[Any, ...]]:
    # by how many are registered, too: a module may have added some
    members = get_args(annotation) if get_origin(annotation) in (Union, UnionType) else (annotation,)
    kinds: dict[str, type] = {}
    others = []
    for member in members:
        known = _NAMED.get(member)
        if known is not None:
            kinds |= {**known, **{kind_name(kind): kind for kind in known.values()}}
        elif isinstance(member, type) and is_dataclass(member):
            kinds[kind_name(member)] = member
        else:
            others.append(member)
    return kinds, tuple(others)


def _kind(named: Any, kinds: Mapping[str, type], place: str) -> type:
    if named is None:
        distinct = set(kinds.values())
        if len(distinct) == 1:
            return distinct.pop()
        raise invalid_value(f"{place}.kind", None, f"must be one of {', '.join(kinds)}")
    if not isinstance(named, str) or named not in kinds:
        raise invalid_value(f"{place}.kind", named, f"must be one of {', '.join(kinds)}")
    return kinds[named]


def _constructed(kind: type, name: str, table: Mapping[str, Any], place: str) -> Any:
    """Call a constructor of a class with a table of arguments."""
    where = f"{place}.{name}"
    if not hasattr(kind, name) or not isinstance(table[name], Mapping):
        there = ", ".join(each for each in dir(kind) if each.startswith(CONSTRUCTOR)) or "no constructor"
        raise invalid_value(where, table[name], f"must be a table of arguments; {kind.__name__} has {there}")
    if len(table) > 1:
        beside = ", ".join(each for each in table if each != name)
        raise invalid_value(where, beside, "must stand alone: a constructor gives all fields")
    try:
        return _called(kind, name, json.dumps(table[name]))
    except TypeError as error:
        raise invalid_value(where, dict(table[name]), f"is wrong: {error}") from error


@cache
def _hints(kind: type) -> dict[str, Any]:
    return get_type_hints(kind)


@cache  # the cells of a sweep share most of what they are made of
def _called(kind: type, name: str, arguments: str) -> Any:
    return getattr(kind, name)(**json.loads(arguments))
