"""The mean field in batch: gradient flows of thousands of cells of a phase diagram at once, each at its own pace."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

from vitdyn._errors import as_numbers, require_boolean, require_integer, require_real, wrong
from vitdyn.lumped.flow import BEYOND, LONG, START
from vitdyn.lumped.mean_field import MeanField, require_alike
from vitdyn.lumped.right_hand_side import RightHandSide
from vitdyn.lumped.rosenbrock import Points, Step, rodas, root_within

CONVERGED, RESTED, STALLED = "converged", "rested", "stalled"

LONGEST = 1.5
"""No step is longer, in log t or in an order parameter."""
MOST_STEPS = 600
"""A flow of more steps is given up; at P = 10^40 there are some 150."""
YOUNG = 0.1
"""As long as no order parameter is larger, all are nearly linear in t, and plain time is the best clock."""
FAST = 2.0
"""Where an order parameter moves so much faster than log t it is the clock of the next step."""


@dataclass(frozen=True, kw_only=True)
class Flows:
    """Where the flows of many cells ended.

    ``status`` is "converged" (the attention that the run is about reached ``until``), "rested" (``until`` is None
    and the flow was followed to its end) or "stalled" (it did not get there: what is recorded is the last point).
    ``log_time``, ``state`` (the order parameters) and ``attention`` (in the order of ``ORDER_PARAMETERS``) are
    those of the last point. ``crossing`` is log t where the watched attention first passed each of the ``levels``,
    NaN where it never did.
    ``steps`` counts the integrator's own.
    """

    status: tuple[str, ...]
    log_time: Float[np.ndarray, " cell"]
    state: Float[np.ndarray, "cell parameter"]
    attention: Float[np.ndarray, "cell 5"]
    crossing: Float[np.ndarray, "cell level"]
    steps: Int[np.ndarray, " cell"]
    paths: tuple[Float[np.ndarray, "moment entry"], ...] | None = None

    @property
    def stalled(self) -> Bool[np.ndarray, " cell"]:
        """Which cells stalled."""
        return np.array([each == STALLED for each in self.status])


class Lanes(NamedTuple):
    """The cells under way: points (log t, order parameters), drifts and levels there, clocks and next step lengths.

    ``clock`` is the entry that runs evenly during the next step, in the direction ``sign``: 0, time, or, where
    something moves faster than log t, the fastest order parameter. Within a step time is t/t_0 − 1 from its
    beginning t_0 or, where ``logarithmic``, log t/t_0. ``covered`` and ``error`` are the length of the last step
    on this clock and its error.
    """

    cell: Int[np.ndarray, " cell"]
    point: Points
    drift: Points
    level: Float[np.ndarray, " cell"]
    clock: Int[np.ndarray, " cell"]
    sign: Float[np.ndarray, " cell"]
    logarithmic: Bool[np.ndarray, " cell"]
    length: Float[np.ndarray, " cell"]
    last: Float[np.ndarray, " cell"]
    steps: Int[np.ndarray, " cell"]
    failures: Int[np.ndarray, " cell"]
    covered: Float[np.ndarray, " cell"]
    error: Float[np.ndarray, " cell"]

    def take(self, chosen: np.ndarray) -> Lanes:
        """Return some of the lanes."""
        return Lanes(*(each[..., chosen] for each in self))


def slope(right: RightHandSide, lanes: Lanes, points: Points, drift: Points | None = None) -> Points:
    """Return the slope on each lane's own clock: (1, dy/dtime)/v, where v is the speed of the clock's entry."""
    time = np.exp(lanes.point[0] + np.where(lanes.logarithmic, points[0], 0.0))
    moved = time * (right(points[1:]) if drift is None else drift)
    speeds = np.concatenate([np.ones_like(moved[:1]), moved])
    speed = lanes.sign * np.take_along_axis(speeds, lanes.clock[None], 0)[0]
    # A clock that turned back is none: the step fails and the lane takes plain time instead.
    return speeds / np.where(speed > 0, speed, np.nan)


def jacobian(right: RightHandSide, lanes: Lanes, first: Points) -> Float[np.ndarray, "entry entry cell"]:
    """Return the derivative of ``slope``, whose value is ``first``; that of the drift by forward differences."""
    point, drift = lanes.point, lanes.drift
    turned = np.zeros((len(point), *point.shape))
    for moves, moved_to in right.apart(len(point) - 1):
        moved = point[1:].copy()
        moved[moves] += 1e-7 * (1 + np.abs(moved[moves]))
        slanted = right(moved) - drift
        for move, entries in zip(moves, moved_to, strict=True):
            turned[1 + entries, 1 + move] = slanted[entries] / (moved[move] - point[1 + move])
    time = np.exp(point[0])
    turned *= time
    turned[1:, 0] = np.where(lanes.logarithmic, time * drift, 0.0)
    speeds = np.concatenate([np.ones_like(point[:1]), time * drift])
    speed = lanes.sign * np.take_along_axis(speeds, lanes.clock[None], 0)[0]
    own = lanes.sign * np.take_along_axis(turned, lanes.clock[None, None], 0)[0]
    return (turned - first[:, None] * own[None]) / speed


def onward(point: Points, increment: Points, logarithmic: np.ndarray) -> Points:
    """Return the point (log t, y) after an increment of time and y."""
    later = np.where(logarithmic, increment[0], np.log1p(increment[0]))
    return point + np.concatenate([later[None], increment[1:]])


def integrate_batch(
    cells: Sequence[MeanField],
    *,
    levels: Sequence[float] = (),
    tolerance: float = 1e-4,
    lanes: int = 96,
    paths: bool = False,
) -> Flows:
    """Follow the gradient flows of many cells from Q = 0, each as ``integrate`` does, and return where they end.

    The cells share the kind of objective and the number of quadrature nodes; sizes, mask ratio, temperature, weights,
    clusters, negatives, latents and ``until`` are each cell's own. ``levels`` asks for the times at which the watched
    attention first passes them, ``tolerance`` is the local error of a step, relative to 1 + |entry|, in log t and
    the order parameters; ``lanes`` is how many cells are held in memory at once (no result depends on it beyond
    round-off, which the choice of steps may raise to the tolerance); ``paths`` keeps the points (log t, order
    parameters) of every step.

    Where ``integrate`` raises, a cell here has the status "stalled" and the others go on. Each step is one of RODAS,
    implicit, so that fast equilibria cost nothing, on the clock that suits it: t at first, then log t, or in a
    jump the fastest order parameter (``mean_field.md``). Raises ``ValueError`` for cells that cannot go together.
    """
    require_integer("lanes", lanes, at_least=1)
    require_boolean("paths", paths)
    require_alike(cells, lanes=lanes)
    for spec in cells:
        if spec.learning_rate is not None:
            raise wrong("cells", spec, "only flows go here: take learning_rate=None, or integrate_descents")
    require_real("tolerance", tolerance, low=1e-12, high=1e-2)
    for level in as_numbers("levels", levels):
        require_real("levels", level, low=0.0, high=1.0, open_low=True, open_high=True)
    with np.errstate(all="ignore"):  # a trial step may overflow: it is then made smaller
        return _Batch(cells, levels, tolerance, lanes, paths).follow()


class _Batch:
    """The cells of a batch, what is known of each, and the crossings still to be placed within their steps."""

    def __init__(
        self, cells: Sequence[MeanField], levels: Sequence[float], tolerance: float, lanes: int, paths: bool
    ) -> None:
        self.right = RightHandSide.together(cells)
        self.aims = np.array([np.nan if spec.until is None else spec.until for spec in cells])
        self.levels = np.vstack([np.repeat(np.array(levels)[:, None], len(cells), 1), self.aims])
        self.tolerance, self.lanes = tolerance, lanes
        size, count = len(cells[0].parameters), len(cells)
        self.status = np.full(count, STALLED, dtype=object)
        self.point = np.zeros((size + 1, count))
        self.point[0] = -np.inf
        self.crossing = np.full(self.levels.shape, np.nan)
        self.steps = np.zeros(count, dtype=int)
        self.events: list[tuple[np.ndarray, ...]] = []
        self.path: list[tuple[np.ndarray, np.ndarray]] | None = [] if paths else None

    def follow(self) -> Flows:
        """Follow all cells to their ends."""
        waiting = self._starts()
        active = waiting.take(np.arange(0))
        while len(active.cell) or len(waiting.cell):
            if len(active.cell) <= 0.8 * self.lanes and len(waiting.cell):
                room = np.arange(len(waiting.cell)) < self.lanes - len(active.cell)
                active = Lanes(
                    *(np.concatenate(pair, -1) for pair in zip(active, waiting.take(room), strict=True))
                )
                waiting = waiting.take(~room)
            right = self.right.take(active.cell)
            active = self._advance(right, active)
        self._place_events()
        return self._flows()

    def _starts(self) -> Lanes:
        """Return all cells at their starts, one step of Euler after t = 0, but those in which nothing moves."""
        count = self.point.shape[1]
        drift = np.concatenate(
            [self.right.take(part)(self.point[1:, part]) for part in self._parts(count)], 1
        )
        largest, slowest = np.abs(drift).max(0), np.abs(drift[[0, 1, 3]]).min(0)
        first = np.log(START / largest)
        aimed = ~np.isnan(self.aims) | (slowest == 0)
        last = np.where(aimed, first + self.right.log_patches + BEYOND, np.log(LONG / slowest))
        point = np.concatenate([first[None], START * drift / largest])
        level = np.empty(count)
        for part in self._parts(count):
            right = self.right.take(part)
            rows = right.rows(point[1:, part])
            drift[:, part], level[part] = right.drift(point[1:, part], rows), right.watched(rows)
        zeros = np.zeros(count, dtype=int)
        begin = Lanes(
            cell=np.arange(count),
            point=point,
            drift=drift,
            level=level,
            clock=zeros,
            sign=np.ones(count),
            logarithmic=np.zeros(count, dtype=bool),
            length=np.full(count, 3.0),
            last=last,
            steps=zeros,
            failures=zeros,
            covered=np.ones(count),
            error=np.ones(count),
        )
        return begin.take(largest > 0)

    def _parts(self, count: int) -> Iterator[slice]:
        return (slice(begin, min(begin + self.lanes, count)) for begin in range(0, count, self.lanes))

    def _advance(self, right: RightHandSide, lanes: Lanes) -> Lanes:
        """Try one step in each lane; return the lanes that are not at their end."""
        begin = np.concatenate([np.zeros_like(lanes.point[:1]), lanes.point[1:]])
        first = slope(right, lanes, begin, lanes.drift)
        step = rodas(
            lambda points: slope(right, lanes, points),
            begin,
            first,
            jacobian(right, lanes, first),
            lanes.length,
        )
        point = onward(lanes.point, step.increment, lanes.logarithmic)
        rows = right.rows(point[1:])
        drift, level = right.drift(point[1:], rows), np.asarray(right.watched(rows))
        error = (np.abs(step.error) / (self.tolerance * (1 + np.abs(begin)))).max(0)
        sound = np.isfinite(error) & np.isfinite(point).all(0) & np.isfinite(drift).all(0)
        taken = sound & (error <= 1)
        error = np.maximum(error, 1e-12)
        wish = error**-0.25
        # Where errors grow from step to step, they will go on growing (Gustafsson's predictive controller).
        trend = lanes.length / lanes.covered * (lanes.error / error) ** 0.25
        factor = np.clip(0.9 * wish * np.where(taken, np.minimum(trend, 1.0), 1.0), 0.2, 6.0)
        factor = np.where(sound, factor, 0.2)
        self._note(lanes, step, level, taken)
        tried = lanes._replace(
            steps=lanes.steps + 1,
            failures=np.where(taken, 0, lanes.failures + 1),
            level=np.where(taken, level, lanes.level),
            error=np.where(taken, error, lanes.error),
            point=np.where(taken, point, lanes.point),
            drift=np.where(taken, drift, lanes.drift),
        )
        return self._retire(_choose_clock(tried, lanes, step, factor, taken, sound))

    def _note(self, lanes: Lanes, step: Step, level: np.ndarray, taken: np.ndarray) -> None:
        """Keep the steps in which a level is passed for the first time, and the path."""
        for row, levels in enumerate(self.levels):
            wanted = levels[lanes.cell]
            passed = (
                taken & (lanes.level < wanted) & (level >= wanted) & np.isnan(self.crossing[row, lanes.cell])
            )
            if passed.any():
                self.crossing[row, lanes.cell[passed]] = np.inf  # until its place in the step is found
                parts = (lanes.cell, np.full(len(passed), row), lanes.logarithmic, lanes.point, *step)
                self.events.append(tuple(each[..., passed] for each in parts))
        if self.path is not None:
            self.path.append(
                (lanes.cell[taken], onward(lanes.point, step.increment, lanes.logarithmic)[:, taken])
            )

    def _retire(self, lanes: Lanes) -> Lanes:
        """Write down the lanes that are at their end and return the others."""
        reached = lanes.level >= self.aims[lanes.cell]
        ended = lanes.point[0] >= lanes.last - 1e-9
        lost = (lanes.steps >= MOST_STEPS) | (lanes.failures > 60)
        over = reached | ended | lost
        status = np.where(np.isnan(self.aims[lanes.cell]) & ended, RESTED, STALLED)
        status = np.where(reached, CONVERGED, status)
        gone = lanes.cell[over]
        self.status[gone], self.steps[gone] = status[over], lanes.steps[over]
        self.point[:, gone] = lanes.point[:, over]
        return lanes.take(~over) if over.any() else lanes

    def _place_events(self) -> None:
        """Find each crossing within its step; the last level's is the end of its cell."""
        if not self.events:
            return
        cell, row, logarithmic, point, *step = (
            np.concatenate(parts, -1) for parts in zip(*self.events, strict=True)
        )
        for part in self._parts(len(cell)):
            here, begin, inner = cell[part], point[:, part], Step(*(each[..., part] for each in step))
            right, wanted = self.right.take(here), self.levels[row[part], here]
            share = root_within(partial(_gap, right, begin, inner, wanted), len(here))
            found = onward(begin, inner.inside(share), logarithmic[part])
            self.crossing[row[part], here] = found[0]
            final = row[part] == len(self.levels) - 1
            self.point[:, here[final]] = found[:, final]

    def _flows(self) -> Flows:
        count = self.point.shape[1]
        attention = np.empty((5, count))
        for part in self._parts(count):
            right = self.right.take(part)
            attention[:, part] = right.attention(right.rows(self.point[1:, part]).counted)
        return Flows(
            status=tuple(self.status),
            log_time=self.point[0],
            state=self.point[1:].T,
            attention=attention.T,
            crossing=self.crossing[:-1].T,
            steps=self.steps,
            paths=self._paths(),
        )

    def _paths(self) -> tuple[np.ndarray, ...] | None:
        if self.path is None:
            return None
        count = self.point.shape[1]
        cells = np.concatenate([each for each, _ in self.path])
        points = np.concatenate([each for _, each in self.path], 1)
        return tuple(points[:, cells == cell].T for cell in range(count))


