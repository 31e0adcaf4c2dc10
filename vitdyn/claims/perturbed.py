"""Noise on patches and features that are not orthogonal: what they do to the first moves of reconstruction."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from jaxtyping import Float

from vitdyn.claims import assumptions as assume
from vitdyn.claims.assumptions import Spec
from vitdyn.claims.claim import Case, Claim, Control, Interval, Measurement, moved
from vitdyn.claims.flows import around
from vitdyn.claims.judgement import over_seeds
from vitdyn.data import AreaSizes, Constant, PatchGenerator, PatchLayout
from vitdyn.dynamics import GradientDescent, Schedule, Training
from vitdyn.experiments import Experiment
from vitdyn.models import Transformer
from vitdyn.objectives import MaskedReconstruction, Objective
from vitdyn.theory import coherence_levels, start_drives
from vitdyn.trajectory import Trajectory

SIZES = (16, 4, 4, 4, 4)
"""Areas of 32 patches, the global one first."""

_SEEDS = {"quick": 16, "full": 48}
_FIRST_STEPS = 6
_SLOW = 0.02
"""Of the usual rate: first moves keep to the drives at Q = 0."""
_ABOUT = (-0.05, 0.0, 0.05)
"""Coherences of a sweep, less the predicted level."""
_MARGIN = 0.05
_OURS = "vitdyn's notes, beyond_one_layer.md"
_NOTE = "beyond_one_layer.md#noise-and-coherence"


def perturbed_run(
    objective: Objective,
    *,
    noise: float = 0.0,
    coherence: float = 0.0,
    sizes: tuple[int, ...] = SIZES,
    clusters: int = 1,
    first: bool = False,
    seeds: int,
) -> Experiment:
    """Return a run of constant latents with this noise and coherence, or its ``first`` moves, by the plain layer."""
    layout = PatchLayout.from_sizes(sizes, clusters=clusters)
    rate = objective.default_learning_rate(layout) * (_SLOW if first else 1.0)
    training = Training(
        generator=PatchGenerator(
            layout=layout, latents=Constant(value=1.0), noise=noise, coherence=coherence
        ),
        objective=objective,
        # without noise and coherence too, so that all are read alike
        model=Transformer(),
        optimizer=GradientDescent(learning_rate=rate),
        steps=_FIRST_STEPS if first else 400,
        batch_size=256 if first else 32,
        evaluation_samples=2 if first else 64,
        seeds=seeds,
        observables=("loss",) if first else ("area_attention", "own_area_attention"),
        schedule=Schedule(frames=2),
    )
    name = f"{objective.name}-noise-{noise:g}-coherence-{coherence:g}{'-first' if first else ''}"
    return Experiment(name=name, training=training)


def _training(spec: object) -> Training:
    assert isinstance(spec, Training)
    return spec


def first_drives(spec: Spec, trajectory: Trajectory) -> dict[str, Float[np.ndarray, " seed"]]:
    """Return dφ/dt of masked local queries, to their own area and the global one, as moved in the first steps."""
    spec = _training(spec)
    generator, rate = spec.generator, spec.resolved_optimizer
    assert isinstance(rate, GradientDescent)
    # (seed, layer, head, query, feature), whose products with the features are φ
    moves = trajectory["final_feature_position"].to_numpy()[:, 0, 0] @ generator.features.vectors.T
    area = np.array(generator.layout.partition[0])
    local = np.flatnonzero(area)
    time = rate.learning_rate * spec.steps
    return {
        "own": moves[:, local, area[local]].mean(1) / time,
        "global": moves[:, local, 0].mean(1) / time,
    }


def predicted_drives(spec: Spec, *, times_noise: float = 1.0) -> dict[str, float]:
    """Return the same as the theory has them, with so many times the noise."""
    generator = _training(spec).generator
    assert isinstance(generator.coherence, float)
    return start_drives(
        AreaSizes.of(generator.layout),
        generator.latents,
        noise=times_noise * generator.noise,
        coherence=generator.coherence,
    )


def _without_noise(spec: Spec) -> Spec:
    if not isinstance(spec, Training):
        return spec
    return replace(spec, generator=replace(spec.generator, noise=0.0))


_FIRST_MOVES = assume.steps_at_most(_FIRST_STEPS)
_RECONSTRUCTION = assume.every_run(
    "Masked reconstruction.", lambda spec: isinstance(spec.objective, MaskedReconstruction)
)
_BESIDE_NONE = assume.Assumption(
    sentence="Two runs that differ in noise alone; the second has none.",
    holds=lambda case: len(case.specs) == 2 and _without_noise(case.specs[0]) == case.specs[1],
)
_LOCAL_AREAS = assume.every_run(
    "Two local areas or more, of two patches or more.",
    lambda spec: assume.sizes_of(spec).local_areas >= 2 and assume.sizes_of(spec).local_size >= 2,
)
_SIMULATED = (
    *assume.SIMULATED,
    assume.WRITTEN_PLAINLY,
    assume.clusters_exactly(1),
    _LOCAL_AREAS,
    _RECONSTRUCTION,
    _FIRST_MOVES,
)


def _noisy(scale: str) -> tuple[Case, ...]:
    """Return runs with noise beside one without."""
    runs = {
        noise: perturbed_run(MaskedReconstruction(), noise=noise, first=True, seeds=_SEEDS[scale])
        for noise in (0.0, 0.3, 0.6)
    }
    return tuple(Case(name=f"s = {noise}", runs=(runs[noise], runs[0.0])) for noise in (0.3, 0.6))


def _hastened(case: Case, trajectories: tuple[Trajectory, ...]) -> Measurement:
    noisy, clean = (
        first_drives(spec, each)["own"] for spec, each in zip(case.specs, trajectories, strict=True)
    )
    return over_seeds(noisy / clean)


def _hastens_by(case: Case, times_noise: float = 1.0) -> Interval:
    noisy, clean = (predicted_drives(spec, times_noise=times_noise)["own"] for spec in case.specs)
    return around(noisy / clean, _MARGIN * noisy / clean)


NOISE_START = Claim(
    id="NOISE-START",
    statement="Noise on patches, kept in the target, hastens the first move of a masked local patch towards its own "
    "area, by what the drives at Q = 0 say.",
    source=_OURS,
    note=_NOTE,
    assumptions=(*_SIMULATED, _BESIDE_NONE),
    surrogate="φ_own with noise over φ_own without, after 6 small steps at P = 32, within 5 % of theory.start_drives; "
    "the expected value over seeds, by a 99.9 % interval. Near controls: noise 1.2 times as large, and none, in the "
    "theory.",
    symbol="φ_own(s)/φ_own(0)",
    symbols={
        "φ_own": "entry of Φ: a local query with its own area",
        "s": "standard deviation of the noise",
    },
    predicted=_hastens_by,
    measure=_hastened,
    cases=_noisy,
    controls=lambda scale: (
        Control(
            name="noise 1.2 times as large in theory",
            runs=_noisy(scale)[0].runs,
            predicted=lambda case: _hastens_by(case, 1.2),
        ),
        Control(
            name="no noise in theory",
            runs=_noisy(scale)[0].runs,
            predicted=lambda case: _hastens_by(case, 0.0),
        ),
    ),
)


def _level(spec: Spec) -> float:
    generator = _training(spec).generator
    return coherence_levels(AreaSizes.of(generator.layout), generator.latents)["own below global"]


def _coherent(scale: str) -> tuple[Case, ...]:
    """Return runs at coherences about the predicted level; at full scale of a larger global area too."""
    cases = []
    for sizes in (SIZES, (20, 6, 6))[: 1 if scale == "quick" else 2]:
        plain = perturbed_run(MaskedReconstruction(), sizes=sizes, first=True, seeds=_SEEDS[scale])
        level = _level(_training(plain.training))
        runs = tuple(
            perturbed_run(
                MaskedReconstruction(),
                coherence=level + apart,
                sizes=sizes,
                first=True,
                seeds=_SEEDS[scale],
            )
            for apart in _ABOUT
        )
        cases.append(Case(name=f"areas {', '.join(map(str, sizes))}", runs=runs))
    return tuple(cases)


def _crossing(case: Case, trajectories: tuple[Trajectory, ...]) -> Measurement:
    """Return the coherence at which both first moves are alike, by a line through the runs, seed by seed."""
    found = [first_drives(spec, each) for spec, each in zip(case.specs, trajectories, strict=True)]
    ahead = np.array([each["own"] - each["global"] for each in found])
    slope, start = np.polyfit([_training(spec).generator.coherence for spec in case.specs], ahead, 1)
    return over_seeds(-start / slope)


def _near_level(case: Case) -> Interval:
    return around(_level(case.specs[0]), _MARGIN)


COHERENCE_TURN = Claim(
    id="COHERENCE-TURN",
    statement="A masked local patch moves first towards the global area, not its own, where features are more coherent "
    "than the level of the drives at Q = 0.",
    source=_OURS,
    note=_NOTE,
    assumptions=_SIMULATED,
    surrogate="The coherence at which φ_own and φ_1 after 6 small steps at P = 32 are alike, by a line through three "
    "runs about it, within 0.05 of theory.coherence_levels; the expected value over seeds, by a 99.9 % interval.",
    symbol="c*",
    symbols={
        "φ_own": "entry of Φ: a local query with its own area",
        "c*": "coherence of features at which φ_own and φ_1 move alike",
    },
    predicted=_near_level,
    measure=_crossing,
    cases=_coherent,
    controls=lambda scale: (
        *moved(_coherent(scale), _near_level, 0.12, "level + 0.12"),
        *moved(_coherent(scale), _near_level, -0.12, "level − 0.12"),
    ),
)
