"""The mean field in motion: the gradient flows of one run or of many, as trajectories or as where they end."""

from __future__ import annotations

import time
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

from vitdyn._errors import (
    as_numbers,
    invalid_value,
    require_boolean,
    require_integer,
    require_kind,
    require_real,
    require_sequence,
)
from vitdyn.reduced.descent import descend_together
from vitdyn.reduced.integrator import STALLED, STIFF, Integrator, Segment, joined, kind_of
from vitdyn.reduced.mean_field import MeanField, StalledFlowError, require_alike
from vitdyn.reduced.record import assemble, observe_mean_field
from vitdyn.trajectory import Trajectory

FRAMES_PER_STEP = 8
"""No more frames are recorded for a step of the integrator: they would say nothing that its interpolant does not."""
MOST_PAIRS = 2**16
"""Pairs of nodes of all flows that are held at once: arrays of them stay in the processor's cache."""


@dataclass(frozen=True, kw_only=True)
class Flows:
    """Where the flows of many runs ended.

    ``status`` is "converged" (the attention that the run is about reached ``until``), "fixed point" (``until`` is None
    and the flow was followed to its end), "stalled" (it was followed beyond every time scale and did not get there) or
    "stiff" (its steps became too many); what is recorded is the last point. ``log_time``, ``state`` (the order
    parameters) and ``attention`` (in the order of ``ORDER_PARAMETERS``) are those of the last point. ``crossing`` is
    log t where target attention first passed each of the ``levels``, NaN where it never did. ``steps`` counts the
    integrator's own.
    """

    status: tuple[str, ...]
    log_time: Float[np.ndarray, " run"]
    state: Float[np.ndarray, "run parameter"]
    attention: Float[np.ndarray, "run 5"]
    crossing: Float[np.ndarray, "run level"]
    steps: Int[np.ndarray, " run"]

    @property
    def stalled(self) -> Bool[np.ndarray, " run"]:
        """Which runs did not get where they should."""
        return np.array([each in (STALLED, STIFF) for each in self.status])


