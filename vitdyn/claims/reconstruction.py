"""Masked reconstruction in the limit of many patches: times, tail, position correlations, least loss."""

from __future__ import annotations

from math import inf, log
from typing import Any

import numpy as np

from vitdyn.claims import assumptions as assume
from vitdyn.claims.claim import Case, Claim, Control, Interval, Measurement, moved
from vitdyn.claims.flows import (
    TOLERANCE,
    always,
    around,
    deadline,
    exponent,
    final_time,
    flow,
    global_time,
    local_correlation,
    off_by_twice_the_margin,
    regime_of,
    single,
    single_flow,
    spec_of,
    sweep,
)
from vitdyn.claims.judgement import over_seeds
from vitdyn.claims.limits import limit_experiments
from vitdyn.data import Constant, TwoPoint, Uniform
from vitdyn.dynamics import Training
from vitdyn.objectives import Contrastive, MaskedReconstruction
from vitdyn.reduced import crossing_time
from vitdyn.theory import (
    global_area_time,
    local_area_time,
    local_area_time_bound,
    position_correlation_ratio,
    reconstruction_infimum,
)
from vitdyn.trajectory import Trajectory

_MAE, _CL = MaskedReconstruction(), Contrastive()
_OURS = "vitdyn's notes, leading order"
_SWEEP = assume.sweep(3, 1e40)


def _sweeps(scale: str) -> tuple[Case, ...]:
    cases = (
        sweep(0.9, 0.3, _MAE),
        sweep(0.6, 0.5, MaskedReconstruction(mask_ratio=0.75), latents=Uniform(low=1.0, high=2.0)),
        sweep(0.8, 0.2, _MAE),
        sweep(0.7, 0.4, MaskedReconstruction(mask_ratio=0.6)),
        sweep(0.95, 0.1, _MAE),
        sweep(0.55, 0.35, _MAE, latents=Uniform(low=1.0, high=1.2)),
    )
    return cases if scale == "full" else cases[:2]


MAE_TIME = Claim(
    id="MAE-TIME",
    statement="Masked reconstruction learns a local area in a time of order P^{1 − κ_s}, at either sign of Δ.",
    source=f"{_OURS}; the paper's upper bound is the claim MAE-TIME-BOUND",
    note="claims.md#mae-time",
    assumptions=(assume.MEAN_FIELD, assume.latents_spread(2.0), _SWEEP),
    surrogate="T is the time at which local queries give 0.9 of their attention to their own area; its slope in log P "
    "between 1e32 and 1e40, with the change of slope from the P below as interval, within 0.01.",
    symbol="d log T/d log P",
    predicted=lambda case: around(local_area_time(regime_of(case)).exponent),
    measure=lambda case, runs: exponent(case, runs, final_time),
    cases=_sweeps,
    controls=lambda scale: (
        sweep(0.8, 0.3, _CL),
        *off_by_twice_the_margin(_sweeps("quick"), local_area_time),
    ),
    latest=deadline(local_area_time),
)


def _below_bound(case: Case) -> Interval:
    bound = local_area_time_bound(regime_of(case), spec_of(case).latents)
    return -inf, bound.exponent + TOLERANCE


def _spread(high: float) -> Case:
    return sweep(0.9, 0.3, _MAE, latents=TwoPoint(low=1.0, high=high))


MAE_TIME_BOUND = Claim(
    id="MAE-TIME-BOUND",
    statement="The time of a local area has an exponent of at most max{2(U/L − 1), 1}(1 − κ_s).",
    source="Huang et al. (2025), as recalled, not checked against its text",
    note="claims.md#mae-time-bound",
    assumptions=(assume.MEAN_FIELD, assume.latents_spread(4.0), _SWEEP),
    surrogate="As MAE-TIME; the measured slope lies below the bound plus 0.01. Where U/L > 3/2 the bound is loose.",
    symbol="d log T/d log P",
    predicted=_below_bound,
    measure=lambda case, runs: exponent(case, runs, final_time),
    cases=lambda scale: tuple(map(_spread, (1.5, 4.0) if scale == "quick" else (1.2, 1.5, 2.0, 3.0, 4.0))),
    controls=lambda scale: (
        sweep(0.8, 0.3, _CL),
        *moved((_spread(1.5),), _below_bound, -2 * TOLERANCE, "bound lower by 0.02"),
    ),
)

