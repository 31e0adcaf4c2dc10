"""Self-distillation: when a centred, sharpened teacher does not turn its student to the global area."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from math import inf, log
from typing import Any, TypeVar

import numpy as np
from jaxtyping import Float

from vitdyn.claims import assumptions as assume
from vitdyn.claims.assumptions import Spec
from vitdyn.claims.claim import Case, Claim, Control, Interval, Measurement, moved
from vitdyn.claims.judgement import over_seeds, turning_point
from vitdyn.claims.limits import at_the_end
from vitdyn.data import AreaSizes, Distribution, PatchGenerator, PatchLayout, Uniform
from vitdyn.dynamics import Schedule, Training
from vitdyn.experiments import Experiment
from vitdyn.objectives import DINO, IBOT, Objective
from vitdyn.observables import local_own_area_attention
from vitdyn.theory import centre_threshold, uniform_threshold
from vitdyn.trajectory import Trajectory

EXPONENTS = {"gap-positive": (0.9, 0.4), "gap-negative": (0.6, 0.4)}
"""(κ_c, κ_s) at either sign of Δ: 0.4 and −0.2."""

_SEEDS = {"quick": 6, "full": 24}
_SWEEP = {"quick": (0.8, 1.25), "full": (0.6, 0.8, 1.25, 1.6)}
"""Teacher temperatures, as parts of the predicted threshold."""
_MARGIN = 0.3
"""Of the threshold, as a part of it."""
_UNIFORM = 0.02
"""A loss that is lower than log D by more than this part of it is not that of a uniform output."""
_OWN = 0.5
_LAST = 3
"""Frames at the end over which means are taken."""
_STUDENT = 0.1

Kind = TypeVar("Kind", bound=Objective)


def _layout(gap: str, patches: int, clusters: int) -> PatchLayout:
    return PatchLayout.from_exponents(patches, *EXPONENTS[gap], clusters=clusters)


def _run(
    objective: Objective,
    layout: PatchLayout,
    scale: str,
    *,
    latents: Distribution | None = None,
    steps: int = 400,
    batch_size: int = 32,
) -> Experiment:
    generator = PatchGenerator(layout=layout, latents=latents or Uniform())
    return Experiment(
        name=objective.name,
        training=Training(
            generator=generator,
            objective=objective,
            steps=steps,
            batch_size=batch_size,
            seeds=_SEEDS[scale],
            schedule=Schedule(spacing="linear", frames=9),
            observables=("loss", "area_attention", "own_area_attention"),
        ),
    )


def _training(case: Case, kind: type[Kind], index: int = 0) -> tuple[Training, Kind]:
    """Return a run of a case, with its objective."""
    spec = case.specs[index]
    assert isinstance(spec, Training) and isinstance(spec.objective, kind)
    return spec, spec.objective


def _turn(statistic: Callable[[Trajectory], Float[np.ndarray, " seed"]]) -> Callable[..., Measurement]:
    """Return the measurement of the τ_t/τ_s at which a statistic changes its sign, from + to −, over a case's runs."""

    def measure(case: Case, trajectories: Sequence[Trajectory]) -> Measurement:
        objectives = [_training(case, DINO, index)[1] for index in range(len(case.runs))]
        found = [over_seeds(statistic(each)) for each in trajectories]
        signs = [1 if each.low > 0 else -1 if each.high < 0 else 0 for each in found]
        ratios = [each.teacher_temperature / each.student_temperature for each in objectives]
        of = "between two temperatures, each clear over seeds at 99.9 %"
        return turning_point(ratios, signs, low=0.0, high=1e6, of=of)

    return measure


def _global_share(trajectory: Trajectory) -> Float[np.ndarray, " seed"]:
    """Return by how much the part of local queries' visible attention that the global area has has grown."""
    attention = trajectory["area_attention"].sel(statistic="mean").isel(query_area=slice(1, None))
    shares = (attention.isel(key_area=0) / attention.sum("key_area")).mean(("cluster", "query_area"))
    return shares[-_LAST:].mean("frame").to_numpy() - shares[0].to_numpy()


def _below_uniform(trajectory: Trajectory) -> Float[np.ndarray, " seed"]:
    """Return by how much the loss lies below that of a uniform output, as a part of it, less what counts as none."""
    coordinates = (
        trajectory["area_attention"].sizes["key_area"] * trajectory["area_attention"].sizes["cluster"]
    )
    loss = trajectory["loss"][-_LAST:].mean("frame").to_numpy()
    return 1 - loss / log(coordinates) - _UNIFORM


