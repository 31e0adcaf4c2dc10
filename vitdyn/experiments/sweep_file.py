"""A sweep in a file of TOML: a base specification, and axes or points over it."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vitdyn._errors import as_path, invalid_value
from vitdyn.experiments.experiment import Experiment
from vitdyn.experiments.short_forms import CONSTRUCTOR, built
from vitdyn.experiments.sweep import Sweep, axis_names

_HAS = ("name", "training", "axes", "points")


def read_sweep(path: str | Path) -> Sweep:
    """Return the sweep of a file of TOML.

    It has a ``name`` (the file's own, where it is left out), a table ``[training]`` in the short forms of
    ``vitdyn.experiments.short_forms``, and either ``[axes]``, a list of values (or a table of labels and values) for
    each path ``"generator.layout.kappa_s"``, or ``[[points]]``, tables of paths and values. A path goes through the
    arguments of constructors as through fields. An axis is called by the last word of its path, or by all of it where
    two paths end alike.

    Raises ``ValueError`` for a file that is missing, no TOML or no sweep.
    """
    place = as_path("file", path)
    try:
        held = tomllib.loads(place.read_text(encoding="utf-8"))
    except OSError as error:
        raise invalid_value("file", str(path), f"cannot be read ({error.strerror})") from error
    except ValueError as error:  # of TOML, or of UTF-8
        raise invalid_value("file", str(path), f"is no TOML ({error})") from error
    if unknown := sorted(held.keys() - set(_HAS)):
        raise invalid_value(unknown[0], held[unknown[0]], f"a sweep has {', '.join(_HAS)}")
    if not isinstance(held.get("training"), dict):
        raise invalid_value("training", held.get("training"), f"{path} needs a table [training]")
    name = held.get("name", place.stem)
    if ("axes" in held) == ("points" in held):
        raise invalid_value("axes", held.get("axes"), f"{path} needs either [axes] or [[points]]")
    axes, points = held.get("axes", {}), held.get("points")
    if not isinstance(axes, dict) or not (points is None or _are_tables(points)):
        raise invalid_value("axes", axes or points, "must be [axes], a table, or [[points]], tables")
    names = axis_names(axes if points is None else {path: None for point in points for path in point})
    make = _Table(name, held["training"], {axis: path for path, axis in names.items()})
    if points is None:
        return Sweep.product(name, make, {names[path]: values for path, values in axes.items()})
    called = [{names[path]: value for path, value in point.items()} for point in points]
    return Sweep.listed(name, make, called)


def _are_tables(points: Any) -> bool:
    return isinstance(points, list) and all(isinstance(point, dict) for point in points)


@dataclass(frozen=True)
class _Table:
    """The experiment of a table with other values at some paths."""

    name: str
    training: Mapping[str, Any]
    paths: Mapping[str, str]

    def __call__(self, **values: Any) -> Experiment:
        table = self.training
        placed = {
            tuple(self.paths[axis].removeprefix("training.").split(".")): values[axis] for axis in values
        }
        for path in sorted(placed, key=len):  # a whole table before what stands in it
            table = _with(table, path, placed[path])
        return built(self.name, table)


def _with(table: Any, path: tuple[str, ...], value: Any) -> dict[str, Any]:
    """Return a table with a value at a path; the arguments of a constructor count as fields."""
    first, *rest = path
    own = {"kind": table} if isinstance(table, str) else dict(table) if isinstance(table, Mapping) else {}
    called = [name for name in own if name.startswith(CONSTRUCTOR)]
    if called and first not in own:
        return own | {called[0]: _with(own[called[0]], path, value)}
    return own | {first: _with(own.get(first), tuple(rest), value) if rest else value}