MAE_GLOBAL_TIME = Claim(
    id="MAE-GLOBAL-TIME",
    statement="Masked reconstruction learns the global area in a time of order P^{1 − κ_c}.",
    source=_OURS,
    note="claims.md#mae-global-time",
    assumptions=(assume.MEAN_FIELD, assume.global_exponent(0.5005, 0.8), _SWEEP),
    surrogate="As MAE-TIME, with the time at which queries of the global area give half their attention to it.",
    symbol="d log T/d log P",
    predicted=lambda case: around(global_area_time(regime_of(case)).exponent),
    measure=lambda case, runs: exponent(case, runs, global_time),
    cases=lambda scale: tuple(
        sweep(kappa_c, 0.3, _MAE) for kappa_c in ((0.8, 0.6) if scale == "quick" else (0.8, 0.7, 0.6))
    ),
    controls=lambda scale: (
        sweep(0.8, 0.3, _CL),
        *off_by_twice_the_margin((sweep(0.8, 0.3, _MAE), sweep(0.6, 0.3, _MAE)), global_area_time),
    ),
)


_ATOM: dict[str, Any] = {"latents": Constant(value=1.2)}
_LONG: dict[str, Any] = {"until": 1 - 3e-6, "frames": 400}


def _tail(case: Case, trajectories: tuple[Trajectory, ...]) -> Measurement:
    """Return the slope of log T in log 1/ε, T the time until a local query's attention is within ε of 1."""
    trajectory = trajectories[-1]
    name = "area_attention" if spec_of(case).weight == 1 else "own_area_attention"
    attention = trajectory[name].sel(statistic="mean").isel(seed=0, cluster=0, query_area=1)
    if name == "area_attention":
        attention = attention.isel(key_area=0)
    # log 1/ε, in which crossings are evenly spaced; nearer to 1 than 1e-15 float64 cannot tell.
    digits = -np.log1p(-np.minimum(attention.to_numpy(), 1 - 1e-15))
    # Three ends give two slopes; their difference is the interval.
    ends = (1e-4, 3e-5, 1e-5)
    times = [log(crossing_time(trajectory, digits, -log(end))) for end in ends]
    slopes = -np.diff(times) / np.diff(np.log(ends))
    change = abs(float(slopes[1] - slopes[0]))
    of = "slope's change from the ε before"
    return Measurement(float(slopes[1]), slopes[1] - change, slopes[1] + change, len(ends), of)


_near_two = always(2.0, 0.15)


def _tails(scale: str) -> tuple[Case, ...]:
    return (
        single_flow(0.8, 0.3, 1e8, **_ATOM, **_LONG),
        single_flow(0.6, 0.3, 1e8, latents=TwoPoint(), **_LONG),
    )


MAE_TAIL = Claim(
    id="MAE-TAIL",
    statement="For latents with an atom at L the time until only ε of the attention goes elsewhere grows like ε^{−2}.",
    source="vitdyn's notes, leading order; for latents with an atom at L",
    note="claims.md#mae-tail",
    assumptions=(
        assume.MEAN_FIELD,
        assume.LATENTS_BOUNDED,
        assume.latents_of_kind(
            Constant, TwoPoint, words="with an atom at L (a density there adds a logarithm)"
        ),
    ),
    surrogate="Slope of log T in log 1/ε between ε = 3e-5 and 1e-5 at P = 1e8, within 0.15 of 2.",
    symbol="−d log T/d log ε",
    predicted=_near_two,
    measure=_tail,
    cases=_tails,
    controls=lambda scale: (
        *moved(_tails(scale)[:1], _near_two, 0.3, "exponent 2.3"),
        *moved(_tails(scale)[1:], _near_two, -0.3, "exponent 1.7"),
        Case(name="cl κ=(0.8, 0.3), P = 1e+08", runs=(flow(1e8, 0.8, 0.3, _CL, **_ATOM, **_LONG),)),
    ),
)

_PP_MARGIN = 0.05
_near_one = always(1.0, _PP_MARGIN)


