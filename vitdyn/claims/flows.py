"""What claims about the limit of many patches share: sweeps of P, exponents, statistics of a mean-field run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from math import inf, log

import numpy as np

from vitdyn.claims.claim import Case, Control, Interval, Measurement, moved
from vitdyn.data import AreaSizes, Distribution, Uniform
from vitdyn.experiments import Experiment
from vitdyn.objectives import MaskedReconstruction, Objective
from vitdyn.reduced import MeanField, crossing_time
from vitdyn.theory import Rate, Regime
from vitdyn.trajectory import Trajectory

SWEEP = (1e16, 1e24, 1e32, 1e40)
TOLERANCE = 0.01
"""Margin of an exponent."""
CLUSTERS = 16
"""Clusters of contrastive flows: negatives of the own cluster stop the collapse at large P where there are few."""

DEADLINE_FACTOR = 1e4
"""A flow that is on its way after so many times P^exponent refutes it; those that arrive take less than a hundred."""

Statistic = Callable[[Trajectory], float]


def flow(
    patches: float,
    kappa_c: float,
    kappa_s: float,
    objective: Objective,
    *,
    latents: Distribution | None = None,
    clusters: int = CLUSTERS,
    **options: object,
) -> Experiment:
    """Return one mean-field run; of ``clusters`` where the objective contrasts."""
    spec = MeanField(
        sizes=AreaSizes.from_exponents(patches, kappa_c, kappa_s),
        objective=objective,
        latents=latents or Uniform(),
        clusters=1 if objective.view_count == 1 else clusters,
        **options,  # type: ignore[arg-type]
    )
    return Experiment(name=f"{objective.name}-flow", training=spec)


def sweep(
    kappa_c: float,
    kappa_s: float,
    objective: Objective,
    *,
    latents: Distribution | None = None,
    until: float = 0.9,
) -> Case:
    """Return the case of runs over ``SWEEP``."""
    runs = tuple(
        flow(patches, kappa_c, kappa_s, objective, latents=latents, until=until) for patches in SWEEP
    )
    ratio = getattr(objective, "mask_ratio", 0.5)
    support = "" if latents is None else f", U/L = {latents.high / latents.low:g}"
    return Case(name=f"{objective.name} κ=({kappa_c:g}, {kappa_s:g}), γ = {ratio:g}{support}", runs=runs)


def deadline(rate: Callable[[Regime], Rate]) -> Callable[[MeanField], float]:
    """Return, for a claim on a time of this rate, the time at which a flow has missed it."""

    def latest(spec: MeanField) -> float:
        return DEADLINE_FACTOR * spec.sizes.patches ** rate(Regime.of(spec.sizes)).exponent

    return latest


def regime_of(case: Case) -> Regime:
    """Return the regime of a case's last run."""
    return Regime.of(spec_of(case).sizes)


def spec_of(case: Case, index: int = -1) -> MeanField:
    """Return the specification of one of a case's mean-field runs."""
    spec = case.runs[index].training
    assert isinstance(spec, MeanField)
    return spec


def exponent(case: Case, trajectories: tuple[Trajectory, ...], statistic: Statistic) -> Measurement:
    """Return d log(statistic)/d log P at the top of a sweep, as far as its convergence shows.

    The slope between the two largest P, with the last change of slope on either side as its interval:
    slopes whose distance from their limit falls by a factor of two or more from one P to the next lie within it.
    """
    logs = [log(spec_of(case, index).sizes.patches) for index in range(len(case.runs))]
    # A statistic of the wrong sign has no exponent; its infinite slope decides nothing.
    values = [log(value) if value > 0 else -inf for value in map(statistic, trajectories)]
    slopes = np.diff(values) / np.diff(logs)
    # The last change of slope bounds what is left of it where changes fall by half or more from P to P.
    change = abs(float(slopes[-1] - slopes[-2]))
    last = float(slopes[-1])
    return Measurement(last, last - change, last + change, len(values), "slope's change from the P below")


COARSER = 100.0


def with_coarser(run: Experiment) -> tuple[Experiment, Experiment]:
    """Return a flow, behind the same at a tolerance ``COARSER`` times as large and with two thirds of the nodes."""
    spec = run.training
    assert isinstance(spec, MeanField)
    coarse = replace(spec, tolerance=COARSER * spec.tolerance, nodes=max(2, 2 * spec.nodes // 3))
    return Experiment(name=f"{run.name}-coarser", training=coarse), run


def single(trajectories: tuple[Trajectory, ...], statistic: Statistic) -> Measurement:
    """Return what the last of two flows says, the first being the same more coarsely integrated.

    The difference of the two is the interval on either side: no less than the error of the finer, as long as that of
    the coarser is more than twice as large.
    """
    coarse, value = map(statistic, trajectories)
    error = abs(value - coarse)
    return Measurement(value, value - error, value + error, 1, "integrator: from a coarser flow")


def final_time(trajectory: Trajectory) -> float:
    """Return the time at which the flow reached its aim."""
    return float(trajectory.final["time"])


def global_time(trajectory: Trajectory) -> float:
    """Return the time at which a query of the global area gives half its attention to its own area."""
    own = trajectory["own_area_attention"].sel(statistic="mean").isel(seed=0, cluster=0, query_area=0)
    return crossing_time(trajectory, own.to_numpy(), 0.5)


def local_correlation(trajectory: Trajectory, key_area: int, *, name: str = "feature_position") -> float:
    """Return a correlation of a local query at the end: with the global area (0), its own (1) or another (2)."""
    values = trajectory.final[name].sel(statistic="mean")
    return float(values.isel(seed=0, cluster=0, query_area=1, key_area=key_area))


def single_flow(kappa_c: float, kappa_s: float, patches: float = 1e16, **options: object) -> Case:
    """Return one flow of masked reconstruction, behind the same more coarsely integrated."""
    run = flow(patches, kappa_c, kappa_s, MaskedReconstruction(), **options)  # type: ignore[arg-type]
    return Case(name=f"mae κ=({kappa_c:g}, {kappa_s:g}), P = {patches:.0e}", runs=with_coarser(run))


def around(centre: float, margin: float = TOLERANCE) -> Interval:
    """Return the interval of a prediction."""
    return centre - margin, centre + margin


def always(centre: float, margin: float) -> Callable[[Case], Interval]:
    """Return the prediction that is the same for every case."""
    return lambda case: around(centre, margin)


def off_by_twice_the_margin(cases: tuple[Case, ...], rate: Callable[[Regime], Rate]) -> tuple[Control, ...]:
    """Return near controls: the same runs, the exponent wrong by twice the margin, up and down in turn."""
    return tuple(
        control
        for case, sign in zip(cases, (1, -1), strict=False)
        for control in moved(
            (case,),
            lambda each: around(rate(regime_of(each)).exponent),
            2 * sign * TOLERANCE,
            f"exponent {2 * sign * TOLERANCE:+g}",
        )
    )
