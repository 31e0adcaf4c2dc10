"""What the field reads off real models, asked of the theory's: Park et al.'s findings, and LiDAR's order of models."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from math import inf

import numpy as np
import torch
from jaxtyping import Float

from vitdyn.claims import assumptions as assume
from vitdyn.claims.claim import Case, Claim, Measurement
from vitdyn.claims.judgement import over_seeds
from vitdyn.claims.limits import EXPONENTS
from vitdyn.data import PatchGenerator, PatchLayout
from vitdyn.dynamics import Schedule, Training
from vitdyn.experiments import Experiment
from vitdyn.metrics import rank_agreement
from vitdyn.objectives import Contrastive, MaskedReconstruction, Mixture, Objective
from vitdyn.observables import Metrics
from vitdyn.trajectory import Trajectory

_SIDE = 12
_SEEDS = {"quick": 8, "full": 32}
_SCHEDULE = Schedule(frames=12)
_METRICS = Metrics(
    names=("attention_distance", "mutual_information", "token_similarity", "high_frequency"), maps=6
)
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
    metrics: Metrics = _METRICS,
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
            metrics=metrics,
        ),
    )


def _pair(gap: str, scale: str, arrangement: str = "contiguous") -> Case:
    """Return contrast and masked reconstruction on the same data."""
    objectives = (Contrastive(), MaskedReconstruction())
    runs = tuple(measured_run(each, gap, scale, arrangement=arrangement) for each in objectives)
    return Case(name=f"cl and mae, {gap}, areas {arrangement}", runs=runs)


def _untrained(gap: str, scale: str) -> Case:
    """Return contrast and a masked reconstruction that has taken no step."""
    runs = (
        measured_run(Contrastive(), gap, scale),
        measured_run(MaskedReconstruction(), gap, scale, steps=0),
    )
    return Case(name=f"cl and mae before its first step, {gap}", runs=runs)


def _final(trajectory: Trajectory, name: str) -> Float[np.ndarray, " seed"]:
    return trajectory.final[name].to_numpy()


def _difference(
    name: str, larger: int, smaller: int
) -> Callable[[Case, tuple[Trajectory, ...]], Measurement]:
    """Return a measure of a pair of runs: a metric at the end of one of them less that of the other."""
    return lambda case, runs: over_seeds(_final(runs[larger], name) - _final(runs[smaller], name))


_FROM_PARK = "Park et al. (2023), of trained ViT-B/16; asked here of the theory's layer, surrogate ours"
_ON_THE_GRID = (assume.FULL_SIMULATION, assume.FRESH_BATCHES, assume.LATENTS_BOUNDED, assume.masks_of(0.5))

PARK_DISTANCE = Claim(
    id="PARK-DISTANCE",
    statement="Where areas are connected, attention reaches farther after contrast than after masked reconstruction.",
    source=_FROM_PARK,
    note="claims.md#park-distance",
    assumptions=_ON_THE_GRID,
    surrogate="Mean attention distance after contrast less that after masked reconstruction, in patches, after 400 "
    "steps: above 1, by a 99.9 % interval over seeds. The control scatters the areas over the grid.",
    symbol="d(CL) − d(MAE)",
    predicted=lambda case: (1.0, inf),
    measure=_difference("attention_distance", 0, 1),
    cases=lambda scale: tuple(_pair(gap, scale) for gap in EXPONENTS),
    controls=lambda scale: tuple(_pair(gap, scale, "scattered") for gap in EXPONENTS),
)

PARK_HOMOGENEITY = Claim(
    id="PARK-HOMOGENEITY",
    statement="After contrast all queries attend alike; after masked reconstruction each attends to places of its own.",
    source=_FROM_PARK,
    note="claims.md#park-homogeneity",
    assumptions=_ON_THE_GRID,
    surrogate="Normalised mutual information of query and key after masked reconstruction less that after contrast, "
    "after 400 steps: above 0.1, by a 99.9 % interval over seeds. The control has not trained by reconstruction.",
    symbol="NMI(MAE) − NMI(CL)",
    predicted=lambda case: (0.1, inf),
    measure=_difference("mutual_information", 1, 0),
    cases=lambda scale: tuple(_pair(gap, scale) for gap in EXPONENTS),
    controls=lambda scale: tuple(_untrained(gap, scale) for gap in EXPONENTS),
)

PARK_FREQUENCY = Claim(
    id="PARK-FREQUENCY",
    statement="Representations hold more of the high spatial frequencies after masked reconstruction than after "
    "contrast.",
    source=_FROM_PARK,
    note="claims.md#park-frequency",
    assumptions=_ON_THE_GRID,
    surrogate="Relative log amplitude at the highest frequency (convention cl-vs-mim) after masked reconstruction less "
    "that after contrast, after 400 steps: above 2, by a 99.9 % interval over seeds. The control has not trained by "
    "reconstruction.",
    symbol="Δlog amp(MAE) − Δlog amp(CL)",
    predicted=lambda case: (2.0, inf),
    measure=_difference("high_frequency", 1, 0),
    cases=lambda scale: tuple(_pair(gap, scale) for gap in EXPONENTS),
    controls=lambda scale: tuple(_untrained(gap, scale) for gap in EXPONENTS),
)


def mixture_runs(gap: str, scale: str, weights: tuple[float, ...]) -> tuple[Experiment, ...]:
    """Return runs of the mixture at several weights λ, all on one clock."""
    return tuple(measured_run(Mixture(weight=weight), gap, scale) for weight in weights)


def _between(case: Case, trajectories: tuple[Trajectory, ...]) -> Measurement:
    none, some, all_contrast = (_final(each, "attention_distance") for each in trajectories)
    return over_seeds((some - none) / (all_contrast - none))


PARK_MIXTURE = Claim(
    id="PARK-MIXTURE",
    statement="For Δ > 0 a mixture of both losses attends neither as near as masked reconstruction nor as far as "
    "contrast; for Δ < 0 it attends as masked reconstruction does.",
    source="the mixture is Park et al.'s (2023); the statement on one layer is vitdyn's",
    note="claims.md#park-mixture",
    assumptions=_ON_THE_GRID,
    surrogate="At λ = 0.7, r = (d_λ − d_0)/(d_1 − d_0) of attention distances after 400 steps at the mixture's own "
    "rate: in (0.05, 0.95) for Δ = 0.4, by a 99.9 % interval over seeds. The control has Δ = −0.3.",
    symbol="r(0.7)",
    predicted=lambda case: (0.05, 0.95),
    measure=_between,
    cases=lambda scale: (
        Case(name="mixture, gap-positive", runs=mixture_runs("gap-positive", scale, (0.0, 0.7, 1.0))),
    ),
    controls=lambda scale: (
        Case(name="mixture, gap-negative", runs=mixture_runs("gap-negative", scale, (0.0, 0.7, 1.0))),
    ),
)


def ordered_runs(gap: str, scale: str, *, within_cluster: bool = True) -> tuple[Experiment, ...]:
    """Return the grid whose models LiDAR and RankMe put in order: objectives, mask ratios, temperatures, weights."""
    ratios = (0.25, 0.5, 0.75)
    objectives: list[Objective] = [MaskedReconstruction(mask_ratio=ratio) for ratio in ratios]
    objectives += [Contrastive(mask_ratio=r, temperature=t) for r in ratios for t in (0.5, 1.0)]
    objectives += [Mixture(weight=weight, mask_ratio=r) for weight in (0.2, 0.5, 0.8) for r in ratios]
    names = ("lidar", "rank_me", "local_determination", "global_determination")
    metrics = Metrics(names=names, objects=192, views=12, within_cluster=within_cluster)
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
    quality = over_models(trajectories, "local_determination")
    lidar, rank_me = (
        rank_agreement(over_models(trajectories, name), quality).value.numpy()
        for name in ("lidar", "rank_me")
    )
    return over_seeds(lidar - rank_me)


LIDAR_ORDER = Claim(
    id="LIDAR-ORDER",
    statement="Among images of one cluster, and where the global area is not much larger than the local ones, LiDAR "
    "orders models by what a linear probe tells of local latents better than RankMe does.",
    source="the first half of the sentence is vitdyn's condition on the main claim of Thilak et al. (2024)",
    note="claims.md#lidar-order",
    assumptions=(assume.FULL_SIMULATION, assume.FRESH_BATCHES, assume.LATENTS_BOUNDED),
    surrogate="Over 54 models (18 settings of MAE, CL and mixture at three steps) Spearman's ρ of LiDAR with R² of "
    "local latents less that of RankMe: above 0.1, by a 99.9 % interval over seeds. The control takes images of "
    "all clusters together.",
    symbol="ρ(LiDAR) − ρ(RankMe)",
    predicted=lambda case: (0.1, inf),
    measure=_better_order,
    cases=lambda scale: (Case(name="grid, gap-negative", runs=ordered_runs("gap-negative", scale)),),
    controls=lambda scale: (
        Case(
            name="grid, gap-negative, all clusters",
            runs=ordered_runs("gap-negative", scale, within_cluster=False),
        ),
    ),
)
