"""All results of a sweep as one dataset over its axes, read when they are asked for."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cached_property
from itertools import product
from pathlib import Path
from typing import Any

import netCDF4
import numpy as np
import xarray
from xarray.backends import BackendArray
from xarray.backends.netCDF4_ import NETCDF4_PYTHON_LOCK
from xarray.core import indexing

from vitdyn._errors import as_path, invalid_value
from vitdyn.experiments.sweep import BESIDE, CELL, OWN, Label
from vitdyn.experiments.sweep_folder import DONE, FAILED, MISSING, Definition, SweepFolder
from vitdyn.experiments.sweep_scan import Held, scan


def collect(out: str | Path) -> xarray.Dataset:
    """Return all results of the sweep in a folder as one dataset.

    Its axes are the sweep's, numbers in their order (words, where one is a word), or ``cell`` where the sweep is a
    list of points; then those of a trajectory, whose names have ``trajectory_`` before them where an axis of the sweep
    is called so. ``step`` and ``time`` are variables, since cells may be recorded at different ones, and where cells
    have other seeds so are these, as ``trajectory_seed``. Where cells differ in size, the smaller is filled up with
    NaN, and so is a cell without a result. ``status`` says of each cell whether it is "done", "failed" or "missing",
    "refused" (no experiment can be made), "unusable" (damaged, or of other formulas), or "absent" (no point of the
    sweep); ``error`` says why. Values are read from their files when they are asked for.

    Raises ``ValueError`` for a folder that holds no sweep.

    >>> def limit(kappa_s):
    ...     sizes = vd.AreaSizes.from_exponents(1e8, kappa_c=0.9, kappa_s=kappa_s)
    ...     return vd.Experiment(name="limit", training=vd.MeanField(sizes=sizes))
    >>> vd.run_sweep(vd.Sweep.product("limits", limit, {"kappa_s": (0.2, 0.3)}), "limits")
    >>> vd.collect("limits")["loss"].dims
    ('kappa_s', 'frame', 'seed')
    """
    folder = SweepFolder(as_path("out", out))
    definitions = folder.definitions()
    if not definitions:
        raise invalid_value("out", str(folder.folder), "holds no sweep: run one with vitdyn sweep")
    return _Collected(folder, definitions).dataset()


class _Collected:
    """The cells of a folder on the axes of their dataset."""

    def __init__(self, folder: SweepFolder, definitions: tuple[Definition, ...]) -> None:
        self.folder, self.definitions = folder, definitions
        self.axes = _union(definitions)
        self.keys: dict[tuple[Label, ...], str | None] = {}
        self.refused: dict[tuple[Label, ...], str] = {}
        for each in definitions:
            order = [list(each.axes).index(axis) for axis in self.axes]
            for index, (labels, key) in enumerate(zip(each.labels(), each.keys, strict=True)):
                point = tuple(labels[at] for at in order)
                self.keys[point] = key or self.keys.get(point)
                if key is None:
                    self.refused[point] = each.refused[index]
        self.held = scan(folder, filter(None, self.keys.values()))

    @cached_property
    def is_listed(self) -> bool:
        """Whether the cells lie along one axis: a grid of all labels of a list would be mostly empty."""
        return any(each.points is not None for each in self.definitions)

    @cached_property
    def points(self) -> list[tuple[Label, ...]]:
        """The points of the dataset in order."""
        return list(self.keys) if self.is_listed else list(product(*self.axes.values()))

    @cached_property
    def dims(self) -> tuple[str, ...]:
        """The names of the axes of the dataset that are the sweep's."""
        return (CELL,) if self.is_listed else tuple(self.axes)

    @cached_property
    def shape(self) -> tuple[int, ...]:
        """Their sizes."""
        return (len(self.points),) if self.is_listed else tuple(map(len, self.axes.values()))

    def dataset(self) -> xarray.Dataset:
        """Return the dataset."""
        told = [self._told(point) for point in self.points]
        alike, differing = _labels(self.kinds)
        labels = {self.called(axis): own for axis, own in alike.items()}
        data = xarray.Dataset(
            {
                name: (self.dims, self._column(column))
                for name, column in zip(OWN, zip(*told, strict=True), strict=True)
            },
            coords=self._coordinates() | labels,
            attrs={"sweep": self.definitions[0].name, "folder": str(self.folder.folder)},
        )
        for name in dict.fromkeys(name for held in self.kinds for name in held.variables):
            having = [held for held in self.kinds if name in held.variables]
            data[self.called(name)] = self._variable(name, having)
        for axis in differing:
            data[f"{BESIDE}{axis}"] = (*self.dims, self.called(axis)), self._own_labels(axis)
        return data

    def _own_labels(self, axis: str) -> np.ndarray:
        """Return what each cell calls the places of an axis that cells label by other numbers, seeds above all."""
        own = np.full((len(self.points), self.sizes[axis]), np.nan)
        for row, held in zip(own, self.found, strict=True):
            there = held.labels.get(axis, []) if held else []
            row[: len(there)] = there
        return own.reshape(*self.shape, -1)

    def _column(self, values: Sequence[str]) -> np.ndarray:
        return np.array(values).reshape(self.shape)

    def _told(self, point: tuple[Label, ...]) -> tuple[str, str, str]:
        """Return status, error and key of a cell."""
        if point not in self.keys:
            return "absent", "", ""
        key = self.keys[point]
        if key is None:
            return "refused", self.refused[point], ""
        if key in self.held:
            why_not = self.held[key].why_not
            return ("unusable", why_not, key) if why_not else (DONE, "", key)
        words = self.folder.why_failed(key)
        return (FAILED, words, key) if words else (MISSING, "", key)

    def _coordinates(self) -> dict[str, Any]:
        if not self.is_listed:
            return {axis: list(labels) for axis, labels in self.axes.items()}
        return {
            axis: (CELL, list(own))
            for axis, own in zip(self.axes, zip(*self.points, strict=True), strict=True)
        }

    def _variable(self, name: str, kinds: list[Held]) -> xarray.Variable:
        """Return a variable over all cells, of the size of the largest; nothing is read yet."""
        dims, _, _ = kinds[0].variables[name]
        if any(held.variables[name][0] != dims for held in kinds):
            raise invalid_value("variable", name, "has other axes in some cells: collect them apart")
        files = [
            path if held is not None and name in held.variables else None
            for path, held in zip(self.paths, self.found, strict=True)
        ]
        types = [np.dtype(held.variables[name][2]) for held in kinds]
        dtype = np.result_type(*(each if each.kind == "f" else np.float64 for each in types))
        largest = tuple(self.sizes[axis] for axis in dims)
        lazy = indexing.LazilyIndexedArray(_CellArray(name, files, self.shape, largest, dtype))
        return xarray.Variable((*self.dims, *map(self.called, dims)), lazy, kinds[0].attributes[name])

    def called(self, name: str) -> str:
        """Return what an axis or a variable of trajectories is called beside the axes of the sweep."""
        return f"{BESIDE}{name}" if name in self.axes or name in (*OWN, CELL) else name

    @cached_property
    def kinds(self) -> list[Held]:
        """What results hold, once of all that hold alike."""
        return list({id(held): held for held in self.found if held is not None}.values())

    @cached_property
    def sizes(self) -> dict[str, int]:
        """How long the axes of trajectories are in the largest cell, whichever variables that has."""
        found: dict[str, int] = {}
        for held in self.kinds:
            for dims, shape, _ in held.variables.values():
                found |= {axis: max(size, found.get(axis, 0)) for axis, size in zip(dims, shape, strict=True)}
        return found

    @cached_property
    def found(self) -> list[Held | None]:
        """What each point's result holds, None where there is none that can be used."""
        held = (self.held.get(self.keys.get(point) or "") for point in self.points)
        return [each if each is not None and each.why_not is None else None for each in held]

    @cached_property
    def paths(self) -> list[Path | None]:
        """The file of each point that has a result."""
        return [
            None if held is None else self.folder.result(str(self.keys[point]))
            for point, held in zip(self.points, self.found, strict=True)
        ]


