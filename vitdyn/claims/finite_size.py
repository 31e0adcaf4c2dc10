"""Full simulation, exact reduction and mean field against each other, all the way from Q = 0 through the take-over."""

from __future__ import annotations

from dataclasses import replace
from math import inf

import numpy as np
from jaxtyping import Float

from vitdyn.claims import assumptions as assume
from vitdyn.claims.claim import Assumption, Case, Claim, Control, Measurement
from vitdyn.claims.flows import spec_of
from vitdyn.data import AreaSizes, PatchGenerator, PatchLayout
from vitdyn.dynamics import GradientDescent, Schedule, Training
from vitdyn.experiments import Experiment
from vitdyn.objectives import Contrastive, MaskedReconstruction, Objective
from vitdyn.reduced import ExactReduction, MeanField
from vitdyn.trajectory import Trajectory

_MAE, _CL = MaskedReconstruction(), Contrastive()
_FRAMES = 16
_SEEDS = {"quick": 16, "full": 32}
CLUSTERS, NEGATIVES = 4, 63


def twins(
    patches: int, kappa: tuple[float, float], objective: Objective, *, steps: int, rate: float, seeds: int
) -> Case:
    """Return a full simulation and the mean field of the same descent, recorded at the same steps.

    Reconstruction has one cluster, and Υ moves in the mean field too. Contrast has ``CLUSTERS`` of them and batches of
    ``NEGATIVES`` + 1; its Υ, which several clusters share, is of order φ_1/C_1 and left out of the mean field.
    """
    contrast = objective.view_count == 2
    clusters, samples = (CLUSTERS, NEGATIVES + 1) if contrast else (1, 32)
    layout = PatchLayout.from_exponents(patches, *kappa, clusters=clusters)
    rate = rate * clusters * (patches if contrast else 1)
    full = Training(
        generator=PatchGenerator(layout=layout),
        objective=objective,
        optimizer=GradientDescent(learning_rate=rate),
        steps=steps,
        batch_size=samples,
        seeds=seeds,
        schedule=Schedule(frames=_FRAMES),
    )
    limit = MeanField(
        sizes=AreaSizes.of(layout),
        objective=objective,
        clusters=clusters,
        negatives=NEGATIVES,
        position_correlations=not contrast,
        learning_rate=rate,
        steps=steps,
        until=None,
        frames=_FRAMES,
    )
    runs = (
        Experiment(name=f"{objective.name}-full", training=full),
        Experiment(name=f"{objective.name}-mean-field", training=limit),
    )
    return Case(name=f"{objective.name} κ=({kappa[0]:g}, {kappa[1]:g}), P = {patches}", runs=runs)


def against(case: Case, words: str, **changes: object) -> Control:
    """Return the control that sets the same simulation beside a mean field in which only some fields differ."""
    full, limit = case.runs
    other = replace(limit, training=replace(spec_of(case), **changes))  # type: ignore[arg-type]
    return Control(name=f"{case.name}, {words}", runs=(full, other))


def local_phi(trajectory: Trajectory) -> Float[np.ndarray, "seed frame 2"]:
    """Return φ_1 and φ_a of a local query, means over clusters and local areas."""
    values = trajectory["feature_position"].sel(statistic="mean").mean("cluster")
    phi = values.transpose("seed", "frame", "query_area", "key_area").to_numpy()[:, :, 1:]
    own = np.diagonal(phi[..., 1:], axis1=-2, axis2=-1)
    return np.stack([np.nanmean(phi[..., 0], -1), np.nanmean(own, -1)], -1)


def deviation(trajectories: tuple[Trajectory, ...]) -> Measurement:
    """Return the largest deviation of φ_1 and φ_a over all frames, as a part of the larger of them at the end.

    A reduction has the seeds of the simulation, whose latents it shares: the two are compared seed by seed.
    """
    run, reference = trajectories
    if (run["step"].to_numpy() != reference["step"].to_numpy()).any():
        raise ArithmeticError("the two runs are not recorded at the same steps")
    truth = local_phi(reference)
    gaps = (local_phi(run) - truth) / np.abs(truth.mean(0)[-1]).max()
    mean, error = np.abs(gaps.mean(0)), 4 * gaps.std(0, ddof=1) / np.sqrt(len(gaps))
    worst = np.unravel_index(mean.argmax(), mean.shape)
    # No frame may lie higher than the upper end says, also one whose mean is smaller and whose error is larger.
    low, high = max(mean[worst] - error[worst], 0.0), float((mean + error).max())
    return Measurement(float(mean[worst]), float(low), high, len(gaps), "seeds, four standard errors")


FULL_THEN_LIMIT = Assumption(
    sentence="A full simulation, and the mean field of as many steps.",
    holds=lambda case: (
        [isinstance(run.training, Training) for run in case.runs] == [True, False]
        and case.runs[0].training.steps == case.runs[1].training.steps
    ),
)


def _reconstruction(scale: str) -> tuple[Case, ...]:
    steps = {64: 36, 256: 46, 1024: 66}
    chosen = (64, 256) if scale == "quick" else tuple(steps)
    return tuple(
        twins(patches, (0.9, 0.4), _MAE, steps=steps[patches], rate=4.0, seeds=_SEEDS[scale])
        for patches in chosen
    )


