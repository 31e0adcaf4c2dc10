"""From recorded arrays to a Trajectory: every array gets its axes, symbol and meaning, every axis its values."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from vitdyn._axes import FRAME, SEED, STATISTIC, STATISTICS, TRAINING_STEP
from vitdyn.observables.observable import Observable
from vitdyn.trajectory import SCHEMA, Trajectory, versions


def labelled_trajectory(
    observables: Iterable[Observable],
    values: Mapping[str, np.ndarray],
    *,
    steps: Sequence[int] | np.ndarray,
    times: np.ndarray,
    seeds: Sequence[int],
    others: Mapping[str, Any] | None = None,
    attributes: Mapping[str, Any],
) -> Trajectory:
    """Return the Trajectory of ``values``, each under the name of an observable and with its ``dimensions``.

    ``steps`` and ``times`` are those of the frames; ``others`` are variables that are no observables, as xarray takes
    them; ``attributes`` say what was run, and with what.
    """
    import xarray

    there = [each for each in observables if each.name in values]
    variables = {each.name: (each.dimensions, values[each.name], each.attributes) for each in there}
    coordinates: dict[str, Any] = {
        "step": (FRAME, np.asarray(steps), {"long_name": "steps of descent done"}),
        "time": (FRAME, times, {"symbol": "t", "long_name": "learning rate times step"}),
        SEED: (SEED, np.asarray(seeds)),
        STATISTIC: (STATISTIC, list(STATISTICS)),
    }
    for each in there:
        coordinates |= {axis: (axis, list(own)) for axis, own in each.coordinates.items()}
        if each.each_step:
            done = np.arange(values[each.name].shape[1])
            coordinates[TRAINING_STEP] = (TRAINING_STEP, done, {"long_name": "steps done before this one"})
    about = {
        "schema": SCHEMA,
        "versions": versions("vitdyn", "torch", "numpy", "scipy", "xarray"),
        **attributes,
    }
    return Trajectory(xarray.Dataset({**variables, **(others or {})}, coordinates, about))