def _per_key(case: Case, trajectories: tuple[Trajectory, ...]) -> Measurement:
    spec = spec_of(case)
    formula = position_correlation_ratio(spec.latents, spec.sizes.local_size)

    def reading(run: Trajectory) -> float:
        return local_correlation(run, 1, name="position_position") / local_correlation(run, 1) / formula

    return single(trajectories, reading)


def _positions(scale: str) -> tuple[Case, ...]:
    return tuple(
        single_flow(0.9, kappa_s, 1e12, position_correlations=True, until=0.9)
        for kappa_s in ((0.05, 0.3) if scale == "quick" else (0.05, 0.1, 0.2, 0.3, 0.4))
    )


def _itself_counted(case: Case) -> Interval:
    """Return the prediction of a formula with C_s keys, the query among them, in place of C_s − 1."""
    size = spec_of(case).sizes.local_size
    low, high = _near_one(case)
    return low * (size - 1) / size, high * (size - 1) / size


MAE_PP = Claim(
    id="MAE-PP",
    statement="Position correlations are smaller than feature correlations by the number of keys that share the work: "
    "Υ_a = φ_a E[z²]/(E[z³] (C_s − 1)), which vanishes as areas grow.",
    source="Huang et al. (2025), as recalled, that they are negligible; the formula is ours",
    note="claims.md#mae-pp",
    assumptions=(assume.BEHIND_A_COARSER, assume.POSITIONS_MOVE, assume.LATENTS_BOUNDED),
    surrogate="Υ_a/φ_a over the formula when local queries give 0.9 of their attention to their own area, at P = 1e12, "
    f"is within {_PP_MARGIN} of 1, for areas of four patches and up.",
    symbol="Υ_a/φ_a over formula",
    symbols={"Υ_a": "correlation of a local query's position with those of its own area"},
    predicted=_near_one,
    measure=_per_key,
    cases=_positions,
    controls=lambda scale: (
        Control(
            name=f"{_positions(scale)[0].name}, formula with the query among its keys",
            runs=_positions(scale)[0].runs,
            predicted=_itself_counted,
        ),
        *moved(_positions(scale)[-1:], _near_one, 2 * _PP_MARGIN, "ratio larger by 0.1"),
    ),
)


def _reconstruction_loss(case: Case, trajectories: tuple[Trajectory, ...]) -> Measurement:
    (trajectory,), training = trajectories, case.runs[0].training
    assert isinstance(training, Training)
    layout, distribution = training.generator.layout, training.generator.latents
    ratio = 0.5
    errors = trajectory["reconstruction_error"].to_numpy()
    # Errors of masked queries are recorded whatever is trained, so that contrast, a control, has them too.
    losses = ratio * np.nansum(errors * layout.sizes, -1).mean(-1)
    excess = losses - reconstruction_infimum(layout, ratio, distribution)
    return over_seeds(excess[-1] / excess[0])


MAE_LOSS = Claim(
    id="MAE-LOSS",
    statement="Masked reconstruction comes close to the infimum of its loss, ½E[z²] Σ_j C_j w_j, which areas that are "
    "masked as a whole leave.",
    source="Huang et al. (2025), as recalled; the minimum in closed form is ours",
    note="claims.md#mae-loss",
    assumptions=(
        assume.ONE_RUN,
        assume.FULL_SIMULATION,
        assume.FRESH_BATCHES,
        assume.LATENTS_BOUNDED,
        assume.MASKS_OF_HALF,
        assume.THEORYS_LAYER,  # another model may come below this infimum
    ),
    surrogate="What is left of the loss above its closed-form minimum after 400 steps is less than 0.05 of what "
    "it was at Q = 0; the expected value over seeds, by a 99.9 % interval.",
    symbol="(L − L_min)/(L_0 − L_min)",
    symbols={"L": "loss", "L_0": "loss at Q = 0", "L_min": "infimum of the loss"},
    predicted=lambda case: (-inf, 0.05),
    measure=_reconstruction_loss,
    cases=lambda scale: tuple(map(Case.of, limit_experiments(_MAE, scale))),
    controls=lambda scale: (
        *map(Case.of, limit_experiments(_CL, scale)),
        *(
            Control(name=f"{run.name}, 5 steps", runs=(run,))  # before local areas are learned
            for run in limit_experiments(_MAE, scale, steps=5)
        ),
    ),
)
