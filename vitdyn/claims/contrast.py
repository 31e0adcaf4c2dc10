"""Contrast in the limit of many patches, and its mixture with reconstruction."""

from __future__ import annotations

from math import inf

from vitdyn.claims import assumptions as assume
from vitdyn.claims.claim import Case, Claim, Control, Interval, Measurement, moved
from vitdyn.claims.flows import (
    CLUSTERS,
    always,
    around,
    deadline,
    exponent,
    final_time,
    flow,
    local_correlation,
    off_by_twice_the_margin,
    regime_of,
    single,
    spec_of,
    sweep,
    with_coarser,
)
from vitdyn.claims.judgement import turning_point
from vitdyn.data import Uniform
from vitdyn.objectives import Contrastive, MaskedReconstruction, Mixture
from vitdyn.reduced import MeanField
from vitdyn.theory import (
    collapse_loss,
    collapse_threshold,
    contrastive_time,
    lost_correlation_exponent,
    mixture_threshold,
)
from vitdyn.trajectory import Trajectory

_MAE, _CL = MaskedReconstruction(), Contrastive()

CL_TIME = Claim(
    id="CL-TIME",
    statement="Contrast collapses onto the global area in a time of order P^{1 + 2(1 − κ_c)}; the 1 is the pooling.",
    source="vitdyn's notes, leading order",
    note="claims.md#cl-time",
    assumptions=(
        assume.MEAN_FIELD,
        assume.CONTRAST_HAS_CLUSTERS,
        assume.global_exponent(0.5005, 0.85),
        assume.sweep(3, 1e40),
    ),
    surrogate="T is the time at which every query gives 0.9 of its attention to the global area; its slope in log "
    "P between 1e32 and 1e40, with the change of slope from the P below as interval, within 0.01.",
    symbol="d log T/d log P",
    predicted=lambda case: around(contrastive_time(regime_of(case)).exponent),
    measure=lambda case, runs: exponent(case, runs, final_time),
    cases=lambda scale: tuple(
        sweep(kappa_c, 0.3, _CL) for kappa_c in ((0.8, 0.6) if scale == "quick" else (0.85, 0.8, 0.7, 0.6))
    ),
    controls=lambda scale: (
        # Another objective, then the right one under an exponent that is wrong by twice the margin.
        sweep(0.8, 0.3, _MAE),
        *off_by_twice_the_margin((sweep(0.8, 0.3, _CL), sweep(0.6, 0.3, _CL)), contrastive_time),
    ),
    latest=deadline(contrastive_time),
)


def _single(objective: Contrastive | MaskedReconstruction, kappa_c: float, until: float) -> Case:
    # Of a flow no seeds can be drawn: its error is that of the integrator, read off a coarser flow.
    run = flow(1e12, kappa_c, 0.3, objective, until=until)
    return Case(
        name=f"{objective.name} κ=({kappa_c:g}, 0.3), P = 1e12, until {until:g}", runs=with_coarser(run)
    )


_PATCHES = (1e4, 1e6, 1e8)
"""At larger P φ_o is too small to be told from the integrator's error."""
_LOG_MARGIN = 0.05
"""For the factor log P of the bound, whose own slope is 1/log P."""


def _lost(objective: Contrastive | MaskedReconstruction, kappa_c: float) -> Case:
    runs = tuple(flow(patches, kappa_c, 0.3, objective, until=0.99) for patches in _PATCHES)
    return Case(name=f"{objective.name} κ=({kappa_c:g}, 0.3), P = 1e4 to 1e8", runs=runs)


def _below_lost(case: Case) -> Interval:
    return -inf, lost_correlation_exponent(regime_of(case)).exponent + _LOG_MARGIN


def _largest_local(trajectory: Trajectory) -> float:
    return max(abs(local_correlation(trajectory, area)) for area in (1, 2))


