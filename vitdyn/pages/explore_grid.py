"""The cells of a sweep on the grid of their axes."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from vitdyn._errors import invalid_value
from vitdyn.experiments.sweep import CELL
from vitdyn.experiments.sweep_folder import SweepFolder
from vitdyn.trajectory import Trajectory

if TYPE_CHECKING:
    import xarray


_SPARSEST = 20
"""Places of a grid to a point of a list: points that share no labels, drawn at random say, stay a list."""


class Cell(NamedTuple):
    """A cell by its place among all cells, with its key and what ``vd.collect`` says of it."""

    place: int
    key: str
    status: str
    error: str


@dataclass(frozen=True, kw_only=True)
class Grid:
    """The cells of a sweep in C order over its axes."""

    name: str
    axes: dict[str, list[Any]]
    cells: list[Cell]
    folder: SweepFolder

    @classmethod
    def of(cls, dataset: xarray.Dataset) -> Grid:
        """Read the cells off what ``vd.collect`` returns, or off a part of it; a list of points becomes a grid.

        Raises ``ValueError`` for anything else.
        """
        if not {"folder", "sweep"} <= getattr(dataset, "attrs", {}).keys():
            raise invalid_value("dataset", type(dataset).__name__, "must be what vd.collect returns")
        status = dataset["status"]
        if status.dims == (CELL,):
            dataset = _on_grid(dataset)
            status = dataset["status"]
        columns = (dataset[name].to_numpy().ravel().tolist() for name in ("key", "status", "error"))
        cells = [Cell(place, *told) for place, told in enumerate(zip(*columns, strict=True))]
        axes = {str(axis): dataset[axis].to_numpy().tolist() for axis in status.dims}
        folder = SweepFolder(Path(dataset.attrs["folder"]))
        return cls(name=str(dataset.attrs["sweep"]), axes=axes, cells=cells, folder=folder)

    def load(self, cell: Cell) -> Trajectory:
        """Return the result of a cell that is done. Raises ``ValueError`` where its file cannot be believed."""
        return Trajectory.load(self.folder.result(cell.key))


def _on_grid(dataset: xarray.Dataset) -> xarray.Dataset:
    """Return the statuses of a list of points over the grid of their labels, where most cells may be absent."""
    import xarray

    places = {}
    for axis in (name for name, own in dataset.coords.items() if own.dims == (CELL,) and name != CELL):
        labels = list(dict.fromkeys(dataset[axis].to_numpy().tolist()))
        labels = sorted(labels) if all(isinstance(each, int | float) for each in labels) else labels
        places[axis] = labels, [labels.index(each) for each in dataset[axis].to_numpy().tolist()]
    shape = tuple(len(labels) for labels, _ in places.values())
    if prod(shape) > _SPARSEST * dataset.sizes[CELL]:
        words = [
            ", ".join(f"{axis} = {labels[own[cell]]}" for axis, (labels, own) in places.items())
            for cell in range(dataset.sizes[CELL])
        ]
        return dataset.drop_vars(list(places)).assign_coords({CELL: words})
    where = tuple(own for _, own in places.values())
    found = {}
    for name, empty in (("key", ""), ("status", "absent"), ("error", "")):
        values = np.full(shape, empty, dtype=object)
        values[where] = dataset[name].to_numpy()
        found[name] = (tuple(places), values)
    return xarray.Dataset(
        found, coords={axis: labels for axis, (labels, _) in places.items()}, attrs=dataset.attrs
    )
