"""The curvature of masked reconstruction on the theory's layer: at the start, where it turns, and at the end."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from jaxtyping import Float

from vitdyn.claims import assumptions as assume
from vitdyn.claims.claim import Case, Claim, Control, Interval, Measurement, moved
from vitdyn.claims.flows import always
from vitdyn.claims.judgement import over_seeds
from vitdyn.data import AreaSizes, Constant, Distribution, PatchGenerator, PatchLayout, Uniform
from vitdyn.dynamics import GradientDescent, Schedule, Training
from vitdyn.experiments import Experiment
from vitdyn.objectives import Contrastive, MaskedReconstruction, Objective
from vitdyn.observables import Observable
from vitdyn.theory import SymmetryClass, reconstruction_hessian
from vitdyn.trajectory import Trajectory

SIZES = {
    "gap-positive": {64: (44, *[5] * 4), 128: (79, *[7] * 7), 256: (148, *[9] * 12)},
    "gap-negative": {64: (14, *[5] * 10)},
}
"""The global area and equal local ones, near κ = (0.9, 0.4), or of Δ = −0.1, by P."""

KEYS = {"own_keys": "the own area", "global_keys": "the global area", "other_keys": "another local area"}
"""Classes of differences between keys, by the kind of curvature."""

_SEEDS = {"quick": tuple(range(10, 18)), "full": tuple(range(10, 34))}
"""Others than those of the pilot that the margins were set after."""
_MARGIN, _TURN_MARGIN, _PACE_MARGIN = 0.1, 0.05, 0.3
_AROUND_TURN, _LATE = (0.75, 0.8, 0.85, 0.9, 0.95, 1.0, 1.1), (4.0, 16.0)
"""Times at which curvature is recorded, in units of 1/|λ_a| at the start."""
_SAMPLES = 256
_OWN = "own_area_curvature"


def _run(
    sizes: Sequence[int], objective: Objective, latents: Distribution, name: str, scale: str, **fields: object
) -> Experiment:
    training = Training(
        generator=PatchGenerator(layout=PatchLayout.from_sizes(list(sizes)), latents=latents),
        objective=objective,
        batch_size=32,
        seeds=_SEEDS[scale],
        precision="float64",
        observables=(name, "own_area_attention"),
        **fields,  # type: ignore[arg-type]
    )
    return Experiment(name=f"{objective.name}-{name}", training=training)


def _reconstructs(spec: assume.Spec) -> bool:
    return isinstance(spec.objective, MaskedReconstruction)


def _has_equal_areas(spec: assume.Spec) -> bool:
    sizes = spec.generator.layout.sizes[:, 1:] if isinstance(spec, Training) else np.zeros(1)
    return bool((sizes == sizes.flat[0]).all())


_RECONSTRUCTS = assume.every_run("The objective is masked reconstruction.", _reconstructs)
_EQUAL = assume.every_run("Local areas are of equal size.", _has_equal_areas)
_ASSUMED = (
    assume.FULL_SIMULATION,
    assume.ONE_RUN,
    assume.POSITION_QUERIES,
    assume.THEORYS_DATA,
    assume.LATENTS_BOUNDED,
    assume.clusters_exactly(1),
    _RECONSTRUCTS,
    _EQUAL,
)


def _curvature(case: Case) -> str:
    """Return the name of the curvature that a case's run records."""
    spec = case.specs[0]
    assert isinstance(spec, Training)
    names = (each.name for each in spec.observables if isinstance(each, Observable))
    return next(name for name in names if name.endswith("_curvature"))


def exact_curvature(kind: str, classes: Sequence[SymmetryClass]) -> float:
    """Return what the theory's classes of a query have for an observable of ``observables.correlation_curvature``.

    Without an own area apart, as in contrast, a local query's own is one local area like all others.
    """
    symmetric, between, *_ = classes
    if kind in KEYS:
        return next(float(each.eigenvalues[0]) for each in classes if each.name.endswith(KEYS[kind]))
    if kind != "own_area":
        return symmetric.along("Φ global")[1]
    if "Φ own" in symmetric.coordinates:
        return symmetric.along("Φ own")[1]
    # of one area: the mean of what all do together and of the differences between them
    together, apart, count = (
        symmetric.along("Φ others")[1],
        float(between.hessian[0, 0]),
        between.multiplicity,
    )
    return (together + count * apart) / (1 + count)


