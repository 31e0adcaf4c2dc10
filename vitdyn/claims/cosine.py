"""Contrast of cosines: when it does not turn to the global area, as contrast of inner products does."""

from __future__ import annotations

from math import inf, log, nan

import numpy as np
from jaxtyping import Float

from vitdyn.claims import assumptions as assume
from vitdyn.claims.assumptions import Spec
from vitdyn.claims.claim import Case, Claim, Control, Interval, Measurement, moved
from vitdyn.claims.flows import around
from vitdyn.claims.judgement import over_seeds
from vitdyn.claims.limits import EXPONENTS
from vitdyn.data import PatchGenerator, PatchLayout
from vitdyn.dynamics import GradientDescent, Schedule, Training
from vitdyn.experiments import Experiment
from vitdyn.objectives import AlignmentUniformity, MoCo, Objective, SimCLR
from vitdyn.theory import own_cluster_share, repulsion_threshold
from vitdyn.trajectory import Trajectory

_SEEDS = {"quick": 16, "full": 64}
_END_SEEDS = {"quick": 10, "full": 32}
_FIRST_STEPS = 6
_MARGIN = 0.05
_ABOUT = (-0.1, 0.0, 0.1)
"""Repulsions of a sweep, less the predicted threshold."""


def repulsion(spec: Spec) -> float:
    """Return q of a run: how strongly cosines repel within a cluster, for each unit of attraction, at Q = 0."""
    objective, clusters = spec.objective, assume.clusters_of(spec)
    match objective:
        case AlignmentUniformity(weight=weight, temperature=t, power=2.0):
            # attraction pulls by 2, uniformity pushes by 2wt; e^{−t‖x − y‖²} is a softmax of temperature 1/2t
            return weight * t * own_cluster_share(clusters, 1 / (2 * t))
        case SimCLR() | MoCo(queue=0):
            return own_cluster_share(clusters, objective.temperature)
    raise ArithmeticError(f"the repulsion of {objective.name} is not known")


def _threshold(spec: Spec) -> float:
    return repulsion_threshold(assume.sizes_of(spec), assume.distribution_of(spec), spec.objective.mask_ratio)


_COMPARED = assume.every_run(
    "SimCLR, MoCo v3 or alignment with uniformity.",
    lambda spec: isinstance(spec.objective, (SimCLR, MoCo, AlignmentUniformity)),
)
_COSINES = assume.every_run(
    "Outputs are made unit vectors.", lambda spec: bool(getattr(spec.objective, "normalise", False))
)
_MOVES_FIRST = assume.steps_at_most(_FIRST_STEPS)
_AS_OFTEN = assume.Assumption(sentence="At least two runs.", holds=lambda case: len(case.runs) > 1)


def _repels_by(spec: Spec) -> float:
    try:
        return repulsion(spec)
    except ArithmeticError:
        return nan


_REPELLED = assume.every_run(
    "q > q*: few clusters, or a low temperature.", lambda spec: _repels_by(spec) > _threshold(spec)
)
_AT_MOST_ONE = assume.every_run("q ≤ 1, as for InfoNCE.", lambda spec: _repels_by(spec) <= 1)


def _run(
    objective: Objective,
    gap: str,
    scale: str,
    *,
    patches: int = 256,
    clusters: int = 1,
    steps: int = _FIRST_STEPS,
) -> Experiment:
    layout = PatchLayout.from_exponents(patches, *EXPONENTS[gap], clusters=clusters)
    first = steps == _FIRST_STEPS
    training = Training(
        generator=PatchGenerator(layout=layout),
        objective=objective,
        # a first move is linear in the rate, as long as it is small
        optimizer=GradientDescent(learning_rate=1.0 * patches * clusters) if first else None,
        steps=steps,
        batch_size=64 if first else 32,
        seeds=(_SEEDS if first else _END_SEEDS)[scale],
        schedule=Schedule(frames=2),
        observables=("feature_position",) if first else ("area_attention",),
    )
    return Experiment(name=f"{objective.name}-{gap}", training=training)


def _first_move(trajectory: Trajectory) -> Float[np.ndarray, " seed"]:
    """Return φ_1 at the end, the same of all queries."""
    final = trajectory.final["feature_position"].sel(statistic="mean")
    return final.isel(key_area=0).mean(("cluster", "query_area")).to_numpy()