def _gap(
    right: RightHandSide, begin: Points, inner: Step, wanted: np.ndarray, share: np.ndarray
) -> np.ndarray:
    """Return how far watched attention is above a level at a share of each step."""
    return np.asarray(right.watched(right.rows(begin[1:] + inner.inside(share)[1:])) - wanted)


def _choose_clock(
    tried: Lanes, lanes: Lanes, step: Step, factor: np.ndarray, taken: np.ndarray, sound: np.ndarray
) -> Lanes:
    """Return the lanes with clock and length of their next steps.

    The step just done tells which entry really moves: in a fast equilibrium t·drift is round-off times a large number.
    """
    moved, waited = np.abs(step.increment[1:]), tried.point[0] - lanes.point[0]
    fastest, far = moved.argmax(0) + 1, moved.max(0)
    sign = np.sign(np.take_along_axis(tried.drift, fastest[None] - 1, 0)[0])
    goes_on = sign == np.sign(np.take_along_axis(step.increment, fastest[None], 0)[0])
    young = np.abs(tried.point[1:]).max(0) < YOUNG
    jump = (far > FAST * waited) & goes_on & ~young
    speed = np.exp(tried.point[0]) * np.abs(tried.drift).max(0)
    waited = np.maximum(np.where(young, np.expm1(waited), waited), 1e-3 * far / (1 + speed))
    lost = ~taken & ~sound & (lanes.clock > 0)  # a clock that turned back
    clock = np.where(taken, np.where(jump, fastest, 0), np.where(lost, 0, lanes.clock))
    covered = np.where(jump, far, waited)
    length = factor * np.where(taken, covered, np.where(lost, lanes.length / speed, lanes.length))
    changed = taken | lost
    left = np.maximum(tried.last - tried.point[0], 1e-9)
    most = np.where(clock == 0, np.minimum(left, LONGEST), LONGEST)
    logarithmic = np.where(changed, (clock == 0) & ~young, lanes.logarithmic)
    return tried._replace(
        clock=clock,
        sign=np.where(clock == 0, 1.0, np.where(taken, sign, lanes.sign)),
        logarithmic=logarithmic,
        error=np.where((clock != lanes.clock) | (logarithmic != lanes.logarithmic), np.inf, tried.error),
        length=np.minimum(length, np.where((clock == 0) & ~logarithmic, np.expm1(most), most)),
        covered=np.where(taken, covered, np.where(lost, length, lanes.covered)),
    )