def _one_more(case: Case) -> Control:
    """Return the control whose mean field has one patch more in each local area: the query counted among its keys."""
    sizes = spec_of(case).sizes
    larger = AreaSizes(
        patches=sizes.patches + sizes.local_areas,
        global_size=sizes.global_size,
        local_size=sizes.local_size + 1,
    )
    return against(case, "mean field with the query among the keys of its area", sizes=larger)


SYMMETRY = Claim(
    id="SYMMETRY",
    statement="From Q = 0 through the take-over of the own area, full simulations of masked reconstruction at "
    "κ = (0.9, 0.4), P = 64 to 1024, projected on order parameters, stay within 3/(8 C_s) of the mean field in "
    "the mean over seeds.",
    source="vitdyn's notes",
    note="claims.md#symmetry",
    assumptions=(
        FULL_THEN_LIMIT,
        assume.clusters_exactly(1),
        assume.MASKS_OF_HALF,
        assume.FRESH_BATCHES,
        assume.POSITIONS_MOVE,
    ),
    surrogate="The largest deviation of φ_1 and φ_a of a local query at 16 moments up to 1.5 times the time of the "
    "take-over, as a part of φ_a at the end, at P = 64, 256 and (full) 1024; four standard errors over seeds. "
    "Control: one patch more in each local area.",
    symbol="deviation",
    predicted=lambda case: (-inf, 0.375 / spec_of(case).sizes.local_size),
    measure=lambda case, runs: deviation(runs),
    cases=_reconstruction,
    controls=lambda scale: tuple(map(_one_more, _reconstruction(scale))),
)


def _of_other_clusters(case: Case, clusters: int) -> Control:
    """Return the control whose mean field has more clusters, and a rate that gives each of them as much to learn."""
    rate = spec_of(case).learning_rate
    assert rate is not None
    words = "mean field with " + (f"K = {clusters}" if clusters < 99 else "all negatives in other clusters")
    return against(case, words, clusters=clusters, learning_rate=rate * clusters / spec_of(case).clusters)


def _contrast(scale: str) -> tuple[Case, ...]:
    made = {
        (64, (0.8, 0.4)): (19, 2.0),
        (256, (0.8, 0.4)): (24, 2.0),
        (256, (0.6, 0.5)): (57, 4.0),
        (1024, (0.6, 0.5)): (142, 4.0),
    }
    return tuple(
        twins(patches, kappa, _CL, steps=steps, rate=rate, seeds=_SEEDS[scale])
        for (patches, kappa), (steps, rate) in made.items()
        if scale == "full" or patches <= 256
    )


CL_SYMMETRY = Claim(
    id="CL-SYMMETRY",
    statement="From Q = 0 through the collapse, full simulations of contrast at C_1 = 28 to 84, projected on order "
    "parameters, stay within 2/C_1 of the mean field.",
    source="vitdyn's notes",
    note="claims.md#cl-symmetry",
    assumptions=(
        FULL_THEN_LIMIT,
        assume.clusters_at_least(3),
        assume.negatives_at_least(32),
        assume.FRESH_BATCHES,
        assume.POSITION_QUERIES,
    ),
    surrogate="The largest deviation of φ_1 and φ_a of a local query at 16 moments up to 1.5 times the time of the "
    "collapse, as a part of φ_1 at the end, at P = 64, 256 and (full) 1024, at either sign of Δ; four standard errors "
    "over seeds. Controls: a mean field whose negatives all come from other clusters; one with a cluster more.",
    symbol="deviation",
    predicted=lambda case: (-inf, 2 / spec_of(case).sizes.global_size),
    measure=lambda case, runs: deviation(runs),
    cases=_contrast,
    controls=lambda scale: (
        *(_of_other_clusters(case, 10**6) for case in _contrast(scale)),
        _of_other_clusters(_contrast(scale)[1], CLUSTERS + 1),
    ),
)


_REDUCED_SEEDS = {64: 64, 256: 16, 1024: 8}
_STEPS = {64: 36, 256: 46, 1024: 66}


def reduced(patches: int, sizes: list[int] | None = None, *, seeds: int) -> Experiment:
    """Return the exact reduction of reconstruction as ``twins`` descends, or that of other areas of as many patches."""
    layout = PatchLayout.from_sizes(sizes) if sizes else PatchLayout.from_exponents(patches, 0.9, 0.4)
    spec = ExactReduction(
        layout=layout,
        objective=_MAE,
        steps=_STEPS[patches],
        learning_rate=4.0,
        seeds=seeds,
        frames=_FRAMES,
        queries="all",
    )
    return Experiment(name="mae-reduced", training=spec)


def _with_mean_field(patches: int) -> Case:
    steps, seeds = _STEPS[patches], _REDUCED_SEEDS[patches]
    return twins(patches, (0.9, 0.4), _MAE, steps=steps, rate=4.0, seeds=seeds)