def _crossing(case: Case, trajectories: tuple[Trajectory, ...]) -> Measurement:
    """Return the repulsion at which φ_1 does not move, by a line through the runs, seed by seed."""
    specs, rows = case.specs, [_first_move(each) for each in trajectories]
    # the gradient of InfoNCE has a factor 1/τ
    scale = [spec.objective.temperature if isinstance(spec.objective, SimCLR) else 1.0 for spec in specs]
    slope, level = np.polyfit(
        [repulsion(spec) for spec in specs], np.array(rows) * np.array(scale)[:, None], 1
    )
    return over_seeds(-level / slope)


def _near_threshold(case: Case) -> Interval:
    return around(_threshold(case.specs[0]), _MARGIN)


def _weights(scale: str, mask_ratio: float = 0.5, *, normalise: bool = True) -> Case:
    """Return alignment and uniformity with one cluster, at weights w of uniformity with q = w t about q*."""
    centre = _threshold(_run(AlignmentUniformity(mask_ratio=mask_ratio), "gap-positive", scale).training)  # type: ignore[arg-type]
    made = [
        AlignmentUniformity(
            weight=round((centre + offset) / 2, 3), mask_ratio=mask_ratio, normalise=normalise
        )
        for offset in _ABOUT
    ]
    name = f"alignment-uniformity over w, γ = {mask_ratio:g}{'' if normalise else ', inner products'}"
    return Case(name=name, runs=tuple(_run(each, "gap-positive", scale) for each in made))


def _temperatures(scale: str, clusters: int = 8) -> Case:
    """Return SimCLR at temperatures whose q lie about q*."""
    centre = _threshold(_run(SimCLR(), "gap-positive", scale).training)  # type: ignore[arg-type]
    shares = [centre + offset for offset in (-0.08, -0.02, 0.04)]
    made = [SimCLR(temperature=round(1 / log((clusters - 1) / (1 / share - 1)), 3)) for share in shares]
    runs = tuple(_run(each, "gap-positive", scale, clusters=clusters) for each in made)
    return Case(name=f"simclr over τ, K = {clusters}", runs=runs)


def _without_cosines(scale: str) -> Control:
    case = _weights(scale, normalise=False)
    return Control(name=case.name, runs=case.runs, removes=_COSINES)


_ON_SIMULATIONS = (
    assume.FULL_SIMULATION,
    assume.FRESH_BATCHES,
    assume.POSITION_QUERIES,
    assume.THEORYS_DATA,
    assume.LATENTS_BOUNDED,
    _COMPARED,
    _COSINES,
)
_FIRST_MOVES = (*_ON_SIMULATIONS, _MOVES_FIRST, assume.recording("feature_position"))

_REPULSION = {
    "q": "repulsion between samples of a cluster for each unit of attraction",
    "q*": "q up to which a row of Q turns to the global area",
}

COSINE_THRESHOLD = Claim(
    id="COSINE-THRESHOLD",
    statement="With cosines and Δ > 0 a row of Q first turns to the global area only where samples of a cluster repel "
    "by less than q* = v E[z²]/(v E[z²] + Var z) for each unit of attraction, v the noise of masks: with InfoNCE at "
    "more than 1 + (1/q* − 1) e^{1/τ} clusters.",
    source="vitdyn's own",
    note="claims.md#cosine-threshold",
    assumptions=(*_FIRST_MOVES, assume.GAP_POSITIVE, _AS_OFTEN),
    surrogate=f"The q at which φ_1 after {_FIRST_STEPS} steps is 0, by a line through runs of three q, P = 256, "
    "κ = (0.9, 0.4): alignment and uniformity over their weight at γ = 0.5 and 0.25, K = 1, and SimCLR over τ at K = "
    f"8; within {_MARGIN} of q*. The control takes inner products.",
    symbol="q",
    symbols={
        **_REPULSION,
        "v": "noise of masks: relative variance of visible counts",
        "w": "weight of uniformity",
    },
    predicted=_near_threshold,
    measure=_crossing,
    cases=lambda scale: (
        _weights(scale),
        _weights(scale, 0.25),
        _temperatures(scale),
        *([] if scale == "quick" else [_weights(scale, 0.75), _temperatures(scale, 4)]),
    ),
    controls=lambda scale: (
        _without_cosines(scale),
        *moved((_weights(scale, 0.25),), _near_threshold, 2 * _MARGIN, "q* + 0.1"),
        *moved((_temperatures(scale),), _near_threshold, -2 * _MARGIN, "q* − 0.1"),
    ),
)