def _around(threshold: float) -> Interval:
    return (1 - _MARGIN) * threshold, (1 + _MARGIN) * threshold


def _near_centre_threshold(case: Case) -> Interval:
    training, objective = _training(case, DINO)
    clusters = training.generator.layout.clusters
    return _around(centre_threshold(clusters, objective.student_temperature) / objective.student_temperature)


def _near_uniform_threshold(case: Case) -> Interval:
    training, objective = _training(case, DINO)
    sizes, student = assume.sizes_of(training), objective.student_temperature
    return _around(
        uniform_threshold(sizes, training.generator.latents, student, objective.mask_ratio) / student
    )


def _has_centre(spec: Spec) -> bool:
    return isinstance(spec.objective, DINO | IBOT) and spec.objective.centre_momentum < 1


_CENTRED = assume.every_run("The teacher's logits are centred.", _has_centre)
_ONE_CLUSTER = assume.clusters_exactly(1)
_PATCHES_COUNT = assume.every_run(
    "The loss has a term of masked patches.",
    lambda spec: getattr(spec.objective, "weight", 0.0) > 0,
)
_ASSUMED = (
    assume.FULL_SIMULATION,
    assume.FRESH_BATCHES,
    assume.POSITION_QUERIES,
    assume.THEORYS_DATA,
    assume.LATENTS_BOUNDED,
    assume.MASKS_OF_HALF,
    _CENTRED,
    assume.recording("loss", "area_attention", "own_area_attention"),
)


def _sweep(
    temperatures: Iterable[float], layout: PatchLayout, scale: str, centre: float = 0.9, **options: Any
) -> tuple[Experiment, ...]:
    """Return runs of DINO at teacher temperatures."""
    # rounded: the runs, and so their keys, do not change with the last digits of a formula
    of_each = (
        DINO(teacher_temperature=round(each, 4), student_temperature=_STUDENT, centre_momentum=centre)
        for each in temperatures
    )
    return tuple(_run(each, layout, scale, **options) for each in of_each)


def _clusters(gap: str, clusters: int, scale: str) -> Case:
    temperatures = [part * centre_threshold(clusters, _STUDENT) for part in _SWEEP[scale]]
    runs = _sweep(temperatures, _layout(gap, 64, clusters), scale, steps=200)
    return Case(name=f"dino, {gap}, K = {clusters}", runs=runs)


def _one_cluster(gap: str, latents: Uniform, scale: str) -> Case:
    layout = _layout(gap, 64, 1)
    threshold = uniform_threshold(AreaSizes.of(layout), latents, _STUDENT)
    runs = _sweep([part * threshold for part in _SWEEP[scale]], layout, scale, latents=latents)
    return Case(name=f"dino, {gap}, z in [{latents.low:g}, {latents.high:g}]", runs=runs)


def _without_centre(name: str, layout: PatchLayout, scale: str, **options: Any) -> Control:
    """Return runs without a centre, around the temperature of the student."""
    runs = _sweep((0.9 * _STUDENT, 1.25 * _STUDENT), layout, scale, centre=1.0, **options)
    return Control(name=f"dino, {name}, no centre", runs=runs, removes=_CENTRED)


DINO_CENTRE = Claim(
    id="DINO-CENTRE",
    statement="With a centre and three clusters or more, DINO turns to the global area where its teacher's temperature "
    "is below τ_s (1 − 1/K), and away from it above: a centre takes off what all clusters share.",
    source="vitdyn's own",
    note="claims.md#dino-centre",
    assumptions=(*_ASSUMED, assume.clusters_at_least(3)),
    surrogate="Where, over teacher temperatures, the part of local queries' visible attention that the global area has "
    f"ceases to grow in 200 steps at P = 64: within {100 * _MARGIN:g} % of the formula, each temperature clear over "
    "seeds. Controls: no centre, so that any sharper teacher turns to it; a threshold moved by more than the margin.",
    symbol="τ_t*/τ_s",
    symbols={
        "τ_t*": "temperature of the teacher at which attention to the global area ceases to grow",
    },
    predicted=_near_centre_threshold,
    measure=_turn(_global_share),
    cases=lambda scale: (
        _clusters("gap-positive", 3, scale),
        *(
            ()
            if scale == "quick"
            else (_clusters("gap-positive", 8, scale), _clusters("gap-negative", 4, scale))
        ),
    ),
    controls=lambda scale: (
        _without_centre("gap-positive, K = 3", _layout("gap-positive", 64, 3), scale, steps=200),
        *moved((_clusters("gap-positive", 3, scale),), _near_centre_threshold, 0.4, "threshold + 0.4"),
    ),
)

