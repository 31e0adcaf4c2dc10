"""The mean field in motion: gradient flow in logarithmic time, or gradient descent with a finite step."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from math import log
from typing import Any

import numpy as np
from jaxtyping import Float

from vitdyn._axes import FRAME, GLOBAL_AREA, STATISTIC, STATISTICS
from vitdyn._errors import as_numbers, require_boolean, require_kind, require_real, wrong
from vitdyn._progress import progress as shown
from vitdyn._specs import to_text
from vitdyn.lumped.attention import State
from vitdyn.lumped.mean_field import MeanField, require_alike
from vitdyn.lumped.record import observe_mean_field
from vitdyn.lumped.right_hand_side import RightHandSide
from vitdyn.trajectory import SCHEMA, Trajectory, versions

START = 1e-3
"""The flow starts at the time at which the fastest order parameter has moved this far."""
BEYOND = 25.0
"""A flow is followed over log P + this many factors e of time from its start: beyond every time scale."""


LONG = 30.0
"""A flow without an aim is followed over so many times the slowest of the first time scales."""
MOST_STEPS = 3000


class StalledFlowError(ArithmeticError):
    """A flow that did not get where it was asked to go: it stalled, went stiff or left the finite numbers.

    ``spec`` is the run, ``time`` how far it was followed without reaching its aim.
    """

    def __init__(self, message: str, spec: MeanField, time: float) -> None:
        super().__init__(message)
        self.spec, self.time = spec, time


def integrate(spec: MeanField, *, progress: bool = False) -> Trajectory:
    """Return the trajectory of a mean-field run from Q = 0, three representative areas standing for all.

    Areas: 0 the global one, 1 and 2 two local ones, so that every kind of pair (own, other, global) has its
    entry; ``seed`` has the single value 0, clusters are alike. ``crossing_time`` reads events off the frames.

    With ``progress`` the steps of a descent are shown. Raises ``StalledFlowError`` where a flow does not reach
    ``until`` or its integrator gives up; a descent ends after its steps.

    >>> sizes = vd.AreaSizes.from_exponents(1e8, kappa_c=0.9, kappa_s=0.3)
    >>> half, most = (vd.integrate(vd.MeanField(sizes=sizes, until=until)) for until in (0.5, 0.9))
    >>> bool(half.final["time"] < most.final["time"])
    True
    """
    require_kind("spec", spec, MeanField)
    require_boolean("progress", progress)
    started = time.perf_counter()
    with np.errstate(all="ignore"):  # a trial step of the integrator may overflow: it is then made smaller
        frames = _flow(spec) if spec.learning_rate is None else _descend([spec], progress)[0]
    return _assemble(spec, *frames, time.perf_counter() - started)


def integrate_descents(cells: Sequence[MeanField]) -> list[Trajectory]:
    """Return the trajectories of many runs of gradient descent at once, each as ``integrate`` does, to round-off.

    The cells share the kind of objective, the number of quadrature nodes, ``steps`` and ``frames``; all else is each
    cell's own. The recorded seconds are a cell's part of the whole. Raises ``ValueError`` for cells that cannot go
    together, ``StalledFlowError`` for the first that diverges.
    """
    require_alike(cells, "steps", "frames")
    for spec in cells:
        if spec.learning_rate is None:
            raise wrong(
                "cells", spec, "only descents go in step: give a learning_rate, or take integrate_batch"
            )
    started = time.perf_counter()
    with np.errstate(all="ignore"):
        found = _descend(cells)
    seconds = (time.perf_counter() - started) / len(cells)
    return [_assemble(spec, *frames, seconds) for spec, frames in zip(cells, found, strict=True)]


def watched(spec: MeanField) -> Callable[[State], float]:
    """Return the attention that the run is about as a function of the state (``RightHandSide.watched``)."""
    right = spec.right_hand_side
    return lambda state: float(right.watched(right.rows(state)))


def _flow(spec: MeanField) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Integrate dy/dt = drift(y) by LSODA along the arc length of (log t, y).

    Attention takes over within a fraction P^{−2(1−κ_c)} of the time that leads up to it, which at large P is less
    than round-off in log t. Arc length, d(log t, y) = (1, t · drift)/√(1 + |t · drift|²), passes such a jump
    at unit speed, and waits and jumps cost alike.
    """
    from scipy.integrate import LSODA

    right = spec.right_hand_side
    drift = right(np.zeros(len(spec.parameters)))
    if not np.abs(drift).max() > 0:
        raise StalledFlowError("nothing moves: the drift at Q = 0 is zero", spec, 0.0)
    first = log(START / np.abs(drift).max())
    slowest = np.abs(drift[[0, 1, 3]]).min()
    last = (
        first + log(spec.sizes.patches) + BEYOND
        if spec.until is not None or not slowest
        else log(LONG / slowest)
    )
    aim = watched(spec)
    error = {"rtol": spec.tolerance, "atol": 0.01 * spec.tolerance}

    def slope(_: float, point: State) -> State:
        moved = np.exp(point[0]) * right(point[1:])
        return np.concatenate([[1.0], moved]) / np.sqrt(1 + moved @ moved)

    def slope_in_log_time(log_time: float, state: State) -> State:
        return np.exp(log_time) * right(state)

    points = [np.concatenate([[first], START * drift / np.abs(drift).max()])]
    along_arc, reached = True, False
    while points[-1][0] < last and not reached:
        begin = points[-1]
        if along_arc:
            solver = LSODA(slope, 0.0, begin, np.inf, **error, max_step=2.0)
        else:
            solver = LSODA(slope_in_log_time, begin[0], begin[1:], last, **error, max_step=1.0)
        fresh = 0
        while points[-1][0] < last and not reached:
            if len(points) > MOST_STEPS:
                reached_time = float(np.exp(points[-1][0]))
                raise StalledFlowError(
                    f"the flow went stiff at t = {reached_time:.3g}: {MOST_STEPS} steps", spec, reached_time
                )
            message = solver.step()
            if solver.status == "failed" or not np.isfinite(solver.y).all():
                if fresh < 2:
                    reached_time = float(np.exp(points[-1][0]))
                    raise StalledFlowError(
                        f"the flow went stiff at t = {reached_time:.3g} ({message or 'no further step'})",
                        spec,
                        reached_time,
                    )
                break
            fresh += 1
            points.append(_point(solver.t, solver.y, along_arc))
            if spec.until is not None and aim(points[-1][1:]) >= spec.until:
                points[-1] = _reach(solver, along_arc, aim, spec.until)
                reached = True
            # In log time a jump is met by ever smaller steps; along the arc a stiff equilibrium is.
            if not along_arc and solver.t - solver.t_old < 1e-9 * abs(solver.t):
                break
            if along_arc and fresh >= 100 and np.abs(points[-1] - points[-100]).max() < 1e-4:
                break
        along_arc = not along_arc
    level = aim(points[-1][1:])
    if spec.until is not None and not reached:
        raise StalledFlowError(
            f"the flow stalled: attention {level:.4f} at t = {np.exp(points[-1][0]):.3g}, asked for {spec.until:g}",
            spec,
            float(np.exp(points[-1][0])),
        )
    path = np.array(points)
    return _thin(np.exp(path[:, 0]), path[:, 1:], spec.frames)