CL_LOCAL_LOST = Claim(
    id="CL-LOCAL-LOST",
    statement="When contrast has collapsed, a local query's correlations with local areas, its own included, have "
    "stayed o(1): they fall with P at least like P^{−min(2(κ_c − κ_s), 1 − κ_s)} log P.",
    source="Huang et al. (2025), as recalled, that they are o(1); the power is ours",
    note="claims.md#cl-local-lost",
    assumptions=(
        assume.MEAN_FIELD,
        assume.CONTRAST_HAS_CLUSTERS,
        assume.LATENTS_BOUNDED,
        assume.sweep(3, 1e8),
    ),
    surrogate="The slope in log P of the larger of |φ_a| and |φ_o| at a global attention of 0.99, between P = 1e6 and "
    f"1e8, with the change from the P below as interval, is below that of the bound plus {_LOG_MARGIN}.",
    symbol="d log max(|φ_a|, |φ_o|)/d log P",
    predicted=_below_lost,
    measure=lambda case, runs: exponent(case, runs, _largest_local),
    cases=lambda scale: tuple(_lost(_CL, kappa_c) for kappa_c in (0.9, 0.8, 0.6)),
    controls=lambda scale: (
        *(_lost(_MAE, kappa_c) for kappa_c in (0.9, 0.6)),
        *moved((_lost(_CL, 0.9), _lost(_CL, 0.8)), _below_lost, -2 * _LOG_MARGIN, "bound lower by 0.1"),
    ),
)


def _temperature(spec: MeanField) -> float:
    return float(spec.objective.temperature)  # type: ignore[attr-defined]


def _loss_ratio(case: Case, trajectories: tuple[Trajectory, ...]) -> Measurement:
    spec = spec_of(case)
    collapsed = collapse_loss(spec.latents, _temperature(spec), spec.negatives, spec.clusters)
    return single(trajectories, lambda run: float(run.final["loss"].isel(seed=0)) / collapsed)


_LOSS_MARGIN = 0.02
_near_one = always(1.0, _LOSS_MARGIN)

CL_LOSS = Claim(
    id="CL-LOSS",
    statement="InfoNCE comes down to the loss of full collapse, although local attention is lost. (It does not reach "
    "the least loss of all models: the collapsed state lies above it.)",
    source="the paper's statement, as recalled, is stronger; this weaker form is vitdyn's",
    note="claims.md#cl-loss",
    assumptions=(
        assume.BEHIND_A_COARSER,
        assume.CONTRASTING,
        assume.LATENTS_BOUNDED,
        assume.clusters_at_least(3),
    ),
    surrogate="Loss at a global attention of 0.999, at P = 1e12, over the loss of full collapse, within 0.02 of 1.",
    symbol="L/L_collapse",
    symbols={"L": "loss", "L_collapse": "loss of full collapse onto the global area"},
    predicted=_near_one,
    measure=_loss_ratio,
    cases=lambda scale: tuple(_single(_CL, kappa_c, 0.999) for kappa_c in (0.9, 0.6)),
    controls=lambda scale: (
        _single(_CL, 0.9, 0.5),
        *moved((_single(_CL, 0.9, 0.999),), _near_one, 2 * _LOSS_MARGIN, "ratio + 0.04"),
        *moved((_single(_CL, 0.6, 0.999),), _near_one, -2 * _LOSS_MARGIN, "ratio − 0.04"),
    ),
)


_STEP, _MARGIN = 0.005, 0.01


def _mixtures(patches: float, kappa_c: float, kappa_s: float, clusters: int = CLUSTERS) -> Case:
    """Return mixtures over weights λ on a grid of ``_STEP`` around the prediction."""
    # Round weights: the runs, and so their keys, do not change with the last digits of the formula.
    centre = round(collapse_threshold(Uniform(), 1.0, 64, clusters) / _STEP)
    weights = [round((centre + offset) * _STEP, 3) for offset in range(-4, 5)]
    runs = (
        flow(patches, kappa_c, kappa_s, Mixture(weight=weight), until=None, nodes=10, clusters=clusters)
        for weight in weights
    )
    name = f"mixture κ=({kappa_c:g}, {kappa_s:g}), P = {patches:.0e}, K = {clusters}"
    return Case(name=name, runs=tuple(runs))