def _simulated_and_reduced(scale: str) -> tuple[Case, ...]:
    made = [_with_mean_field(patches) for patches in ((64,) if scale == "quick" else (64, 256))]
    return tuple(
        replace(case, runs=(case.runs[0], reduced(patches, seeds=_REDUCED_SEEDS[patches])))
        for case, patches in zip(made, _STEPS, strict=False)
    )


def _not_reduced(scale: str) -> tuple[Control, ...]:
    """Return the mean field in place of the reduction, and the reduction of other areas of as many patches."""
    limit = _with_mean_field(64)
    full = limit.runs[0].training
    assert isinstance(full, Training)
    sizes = full.generator.layout.sizes[0].tolist()
    # From each local area a patch goes to the global one.
    other = [sizes[0] + len(sizes) - 1, *(size - 1 for size in sizes[1:])]
    wrong = reduced(64, other, seeds=_REDUCED_SEEDS[64])
    return (
        Control(name=f"{limit.name}, mean counts for drawn ones", runs=limit.runs),
        Control(name=f"{limit.name}, reduction of smaller local areas", runs=(limit.runs[0], wrong)),
    )


def _local_size(case: Case) -> float:
    return assume.sizes_of(case.specs[0]).local_size


SIMULATED_FIRST = Assumption(
    sentence="A full simulation, and as many steps in order parameters.",
    holds=lambda case: (
        [isinstance(spec, Training) for spec in case.specs] == [True, False]
        and len({spec.steps for spec in case.specs}) == 1
    ),
)
REDUCED_THEN_LIMIT = Assumption(
    sentence="An exact reduction, and the mean field of as many steps.",
    holds=lambda case: (
        [type(spec) for spec in case.specs] == [ExactReduction, MeanField]
        and len({spec.steps for spec in case.specs}) == 1
    ),
)

REDUCTION = Claim(
    id="REDUCTION",
    statement="From Q = 0 through the take-over of the own area, full simulations of masked reconstruction at "
    "κ = (0.9, 0.4), P = 64 and 256, agree in the mean over seeds with the dynamics of order parameters on drawn "
    "counts, to within a third of the margin of SYMMETRY.",
    source="vitdyn's notes",
    note="claims.md#reduction",
    assumptions=(SIMULATED_FIRST, assume.clusters_exactly(1), assume.MASKS_OF_HALF, assume.FRESH_BATCHES),
    surrogate="The largest deviation of φ_1 and φ_a of a local query at 16 moments up to 1.5 times the time of the "
    "take-over, as a part of φ_a at the end, at P = 64 and (full) 256, seed by seed: within 1/(8 C_s), four standard "
    "errors over seeds. That batches of the simulation move interchangeable patches apart is left in it.",
    symbol="deviation",
    predicted=lambda case: (-inf, 0.125 / _local_size(case)),
    measure=lambda case, runs: deviation(runs),
    cases=_simulated_and_reduced,
    controls=_not_reduced,
)


def _reduced_and_limit(scale: str) -> tuple[Case, ...]:
    return tuple(
        replace(
            _with_mean_field(patches),
            runs=(reduced(patches, seeds=seeds), _with_mean_field(patches).runs[1]),
        )
        for patches, seeds in _REDUCED_SEEDS.items()
        if scale == "full" or patches > 64
    )


_RATE_CONSTANT = (0.15, 0.3)


def _inverse_size(case: Case) -> tuple[float, float]:
    low, high = _RATE_CONSTANT
    return low / _local_size(case), high / _local_size(case)


def _inverse_root(case: Case) -> tuple[float, float]:
    """Return the same at P = 64, falling from there like C_s^{−1/2}."""
    smallest = assume.sizes_of(_with_mean_field(64).specs[0]).local_size
    slower = (_local_size(case) / smallest) ** 0.5
    low, high = _inverse_size(case)
    return low * slower, high * slower


REDUCTION_LIMIT = Claim(
    id="REDUCTION-LIMIT",
    statement="The dynamics of order parameters on drawn counts tend to the mean field like 0.2/C_s, from Q = 0 "
    "through the take-over, in masked reconstruction at κ = (0.9, 0.4), C_s = 5.5 to 16.",
    source="vitdyn's notes",
    note="claims.md#reduction-limit",
    assumptions=(
        REDUCED_THEN_LIMIT,
        assume.clusters_exactly(1),
        assume.MASKS_OF_HALF,
        assume.POSITIONS_MOVE,
    ),
    surrogate="The largest deviation of φ_1 and φ_a of a local query, read as in REDUCTION, at P = 256, 1024 and "
    "(full) 64: between 0.15/C_s and 0.3/C_s, four standard errors over seeds.",
    symbol="deviation",
    predicted=_inverse_size,
    measure=lambda case, runs: deviation(runs),
    cases=_reduced_and_limit,
    controls=lambda scale: (
        *(
            Control(name=f"{case.name}, falling like C_s^(-1/2)", runs=case.runs, predicted=_inverse_root)
            for case in _reduced_and_limit("quick")[1:]
        ),
        _one_more(_reduced_and_limit("quick")[0]),
    ),
)