def _point(clock: float, values: State, along_arc: bool) -> State:
    return values.copy() if along_arc else np.concatenate([[clock], values])


def _reach(solver: Any, along_arc: bool, aim: Callable[[State], float], level: float) -> State:
    """Return the point within the solver's last step at which the attention reaches the level."""
    from scipy.optimize import brentq

    inner = solver.dense_output()

    def gap(moment: float) -> float:
        return aim(_point(moment, inner(moment), along_arc)[1:]) - level

    low, high = solver.t_old, solver.t
    moment = brentq(gap, low, high, xtol=1e-12) if gap(low) < 0 < gap(high) else high
    return _point(moment, inner(moment), along_arc)


def _thin(times: np.ndarray, states: np.ndarray, frames: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return frames of the start and of about so many recorded moments, evenly among the integrator's own."""
    kept = np.unique(np.linspace(0, len(times) - 1, min(frames - 1, len(times))).round().astype(int))
    clock = np.concatenate([[0.0], np.maximum.accumulate(times[kept])])
    return clock, np.concatenate([np.zeros((1, states.shape[1])), states[kept]]), np.arange(len(clock))


def _descend(
    cells: Sequence[MeanField], show: bool = False
) -> list[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Return times, states and steps of the frames of each run of gradient descent, all runs in step."""
    first = cells[0]
    right = first.right_hand_side if len(cells) == 1 else RightHandSide.together(cells)
    rates = np.array([float(spec.learning_rate or 0.0) for spec in cells])
    aims = np.array([np.nan if spec.until is None else spec.until for spec in cells])
    recorded = {0, first.steps, *np.geomspace(1, first.steps, first.frames - 1).round().astype(int).tolist()}
    runs = (len(cells),) if len(cells) > 1 else ()  # of one run alone states have no axis over runs
    rate, state = rates.reshape(runs), np.zeros((len(first.parameters), *runs))
    kept, steps, frames = [], [], np.zeros(len(cells), dtype=int)
    going = np.ones(len(cells), dtype=bool)
    with shown(show, first.steps, "step") as bar:
        for step in range(first.steps + 1):
            if step in recorded:
                kept.append(state.reshape(-1, len(cells)))
                steps.append(step)
                frames += going
                going &= ~(right.watched(right.rows(state)) >= aims)
            if not going.any():
                break
            state = state + rate * right(state)
            bar.update(1)
            lost = going & ~np.isfinite(state).all(0)
            if lost.any():
                index = int(lost.argmax())
                raise StalledFlowError(
                    f"learning_rate = {rates[index]:g} diverged at step {step}: take a smaller one",
                    cells[index],
                    step * rates[index],
                )
    states, numbers = np.array(kept), np.array(steps)
    return [
        (numbers[:count] * rates[index], states[:count, :, index], numbers[:count])
        for index, count in enumerate(frames)
    ]


def crossing_time(trajectory: Trajectory, values: Float[np.ndarray, " frame"], level: float) -> float:
    """Return the first time at which recorded values pass a level, by interpolation in log time; NaN if never."""
    require_kind("trajectory", trajectory, Trajectory)
    clock, values = trajectory["time"].to_numpy(), as_numbers("values", values)
    if values.shape != clock.shape:
        raise wrong("values.shape", values.shape, f"must be one number for each of {len(clock)} frames")
    require_real("level", level, low=-1e300, high=1e300)
    above = np.flatnonzero(values >= level)
    if not len(above) or above[0] == 0:
        return float("nan") if not len(above) else float(clock[0])
    last = above[0]
    if clock[last - 1] == 0:
        return float(clock[last])
    share = (level - values[last - 1]) / (values[last] - values[last - 1])
    return float(np.exp(np.log(clock[last - 1]) + share * np.log(clock[last] / clock[last - 1])))


def _assemble(
    spec: MeanField, clock: np.ndarray, states: np.ndarray, steps: np.ndarray, seconds: float
) -> Trajectory:
    import xarray

    coordinates = {
        "step": (FRAME, steps, {"long_name": "steps of descent done; of a flow: the number of the frame"}),
        "time": (FRAME, clock, {"symbol": "t", "long_name": "time of the gradient flow"}),
        "seed": ("seed", np.zeros(1, dtype=int)),
        STATISTIC: (STATISTIC, list(STATISTICS)),
    }
    about = {
        "schema": SCHEMA,
        "spec": to_text(spec),
        "device": "cpu",
        "seconds": seconds,
        "versions": versions("vitdyn", "numpy", "scipy", "xarray"),
        "global_area": GLOBAL_AREA,
    }
    return Trajectory(xarray.Dataset(observe_mean_field(spec, states), coordinates, about))