_WIDE, _NARROW = Uniform(low=0.1, high=2.0), Uniform(low=0.5, high=1.5)

DINO_UNIFORM = Claim(
    id="DINO-UNIFORM",
    statement="With a centre and one cluster, DINO's outputs become uniform where sharpening does not make up for the "
    "noise that masks put into an area's count: above τ_t* = τ_s (m_3 − m_1 m_2)/((1 + v) m_3 − m_1 m_2).",
    source="vitdyn's own",
    note="claims.md#dino-uniform",
    assumptions=(*_ASSUMED, _ONE_CLUSTER, assume.LATENTS_VARY),
    surrogate="Where, over teacher temperatures, the loss ceases to lie below log D, that of a uniform output, by more "
    f"than {100 * _UNIFORM:g} % of it after 400 steps at P = 64: within {100 * _MARGIN:g} % of the formula, each "
    "temperature clear over seeds. Controls: the theory without that noise, τ_t* = τ_s; (full) no centre, so that "
    "outputs end in one area.",
    symbol="τ_t*/τ_s",
    symbols={
        "τ_t*": "temperature of the teacher from which on outputs become uniform",
        "v": "variance of an area's visible count over its squared mean",
    },
    predicted=_near_uniform_threshold,
    measure=_turn(_below_uniform),
    cases=lambda scale: (
        _one_cluster("gap-positive", _NARROW, scale),
        *(
            ()
            if scale == "quick"
            else (_one_cluster("gap-positive", _WIDE, scale), _one_cluster("gap-negative", _NARROW, scale))
        ),
    ),
    controls=lambda scale: (
        Control(
            name="dino, gap-positive, v = 0",
            runs=_one_cluster("gap-positive", _NARROW, scale).runs,
            predicted=lambda case: _around(1.0),
        ),
        *(
            ()
            if scale == "quick"
            else (
                _without_centre(
                    "gap-positive, K = 1", _layout("gap-positive", 64, 1), scale, latents=_NARROW
                ),
            )
        ),
    ),
)


def _of_patches(
    gap: str, scale: str, *, clusters: int = 1, teacher: float = 0.04, weight: float = 0.3
) -> Case:
    objective = IBOT(weight=weight, teacher_temperature=teacher, student_temperature=_STUDENT)
    steps = 300 if clusters == 1 else 200 if teacher < centre_threshold(clusters, _STUDENT) else 500
    run = _run(objective, _layout(gap, 32, clusters), scale, steps=steps, batch_size=16)
    return Case(name=f"ibot, {gap}, K = {clusters}, τ_t = {teacher:g}, λ = {weight:g}", runs=(run,))


IBOT_LOCAL = Claim(
    id="IBOT-LOCAL",
    statement="Where the centre keeps it from the global area (one cluster, or a soft teacher), iBOT's term of masked "
    "patches has local queries give most of their attention to their own areas, in the mean over areas.",
    source="vitdyn's own",
    note="claims.md#ibot-local",
    assumptions=(*_ASSUMED, _PATCHES_COUNT),
    surrogate="Own-area attention of local queries, in the mean over areas, after 300 steps at P = 32 above "
    f"{_OWN}, by a 99.9 % interval over seeds; (full) 500 steps with two clusters at τ_t = 0.09. Controls: pooled "
    "outputs alone, λ = 0; two clusters at τ_t = 0.04, below τ_s (1 − 1/K).",
    symbol="A_own",
    symbols={"λ": "weight of the term of masked patches"},
    predicted=lambda case: (_OWN, inf),
    measure=at_the_end(local_own_area_attention),
    cases=lambda scale: (
        _of_patches("gap-positive", scale),
        *(
            ()
            if scale == "quick"
            else (
                _of_patches("gap-negative", scale),
                _of_patches("gap-positive", scale, clusters=2, teacher=0.09),
            )
        ),
    ),
    controls=lambda scale: (
        Control(
            name="ibot, gap-positive, K = 1, λ = 0",
            runs=_of_patches("gap-positive", scale, weight=0.0).runs,
            removes=_PATCHES_COUNT,
        ),
        _of_patches("gap-positive", scale, clusters=2),
    ),
)
