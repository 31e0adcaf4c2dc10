"""What the field reads off real models, asked of the theory's: Park et al.'s findings, and LiDAR's order of models."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from math import inf
from typing import Any

import numpy as np
import torch
from jaxtyping import Float

from vitdyn.claims import assumptions as assume
from vitdyn.claims.claim import Assumption, Case, Claim, Control, Interval, Measurement
from vitdyn.claims.judgement import over_seeds
from vitdyn.claims.limits import EXPONENTS
from vitdyn.data import PatchGenerator, PatchLayout
from vitdyn.dynamics import Schedule, Training
from vitdyn.experiments import Experiment
from vitdyn.metrics import rank_agreement
from vitdyn.objectives import Contrastive, MaskedReconstruction, Mixture, Objective
from vitdyn.observables import RECORD, Metric, MetricImages, Observable, metric_observables
from vitdyn.theory import areas_log_amplitude
from vitdyn.trajectory import Trajectory

_SIDE = 12
_SEEDS = {"quick": 8, "full": 32}
_SCHEDULE = Schedule(frames=12)
_APART, _EARLY = 6, 3
"""Steps after which contrast tells queries apart by their contents, and reconstruction has learned no area yet."""
_METRICS = ("attention_distance", "mutual_information", "token_similarity", "high_frequency")
ORDERED_STEPS = (50, 150, 400)
"""A model of the grid that LiDAR orders is a run at one of these steps."""


def measured_run(
    objective: Objective,
    gap: str,
    scale: str,
    *,
    arrangement: str = "contiguous",
    steps: int = 400,
    schedule: Schedule = _SCHEDULE,
    metrics: tuple[Observable, ...] = metric_observables(_METRICS, MetricImages(maps=6)),
) -> Experiment:
    """Return a run of which metrics are recorded: P = 144 on a 12 × 12 grid, two clusters, connected areas."""
    layout = PatchLayout.from_exponents(
        _SIDE**2, *EXPONENTS[gap], clusters=2, arrangement=arrangement, grid=(_SIDE, _SIDE)
    )
    return Experiment(
        name=f"{objective.name}-{gap}-{arrangement}",
        training=Training(
            generator=PatchGenerator(layout=layout),
            objective=objective,
            steps=steps,
            seeds=_SEEDS[scale],
            schedule=schedule,
            observables=(*RECORD, *metrics),
        ),
    )


_MAE, _CL = MaskedReconstruction(), Contrastive()


def _pair(gap: str, scale: str, arrangement: str = "contiguous") -> tuple[Experiment, ...]:
    """Return contrast and masked reconstruction on the same data."""
    return tuple(measured_run(each, gap, scale, arrangement=arrangement) for each in (_CL, _MAE))


def _with_contents(objective: Objective, gap: str, scale: str, *, steps: int = 80) -> Experiment:
    """Return a run whose queries hold contents, so that no symmetry makes the rows of contrast equal."""
    metrics = metric_observables(_METRICS, MetricImages(maps=24))
    run = measured_run(objective, gap, scale, steps=steps, metrics=metrics)
    assert isinstance(run.training, Training)
    training = replace(run.training, content_queries=True)
    return Experiment(name=f"{run.name}-contents", training=training)


def _contents_pair(gap: str, scale: str, *, steps: int = 80) -> tuple[Experiment, ...]:
    """Return contrast, after so many steps, and masked reconstruction on the same data."""
    return _with_contents(_CL, gap, scale, steps=steps), _with_contents(_MAE, gap, scale)


def _final(trajectories: tuple[Trajectory, ...], name: str) -> list[Float[np.ndarray, " seed"]]:
    """Return a metric at the end of each run."""
    return [trajectory.final[name].to_numpy() for trajectory in trajectories]


_FROM_PARK = "Park et al. (2023), of trained ViT-B/16; asked here of the theory's layer, surrogate ours"
_ON_SIMULATIONS = (
    assume.FULL_SIMULATION,
    assume.FRESH_BATCHES,
    assume.LATENTS_BOUNDED,
    assume.MASKS_OF_HALF,
    assume.ENOUGH_CLUSTERS,
)

PARK_DISTANCE = Claim(
    id="PARK-DISTANCE",
    statement="Where areas are connected, attention reaches farther after contrast than after masked reconstruction.",
    source=_FROM_PARK,
    note="claims.md#park-distance",
    assumptions=(
        *_ON_SIMULATIONS,
        assume.SAME_DATA,
        assume.CONTRAST_FIRST,
        assume.recording("attention_distance"),
        assume.CONNECTED_AREAS,
    ),
    surrogate="Mean attention distance after contrast less that after masked reconstruction, in patches, after 400 "
    "steps at P = 144 on a 12 × 12 grid: above 1, by a 99.9 % interval over seeds. The control scatters the areas over "
    "the grid.",
    symbol="d(CL) − d(MAE)",
    symbols={"d": "mean attention distance, in patches"},
    predicted=lambda case: (1.0, inf),
    measure=lambda case, runs: over_seeds(np.subtract(*_final(runs, "attention_distance"))),
    cases=lambda scale: tuple(Case(name=f"cl and mae, {gap}", runs=_pair(gap, scale)) for gap in EXPONENTS),
    controls=lambda scale: tuple(
        Control(
            name=f"cl and mae, {gap}, areas scattered",
            runs=_pair(gap, scale, "scattered"),
            removes=assume.CONNECTED_AREAS,
        )
        for gap in EXPONENTS
    ),
)


PARK_HOMOGENEITY = Claim(
    id="PARK-HOMOGENEITY",
    statement="After contrast all queries attend nearly alike, also where they hold contents and could differ; after "
    "masked reconstruction each attends to places of its own.",
    source=_FROM_PARK,
    note="claims.md#park-homogeneity",
    assumptions=(
        *_ON_SIMULATIONS,
        assume.SAME_DATA,
        assume.CONTRAST_FIRST,
        assume.recording("mutual_information"),
        assume.CONTENT_QUERIES,
    ),
    surrogate="Normalised mutual information of query and key after contrast, as a part of that after masked "
    "reconstruction, after 80 steps at P = 144 with content queries: below 0.05, by a 99.9 % interval over seeds. "
    "(With position queries it is 0 at every step by symmetry, which is no finding.) The control stops contrast early.",
    symbol="NMI(CL)/NMI(MAE)",
    predicted=lambda case: (-inf, 0.05),
    measure=lambda case, runs: over_seeds(np.divide(*_final(runs, "mutual_information"))),
    cases=lambda scale: tuple(
        Case(name=f"cl and mae, {gap}", runs=_contents_pair(gap, scale)) for gap in EXPONENTS
    ),
    controls=lambda scale: tuple(
        Control(name=f"cl after {_APART} steps and mae, {gap}", runs=_contents_pair(gap, scale, steps=_APART))
        for gap in EXPONENTS
    ),
)


def _areas_spectrum(case: Case) -> Interval:
    """Return the level of the areas' own spectrum, and the margin on either side."""
    training = case.runs[-1].training
    assert isinstance(training, Training)
    level = areas_log_amplitude(training.generator.layout)
    return level - 0.1, level + 0.1