def _over_exact(case: Case, trajectories: tuple[Trajectory, ...]) -> Measurement:
    name, spec = _curvature(case), case.specs[0]
    classes = reconstruction_hessian(assume.sizes_of(spec), assume.distribution_of(spec))
    exact = exact_curvature(name.removesuffix("_curvature"), classes)
    return over_seeds(trajectories[0][name][0].to_numpy() / exact)


def _at_start(
    gap: str, name: str, scale: str, *, patches: int = 64, objective: Objective | None = None
) -> Case:
    made = objective or MaskedReconstruction()
    fields = {"steps": 0, "evaluation_samples": 2 * _SAMPLES}
    run = _run(SIZES[gap][patches], made, Uniform(), f"{name}_curvature", scale, **fields)
    return Case(name=f"{made.name}, {name.replace('_', ' ')}, {gap}, P = {patches}", runs=(run,))


def _starts(scale: str) -> tuple[Case, ...]:
    kinds = "own_area", "global_area", "other_keys"
    cases = [_at_start("gap-positive", name, scale) for name in kinds]
    cases.append(_at_start("gap-negative", "other_keys", scale))
    if scale == "full":
        cases += [_at_start("gap-negative", name, scale) for name in kinds[:2]]
        cases += [_at_start("gap-positive", name, scale, patches=256) for name in kinds]
    return tuple(cases)


def _off_by_an_exponent(case: Case) -> Control:
    """Return a case as it would be judged with an exponent of P larger by 0.1."""
    factor = assume.sizes_of(case.specs[0]).patches ** 0.1

    def predicted(_: Case) -> Interval:
        return (1 - _MARGIN) * factor, (1 + _MARGIN) * factor

    return Control(name=f"{case.name}, exponent + 0.1", runs=case.runs, predicted=predicted)


HESSIAN_START = Claim(
    id="HESSIAN-START",
    statement="At Q = 0 masked reconstruction bends down along a local query's correlation with its own area, up along "
    "that with the global area, and between the keys of other areas down where Δ > 0 and up where Δ < 0; by how much "
    "is exact in moments of masks and latents.",
    source="vitdyn's own",
    note="claims.md#hessian-start",
    assumptions=_ASSUMED,
    surrogate="The curvature on 512 samples at Q = 0, mean over local queries, over its exact value: within "
    f"{100 * _MARGIN:g} % of 1, by a 99.9 % interval over seeds. Controls: an exponent of P larger by 0.1; contrast.",
    symbol="λ/λ_exact",
    symbols={
        "λ": "curvature of the loss along an entry of Φ",
        "λ_exact": "its exact value at Q = 0",
    },
    predicted=always(1.0, _MARGIN),
    measure=_over_exact,
    cases=_starts,
    controls=lambda scale: (
        *map(_off_by_an_exponent, _starts("quick")[:2]),
        Control(
            name="cl, own area",
            runs=_at_start("gap-positive", "own_area", scale, objective=Contrastive()).runs,
            removes=_RECONSTRUCTS,
        ),
    ),
)


def _learnt(scale: str, *, patches: int = 128) -> Case:
    """Return a run long after the take-over, with what it was at the start as unit of its time."""
    latents, sizes = Constant(value=1.25), SIZES["gap-positive"][patches]
    areas = AreaSizes.of(PatchLayout.from_sizes(list(sizes)))
    unit = -1 / exact_curvature("own_area", reconstruction_hessian(areas, latents))
    steps = tuple(round(part * unit) for part in (0, *_AROUND_TURN, *_LATE))
    fields = {
        "steps": steps[-1],
        "schedule": Schedule(spacing="explicit", steps=steps),
        "optimizer": GradientDescent(learning_rate=1.0),
        "evaluation_samples": _SAMPLES,
    }
    run = _run(sizes, MaskedReconstruction(), latents, _OWN, scale, **fields)
    return Case(name=f"mae, P = {patches}", runs=(run,))


