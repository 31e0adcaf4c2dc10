"""The limits of training: masked reconstruction learns every area, contrast collapses onto the global one."""

from __future__ import annotations

from collections.abc import Callable
from math import inf

import numpy as np

from vitdyn._errors import require_choice
from vitdyn.claims import assumptions as assume
from vitdyn.claims.claim import SCALES, Assumption, Case, Claim, Control, Measurement
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
_EARLY = 12


def limit_experiments(
    objective: Objective, scale: str, *, clusters: int = 2, steps: int = 400
) -> tuple[Experiment, ...]:
    """Return the runs on which the limits are read: P = 256, Δ = 0.4 and Δ = −0.3."""
    require_choice("scale", scale, SCALES)
    return tuple(
        Experiment(
            name=f"{objective.name}-{label}",
            training=Training(
                generator=PatchGenerator(
                    layout=PatchLayout.from_exponents(256, kappa_c, kappa_s, clusters=clusters)
                ),
                objective=objective,
                steps=steps,
                seeds=_SEEDS[scale],
            ),
        )
        for label, (kappa_c, kappa_s) in EXPONENTS.items()
    )


_MAE, _CL = MaskedReconstruction(), Contrastive()


def _cases(objective: Objective, scale: str) -> tuple[Case, ...]:
    return tuple(map(Case.of, limit_experiments(objective, scale)))


def _controls(
    words: str, runs: tuple[Experiment, ...], removes: Assumption | None = None
) -> tuple[Control, ...]:
    """Return the runs as near controls, ``words`` saying what each lacks."""
    return tuple(Control(name=f"{run.name}, {words}", runs=(run,), removes=removes) for run in runs)


def _three_clusters(scale: str) -> tuple[Case, ...]:
    runs = limit_experiments(_CL, scale, clusters=3)
    return tuple(Case(name=f"{run.name}, K = 3", runs=(run,)) for run in runs)


def _above_margin(case: Case) -> tuple[float, float]:
    return _MARGIN, inf


def at_the_end(attention: Callable[[Trajectory], np.ndarray]) -> Callable[..., Measurement]:
    """Return the measurement of the last frame of an attention (frame, seed) over seeds."""
    return lambda case, trajectories: over_seeds(attention(trajectories[0])[-1])


_ON_SIMULATIONS = (
    assume.ONE_RUN,
    *assume.SIMULATED,
    assume.patches_at_least(256),
    assume.THEORYS_RANGE,
)

MAE_AREA = Claim(
    id="MAE-AREA",
    statement="Trained by masked reconstruction, every masked patch that finds some of its area visible, local or "
    "global, comes to give that area most of its attention, at either sign of the information gap.",
    source="Huang et al. (2025), theorem on MAE, as recalled; the finite check is ours",
    note="claims.md#mae-area",
    assumptions=(*_ON_SIMULATIONS, assume.recording("own_area_attention")),
    surrogate="1 − A_{p→a(p)} → 0 as P and time grow, read as: after 400 steps at P = 256 the position that attends "
    "least to its own area still gives it more than the margin, in the mean over samples that hide the patch and show "
    "some of its area; the expected value over seeds, by a 99.9 % interval. One P shows a level and no limit.",
    symbol="min_p A_own",
    predicted=_above_margin,
    measure=at_the_end(least_own_area_attention),
    cases=lambda scale: _cases(_MAE, scale),
    controls=lambda scale: (
        # about the time P^{1−κ_s} of MAE-TIME, without its logarithm
        *_controls(f"{_EARLY} steps", limit_experiments(_MAE, scale, steps=_EARLY)),
        *_cases(_CL, scale),
    ),
)

CL_GLOBAL = Claim(
    id="CL-GLOBAL",
    statement="Trained by contrast with negatives of other clusters, every patch comes to give most of its "
    "attention to the global area, patches of local areas too, at either sign of the information gap.",
    source="Huang et al. (2025), theorem on CL, as recalled; the finite check is ours",
    note="claims.md#cl-global",
    assumptions=(*_ON_SIMULATIONS, assume.ENOUGH_CLUSTERS, assume.recording("area_attention")),
    surrogate="A_{p→1} → 1 as P and time grow, read as: after 400 steps at P = 256, with two and with three clusters, "
    "the position that attends least to the global area still gives it more than the margin, in the mean over samples; "
    "the expected value over seeds, by a 99.9 % interval. One P shows a level and no limit: with two clusters the mean "
    "field has none. That queries attend alike is an identity here; where they attend is what is measured.",
    symbol="min_p A_global",
    predicted=_above_margin,
    measure=at_the_end(least_global_attention),
    cases=lambda scale: (*_cases(_CL, scale), *_three_clusters(scale)),
    controls=lambda scale: (
        # all negatives are of the sample's own cluster
        *_controls("K = 1", limit_experiments(_CL, scale, clusters=1), removes=assume.ENOUGH_CLUSTERS),
        *_cases(_MAE, scale),
    ),
)
