"""The two phases of a local query in masked reconstruction: which correlation moves first, and how far φ_1 falls."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np

from vitdyn.claims import assumptions as assume
from vitdyn.claims.claim import Case, Claim, Control, Interval, Measurement, moved
from vitdyn.claims.flows import (
    TOLERANCE,
    around,
    deadline,
    flow,
    regime_of,
    single,
    single_flow,
    spec_of,
    with_coarser,
)
from vitdyn.data import Constant, Distribution, Uniform
from vitdyn.objectives import Contrastive
from vitdyn.reduced import local_correlations, phase_one_end, when_reached
from vitdyn.theory import Prediction, first_lead, local_area_time, phase_one_level, take_over_level
from vitdyn.trajectory import Trajectory

EARLY = 0.1
"""Correlations are small up to here."""
_CL = Contrastive()
_LATENTS = assume.latents_of_kind(Uniform, Constant, words="uniform or constant")
_POSITIVE, _NEGATIVE = ((0.9, 0.3), (0.8, 0.3), (0.9, 0.5)), ((0.6, 0.3), (0.55, 0.4))


def _flow(kappa: tuple[float, float], latents: Distribution | None = None) -> Case:
    case = single_flow(*kappa, latents=latents, until=0.95, frames=600)
    return case if latents is None else Case(name=f"{case.name}, constant z", runs=case.runs)


def _constant() -> Case:
    """Return the flow whose latents leave a level no freedom."""
    return _flow((0.9, 0.3), Constant(value=1.2))


def _cases(scale: str, *, negative: bool = True) -> tuple[Case, ...]:
    kappas = [each if scale == "full" else each[:1] for each in (_POSITIVE, _NEGATIVE if negative else ())]
    return (*(_flow(kappa) for group in kappas for kappa in group), _constant())


def _measured_by(statistic: Callable[[Case, Trajectory], float]) -> Callable[..., Measurement]:
    """Return the measurement of a statistic of the finer of a case's two flows."""
    return lambda case, trajectories: single(trajectories, partial(statistic, case))


def _depth_of(level: Callable[..., Prediction], margin: float) -> Callable[[Case], Interval]:
    """Return, for a level of φ_1, the interval of −φ_1/log P."""

    def predicted(case: Case) -> Interval:
        # The claim is on −φ_1/log P: the ends change places with the sign.
        spec = spec_of(case)
        size, found = regime_of(case).log_patches, level(regime_of(case), spec.latents, _mask_ratio(case))
        return -found.high / size - margin, -found.low / size + margin

    return predicted


def _mask_ratio(case: Case) -> float:
    return spec_of(case).objective.masking().ratio


def _lead(case: Case, run: Trajectory) -> float:
    moved = local_correlations(run)[1:]
    fallen, grown = np.log(np.maximum([-1.0, 1.0] * moved, 1e-30)).T  # a wrong direction is no motion
    return when_reached(fallen - grown, np.abs(moved).max(1), EARLY) / regime_of(case).log_patches


def _predicted_lead(case: Case) -> Interval:
    return around(first_lead(regime_of(case), _mask_ratio(case)).exponent)


MAE_ORDER = Claim(
    id="MAE-ORDER",
    statement="A local query drops the global area before it finds its own if and only if Δ > 0: while both are small, "
    "|φ_1| is (1 − γ)P^Δ times φ_a.",
    source="Huang et al. (2025), as recalled, the order; the factor is ours",
    note="claims.md#mae-order",
    assumptions=(assume.BEHIND_A_COARSER, _LATENTS),
    surrogate="log(|φ_1|/φ_a)/log P of a local query at the first moment at which one of the two is 0.1, at P = 1e16: "
    "within 0.01 of Δ + log(1 − γ)/log P, at either sign of Δ.",
    symbol="log(|φ_1|/φ_a)/log P",
    predicted=_predicted_lead,
    measure=_measured_by(_lead),
    cases=_cases,
    controls=lambda scale: (
        *moved(_cases("quick")[:1], _predicted_lead, 2 * TOLERANCE, "exponent +0.02"),
        *moved(_cases("quick")[1:2], _predicted_lead, -2 * TOLERANCE, "exponent −0.02"),
    ),
    latest=deadline(local_area_time),
)


def _at_take_over(case: Case, run: Trajectory) -> float:
    own = run["own_area_attention"].sel(statistic="mean").isel(seed=0, cluster=0, query_area=1).to_numpy()
    to_global = local_correlations(run)[:, 0]
    # Where the own area never takes over, the end stands for the event.
    fallen = when_reached(to_global, own, 0.5) if own.max() >= 0.5 else float(to_global[-1])
    return -fallen / regime_of(case).log_patches


_take_over = _depth_of(take_over_level, TOLERANCE)

MAE_PHASES = Claim(
    id="MAE-PHASES",
    statement="When its own area takes over, a local query's correlation with the global area has fallen to φ_1 = "
    "−(Δ log P + log(2(1 − γ)))/(2z), with z between L and U, where Δ > 0; for Δ < 0 it is still near 0.",
    source="Huang et al. (2025), as recalled; the level's constant is ours",
    note="claims.md#mae-phases",
    assumptions=(assume.BEHIND_A_COARSER, _LATENTS),
    surrogate="−φ_1/log P of a local query when it gives half of its attention to its own area, at P = 1e16, lies "
    "within 0.01 of the interval of that level over z in [L, U]; for Δ < 0 within 0.01 of 0.",
    symbol="−φ_1/log P",
    predicted=_take_over,
    measure=_measured_by(_at_take_over),
    cases=_cases,
    controls=lambda scale: (
        Case(name="cl κ=(0.9, 0.3), P = 1e+16", runs=with_coarser(flow(1e16, 0.9, 0.3, _CL, until=0.9))),
        *moved((_constant(),), _take_over, 2 * TOLERANCE, "deeper by 0.02"),
        *moved((_constant(),), _take_over, -2 * TOLERANCE, "less deep by 0.02"),
    ),
    latest=deadline(local_area_time),
)

_END_MARGIN = 0.004


def _at_end(case: Case, run: Trajectory) -> float:
    end = phase_one_end(run)
    if end is None:
        raise ArithmeticError("there is no first phase in the record")
    return -end.to_global / regime_of(case).log_patches


MAE_PHASE_ONE = Claim(
    id="MAE-PHASE-ONE",
    statement="Where Δ > 0 the first phase ends, φ_a beginning to move as fast as φ_1 falls, at φ_1 = −(Δ log P + "
    "log(2(1 − γ)/3))/(2z), with z between L and U: less deep than at the take-over by log 3/(2z).",
    source="vitdyn's notes, leading order",
    note="claims.md#mae-phase-one",
    assumptions=(assume.BEHIND_A_COARSER, assume.GAP_POSITIVE, _LATENTS),
    surrogate="−φ_1/log P of a local query where d(φ_1 + φ_a)/dt first turns positive, at P = 1e16, lies within "
    f"{_END_MARGIN} of the interval of that level over z in [L, U].",
    symbol="−φ_1/log P",
    predicted=_depth_of(phase_one_level, _END_MARGIN),
    measure=_measured_by(_at_end),
    cases=lambda scale: _cases(scale, negative=False),
    controls=lambda scale: (
        Control(
            name=f"{_constant().name}, level of the take-over",
            runs=_constant().runs,
            predicted=_depth_of(take_over_level, _END_MARGIN),
        ),
    ),
    latest=deadline(local_area_time),
)
