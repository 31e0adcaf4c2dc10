"""Decorrelation: an area needs no attention where the scale of its coordinate is divided out."""

from __future__ import annotations

from math import inf

from vitdyn.claims import assumptions as assume
from vitdyn.claims.assumptions import Spec
from vitdyn.claims.claim import Case, Claim, Control
from vitdyn.claims.cosine import global_attention
from vitdyn.claims.judgement import over_seeds
from vitdyn.claims.limits import EXPONENTS
from vitdyn.data import PatchGenerator, PatchLayout
from vitdyn.dynamics import GradientDescent, Schedule, Training
from vitdyn.experiments import Experiment
from vitdyn.objectives import BarlowTwins

_SEEDS = {"quick": 8, "full": 32}
_PATCHES = 144


def _redundancy(spec: Spec) -> float:
    """Return λ d (d − 1), what it costs that all d coordinates are the same; inf of another objective."""
    if not isinstance(spec.objective, BarlowTwins) or not isinstance(spec, Training):
        return inf
    coordinates = spec.generator.layout.areas * spec.generator.layout.clusters
    return spec.objective.weight * coordinates * (coordinates - 1)


_EXACT = assume.every_run(
    "Barlow Twins, which divides by exact deviations.",
    lambda spec: isinstance(spec.objective, BarlowTwins) and spec.objective.convention == "paper",
)
_CHEAP = assume.every_run("λ d (d − 1) < 1/2, d coordinates.", lambda spec: _redundancy(spec) < 0.5)
_ONE_CLUSTER = assume.clusters_exactly(1)


def _run(objective: BarlowTwins, scale: str, clusters: int = 1) -> Experiment:
    layout = PatchLayout.from_exponents(_PATCHES, *EXPONENTS["gap-positive"], clusters=clusters)
    # steeper where λ is larger
    rate = min(1.0, 0.02 / objective.weight)
    training = Training(
        generator=PatchGenerator(layout=layout),
        objective=objective,
        optimizer=GradientDescent(learning_rate=rate * _PATCHES * clusters),
        steps=200 if scale == "quick" else 600,
        seeds=_SEEDS[scale],
        schedule=Schedule(frames=2),
        observables=("area_attention",),
    )
    return Experiment(
        name=f"barlow-twins-{objective.convention}-{objective.weight:g}-{clusters}", training=training
    )


def _controls(scale: str) -> tuple[Control, ...]:
    inexact, dear = _run(BarlowTwins(convention="code"), scale), _run(BarlowTwins(weight=0.05), scale)
    return (
        Control(name="barlow-twins, 1e-5 added to variances", runs=(inexact,), removes=_EXACT),
        Control(name="barlow-twins, λ = 0.05", runs=(dear,), removes=_CHEAP),
    )


BARLOW_SCALE = Claim(
    id="BARLOW-SCALE",
    statement="With one cluster Barlow Twins puts all attention on the global area although it asks every coordinate "
    "to vary and no two to vary alike, as long as λ d (d − 1) is small: divided by its deviation, an output that "
    "vanishes correlates as well as any.",
    source="vitdyn's own",
    note="claims.md#barlow-scale",
    assumptions=(
        assume.FULL_SIMULATION,
        assume.FRESH_BATCHES,
        assume.POSITION_QUERIES,
        assume.LATENTS_BOUNDED,
        assume.ONE_RUN,
        _ONE_CLUSTER,
        _EXACT,
        _CHEAP,
        assume.recording("area_attention"),
    ),
    surrogate="Attention of local queries to the global area after 200 steps (full: 600), P = 144, κ = (0.9, 0.4), λ = "
    "0.005: above 0.95 by a 99.9 % interval over seeds. Controls: 1e-5 added to each variance, as the authors' code "
    "does; ten times the weight λ.",
    symbol="A_1",
    symbols={"λ": "weight of correlations between coordinates", "d": "coordinates of an output"},
    predicted=lambda case: (0.95, inf),
    measure=lambda case, runs: over_seeds(global_attention(runs[0])),
    cases=lambda scale: (Case.of(_run(BarlowTwins(), scale)),),
    controls=_controls,
)