class _CellArray(BackendArray):
    """One variable of all cells: (axes of the sweep, axes of the variable), NaN where there is no value."""

    def __init__(
        self,
        name: str,
        files: list[Path | None],
        cells: tuple[int, ...],
        inner: tuple[int, ...],
        dtype: np.dtype,
    ) -> None:
        self.name, self.files, self.cells, self.inner = name, files, cells, inner
        self.shape, self.dtype = (*cells, *inner), dtype

    def __getitem__(self, key: indexing.ExplicitIndexer) -> Any:
        return indexing.explicit_indexing_adapter(key, self.shape, indexing.IndexingSupport.OUTER, self._read)

    def _read(self, key: tuple[Any, ...]) -> np.ndarray:
        outer, inner = key[: len(self.cells)], key[len(self.cells) :]
        numbers = np.arange(len(self.files)).reshape(self.cells)
        numbers = _outer(numbers, outer)
        kept = [_full(self._cell(int(number)), self.inner, inner, self.dtype) for number in np.ravel(numbers)]
        if not kept:
            empty = np.empty(self.inner, self.dtype)
            return np.empty((*np.shape(numbers), *_outer(empty, inner).shape), self.dtype)
        return np.stack(kept).reshape(*np.shape(numbers), *kept[0].shape)

    def _cell(self, number: int) -> np.ndarray | None:
        path = self.files[number]
        if path is None:
            return None
        with NETCDF4_PYTHON_LOCK, netCDF4.Dataset(path) as opened:  # the library has no threads
            return np.ma.filled(opened[self.name][...].astype(self.dtype), np.nan)


def _full(
    own: np.ndarray | None, sizes: tuple[int, ...], key: tuple[Any, ...], dtype: np.dtype
) -> np.ndarray:
    """Return part of a cell's values, filled up with NaN to the sizes of the largest cell."""
    whole = np.full(sizes, np.nan, dtype)
    if own is not None:
        whole[tuple(map(slice, own.shape))] = own
    return _outer(whole, key)


def _outer(whole: np.ndarray, key: tuple[Any, ...]) -> np.ndarray:
    """Return what a key of numbers, slices and lists chooses along each axis by itself."""
    for axis, chosen in reversed(list(enumerate(key))):  # from behind: a number takes its axis away
        whole = whole[(slice(None),) * axis + (chosen,)]
    return whole


def _union(definitions: Iterable[Definition]) -> dict[str, list[Label]]:
    """Return the labels of each axis in all definitions: numbers in order, words as they came."""
    found: dict[str, dict[Label, None]] = {}
    for each in definitions:
        for axis, labels in each.axes.items():
            found.setdefault(axis, {}).update(dict.fromkeys(labels))
    return {
        axis: list(own) if any(isinstance(label, str) for label in own) else sorted(own)
        for axis, own in found.items()
    }


def _labels(kinds: Iterable[Held]) -> tuple[dict[str, Any], list[str]]:
    """Return labels along axes of trajectories, of the longest where others begin alike; and the axes where not."""
    longest: dict[str, list[Any]] = {}
    differ = set()
    for held in kinds:
        for axis, own in held.labels.items():
            shorter, longer = sorted((longest.get(axis, []), own), key=len)
            longest[axis] = longer
            if longer[: len(shorter)] != shorter:
                differ.add(axis)
    return {axis: own for axis, own in longest.items() if axis not in differ}, sorted(differ)
