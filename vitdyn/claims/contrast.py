"""Contrast in the limit of many patches, its mixture with reconstruction, and the limit itself."""

from __future__ import annotations

from math import inf

import numpy as np

from vitdyn.claims import assumptions as assume
from vitdyn.claims.claim import Case, Claim, Measurement
from vitdyn.claims.flows import (
    TOLERANCE,
    contrast_ladder,
    exponent,
    final_time,
    flow,
    ladder,
    local_correlation,
    overdue,
    regime_of,
    single,
    spec_of,
    with_coarser,
)
from vitdyn.data import AreaSizes, PatchGenerator, PatchLayout
from vitdyn.dynamics import Training
from vitdyn.experiments import Experiment
from vitdyn.lumped import MeanField
from vitdyn.objectives import Contrastive, MaskedReconstruction, Mixture
from vitdyn.theory import collapse_loss, contrastive_time, mixture_threshold
from vitdyn.trajectory import Trajectory

_MAE, _CL = MaskedReconstruction(), Contrastive()

CL_TIME = Claim(
    id="CL-TIME",
    statement="Contrast collapses onto the global area in a time of order P^{1 + 2(1 − κ_c)}; the 1 is the pooling.",
    source="vitdyn's notes, leading order",
    note="claims.md#cl-time",
    assumptions=(assume.MEAN_FIELD, assume.global_exponent(0.5005, 0.85), assume.ladder(3, 1e40)),
    surrogate="T is the time at which every query gives 0.9 of its attention to the global area; its slope in log "
    "P between 1e32 and 1e40, with the change of slope from the rung below as interval, within 0.01.",
    symbol="d log T/d log P",
    predicted=lambda case: (
        contrastive_time(regime_of(case)).exponent - TOLERANCE,
        contrastive_time(regime_of(case)).exponent + TOLERANCE,
    ),
    measure=lambda case, runs: exponent(case, runs, final_time),
    cases=lambda scale: tuple(
        contrast_ladder(kappa_c, 0.3)
        for kappa_c in ((0.8, 0.6) if scale == "quick" else (0.85, 0.8, 0.7, 0.6))
    ),
    controls=lambda scale: (ladder(0.8, 0.3, _MAE),),
    latest=overdue(contrastive_time),
)


def _single(objective: Contrastive | MaskedReconstruction, kappa_c: float, until: float) -> Case:
    run = flow(1e12, kappa_c, 0.3, objective, until=until)
    return Case(
        name=f"{objective.name} κ=({kappa_c:g}, 0.3), P = 1e12, until {until:g}", runs=with_coarser(run)
    )


CL_LOCAL_LOST = Claim(
    id="CL-LOCAL-LOST",
    statement="Under contrast the correlations of a local query with local areas, its own included, stay o(1).",
    source="Huang et al. (2025), as recalled",
    note="claims.md#cl-local-lost",
    assumptions=(assume.MEAN_FIELD, assume.LATENTS_BOUNDED),
    surrogate="The larger of |φ_a| and |φ_o| of a local query at P = 1e12, when contrast has collapsed "
    "to 0.99, is below 0.05.",
    symbol="max(|φ_a|, |φ_o|)",
    predicted=lambda case: (-inf, 0.05),
    measure=lambda case, runs: single(
        runs, lambda run: max(abs(local_correlation(run, area)) for area in (1, 2))
    ),
    cases=lambda scale: tuple(_single(_CL, kappa_c, 0.99) for kappa_c in (0.9, 0.6)),
    controls=lambda scale: tuple(_single(_MAE, kappa_c, 0.99) for kappa_c in (0.9, 0.6)),
)


def _loss_ratio(case: Case, trajectories: tuple[Trajectory, ...]) -> Measurement:
    spec = spec_of(case)
    collapsed = collapse_loss(spec.latents, 1.0, spec.negatives, spec.clusters)
    return single(trajectories, lambda run: float(run.final["loss"].isel(seed=0)) / collapsed)


CL_LOSS = Claim(
    id="CL-LOSS",
    statement="InfoNCE comes down to the loss of full collapse, although local attention is lost. (It does not reach "
    "the least loss of all models: the collapsed state lies above it.)",
    source="the paper's statement, as recalled, is stronger; this weaker form is vitdyn's",
    note="claims.md#cl-loss",
    assumptions=(assume.MEAN_FIELD, assume.LATENTS_BOUNDED, assume.clusters_at_least(3)),
    surrogate="Loss at a global attention of 0.999, at P = 1e12, over the loss of full "
    "collapse, within 0.02 of 1.",
    symbol="L/L_collapse",
    predicted=lambda case: (0.98, 1.02),
    measure=_loss_ratio,
    cases=lambda scale: tuple(_single(_CL, kappa_c, 0.999) for kappa_c in (0.9, 0.6)),
    controls=lambda scale: (_single(_CL, 0.9, 0.5),),
)