def _threshold(case: Case, trajectories: tuple[Trajectory, ...]) -> Measurement:
    """Return λ* between the last weight that learns local areas and the first that collapses."""
    weights = [spec_of(case, index).weight for index in range(len(case.runs))]
    own = [float(each.final["own_area_attention"].sel(statistic="mean")[0, 0, 1]) for each in trajectories]
    signs = [1 if each > 0.25 else -1 for each in own]
    return turning_point(weights, signs, low=0.0, high=1.0, of="between two weights")


def _near_collapse(case: Case) -> Interval:
    spec = spec_of(case)
    weight = collapse_threshold(spec.latents, _temperature(spec), spec.negatives, spec.clusters)
    if weight == inf:
        raise ArithmeticError("no weight of contrast keeps a collapse: κ_L ≤ −1, and there is no λ*")
    return around(weight, _MARGIN)


def _near_first_drifts(case: Case) -> Interval:
    """Return the prediction of a theory in which the first drifts decide the outcome."""
    spec = spec_of(case)
    return around(mixture_threshold(spec.latents, _temperature(spec), spec.negatives, spec.clusters), _MARGIN)


def _thresholds(scale: str) -> tuple[Case, ...]:
    quick = (_mixtures(1e8, 0.9, 0.3), _mixtures(1e8, 0.9, 0.3, clusters=64))
    return quick if scale == "quick" else (*quick, _mixtures(1e6, 0.9, 0.3), _mixtures(1e10, 0.9, 0.3))


def _of_negative_gap() -> Control:
    case = _mixtures(1e8, 0.55, 0.3)
    return Control(name=case.name, runs=case.runs, removes=assume.GAP_POSITIVE)


HYBRID_THRESHOLD = Claim(
    id="HYBRID-THRESHOLD",
    statement="In the mixture (1 − λ)·MAE/(γP) + λ·CL with Δ > 0 local areas are learned below a critical λ* and lost "
    "above it; λ* lies within 0.01 of 1/(1 + κ_L), where a collapsed state begins to lose samples of the least global "
    "latent L.",
    source="vitdyn's own",
    note="claims.md#hybrid-threshold",
    assumptions=(
        assume.MEAN_FIELD,
        assume.CONTRASTING,
        assume.negatives_at_least(32),
        assume.LATENTS_BOUNDED,
        assume.GAP_POSITIVE,
    ),
    surrogate=f"Where own-area attention of local queries at the end of the flow, over λ in steps of {_STEP}, falls "
    f"below 1/4: within {_MARGIN} of the formula, K = 16 and 64 at P = 1e8 and (full) 16 at 1e6 and 1e10. Controls: "
    "Δ < 0, where local areas are learned beyond; the weight at which the first drifts of φ_1 cancel in place.",
    symbol="λ*",
    symbols={
        "λ": "weight of contrast in the mixture",
        "λ*": "its critical value",
        "κ_L": "pull of contrast on φ_1 over reconstruction's, in a collapsed state of least global latent",
    },
    predicted=_near_collapse,
    measure=_threshold,
    cases=_thresholds,
    controls=lambda scale: (
        _of_negative_gap(),
        *moved(_thresholds("quick")[:1], _near_collapse, 2 * _MARGIN, "λ* + 0.02"),
        *moved(_thresholds("quick")[1:], _near_collapse, -2 * _MARGIN, "λ* − 0.02"),
        Control(
            name=f"{_thresholds('quick')[0].name}, first drifts",
            runs=_thresholds("quick")[0].runs,
            predicted=_near_first_drifts,
        ),
    ),
)
