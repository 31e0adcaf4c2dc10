"""A sweep: experiments at the points of named axes, a whole grid of them or a list."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass, replace
from functools import cached_property
from math import isfinite, prod
from typing import Any

import numpy as np

from vitdyn._errors import as_tuple, invalid_value, require_callable, require_integer, require_kind
from vitdyn.experiments.experiment import Experiment

Label = str | int | float
"""What a value of an axis is called in a table, a file and a dataset."""

CELL = "cell"
"""The axis of a dataset of a sweep that is a list of points."""
OWN = ("status", "error", "key")
"""What such a dataset says of each cell."""
BESIDE = "trajectory_"
"""What stands before the name of an axis of trajectories where an axis of the sweep is called so."""


@dataclass(frozen=True, kw_only=True)
class Cell:
    """A point of a sweep by its labels, one for each axis, and the experiment there."""

    coordinates: dict[str, Label]
    experiment: Experiment


@dataclass(frozen=True, kw_only=True, eq=False)
class Sweep:
    """Experiments at the points of named axes; build one by ``product``, ``listed`` or ``over``.

    ``make`` returns the experiment of a point; it is called with one value for each axis, by the axis's name.
    ``axes`` has for each axis its labels, with the values that they stand for. ``points`` has the sweep's points by
    the places of their values on the axes, None for all of them. Cells are made when they are asked for: a million of
    them take no memory.

    >>> sizes = {"patches": 1e8, "kappa_c": 0.9}
    >>> def limit(kappa_s):
    ...     layout = vd.AreaSizes.from_exponents(**sizes, kappa_s=kappa_s)
    ...     return vd.Experiment(name="limit", training=vd.MeanField(sizes=layout))
    >>> sweep = vd.Sweep.product("limits", limit, {"kappa_s": (0.2, 0.3)})
    >>> [cell.coordinates for cell in sweep]
    [{'kappa_s': 0.2}, {'kappa_s': 0.3}]
    """

    name: str
    make: Callable[..., Experiment]
    axes: Mapping[str, Mapping[Label, Any]]
    points: tuple[tuple[int, ...], ...] | None = None

    @classmethod
    def product(cls, name: str, make: Callable[..., Experiment], axes: Mapping[str, Any]) -> Sweep:
        """Return the sweep over all combinations of some values; each axis is a sequence, or values by their labels.

        A value without a label of its own is called by its ``name``, as objectives are.
        """
        require_kind("axes", axes, Mapping)
        require_callable("make", make)
        if not axes:
            raise invalid_value("axes", axes, "must have an axis or more")
        return cls(name=name, make=make, axes={axis: _labelled(axis, own) for axis, own in axes.items()})

    @classmethod
    def listed(cls, name: str, make: Callable[..., Experiment], points: Iterable[Mapping[str, Any]]) -> Sweep:
        """Return the sweep over a list of points, each with a value for every axis."""
        require_callable("make", make)
        given = [dict(point) for point in as_tuple("points", points, Mapping)]
        if not given or not given[0] or any(point.keys() != given[0].keys() for point in given):
            raise invalid_value("points", given[:3], "must be points of the same axes, one or more")
        axes: dict[str, dict[Label, Any]] = {axis: {} for axis in given[0]}
        for point in given:
            for axis, value in point.items():
                first = axes[axis].setdefault(label_of(axis, value), value)
                if first is not value and first != value:
                    words = (
                        f"is called {label_of(axis, value)!r} as another value is: list what it is made from"
                    )
                    raise invalid_value(axis, value, words)
        places = {axis: {label: place for place, label in enumerate(own)} for axis, own in axes.items()}
        found = [
            tuple(places[axis][label_of(axis, value)] for axis, value in point.items()) for point in given
        ]
        if len(set(found)) < len(found):
            raise invalid_value("points", len(found), "must differ from each other")
        return cls(name=name, make=make, axes=axes, points=tuple(found))

    @classmethod
    def over(cls, base: Experiment, axes: Mapping[str, Any]) -> Sweep:
        """Return the sweep of an experiment over values of its fields, named by path: ``optimizer.learning_rate``.

        An axis has the last word of its path as its name, or the whole path where two paths end alike.

        >>> layout = vd.PatchLayout.from_exponents(16, kappa_c=0.75, kappa_s=0.5)
        >>> generator = vd.PatchGenerator(layout=layout)
        >>> training = vd.Training(generator=generator, objective=vd.MaskedReconstruction(), steps=5)
        >>> base = vd.Experiment(name="masks", training=training)
        >>> sweep = vd.Sweep.over(base, {"objective.mask_ratio": (0.25, 0.5), "precision": ("float32", "float64")})
        >>> len(sweep), list(sweep.axes)
        (4, ['mask_ratio', 'precision'])
        """
        require_kind("base", base, Experiment)
        require_kind("axes", axes, Mapping)
        names = axis_names(axes)
        make = _Changed(base, {name: path for path, name in names.items()})
        return cls.product(base.name, make, {names[path]: values for path, values in axes.items()})

    def __post_init__(self) -> None:
        require_kind("name", self.name, str)
        for axis, own in self.axes.items():
            if not isinstance(axis, str) or not axis.isidentifier():
                raise invalid_value("axes", axis, "must have names made of letters, digits and _")
            if axis in (*OWN, CELL) or axis.startswith(BESIDE):
                raise invalid_value(
                    "axes", axis, "is what the sweep's dataset calls something else: rename it"
                )
            if len(set(map(str, own))) < len(own):  # where one label is a word, a dataset has words for all
                raise invalid_value(axis, list(own), "has a number and a word that read alike: rename one")

    @property
    def shape(self) -> tuple[int, ...]:
        """How many values each axis has."""
        return tuple(map(len, self.axes.values()))

    def __len__(self) -> int:
        return prod(self.shape) if self.points is None else len(self.points)

    def __iter__(self) -> Iterator[Cell]:
        return (self[index] for index in range(len(self)))

    def __getitem__(self, index: int) -> Cell:
        """Return a cell by its number; the last axis runs fastest."""
        require_integer("index", index, at_least=0, at_most=len(self) - 1)
        places = self._places(index) if self.points is None else self.points[index]
        chosen = {axis: own[at] for (axis, own), at in zip(self._items.items(), places, strict=True)}
        experiment = self.make(**{axis: value for axis, (_, value) in chosen.items()})
        require_kind("make(...)", experiment, Experiment)
        return Cell(coordinates={axis: label for axis, (label, _) in chosen.items()}, experiment=experiment)

    @cached_property
    def _items(self) -> dict[str, list[tuple[Label, Any]]]:
        return {axis: list(own.items()) for axis, own in self.axes.items()}

    def _places(self, index: int) -> tuple[int, ...]:
        """Return the places on all axes of a point of the grid."""
        places = []
        for size in reversed(self.shape):
            index, place = divmod(index, size)
            places.append(place)
        return tuple(reversed(places))


def axis_names(paths: Iterable[str]) -> dict[str, str]:
    """Return the name of the axis of each path: its last word, or all of them where two paths end alike."""
    paths = list(paths)
    if len({str(path).removeprefix("training.") for path in paths}) < len(paths):
        raise invalid_value("axes", paths, "names a field twice")
    last = [str(path).split(".")[-1] for path in paths]
    return {
        path: word if last.count(word) == 1 else str(path).replace(".", "_")
        for path, word in zip(paths, last, strict=True)
    }


def label_of(axis: str, value: Any) -> Label:
    """Return what a value is called: a number or a text by itself, an object by its ``name``."""
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and not isfinite(value):
        raise invalid_value(axis, value, "must be finite")
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str | int | float):
        return value
    name = getattr(value, "name", None)
    if isinstance(name, str):
        return name
    raise invalid_value(axis, value, "has no label: give the axis as a dict of labels and values")


def _labelled(axis: str, values: Any) -> dict[Label, Any]:
    """Return the values of an axis by their labels, which must differ."""
    if isinstance(values, Mapping):
        found = {label_of(axis, label): value for label, value in values.items()}
    elif isinstance(values, np.ndarray | Sequence | range) and not isinstance(values, str):
        found = {label_of(axis, value): value for value in values}
    else:
        raise invalid_value(axis, values, "must be a sequence of values, or a dict of labels and values")
    if len(found) < len(values):
        raise invalid_value(axis, list(values), "has a label twice: give a dict of labels and values")
    if not found:
        raise invalid_value(axis, values, "must have a value or more")
    return found


@dataclass(frozen=True)
class _Changed:
    """An experiment with other values in some of its fields."""

    base: Experiment
    paths: Mapping[str, str]

    def __call__(self, **values: Any) -> Experiment:
        training: Any = self.base.training
        # a whole field before what stands in it
        for axis, value in sorted(values.items(), key=lambda item: self.paths[item[0]].count(".")):
            path = self.paths[axis]
            training = _with(training, path.removeprefix("training.").split("."), value, path)
        return replace(self.base, training=training)


def _with(spec: Any, path: Sequence[str], value: Any, whole: str) -> Any:
    """Return a specification with another value in a field, which may lie within other fields."""
    first, *rest = path
    names = [field.name for field in fields(spec)] if is_dataclass(spec) else []
    if first not in names:
        has = f"{type(spec).__name__} has the fields {', '.join(names)}" if names else "there is no field"
        has += ": what makes one of other numbers is a function of yours, for Sweep.product"
        raise invalid_value("axes", whole, has)
    return replace(spec, **{first: _with(getattr(spec, first), rest, value, whole) if rest else value})
