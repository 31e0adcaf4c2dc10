"""The limits of training: masked reconstruction learns every area, contrast collapses onto the global one."""

from __future__ import annotations

from math import inf

from vitdyn._errors import require_choice
from vitdyn.claims import assumptions as assume
from vitdyn.claims.claim import SCALES, Case, Claim, Measurement
from vitdyn.claims.judgement import over_seeds
from vitdyn.data import PatchGenerator, PatchLayout
from vitdyn.dynamics import Training
from vitdyn.experiments import Experiment
from vitdyn.objectives import Contrastive, MaskedReconstruction, Objective
from vitdyn.observables import least_global_attention, least_own_area_attention
from vitdyn.trajectory import Trajectory

EXPONENTS = {"gap-positive": (0.9, 0.4), "gap-negative": (0.6, 0.5)}
"""(κ_c, κ_s) at either sign of Δ."""

_SEEDS = {"quick": 8, "full": 32}
_MARGIN = 0.8


def limit_experiments(objective: Objective, scale: str) -> tuple[Experiment, ...]:
    """Return the runs on which the limits are read: P = 256, two clusters, Δ = 0.4 and Δ = −0.3."""
    require_choice("scale", scale, SCALES)
    return tuple(
        Experiment(
            name=f"{objective.name}-{label}",
            training=Training(
                generator=PatchGenerator(
                    layout=PatchLayout.from_exponents(256, kappa_c, kappa_s, clusters=2)
                ),
                objective=objective,
                steps=400,
                seeds=_SEEDS[scale],
            ),
        )
        for label, (kappa_c, kappa_s) in EXPONENTS.items()
    )


def _reconstruction(scale: str) -> tuple[Case, ...]:
    return tuple(map(Case.of, limit_experiments(MaskedReconstruction(), scale)))


def _contrast(scale: str) -> tuple[Case, ...]:
    return tuple(map(Case.of, limit_experiments(Contrastive(), scale)))


def _above_margin(case: Case) -> tuple[float, float]:
    return _MARGIN, inf


def _least_own(case: Case, trajectories: tuple[Trajectory, ...]) -> Measurement:
    (trajectory,) = trajectories
    return over_seeds(least_own_area_attention(trajectory)[-1])


def _least_global(case: Case, trajectories: tuple[Trajectory, ...]) -> Measurement:
    (trajectory,) = trajectories
    return over_seeds(least_global_attention(trajectory)[-1])


_ON_SIMULATIONS = (assume.FULL_SIMULATION, assume.FRESH_BATCHES, assume.LATENTS_BOUNDED)

MAE_AREA = Claim(
    id="MAE-AREA",
    statement="Trained by masked reconstruction, every masked patch attends to its own area, local or global, "
    "at either sign of the information gap.",
    source="Huang et al. (2025), theorem on MAE, as recalled; the finite check is ours",
    note="claims.md#mae-area",
    assumptions=_ON_SIMULATIONS,
    surrogate="1 − A_{p→a(p)} → 0 as P and time grow, read as: after 400 steps at P = 256 the position that attends "
    "least to its own area still gives it more than the margin, in the mean over samples that hide the patch and show "
    "some of its area; the expected value over seeds, by a 99.9 % interval.",
    symbol="min_p A_own",
    predicted=_above_margin,
    measure=_least_own,
    cases=_reconstruction,
    controls=_contrast,
)

CL_GLOBAL = Claim(
    id="CL-GLOBAL",
    statement="Trained by contrast, every patch attends to the global area, patches of local areas too, "
    "at either sign of the information gap.",
    source="Huang et al. (2025), theorem on CL, as recalled; the finite check is ours",
    note="claims.md#cl-global",
    assumptions=(*_ON_SIMULATIONS, assume.clusters_at_least(2)),
    surrogate="A_{p→1} → 1 as P and time grow, read as: after 400 steps at P = 256 the position that attends least to "
    "the global area still gives it more than the margin, in the mean over samples; the expected value over seeds, by "
    "a 99.9 % interval.",
    symbol="min_p A_global",
    predicted=_above_margin,
    measure=_least_global,
    cases=_contrast,
    controls=_reconstruction,
)
