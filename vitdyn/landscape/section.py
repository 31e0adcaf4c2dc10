"""Sections of a surface: the loss, and its curvature if asked for, on a grid of one or two directions."""

from __future__ import annotations

import json
import sys
import time
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from vitdyn._errors import (
    as_path,
    invalid_value,
    require_boolean,
    require_integer,
    require_kind,
    require_sequence,
)
from vitdyn._progress import duration, progress
from vitdyn.landscape.plane import Plane
from vitdyn.landscape.section_grid import AXES, SCHEMA, GridWork, grid_of
from vitdyn.landscape.surface import Surface, Vector
from vitdyn.trajectory import read_result, write_result

if TYPE_CHECKING:
    import xarray


@dataclass(frozen=True)
class Section:
    """The loss L(θ + a d_1 + b d_2) on a grid, as an ``xarray.Dataset``.

    Its variable ``loss`` has the axes ``first`` and, of two directions, ``second``, whose coordinates are the multiples
    of the directions; ``section["loss"].plot()`` draws it. With derivatives there are ``slope`` ⟨∇L, d_i⟩ (axis
    ``direction``) and ``curvature`` d_iᵀ H d_j (axes ``direction`` and ``with_direction``). What decides the numbers
    stands in the attribute ``spec``: digests of the point, of each direction and of the grid, the loss at θ, and how
    stop-gradients are meant; with them the directions' lengths and the cosine between them.
    """

    dataset: xarray.Dataset

    def __getitem__(self, name: str) -> xarray.DataArray:
        if name not in self.dataset.variables:
            has = ", ".join(sorted(map(str, self.dataset.variables)))
            raise invalid_value("variable", name, f"this section has {has}")
        return self.dataset[name]

    @property
    def spec(self) -> dict[str, Any]:
        """What decides the section's numbers, as plain values."""
        return json.loads(self.dataset.attrs["spec"])

    @property
    def round_off(self) -> float:
        """The relative round-off of the precision in which the loss was evaluated."""
        return torch.finfo(getattr(torch, self.spec["precision"])).eps

    def save(self, path: str | Path) -> Path:
        """Write a netCDF4 file, whole or not at all. Raises ``ValueError`` where it cannot be written."""
        target = as_path("path", path)
        write_result(target, self.dataset)
        return target

    @classmethod
    def load(cls, path: str | Path) -> Section:
        """Read a file that ``save`` wrote, or the checkpoint of a section that is whole.

        Raises ``ValueError`` for a file that is missing, damaged, no section, or not yet whole.
        """
        found = cls(read_result(path, SCHEMA))
        done, all_of_it = int(found.dataset.attrs["done"]), found["loss"].size
        if done < all_of_it:
            words = f"holds {done} of {all_of_it} values: call section() with it as its checkpoint to go on"
            raise invalid_value("path", str(path), words)
        return found


def section(
    surface: Surface,
    directions: Sequence[Vector],
    coordinates: Any,
    *,
    derivatives: bool = False,
    checkpoint: str | Path | None = None,
    show_progress: bool = False,
) -> Section:
    """Evaluate a surface on the grid that one or two directions span from its point.

    ``coordinates`` are multiples of the directions, increasing: one row of numbers for all directions, or one for each.
    ``derivatives`` adds exact slopes and curvature at each point, for some ten times the cost. A value that is not
    finite is kept as it is; one warning says how many there are.

    With a ``checkpoint`` path values are saved there now and then, and at an interrupt; the same call goes on from it,
    to the same bits. The file is at last the section itself. ``show_progress`` says first how long it will take.

    The loss at θ and at the first point of the grid is evaluated again at the end. Raises ``ValueError`` where it
    differs then, for a bad direction or grid, and for a checkpoint of another surface, direction or grid.

    >>> import torch
    >>> bowl = vd.landscape.Surface(lambda at: (at["w"] ** 2).sum(), {"w": torch.zeros(3)})
    >>> found = vd.landscape.section(bowl, [torch.tensor([1.0, 0.0, 0.0])], [-1.0, 0.0, 2.0])
    >>> found["loss"].dims, found["loss"].values.tolist()
    (('first',), [1.0, 0.0, 4.0])
    """
    require_boolean("derivatives", derivatives)
    require_boolean("show_progress", show_progress)
    plane = Plane.of(surface, _one_or_two(directions))
    path = as_path("checkpoint", checkpoint) if checkpoint is not None else None
    work = GridWork(plane, grid_of(coordinates, len(plane.directions)), derivatives, path)
    if show_progress and (left := work.count - work.done):
        seconds = duration(left * _seconds_of_one(plane, derivatives))
        print(f"section: {left} of {work.count} values to find, about {seconds}", file=sys.stderr, flush=True)
    with progress(show_progress, work.count, "value", "section") as bar:
        bar.update(work.done)
        try:
            while work.done < work.count:
                work.find_next()
                bar.update(1)
            work.require_same_loss()
        finally:
            # at Ctrl-C and SIGTERM too: what has been found is not lost
            work.save()
    if broken := int((~np.isfinite(work.values[:, 0])).sum()):
        words = f"{broken} of the section's {work.count} values of the loss are not finite"
        warnings.warn(words, RuntimeWarning, stacklevel=2)
    return Section(work.dataset())


def estimate_seconds(surface: Surface, values: int, *, derivatives: bool = False) -> float:
    """Return about how many seconds so many values of a section take, by timing one.

    >>> import torch
    >>> bowl = vd.landscape.Surface(lambda at: (at["w"] ** 2).sum(), {"w": torch.zeros(3)})
    >>> 0 < vd.landscape.estimate_seconds(bowl, 41 * 41) < 60
    True
    """
    require_kind("surface", surface, Surface)
    require_integer("values", values, at_least=0)
    require_boolean("derivatives", derivatives)
    some = torch.ones(2, surface.dimension).to(surface.point)
    return values * _seconds_of_one(Plane(surface, some), derivatives)


def _seconds_of_one(plane: Plane, derivatives: bool) -> float:
    place = [0.0] * len(plane.directions)
    for _ in range(2):  # the first call may compile
        began = time.perf_counter()
        plane.value(place)
        if derivatives:
            plane.derivatives(place)
        took = time.perf_counter() - began
    return took


def _one_or_two(directions: Sequence[Vector]) -> list[Vector]:
    require_sequence("directions", directions, "one or two directions")
    found = list(directions)
    if not 1 <= len(found) <= len(AXES) or not all(
        isinstance(each, torch.Tensor) and each.ndim for each in found
    ):
        shapes = [tuple(getattr(each, "shape", ())) for each in found[:4]]
        raise invalid_value("directions", shapes, "must be one or two vectors of parameters")
    return found