def _of_one_cluster(scale: str, gap: str, temperature: float) -> Case:
    case = Case.of(_run(SimCLR(temperature=temperature), gap, scale))
    return Case(name=f"{case.name}, K = 1, τ = {temperature:g}", runs=case.runs)


def _gap_controls(scale: str) -> tuple[Control, ...]:
    other, strong = (
        _of_one_cluster(scale, "gap-positive", 0.5),
        _run(AlignmentUniformity(), "gap-negative", scale),
    )
    return (
        Control(name=other.name, runs=other.runs, removes=assume.GAP_NEGATIVE),
        Control(name=f"{strong.name}, q = 2", runs=(strong,), removes=_AT_MOST_ONE),
    )


COSINE_GAP = Claim(
    id="COSINE-GAP",
    statement="Where Δ < 0 InfoNCE of cosines first turns to the global area, with a single cluster too; where Δ > 0 "
    "it then turns away.",
    source="vitdyn's own",
    note="claims.md#cosine-gap",
    assumptions=(*_FIRST_MOVES, assume.ONE_RUN, assume.GAP_NEGATIVE, _AT_MOST_ONE),
    surrogate=f"φ_1 after {_FIRST_STEPS} steps of SimCLR, K = 1, P = 256, κ = (0.6, 0.5), above 0 by a 99.9 % interval "
    "over seeds. Controls: Δ = 0.4; alignment and uniformity at their usual weight, which repel by q = 2 > q*.",
    symbol="φ_1",
    symbols=_REPULSION,
    predicted=lambda case: (0.0, inf),
    measure=lambda case, runs: over_seeds(_first_move(runs[0])),
    cases=lambda scale: tuple(_of_one_cluster(scale, "gap-negative", tau) for tau in (0.5, 0.2)),
    controls=_gap_controls,
)


def _ends(objective: Objective, scale: str, clusters: int = 2) -> Experiment:
    """Return a run at P = 144, Δ = 0.4, long enough for contrast of inner products to collapse."""
    steps = 200 if scale == "quick" else 400
    return _run(objective, "gap-positive", scale, patches=144, clusters=clusters, steps=steps)


def global_attention(trajectory: Trajectory) -> Float[np.ndarray, " seed"]:
    """Return the attention of local queries to the global area at the end."""
    final = trajectory.final["area_attention"].sel(statistic="mean").isel(key_area=0)
    return final.isel(query_area=slice(1, None)).mean(("cluster", "query_area")).to_numpy()


def _end_controls(scale: str) -> tuple[Control, ...]:
    raw, many = (
        _ends(SimCLR(temperature=0.25, normalise=False), scale),
        _ends(SimCLR(temperature=1.0), scale, 8),
    )
    return (
        Control(name=f"{raw.name}, inner products, K = 2", runs=(raw,), removes=_COSINES),
        Control(name=f"{many.name}, τ = 1, K = 8", runs=(many,), removes=_REPELLED),
    )


COSINE_SPREAD = Claim(
    id="COSINE-SPREAD",
    statement="Contrast of cosines with few clusters or at a low temperature (q > q*, Δ > 0) does not collapse onto "
    "the global area: it ends with its attention spread over areas, most of it not on the global one.",
    source="vitdyn's own; the opposite of what Huang et al. (2025), as recalled, say of contrast without cosines",
    note="claims.md#cosine-spread",
    assumptions=(
        *_ON_SIMULATIONS,
        assume.ONE_RUN,
        assume.GAP_POSITIVE,
        _REPELLED,
        assume.recording("area_attention"),
    ),
    surrogate="Attention of local queries to the global area at the end of 200 steps (full: 400, and MoCo v3 too), "
    "P = 144, κ = (0.9, 0.4), K = 2, τ = 0.25: below 1/2 by a 99.9 % interval over seeds. Controls: inner products in "
    "the place of cosines; τ = 1 with K = 8.",
    symbol="A_1",
    symbols=_REPULSION,
    predicted=lambda case: (-inf, 0.5),
    measure=lambda case, runs: over_seeds(global_attention(runs[0])),
    cases=lambda scale: tuple(
        Case.of(_ends(each, scale))
        for each in (SimCLR(temperature=0.25), *([] if scale == "quick" else [MoCo(temperature=0.25)]))
    ),
    controls=_end_controls,
)