def _of_seeds(trajectory: Trajectory, statistic: Callable[..., float]) -> Measurement:
    """Return a statistic of each seed's curvature, attention of local queries to their own areas, and the time."""
    attention = trajectory["own_area_attention"].sel(statistic="mean").isel(query_area=slice(1, None))
    shares = attention.mean(("cluster", "query_area")).to_numpy()
    times = trajectory["time"].to_numpy()
    curvature = trajectory[_OWN].to_numpy()
    return over_seeds(np.array([statistic(*each, times) for each in zip(curvature.T, shares.T, strict=True)]))


def _attention_at_the_turn(
    curvature: Float[np.ndarray, " frame"], attention: Float[np.ndarray, " frame"], times: np.ndarray
) -> float:
    after = np.flatnonzero(curvature > 0)
    if not after.size or after[0] == 0:
        raise ArithmeticError("the curvature does not change from − to +")
    ends = slice(after[0] - 1, after[0] + 1)
    return float(np.interp(0, curvature[ends], attention[ends]))


def _late_pace(
    curvature: Float[np.ndarray, " frame"], attention: Float[np.ndarray, " frame"], times: np.ndarray
) -> float:
    return float((1 / curvature[-1] - 1 / curvature[-2]) / (times[-1] - times[-2]))


def _learnts(scale: str) -> tuple[Case, ...]:
    return (_learnt(scale),) if scale == "quick" else (_learnt(scale), _learnt(scale, patches=256))


_CONSTANT = (*_ASSUMED, assume.latents_of_kind(Constant, words="constant"))
_near_a_third, _near_one = always(1 / 3, _TURN_MARGIN), always(1.0, _PACE_MARGIN)

HESSIAN_TURN = Claim(
    id="HESSIAN-TURN",
    statement="Along a local query's correlation with its own area the curvature of masked reconstruction is negative "
    "until a third of its attention is there, and positive from then on: ∂²L/∂φ_a² ∝ −A(1 − A)²(1 − 3A).",
    source="vitdyn's own",
    note="claims.md#hessian-turn",
    assumptions=_CONSTANT,
    surrogate="A_a, mean over local queries, where their mean curvature changes its sign, between two frames: 1/3 ± "
    f"{_TURN_MARGIN:g} at P = 128 by a 99.9 % interval over seeds. Control: 1/2, where attention, and not the loss, "
    "has its inflection.",
    symbol="A_a",
    symbols={"L": "loss"},
    predicted=_near_a_third,
    measure=lambda case, runs: _of_seeds(runs[0], _attention_at_the_turn),
    cases=_learnts,
    controls=lambda scale: moved(_learnts("quick"), _near_a_third, 1 / 6, "A = 1/2"),
)

HESSIAN_CLOCK = Claim(
    id="HESSIAN-CLOCK",
    statement="Late in training the curvature along a local query's correlation with its own area is one over the "
    "time: d(1/λ)/dt = 1, whatever the sizes, the mask ratio and z.",
    source="vitdyn's own, leading order",
    note="claims.md#hessian-clock",
    assumptions=_CONSTANT,
    surrogate="The slope of 1/λ between 4 and 16 times the time 1/|λ(0)| at P = 128, within "
    f"{_PACE_MARGIN:g} of 1 by a 99.9 % interval over seeds: position correlations add O(P^{{−κ_s}}). Controls: paces "
    "of 1/2 and 2.",
    symbol="d(1/λ)/dt",
    symbols={"λ": "curvature of the loss along φ_a"},
    predicted=_near_one,
    measure=lambda case, runs: _of_seeds(runs[0], _late_pace),
    cases=_learnts,
    controls=lambda scale: (
        *moved(
            _learnts("quick"), lambda case: (0.5 - _PACE_MARGIN / 2, 0.5 + _PACE_MARGIN / 2), 0.0, "pace 1/2"
        ),
        *moved(_learnts("quick"), always(2.0, _PACE_MARGIN), 0.0, "pace 2"),
    ),
)
