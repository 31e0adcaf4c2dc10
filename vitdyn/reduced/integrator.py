"""Gradient flows of the mean field by one implicit integrator: of one run or of thousands, each at its own pace."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from functools import partial
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

from vitdyn.reduced.mean_field import MeanField
from vitdyn.reduced.right_hand_side import RightHandSide
from vitdyn.reduced.rosenbrock import Points, Step, rodas, root_within

CONVERGED, FIXED_POINT, STALLED, STIFF = "converged", "fixed point", "stalled", "stiff"

INITIAL_DISPLACEMENT = 1e-3
"""A flow starts at the time at which the fastest order parameter has moved this far: a step of Euler from Q = 0."""
HORIZON_FACTORS = 25.0
"""A flow is followed over log P + this many factors e of time from its start: beyond every time scale."""
SLOWEST_TIMES = 30.0
"""A flow without an aim is followed over so many times the slowest of the first time scales."""
LONGEST_STEP = 1.5
"""No step is longer, in log t or in an order parameter."""
MOST_STEPS = 600
"""A flow of more steps is given up, at a tolerance of 1e-4; there are some 150 at P = 10^40."""
MOST_FAILURES = 60
LINEAR_PHASE = 0.1
"""As long as no order parameter is larger, all are nearly linear in t, and plain time is the best variable."""
JUMP = 2.0
"""Where an order parameter moves so much faster than log t, it is the independent variable of the next step."""
FLOOR = 1.0
"""The error of a step is measured relative to this + |entry|."""


class ActiveFlows(NamedTuple):
    """The runs under way: points (log t, order parameters), drifts and target attention there, and the next step.

    ``variable`` is the entry that runs evenly during the next step, in the direction ``sign``: 0, time, or, where
    something moves faster than log t, the fastest order parameter. Within a step time is t/t_0 − 1 from its
    beginning t_0 or, where ``logarithmic``, log t/t_0. ``covered`` and ``error`` are the length of the last step
    in this variable and its error.
    """

    run: Int[np.ndarray, " run"]
    point: Points
    drift: Points
    attention: Float[np.ndarray, " run"]
    variable: Int[np.ndarray, " run"]
    sign: Float[np.ndarray, " run"]
    logarithmic: Bool[np.ndarray, " run"]
    length: Float[np.ndarray, " run"]
    last: Float[np.ndarray, " run"]
    steps: Int[np.ndarray, " run"]
    failures: Int[np.ndarray, " run"]
    covered: Float[np.ndarray, " run"]
    error: Float[np.ndarray, " run"]

    def take(self, chosen: np.ndarray) -> ActiveFlows:
        """Return some of the flows."""
        return ActiveFlows(*(each[..., chosen] for each in self))


class Segment(NamedTuple):
    """Accepted steps of some runs, with what gives the points inside; ``begin`` is (log t, order parameters)."""

    run: Int[np.ndarray, " run"]
    logarithmic: Bool[np.ndarray, " run"]
    begin: Points
    increment: Points
    interior: Float[np.ndarray, "2 entry run"]

    def take(self, chosen: np.ndarray | slice) -> Segment:
        """Return some of the steps."""
        return Segment(*(each[..., chosen] for each in self))

    def at(self, share: float | Float[np.ndarray, " run"]) -> Points:
        """Return the points (log t, order parameters) at a share of each step, by dense output of order 3."""
        inner = Step(self.increment, self.increment, self.interior).inside(share)
        return advance(self.begin, inner, self.logarithmic)


def joined(segments: Sequence[Segment]) -> Segment:
    """Return the steps of several segments as one, in their order."""
    return Segment(*(np.concatenate(parts, -1) for parts in zip(*segments, strict=True)))


def slope(right: RightHandSide, flows: ActiveFlows, points: Points, drift: Points | None = None) -> Points:
    """Return the slope in each flow's own variable: (1, dy/dtime)/v, where v is the speed of the variable's entry."""
    time = np.exp(flows.point[0] + np.where(flows.logarithmic, points[0], 0.0))
    moved = time * (right(points[1:]) if drift is None else drift)
    speeds = np.concatenate([np.ones_like(moved[:1]), moved])
    speed = flows.sign * np.take_along_axis(speeds, flows.variable[None], 0)[0]
    # If the chosen variable is not increasing, the slope is NaN: the step is rejected and time takes its place.
    return speeds / np.where(speed > 0, speed, np.nan)


def jacobian(right: RightHandSide, flows: ActiveFlows, first: Points) -> Float[np.ndarray, "entry entry run"]:
    """Return the derivative of ``slope``, whose value is ``first``; that of the drift by forward differences."""
    point, drift = flows.point, flows.drift
    colours = right.jacobian_colouring(len(drift))
    # Parameters that no drift shares may move together: fewer evaluations give the same differences.
    moved = np.repeat(point[1:, None], len(colours), 1)  # (entry, colour, run)
    for colour, (moves, _) in enumerate(colours):
        moved[moves, colour] += 1e-7 * (1 + np.abs(point[1 + moves]))
    # All differences in one call: the formulas cost little more for a few points than for one.
    together = right.repeated(len(colours))
    slanted = together(moved.reshape(len(drift), -1)).reshape(moved.shape) - drift[:, None]
    turned = np.zeros((len(point), *point.shape))
    for colour, (moves, moved_to) in enumerate(colours):
        for move, entries in zip(moves, moved_to, strict=True):
            turned[1 + entries, 1 + move] = slanted[entries, colour] / (moved[move, colour] - point[1 + move])
    time = np.exp(point[0])
    turned *= time
    turned[1:, 0] = np.where(flows.logarithmic, time * drift, 0.0)
    # The quotient rule: what is differentiated is (1, dy/dtime) over the speed of the chosen entry.
    speeds = np.concatenate([np.ones_like(point[:1]), time * drift])
    speed = flows.sign * np.take_along_axis(speeds, flows.variable[None], 0)[0]
    own = flows.sign * np.take_along_axis(turned, flows.variable[None, None], 0)[0]
    return (turned - first[:, None] * own[None]) / speed


def advance(point: Points, increment: Points, logarithmic: np.ndarray) -> Points:
    """Return the point (log t, y) after an increment of time and y."""
    later = np.where(logarithmic, increment[0], np.log1p(increment[0]))
    return point + np.concatenate([later[None], increment[1:]])


def kind_of(spec: MeanField) -> Hashable:
    """Return what flows have in common whose steps are those of the same formulas: in one batch each keeps its bits."""
    right = spec.right_hand_side
    signs = spec.weight < 1, spec.weight > 0, right.decay != 0
    return spec.objective.name, right.rule.nodes.size, spec.position_correlations, signs


class Integrator:
    """Follows the flows of runs from Q = 0 to their ends by RODAS, each in the variable that suits its next step.

    The variable is t at first, then log t, or in a jump the fastest order parameter (``mean_field.md``). A step is
    implicit, so that fast equilibria cost nothing. No bit of a run depends on others of its kind (``kind_of``).

    After ``follow``: ``status``, ``point`` (log t, order parameters) and ``steps`` at the end of each run;
    ``crossing``, log t where target attention first passed each of the ``levels`` (its last row: ``until``); and, with
    ``keep_steps``, all accepted steps in ``segments``.
    """

    def __init__(
        self, specs: Sequence[MeanField], levels: Sequence[float], max_active: int, keep_steps: bool
    ) -> None:
        self.right = RightHandSide.together([spec.right_hand_side for spec in specs])
        self.aims = np.array([np.nan if spec.until is None else spec.until for spec in specs])
        self.levels = np.vstack([np.repeat(np.array(levels)[:, None], len(specs), 1), self.aims])
        self.tolerance = np.array([spec.tolerance for spec in specs])
        # A method of order 4 takes twice the steps where the tolerance is a sixteenth.
        self.most_steps = np.maximum(1, (1e-4 / self.tolerance) ** 0.25) * MOST_STEPS
        self.max_active, self.keep_steps = max_active, keep_steps
        size, count = len(specs[0].parameters), len(specs)
        self.status = np.full(count, STALLED, dtype=object)
        self.point = np.zeros((size + 1, count))
        # Where nothing moves at Q = 0 there is no start, and log t stays what it is here.
        self.point[0] = -np.inf
        self.crossing = np.full(self.levels.shape, np.nan)
        self.steps = np.zeros(count, dtype=int)
        self.segments: list[Segment] = []
        self.last_share = np.ones(count)
        self._events: list[tuple[int, Segment]] = []

    def follow(self) -> None:
        """Follow all runs to their ends."""
        with np.errstate(all="ignore"):  # a trial step may overflow: it is then made smaller
            waiting = self._starts()
            active, right = waiting.take(np.arange(0)), self.right.take(slice(0))
            held = active.run
            while len(active.run) or len(waiting.run):
                # New flows join when a fifth has ended, not one by one: each change cuts the formulas anew.
                if len(active.run) <= 0.8 * self.max_active and len(waiting.run):
                    room = np.arange(len(waiting.run)) < self.max_active - len(active.run)
                    pairs = zip(active, waiting.take(room), strict=True)
                    active = ActiveFlows(*(np.concatenate(pair, -1) for pair in pairs))
                    waiting = waiting.take(~room)
                # Cached parts of the formulas hold as long as the flows are the same ones.
                if not np.array_equal(active.run, held):
                    right, held = self.right.take(active.run), active.run
                active = self._step(right, active)
            self._place_events()

    def attention(self) -> Float[np.ndarray, "5 run"]:
        """Return mean attention at the ends, in the order of ``ORDER_PARAMETERS``."""
        found = np.empty((5, self.point.shape[1]))
        for part in self._parts(self.point.shape[1]):
            right = self.right.take(part)
            found[:, part] = right.attention(right.rows(self.point[1:, part]).loss_queries)
        return found

    def _starts(self) -> ActiveFlows:
        """Return all runs at their starts, one step of Euler after t = 0, but those in which nothing moves."""
        count = self.point.shape[1]
        parts = list(self._parts(count))
        drift = np.concatenate([self.right.take(part)(self.point[1:, part]) for part in parts], 1)
        largest, slowest = np.abs(drift).max(0), np.abs(drift[[0, 1, 3]]).min(0)
        first = np.log(INITIAL_DISPLACEMENT / largest)
        # A flow without an aim ends when its slowest entry has had its time; with one entry at rest there is none.
        aimed = ~np.isnan(self.aims) | (slowest == 0)
        horizon = first + self.right.log_patches + HORIZON_FACTORS
        point = np.concatenate([first[None], INITIAL_DISPLACEMENT * drift / largest])
        attention = np.empty(count)
        for part in parts:
            right = self.right.take(part)
            rows = right.rows(point[1:, part])
            drift[:, part] = right.drift(point[1:, part], rows)
            attention[part] = right.target_attention(rows)
        zeros, ones = np.zeros(count, dtype=int), np.ones(count)
        begin = ActiveFlows(
            run=np.arange(count),
            point=point,
            drift=drift,
            attention=attention,
            variable=zeros,
            sign=ones,
            logarithmic=np.zeros(count, dtype=bool),
            length=np.full(count, 3.0),
            last=np.where(aimed, horizon, np.log(SLOWEST_TIMES / slowest)),
            steps=zeros,
            failures=zeros,
            covered=ones,
            error=ones,
        )
        return begin.take(largest > 0)

    def _parts(self, count: int) -> Iterator[Int[np.ndarray, " run"]]:
        """Yield the indices of no more runs than may be held at once."""
        # Indices, where slices would do: a sum's round-off depends on how memory is laid out, which is the same then.
        return (
            np.arange(begin, min(begin + self.max_active, count))
            for begin in range(0, count, self.max_active)
        )

    def _step(self, right: RightHandSide, flows: ActiveFlows) -> ActiveFlows:
        """Try one step of each flow; return the flows that are not at their end."""
        begin = np.concatenate([np.zeros_like(flows.point[:1]), flows.point[1:]])
        first = slope(right, flows, begin, flows.drift)
        step = rodas(
            lambda points: slope(right, flows, points),
            begin,
            first,
            jacobian(right, flows, first),
            flows.length,
        )
        point = advance(flows.point, step.increment, flows.logarithmic)
        rows = right.rows(point[1:])
        drift, attention = right.drift(point[1:], rows), np.asarray(right.target_attention(rows))
        error = (np.abs(step.error) / (self.tolerance[flows.run] * (FLOOR + np.abs(begin)))).max(0)
        finite = np.isfinite(error) & np.isfinite(point).all(0) & np.isfinite(drift).all(0)
        taken = finite & (error <= 1)
        self._note(flows, step, attention, taken)
        error = np.maximum(error, 1e-12)
        # Where errors grow from step to step, they will go on growing (Gustafsson's predictive controller).
        trend = flows.length / flows.covered * (flows.error / error) ** 0.25
        factor = np.clip(0.9 * error**-0.25 * np.where(taken, np.minimum(trend, 1.0), 1.0), 0.2, 6.0)
        tried = flows._replace(
            steps=flows.steps + 1,
            failures=np.where(taken, 0, flows.failures + 1),
            attention=np.where(taken, attention, flows.attention),
            error=np.where(taken, error, flows.error),
            point=np.where(taken, point, flows.point),
            drift=np.where(taken, drift, flows.drift),
        )
        factor = np.where(finite, factor, 0.2)
        return self._retire(_choose_variable(tried, flows, step, factor, taken, finite))

    def _note(self, flows: ActiveFlows, step: Step, attention: np.ndarray, taken: np.ndarray) -> None:
        """Keep the steps in which a level is passed for the first time, and all of them where they are asked for."""
        # Where in the step it happened is found at the end, for all levels of all flows at once.
        segment = Segment(flows.run, flows.logarithmic, flows.point, step.increment, step.interior)
        for level, wanted in enumerate(self.levels[:, flows.run]):
            passed = taken & (flows.attention < wanted) & (attention >= wanted)
            passed &= np.isnan(self.crossing[level, flows.run])
            if passed.any():
                self.crossing[level, flows.run[passed]] = np.inf  # until its place in the step is found
                self._events.append((level, segment.take(passed)))
        if self.keep_steps:
            self.segments.append(segment.take(taken))

    def _retire(self, flows: ActiveFlows) -> ActiveFlows:
        """Write down the flows that are at their end and return the others."""
        aims = self.aims[flows.run]
        reached, ended = flows.attention >= aims, flows.point[0] >= flows.last - 1e-9
        lost = (flows.steps >= self.most_steps[flows.run]) | (flows.failures > MOST_FAILURES)
        over = reached | ended | lost
        status = np.where(ended, np.where(np.isnan(aims), FIXED_POINT, STALLED), STIFF)
        status = np.where(reached, CONVERGED, status)
        gone = flows.run[over]
        self.status[gone], self.steps[gone] = status[over], flows.steps[over]
        self.point[:, gone] = flows.point[:, over]
        return flows.take(~over) if over.any() else flows

    def _place_events(self) -> None:
        """Find each crossing within its step; that of ``until`` is the end of its run."""
        if not self._events:
            return
        segment = joined([each for _, each in self._events])
        level = np.concatenate([np.full(len(each.run), row) for row, each in self._events])
        for part in self._parts(len(level)):
            here, rows = segment.take(part), level[part]
            right, wanted = self.right.take(here.run), self.levels[rows, here.run]
            share = root_within(partial(_excess, right, here, wanted), len(rows))
            found, final = here.at(share), rows == len(self.levels) - 1
            self.crossing[rows, here.run] = found[0]
            self.point[:, here.run[final]] = found[:, final]
            self.last_share[here.run[final]] = share[final]


def _excess(right: RightHandSide, segment: Segment, wanted: np.ndarray, share: np.ndarray) -> np.ndarray:
    """Return how far target attention is above a level at a share of each step."""
    return np.asarray(right.target_attention(right.rows(segment.at(share)[1:])) - wanted)


def _choose_variable(
    tried: ActiveFlows,
    flows: ActiveFlows,
    step: Step,
    factor: np.ndarray,
    taken: np.ndarray,
    finite: np.ndarray,
) -> ActiveFlows:
    """Return the flows with independent variable and length of their next steps.

    The step just done tells which entry really moves: in a fast equilibrium t·drift is round-off times a large number.
    """
    moved, waited = np.abs(step.increment[1:]), tried.point[0] - flows.point[0]
    fastest, far = moved.argmax(0) + 1, moved.max(0)
    sign = np.sign(np.take_along_axis(tried.drift, fastest[None] - 1, 0)[0])
    goes_on = sign == np.sign(np.take_along_axis(step.increment, fastest[None], 0)[0])
    linear = np.abs(tried.point[1:]).max(0) < LINEAR_PHASE
    jumps = (far > JUMP * waited) & goes_on & ~linear
    speed = np.exp(tried.point[0]) * np.abs(tried.drift).max(0)
    waited = np.maximum(np.where(linear, np.expm1(waited), waited), 1e-3 * far / (1 + speed))
    # A parameter that turned round cannot carry the step: time does, which always goes on.
    turned_back = ~taken & ~finite & (flows.variable > 0)
    variable = np.where(taken, np.where(jumps, fastest, 0), np.where(turned_back, 0, flows.variable))
    covered = np.where(jumps, far, waited)
    length = factor * np.where(taken, covered, np.where(turned_back, flows.length / speed, flows.length))
    changed = taken | turned_back
    # Not beyond the horizon, so that the last point of a stalled flow is where it was given up.
    left = np.maximum(tried.last - tried.point[0], 1e-9)
    most = np.where(variable == 0, np.minimum(left, LONGEST_STEP), LONGEST_STEP)
    logarithmic = np.where(changed, (variable == 0) & ~linear, flows.logarithmic)
    return tried._replace(
        variable=variable,
        sign=np.where(variable == 0, 1.0, np.where(taken, sign, flows.sign)),
        logarithmic=logarithmic,
        error=np.where(
            (variable != flows.variable) | (logarithmic != flows.logarithmic), np.inf, tried.error
        ),
        length=np.minimum(length, np.where((variable == 0) & ~logarithmic, np.expm1(most), most)),
        covered=np.where(taken, covered, np.where(turned_back, length, flows.covered)),
    )