def _spectrum_of(other: Case, case: Case) -> Interval:
    """Return what another case predicts, whatever the case."""
    return _areas_spectrum(other)


def _reconstructed(gap: str, scale: str, arrangement: str = "contiguous") -> Case:
    return Case.of(measured_run(_MAE, gap, scale, arrangement=arrangement))


def _frequency_controls(scale: str) -> tuple[Case, ...]:
    """Return connected areas judged as scattered ones, an early stop, and contrast with contents."""
    made: list[Case] = []
    for gap in EXPONENTS:
        case, scattered = _reconstructed(gap, scale), _reconstructed(gap, scale, "scattered")
        name = f"{case.name}, areas taken for scattered"
        early = measured_run(_MAE, gap, scale, steps=_EARLY)
        made += [
            Control(name=name, runs=case.runs, predicted=partial(_spectrum_of, scattered)),
            Control(name=f"{early.name}, {_EARLY} steps", runs=(early,)),
        ]
    # With position queries all patches would be represented alike, and there would be no spectrum to read.
    return *made, Case.of(_with_contents(_CL, "gap-positive", scale))


PARK_FREQUENCY = Claim(
    id="PARK-FREQUENCY",
    statement="After masked reconstruction the representations of an image's patches have, at the highest diagonal "
    "frequency below Nyquist, the amplitude of the areas' indicator functions; after contrast (content queries, "
    "Δ = 0.4) they have not.",
    source="Park et al. (2023) report more high frequencies after reconstruction; which ones, on this layer, is ours",
    note="claims.md#park-frequency",
    assumptions=(*_ON_SIMULATIONS, assume.recording("high_frequency"), assume.SQUARE_GRID),
    surrogate="Relative log amplitude at the highest frequency (convention cl-vs-mim) after 400 steps at P = 144 on a "
    "12 × 12 grid, areas connected or scattered: within 0.1 of that of the areas' indicator functions, which the "
    "partition alone decides; by a 99.9 % interval over seeds. Contrast, a control, has content queries: with position "
    "queries its representations are equal, have no amplitude but at 0, and what one reads is round-off.",
    symbol="Δlog amp",
    symbols={"Δ": "information gap; in Δlog amp the difference to frequency 0"},
    predicted=_areas_spectrum,
    measure=lambda case, runs: over_seeds(_final(runs, "high_frequency")[-1]),
    cases=lambda scale: tuple(
        _reconstructed(gap, scale, arrangement)
        for gap in EXPONENTS
        for arrangement in ("contiguous", "scattered")
    ),
    controls=_frequency_controls,
)