def _twins(patches: int, objective: Contrastive | MaskedReconstruction | None = None, seeds: int = 4) -> Case:
    """Return a full simulation and the mean field of the same descent (of another objective, for the control)."""
    layout = PatchLayout.from_exponents(patches, 0.9, 0.4)
    training = Training(
        generator=PatchGenerator(layout=layout), objective=_MAE, steps=400, samples=32, seeds=seeds
    )
    rate = 4.0 if objective is None else _CL.default_learning_rate(layout)
    twin = MeanField(
        sizes=AreaSizes.of(layout), objective=objective or _MAE, learning_rate=rate, steps=400, until=None, clusters=1
    )  # fmt: skip
    kind = "" if objective is None else f", against {objective.name}"
    return Case(
        name=f"P = {patches}{kind}",
        runs=(
            Experiment(name="mae-full", training=training),
            Experiment(name="mae-mean-field", training=twin),
        ),
    )


def _deviation(case: Case, trajectories: tuple[Trajectory, ...]) -> Measurement:
    """Return the largest difference of φ_a and φ_1 of a local query, as a part of φ_a, over seeds' spread."""
    full, limit = (
        each.final["feature_position"].sel(statistic="mean").isel(cluster=0).to_numpy()
        for each in trajectories
    )
    own = np.nanmean(np.stack([full[:, area, area] for area in range(1, full.shape[1])]), 0)
    away = np.nanmean(full[:, 1:, 0], 1)
    scale = abs(limit[0, 1, 1])
    gaps = np.stack([own - limit[0, 1, 1], away - limit[0, 1, 0]]) / scale
    mean, error = gaps.mean(1), 4 * gaps.std(1, ddof=1) / np.sqrt(gaps.shape[1])
    worst = int(np.abs(mean).argmax())
    value = abs(float(mean[worst]))
    ends = max(value - error[worst], 0.0), value + float(error[worst])
    return Measurement(value, *ends, gaps.shape[1], "seeds, four standard errors")


SYMMETRY = Claim(
    id="SYMMETRY",
    statement="The full simulation, lowered to order parameters, follows the mean field up to a finite-size error of "
    "order 1/C_s, from the spread of the visible counts.",
    source="vitdyn's notes",
    note="claims.md#symmetry",
    assumptions=(assume.clusters_exactly(1), assume.masks_of(0.5), assume.FRESH_BATCHES),
    surrogate="The larger deviation of φ_1 and φ_a of a local query after 400 steps, as a part of φ_a, is "
    "below 1.5/C_s; four standard errors over seeds.",
    symbol="deviation",
    predicted=lambda case: (-inf, 1.5 / spec_of(case).sizes.local_size),
    measure=_deviation,
    cases=lambda scale: tuple(
        _twins(patches) for patches in ((256, 512) if scale == "quick" else (256, 512, 1024))
    ),
    controls=lambda scale: (_twins(256, _CL),),
)

_WEIGHTS = tuple(np.round(np.arange(0.46, 0.641, 0.02), 2).tolist())


def _mixtures(patches: float, kappa_c: float, kappa_s: float) -> Case:
    runs = tuple(flow(patches, kappa_c, kappa_s, Mixture(weight=weight), until=None) for weight in _WEIGHTS)
    return Case(name=f"mixture κ=({kappa_c:g}, {kappa_s:g}), P = {patches:.0e}", runs=runs)


def _threshold(case: Case, trajectories: tuple[Trajectory, ...]) -> Measurement:
    """Return λ* between the last weight that learns local areas and the first that collapses."""
    home = [float(each.final["own_area_attention"].sel(statistic="mean")[0, 0, 1]) for each in trajectories]
    local = np.array(home) > 0.25
    if local.all() or not local.any():
        edge = _WEIGHTS[-1] if local.all() else _WEIGHTS[0]
        low, high = (edge, 1.0) if local.all() else (0.0, edge)
        return Measurement(edge, low, high, len(local), "between two weights")
    first = int(np.argmin(local))
    if local[first:].any():
        raise ArithmeticError("the kind of attention that takes over does not change once over the weights")
    low, high = _WEIGHTS[first - 1], _WEIGHTS[first]
    return Measurement((low + high) / 2, low, high, len(local), "between two weights")


def _near_threshold(case: Case) -> tuple[float, float]:
    spec = spec_of(case)
    centre = mixture_threshold(spec.latents, 1.0, spec.negatives, spec.clusters)
    return centre - 0.08, centre + 0.08


HYBRID_THRESHOLD = Claim(
    id="HYBRID-THRESHOLD",
    statement="In the mixture (1 − λ)·MAE + λ·CL with Δ > 0 local areas are learned below a critical λ*, "
    "and lost above it; λ* is near the point where the two first drifts of φ_1 cancel, at every P.",
    source="vitdyn's own, after a reference integration",
    note="claims.md#hybrid-threshold",
    assumptions=(assume.MEAN_FIELD, assume.negatives_at_least(32), assume.temperature_of(1.0)),
    surrogate="Where own-area attention of local queries at the end of the flow, over λ in steps of 0.02, falls "
    "below 1/4: within 0.08 of 1/(1 + κ), κ = (1 − π_+)/τ · (1 − E[z²]E[z]/(K E[z³])). For Δ < 0 local areas "
    "are learned beyond.",
    symbol="λ*",
    predicted=_near_threshold,
    measure=_threshold,
    cases=lambda scale: tuple(
        _mixtures(patches, 0.9, 0.3) for patches in ((1e8,) if scale == "quick" else (1e6, 1e8, 1e10))
    ),
    controls=lambda scale: (_mixtures(1e8, 0.55, 0.3),),
)