def integrate(spec: MeanField, *, progress: bool = False) -> Trajectory:
    """Return the trajectory of a mean-field run from Q = 0, three representative areas standing for all.

    Areas: 0 the global one, 1 and 2 two local ones, so that every kind of pair (own, other, global) has its
    entry; ``seed`` has the single value 0, clusters are alike. The frames of a flow lie evenly among the steps of the
    integrator, which are short where much happens; ``crossing_time`` reads events off them.

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
    if spec.learning_rate is not None:
        with np.errstate(all="ignore"):
            steps, states = descend_together([spec], progress)[0]
        return _trajectory(spec, steps, steps * spec.learning_rate, states, started, "gradient descent")
    (found,) = integrate_flows([spec])
    if isinstance(found, StalledFlowError):
        raise found
    return found


def integrate_flows(specs: Sequence[MeanField]) -> list[Trajectory | StalledFlowError]:
    """Return the trajectories of gradient flows in order, each to the bit as ``integrate`` returns it.

    Where ``integrate`` raises ``StalledFlowError``, the error stands in its place. Flows of one kind (objective, number
    of nodes, Υ moving or not) are followed together, which takes a fraction of the time that they take one by one; the
    recorded seconds are those of all of a kind.
    """
    require_sequence("specs", specs, "MeanField")
    # One kind at a time: flows of one kind keep their bits in any company, so that nobody can tell they went together.
    batches: dict[Hashable, list[int]] = {}
    for index, spec in enumerate(specs):
        _require_flow(spec)
        batches.setdefault(kind_of(spec), []).append(index)
    found: dict[int, Trajectory | StalledFlowError] = {}
    for batch in batches.values():
        found |= zip(batch, _follow([specs[index] for index in batch]), strict=True)
    return [found[index] for index in range(len(specs))]


def _follow(specs: Sequence[MeanField]) -> list[Trajectory | StalledFlowError]:
    """Return the trajectories of flows of one kind."""
    started = time.perf_counter()
    nodes = specs[0].right_hand_side.rule.nodes.size
    # Few at a time where nodes are many: an array has nodes² numbers for each flow.
    flows = Integrator(specs, (), max(1, min(32, MOST_PAIRS // nodes**2)), keep_steps=True)
    flows.follow()
    failures = [_failure(spec, flows, index) for index, spec in enumerate(specs)]
    found: dict[int, Trajectory | StalledFlowError] = {i: each for i, each in enumerate(failures) if each}
    steps = joined(flows.segments) if len(found) < len(specs) else None
    for index, spec in enumerate(specs):
        if steps is not None and index not in found:
            # The start, Q = 0 at t = 0, has no logarithm: the integrator begins one Euler step later.
            points = _frames(steps.take(steps.run == index), flows.last_share[index], spec.frames)
            times = np.concatenate([[0.0], np.maximum.accumulate(np.exp(points[0]))])
            states = np.concatenate([np.zeros((1, len(points) - 1)), points[1:].T])
            found[index] = _trajectory(spec, np.arange(len(times)), times, states, started, "RODAS")
    return [found[index] for index in range(len(specs))]


def integrate_descents(specs: Sequence[MeanField]) -> list[Trajectory]:
    """Return the trajectories of many runs of gradient descent at once, each as ``integrate`` does, to round-off.

    The runs share the kind of objective, the number of quadrature nodes, ``steps`` and ``frames``; all else is each
    run's own. The recorded seconds are those of the whole. Raises ``ValueError`` for runs that cannot go together,
    ``StalledFlowError`` for the first that diverges.
    """
    require_alike(specs, "steps", "frames")
    for spec in specs:
        if spec.learning_rate is None:
            raise invalid_value(
                "specs", spec, "only descents go in step: give a learning_rate, or take integrate_batch"
            )
    started = time.perf_counter()
    with np.errstate(all="ignore"):
        found = descend_together(specs)
    return [
        _trajectory(spec, steps, steps * (spec.learning_rate or 0.0), states, started, "gradient descent")
        for spec, (steps, states) in zip(specs, found, strict=True)
    ]


def integrate_batch(
    specs: Sequence[MeanField],
    *,
    levels: Sequence[float] = (),
    max_active: int = 32,
) -> Flows:
    """Follow the gradient flows of many runs from Q = 0, each as ``integrate`` does, and return where they end.

    The runs share the kind of objective and the number of quadrature nodes; sizes, mask ratio, temperature, weights,
    clusters, negatives, latents, ``tolerance`` and ``until`` are each run's own. ``levels`` asks for the times at which
    target attention first passes them; ``max_active`` is how many runs are held in memory at once (no result depends
    on it or on the other runs; of mixtures with λ = 0 or 1 among others, and where some have weight decay, not beyond
    the tolerance). Where ``integrate`` raises, a run
    here has the status "stalled" or "stiff" and the others go on.

    Raises ``ValueError`` for runs that cannot go together.
    """
    require_integer("max_active", max_active, at_least=1)
    require_alike(specs, max_active=max_active)
    for spec in specs:
        _require_flow(spec)
    for level in as_numbers("levels", levels):
        require_real("levels", level, low=0.0, high=1.0, open_low=True, open_high=True)
    flows = Integrator(specs, levels, max_active, keep_steps=False)
    flows.follow()
    return Flows(
        status=tuple(flows.status),
        log_time=flows.point[0],
        state=flows.point[1:].T,
        attention=flows.attention().T,
        crossing=flows.crossing[:-1].T,
        steps=flows.steps,
    )


def _require_flow(spec: MeanField) -> None:
    require_kind("specs", spec, MeanField)
    if spec.learning_rate is not None:
        raise invalid_value(
            "specs", spec, "only flows go here: take learning_rate=None, or integrate_descents"
        )


def _failure(spec: MeanField, flows: Integrator, index: int) -> StalledFlowError | None:
    """Return why a flow did not get where it was asked to go, None where it did."""
    status, last = flows.status[index], flows.point[:, index]
    reached = float(np.exp(last[0]))
    # Its time is still −∞: it was never given a start.
    if not np.isfinite(last[0]):
        return StalledFlowError("nothing moves: the drift at Q = 0 is zero", spec, 0.0)
    if status == STIFF:
        words = f"the flow went stiff at t = {reached:.3g} after {flows.steps[index]} steps"
        return StalledFlowError(words, spec, reached)
    if status == STALLED:
        right = spec.right_hand_side
        level, wanted = float(right.target_attention(right.rows(last[1:]))), spec.until or 1.0
        words = f"the flow stalled: attention {level:.4f} at t = {reached:.3g}, asked for {wanted:g}"
        return StalledFlowError(words, spec, reached)
    return None


def _frames(steps: Segment, last_share: float, frames: int) -> Float[np.ndarray, "entry frame"]:
    """Return points of one flow, evenly among its steps, of the last of which a share belongs to it."""
    end = len(steps.run) - 1 + last_share
    # Even in the number of steps, not in time: the integrator takes short ones where much happens.
    places = np.linspace(0, end, min(frames - 1, FRAMES_PER_STEP * len(steps.run) + 1))
    # The end of the last step belongs to it, and not to one that would come after.
    step = np.minimum(places.astype(int), len(steps.run) - 1)
    return steps.take(step).at(places - step)


def _trajectory(
    spec: MeanField, steps: np.ndarray, times: np.ndarray, states: np.ndarray, started: float, engine: str
) -> Trajectory:
    with np.errstate(all="ignore"):
        variables = observe_mean_field(spec, states)
    seconds = time.perf_counter() - started
    return assemble(spec, variables, steps, times, engine=f"mean field, {engine}", seconds=seconds)