def mixture_runs(gap: str, scale: str, weights: tuple[float, ...]) -> tuple[Experiment, ...]:
    """Return runs of the mixture at several weights λ, all on one clock, measured at their ends."""
    ends = Schedule(frames=2)
    return tuple(measured_run(Mixture(weight=weight), gap, scale, schedule=ends) for weight in weights)


def _between(case: Case, trajectories: tuple[Trajectory, ...]) -> Measurement:
    none, some, all_contrast = _final(trajectories, "attention_distance")
    return over_seeds((some - none) / (all_contrast - none))


def _of_mixtures(case: Case) -> bool:
    """Return whether the runs are mixtures at λ = 0, in between, and λ = 1."""
    weights = [getattr(spec.objective, "weight", None) for spec in case.specs]
    return len(weights) == 3 and None not in weights and weights[0] == 0 and weights[2] == 1


def _mixtures(gap: str, scale: str, weight: float) -> Case:
    return Case(name=f"λ = {weight:g}, {gap}", runs=mixture_runs(gap, scale, (0.0, weight, 1.0)))


PARK_MIXTURE = Claim(
    id="PARK-MIXTURE",
    statement="At λ = 0.7 a mixture of both losses attends, where Δ = 0.4, neither as near as masked reconstruction "
    "nor as far as contrast; at λ = 0.2, or where Δ = −0.3, it attends as masked reconstruction does.",
    source="the mixture is Park et al.'s (2023); the statement on one layer is vitdyn's",
    note="claims.md#park-mixture",
    assumptions=(
        *_ON_SIMULATIONS,
        assume.SAME_DATA,
        assume.recording("attention_distance"),
        assume.CONNECTED_AREAS,
        Assumption(sentence="Mixtures at λ = 0, in between, and λ = 1.", holds=_of_mixtures),
    ),
    surrogate="r = (d_λ − d_0)/(d_1 − d_0) of attention distances after 400 steps at the mixture's own rate, P = 144 "
    "on a 12 × 12 grid: in (0.05, 0.95) at λ = 0.7 and Δ = 0.4, by a 99.9 % interval over seeds. The controls, which "
    "must lie outside, have λ = 0.2, and Δ = −0.3.",
    symbol="r",
    symbols={
        "λ": "weight of contrast in the mixture",
        "d_λ": "mean attention distance at the weight λ",
        "d_0": "mean attention distance of reconstruction, λ = 0",
        "d_1": "mean attention distance of contrast, λ = 1",
        "r": "where between the two the mixture lies",
    },
    predicted=lambda case: (0.05, 0.95),
    measure=_between,
    cases=lambda scale: (_mixtures("gap-positive", scale, 0.7),),
    controls=lambda scale: (_mixtures("gap-positive", scale, 0.2), _mixtures("gap-negative", scale, 0.7)),
)


