"""Full simulation and mean field against each other, all the way from Q = 0 through the take-over."""

from __future__ import annotations

from dataclasses import replace
from math import inf

import numpy as np

from vitdyn.claims import assumptions as assume
from vitdyn.claims.claim import Assumption, Case, Claim, Control, Measurement
from vitdyn.claims.flows import spec_of
from vitdyn.data import AreaSizes, PatchGenerator, PatchLayout
from vitdyn.dynamics import GradientDescent, Schedule, Training
from vitdyn.experiments import Experiment
from vitdyn.objectives import Contrastive, MaskedReconstruction, Objective
from vitdyn.reduced import MeanField, local_correlations
from vitdyn.trajectory import Trajectory

_MAE, _CL = MaskedReconstruction(), Contrastive()
FRAMES = 16
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
    # A cluster is in 1/K of the samples, and a pooled output holds 1/P of a query: rates of order one at any
    # P.
    rate = rate * clusters * (patches if contrast else 1)
    full = Training(
        generator=PatchGenerator(layout=layout),
        objective=objective,
        optimizer=GradientDescent(learning_rate=rate),
        steps=steps,
        batch_size=samples,
        seeds=seeds,
        schedule=Schedule(frames=FRAMES),
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
        frames=FRAMES,
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


def deviation(trajectories: tuple[Trajectory, ...]) -> Measurement:
    """Return the largest deviation of φ_1 and φ_a over all frames, as a part of the larger of them at the end.

    A reduction has the seeds of the simulation, whose latents it shares: the two are compared seed by seed.
    """
    run, reference = trajectories
    if (run["step"].to_numpy() != reference["step"].to_numpy()).any():
        raise ArithmeticError("the two runs are not recorded at the same steps")
    found, truth = (local_correlations(each, over=("cluster",)) for each in trajectories)
    gaps = (found - truth) / np.abs(truth.mean(0)[-1]).max()
    mean, error = np.abs(gaps.mean(0)), 4 * gaps.std(0, ddof=1) / np.sqrt(len(gaps))
    worst = np.unravel_index(mean.argmax(), mean.shape)
    # No frame may lie higher than the upper end says, also one whose mean is smaller and whose error is larger.
    low, high = max(mean[worst] - error[worst], 0.0), float((mean + error).max())
    return Measurement(float(mean[worst]), float(low), high, len(gaps), "seeds, four standard errors")


def two_runs(sentence: str, first: type, *second: type) -> Assumption:
    """Return the assumption that a case has a run of one kind and as many steps of another."""

    def met(case: Case) -> bool:
        specs = case.specs
        kinds = len(specs) == 2 and isinstance(specs[0], first) and isinstance(specs[1], second)
        return kinds and specs[0].steps == specs[1].steps

    return Assumption(sentence=sentence, holds=met)


FULL_THEN_LIMIT = two_runs("A full simulation, and the mean field of as many steps.", Training, MeanField)

RATE, STEPS = 4.0, {64: 36, 256: 46, 1024: 66}
"""Of reconstruction at κ = (0.9, 0.4), by P: 1.5 times the time of the take-over."""


def reconstruction_twins(patches: int, seeds: int) -> Case:
    """Return a full simulation and the mean field of masked reconstruction at κ = (0.9, 0.4)."""
    return twins(patches, (0.9, 0.4), _MAE, steps=STEPS[patches], rate=RATE, seeds=seeds)


def _reconstruction(scale: str) -> tuple[Case, ...]:
    return tuple(
        reconstruction_twins(patches, _SEEDS[scale]) for patches in STEPS if scale == "full" or patches <= 256
    )


def one_more(case: Case) -> Control:
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
        assume.THEORYS_DATA,
        assume.clusters_exactly(1),
        assume.MASKS_OF_HALF,
        assume.FRESH_BATCHES,
        assume.POSITIONS_MOVE,
    ),
    surrogate="The largest deviation of φ_1 and φ_a of a local query at 16 time points up to 1.5 times the time of the "
    "take-over, as a part of φ_a at the end, at P = 64, 256 and (full) 1024; four standard errors over seeds. "
    "Control: one patch more in each local area.",
    symbol="deviation",
    predicted=lambda case: (-inf, 0.375 / spec_of(case).sizes.local_size),
    measure=lambda case, runs: deviation(runs),
    cases=_reconstruction,
    controls=lambda scale: tuple(map(one_more, _reconstruction(scale))),
)


def _of_other_clusters(case: Case, clusters: int) -> Control:
    """Return the control whose mean field has more clusters, and a rate that gives each of them as much to learn."""
    rate = spec_of(case).learning_rate
    assert rate is not None
    # With so many clusters no negative is of the anchor's own.
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
        assume.THEORYS_DATA,
        assume.clusters_at_least(3),
        assume.negatives_at_least(32),
        assume.FRESH_BATCHES,
        assume.POSITION_QUERIES,
    ),
    surrogate="The largest deviation of φ_1 and φ_a of a local query at 16 time points up to 1.5 times the time of the "
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
