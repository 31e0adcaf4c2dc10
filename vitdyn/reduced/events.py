"""Events of a run, read off any trajectory: when a level is crossed, and where the first phase ends."""

from __future__ import annotations

from math import nan
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from vitdyn._errors import as_numbers, invalid_value, require_kind, require_real
from vitdyn.trajectory import Trajectory


class PhaseOneEnd(NamedTuple):
    """When a local query's own correlation begins to move as fast as that with the global area falls, and both then."""

    time: float
    to_global: float
    to_own: float


def local_correlations(
    trajectory: Trajectory, *, over: tuple[str, ...] = ("seed", "cluster")
) -> Float[np.ndarray, "*seed frame 2"]:
    """Return φ_1 and φ_a of a local query, means over local areas and over the axes that ``over`` names."""
    require_kind("trajectory", trajectory, Trajectory)
    values = trajectory["feature_position"].sel(statistic="mean").mean(over)
    phi = values.transpose(..., "frame", "query_area", "key_area").to_numpy()[..., 1:, :]
    own = np.diagonal(phi[..., 1:], axis1=-2, axis2=-1)
    return np.stack([np.nanmean(phi[..., 0], -1), np.nanmean(own, -1)], -1)


def phase_one_end(trajectory: Trajectory) -> PhaseOneEnd | None:
    """Return the end of phase I of masked reconstruction; None where there is no such phase or the record ends in it.

    Speeds are differences between frames, each taken at the middle of its interval; the end is where that of φ_a + φ_1
    first turns positive, by interpolation in time. Of a noisy run the first such change counts, so that frames
    should lie no closer than the noise lets speeds be told apart.
    """
    require_kind("trajectory", trajectory, Trajectory)
    time, (away, own) = trajectory["time"].to_numpy(), local_correlations(trajectory).T
    apart = np.flatnonzero(np.diff(time) > 0)  # during a jump log t stands still
    steps = np.diff(time)[apart]
    speed = np.diff(away + own)[apart] / steps
    later = np.flatnonzero(speed > 0)
    if not len(later) or later[0] == 0:
        return None
    end = int(later[0])
    # A difference over an interval is the speed at its middle: the sign changes between two middles.
    middle = (time[apart] + time[apart + 1]) / 2
    share = -speed[end - 1] / (speed[end] - speed[end - 1])
    moment = float(middle[end - 1] + share * (middle[end] - middle[end - 1]))
    return PhaseOneEnd(moment, float(np.interp(moment, time, away)), float(np.interp(moment, time, own)))


def crossing_time(trajectory: Trajectory, values: Float[np.ndarray, " frame"], level: float) -> float:
    """Return the first time at which recorded values pass a level, by interpolation in log time; NaN if never."""
    require_kind("trajectory", trajectory, Trajectory)
    clock = trajectory["time"].to_numpy()
    last, share = _first_reached(as_numbers("values", values), clock, level)
    if last is None:
        return nan
    # The record starts at t = 0, which has no logarithm: the frame after it stands for the crossing.
    if last == 0 or clock[last - 1] == 0:
        return float(clock[last])
    return float(np.exp(np.log(clock[last - 1]) + share * np.log(clock[last] / clock[last - 1])))


def when_reached(
    values: Float[np.ndarray, " frame"], other: Float[np.ndarray, " frame"], level: float
) -> float:
    """Return what ``values`` is where ``other`` first reaches a level, linear between frames; NaN if it never does."""
    values, other = as_numbers("values", values), as_numbers("other", other)
    last, share = _first_reached(other, values, level)
    if last is None:
        return nan
    return float(values[last - 1] + share * (values[last] - values[last - 1]) if last else values[0])


def _first_reached(values: np.ndarray, beside: np.ndarray, level: float) -> tuple[int | None, float]:
    """Return the first frame at a level, None for none, and how far it lies on the way there from the one before."""
    if values.shape != beside.shape:
        raise invalid_value(
            "values.shape", values.shape, f"must be one number for a frame, not {beside.shape}"
        )
    require_real("level", level, low=-1e300, high=1e300)
    # The first time: noise, or a later phase, may take it below the level again.
    above = np.flatnonzero(values >= level)
    if not len(above):
        return None, nan
    last = int(above[0])
    return last, (level - values[last - 1]) / (values[last] - values[last - 1]) if last else 0.0