def ordered_runs(gap: str, scale: str, *, within_cluster: bool = True) -> tuple[Experiment, ...]:
    """Return the grid whose models LiDAR and RankMe put in order: objectives, mask ratios, temperatures, weights."""
    # 3 settings of reconstruction, 6 of contrast and 9 mixtures, each read at three steps: 54 models.
    ratios = (0.25, 0.5, 0.75)
    objectives: list[Objective] = [MaskedReconstruction(mask_ratio=ratio) for ratio in ratios]
    objectives += [Contrastive(mask_ratio=r, temperature=t) for r in ratios for t in (0.5, 1.0)]
    objectives += [Mixture(weight=weight, mask_ratio=r) for weight in (0.2, 0.5, 0.8) for r in ratios]
    names = ("lidar", "rank_me", "local_r_squared", "global_r_squared")
    images = MetricImages(objects=192, views=12, within_cluster=within_cluster)
    metrics = metric_observables(names, images)
    schedule = Schedule(spacing="explicit", steps=ORDERED_STEPS)
    runs = (measured_run(each, gap, scale, schedule=schedule, metrics=metrics) for each in objectives)
    return tuple(replace(run, name=f"{run.name}-{index}") for index, run in enumerate(runs))


def over_models(trajectories: tuple[Trajectory, ...], name: str) -> Float[torch.Tensor, "seed model"]:
    """Return a metric of all models of a grid: of every run at each of the named steps."""
    columns = [
        each[name].isel(frame=np.isin(each["step"], ORDERED_STEPS)).to_numpy().T for each in trajectories
    ]
    return torch.from_numpy(np.concatenate(columns, 1))


def _better_order(case: Case, trajectories: tuple[Trajectory, ...]) -> Measurement:
    quality = over_models(trajectories, "local_r_squared")
    agreement = (
        rank_agreement(over_models(trajectories, name), quality).value.numpy()
        for name in ("lidar", "rank_me")
    )
    return over_seeds(np.subtract(*agreement))


def _metric_images(spec: Any) -> list[MetricImages]:
    """Return on what a run's metrics are measured, one for each."""
    computed = [each.compute for each in getattr(spec, "observables", ())]
    return [each.images for each in computed if isinstance(each, Metric)]


COMPARABLE_AREAS = assume.global_exponent(0.5005, 0.7)
WITHIN_CLUSTER = assume.every_run(
    "Metrics compare images within a cluster.",
    lambda spec: {images.within_cluster for images in _metric_images(spec)} == {True},
)


def _not_ordered(scale: str) -> tuple[Control, ...]:
    """Return images of all clusters together and, at full scale, a large global area, which takes as long again."""
    together = Control(
        name="grid, gap-negative, all clusters",
        runs=ordered_runs("gap-negative", scale, within_cluster=False),
        removes=WITHIN_CLUSTER,
    )
    runs = ordered_runs("gap-positive", scale)
    large = Control(name="grid, gap-positive", runs=runs, removes=COMPARABLE_AREAS)
    return (together, large) if scale == "full" else (together,)


LIDAR_ORDER = Claim(
    id="LIDAR-ORDER",
    statement="Among images of one cluster, and where the global area is not much larger than the local ones, LiDAR "
    "orders models by what a linear probe tells of local latents better than RankMe does.",
    source="the first half of the sentence is vitdyn's condition on the main claim of Thilak et al. (2024)",
    note="claims.md#lidar-order",
    assumptions=(
        assume.FULL_SIMULATION,
        assume.FRESH_BATCHES,
        assume.LATENTS_BOUNDED,
        assume.clusters_at_least(2),
        assume.SAME_DATA,
        assume.recording("lidar", "rank_me", "local_r_squared"),
        WITHIN_CLUSTER,
        COMPARABLE_AREAS,
    ),
    surrogate="Over 54 models (18 settings of MAE, CL and mixture at three steps) Spearman's ρ of LiDAR with R² of "
    "local latents less that of RankMe: above 0.1, by a 99.9 % interval over seeds; P = 144, κ = (0.6, 0.5), two "
    "clusters, views with half the patches masked. Controls take images of all clusters together, and κ = (0.9, 0.4).",
    symbol="ρ(LiDAR) − ρ(RankMe)",
    symbols={
        "ρ": "Spearman's rank correlation over models",
        "R": "R² is the part of the latents' variance that a linear probe explains",
    },
    predicted=lambda case: (0.1, inf),
    measure=_better_order,
    cases=lambda scale: (Case(name="grid, gap-negative", runs=ordered_runs("gap-negative", scale)),),
    controls=_not_ordered,
)
