"""The grid of a section, and what has been found on it: saved now and then, taken up again to the same bits."""

from __future__ import annotations

import hashlib
import json
import time
from itertools import product
from math import isnan
from numbers import Real
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from vitdyn._errors import as_array, as_numbers, invalid_value, require_sequence
from vitdyn._files import require_writable
from vitdyn.landscape.plane import Plane
from vitdyn.trajectory import machine_name, read_result, versions, write_result

if TYPE_CHECKING:
    import xarray

SCHEMA = "vitdyn section 1"
AXES = ("first", "second")
_SAVED_EVERY = 30.0
"""Seconds from one saving of what has been found to the next."""


class GridWork:
    """What has been found of a section: the first ``done`` rows of ``values``, which go through the grid in order.

    A row holds the loss and, with derivatives, slopes and curvature.
    """

    def __init__(
        self, plane: Plane, grid: tuple[np.ndarray, ...], derivatives: bool, path: Path | None
    ) -> None:
        self.plane, self.grid, self.derivatives, self.path = plane, grid, derivatives, path
        self.places = list(product(*(each.tolist() for each in grid)))
        self.count, axes = len(self.places), len(grid)
        self.values = np.full((self.count, 1 + (axes + axes * axes) * derivatives), np.nan)
        self.spec = _spec(plane, grid, derivatives)
        self.done = self._resumed() if path and path.exists() else 0
        self.taken = self.saved = self.done
        self.last = time.monotonic()
        if path and self.done < self.count:
            require_writable(path)

    def find_next(self) -> None:
        """Find the next row; save what there is now and then."""
        place = self.places[self.done]
        row = [self.plane.value(place)]
        if self.derivatives:
            slopes, curvature = self.plane.derivatives(place)
            row += [*slopes.tolist(), *curvature.flatten().tolist()]
        self.values[self.done] = row
        self.done += 1
        if self.path and time.monotonic() - self.last >= _SAVED_EVERY:
            self.save()

    def require_same_loss(self) -> None:
        """Raise ``ValueError`` where the loss at θ or at the first point is another one than at the start."""
        again = self.plane.surface.value(), self.plane.value(self.places[0])
        for before, after in zip((self.spec["loss"], float(self.values[0, 0])), again, strict=True):
            if not _same(before, after):
                self.done = 0  # nothing that was found now can be believed
                if self.path and self.taken < self.count:
                    self.path.unlink(missing_ok=True)
                words = f"was {after!r} when asked again after the section: draw masks, views and batches once, before"
                raise invalid_value("loss", before, words)

    def save(self) -> None:
        """Write the checkpoint, if there is anything new."""
        if self.path and self.done > self.saved:
            write_result(self.path, self.dataset())
            self.saved, self.last = self.done, time.monotonic()

    def dataset(self) -> xarray.Dataset:
        """Return what has been found, NaN for the rest."""
        import xarray

        axes = AXES[: len(self.grid)]
        columns = self.values.reshape(*map(len, self.grid), -1)
        found = {"loss": (axes, columns[..., 0], {"symbol": "L", "long_name": "loss"})}
        if self.derivatives:
            slopes, curvature = columns[..., 1 : 1 + len(axes)], columns[..., 1 + len(axes) :]
            square = curvature.reshape(*slopes.shape, len(axes))
            found["slope"] = ((*axes, "direction"), slopes, {"symbol": "⟨∇L, d⟩"})
            found["curvature"] = ((*axes, "direction", "with_direction"), square, {"symbol": "dᵀ H d"})
        said = {
            "schema": SCHEMA,
            "spec": json.dumps(self.spec),
            "versions": versions("vitdyn", "torch"),
            "machine": machine_name(),
            "done": self.done,
        }
        return xarray.Dataset(found, dict(zip(axes, self.grid, strict=True)), said)

    def _resumed(self) -> int:
        """Take over what a checkpoint holds; return how much that is."""
        assert self.path
        found = read_result(self.path, SCHEMA)
        written, done = json.loads(found.attrs["spec"]), int(found.attrs["done"])
        others = [name for name, value in self.spec.items() if written.get(name) != value]
        if not others and done:
            first = float(found["loss"].values.flat[0])
            # another loss may have the same value at θ
            others = [] if _same(first, self.plane.value(self.places[0])) else ["loss away from θ"]
        if others:
            words = f"is of a section of another {', '.join(others)}: delete it, or name another file"
            raise invalid_value("checkpoint", str(self.path), words)
        names = ("loss", "slope", "curvature") if self.derivatives else ("loss",)
        self.values[:] = np.concatenate([found[name].values.reshape(self.count, -1) for name in names], 1)
        return done


def _spec(plane: Plane, grid: tuple[np.ndarray, ...], derivatives: bool) -> dict[str, Any]:
    """Return what decides a section's numbers, and how long its directions are."""
    surface, lengths = plane.surface, torch.linalg.vector_norm(plane.directions.double(), dim=1)
    unit = plane.directions.double() / lengths[:, None]
    shapes = [(name, *each.shape) for name, each in surface.parameters.items()]
    return {
        "precision": str(surface.point.dtype).removeprefix("torch."),
        "point": _digest(repr(shapes), surface.point),
        "loss": surface.value(),
        "stopped": surface.stopped,
        "directions": [_digest(each) for each in plane.directions],
        "lengths": lengths.tolist(),
        "cosines": (unit @ unit.T)[0, 1:].tolist(),
        "coordinates": [_digest(torch.from_numpy(each)) for each in grid],
        "derivatives": derivatives,
    }


def _digest(*parts: str | torch.Tensor) -> str:
    found = hashlib.sha256()
    for part in parts:
        if isinstance(part, torch.Tensor):
            # through bytes: numpy has no bfloat16
            found.update(part.cpu().contiguous().view(torch.uint8).numpy().tobytes())
        else:
            found.update(part.encode())
    return found.hexdigest()[:32]


def _same(before: float, after: float) -> bool:
    return before == after or (isnan(before) and isnan(after))


def grid_of(coordinates: Any, count: int) -> tuple[np.ndarray, ...]:
    """Return the coordinates along each direction."""
    require_sequence("coordinates", coordinates, "numbers, or one such sequence for each direction")
    rows = as_array("coordinates", coordinates) if hasattr(coordinates, "__array__") else list(coordinates)
    if all(isinstance(each, Real) for each in rows):
        rows = [rows] * count
    if len(rows) != count:
        raise invalid_value("coordinates", len(rows), f"must be as many sequences as directions: {count}")
    found = []
    for index, row in enumerate(rows):
        field, along = f"coordinates[{index}]", as_numbers(f"coordinates[{index}]", row)
        if not len(along) or not np.isfinite(along).all() or not (np.diff(along) > 0).all():
            raise invalid_value(
                field, along.tolist(), "must be finite numbers in increasing order, one or more"
            )
        found.append(along)
    return tuple(found)
