"""Exact reduction against full simulation on one side and the mean field on the other."""

from __future__ import annotations

from dataclasses import replace
from math import inf

from vitdyn.claims import assumptions as assume
from vitdyn.claims.claim import Case, Claim, Control, Interval
from vitdyn.claims.finite_size import FRAMES, RATE, STEPS, deviation, one_more, reconstruction_twins, two_runs
from vitdyn.data import PatchLayout
from vitdyn.dynamics import Training
from vitdyn.experiments import Experiment
from vitdyn.objectives import MaskedReconstruction
from vitdyn.reduced import ExactReduction, MeanField

_SEEDS = {64: 64, 256: 16, 1024: 8}
"""Fewer where a seed costs more."""


def reduced(patches: int, sizes: list[int] | None = None) -> Experiment:
    """Return the reduction that descends as ``reconstruction_twins`` do, or that of other areas of as many patches."""
    layout = PatchLayout.from_sizes(sizes) if sizes else PatchLayout.from_exponents(patches, 0.9, 0.4)
    spec = ExactReduction(
        layout=layout,
        objective=MaskedReconstruction(),
        steps=STEPS[patches],
        learning_rate=RATE,
        seeds=_SEEDS[patches],
        frames=FRAMES,
        queries="all",
    )
    return Experiment(name="mae-reduced", training=spec)


def _beside_reduction(patches: int, *, simulated: bool) -> Case:
    """Return the full simulation and the reduction, or the reduction and the mean field."""
    case = reconstruction_twins(patches, _SEEDS[patches])
    full, limit = case.runs
    runs = (full, reduced(patches)) if simulated else (reduced(patches), limit)
    return replace(case, runs=runs)


def _simulated_and_reduced(scale: str) -> tuple[Case, ...]:
    return tuple(
        _beside_reduction(patches, simulated=True) for patches in ((64,) if scale == "quick" else (64, 256))
    )


def _not_reduced(scale: str) -> tuple[Control, ...]:
    """Return the mean field in place of the reduction, and the reduction of other areas of as many patches."""
    limit = reconstruction_twins(64, _SEEDS[64])
    full = limit.runs[0].training
    assert isinstance(full, Training)
    sizes = full.generator.layout.sizes[0].tolist()
    # From each local area a patch goes to the global one.
    other = [sizes[0] + len(sizes) - 1, *(size - 1 for size in sizes[1:])]
    wrong = reduced(64, other)
    return (
        Control(name=f"{limit.name}, mean counts for drawn ones", runs=limit.runs),
        Control(name=f"{limit.name}, reduction of smaller local areas", runs=(limit.runs[0], wrong)),
    )


def _local_size(case: Case) -> float:
    return assume.sizes_of(case.specs[0]).local_size


SIMULATED_FIRST = two_runs(
    # The mean field too: in a control it stands in the reduction's place.
    "A full simulation, and as many steps in order parameters.",
    Training,
    ExactReduction,
    MeanField,
)
REDUCED_THEN_LIMIT = two_runs(
    "An exact reduction, and the mean field of as many steps.", ExactReduction, MeanField
)

REDUCTION = Claim(
    id="REDUCTION",
    statement="From Q = 0 through the take-over of the own area, full simulations of masked reconstruction at "
    "κ = (0.9, 0.4), P = 64 and 256, agree in the mean over seeds with the dynamics of order parameters on drawn "
    "counts, to within a third of the margin of SYMMETRY.",
    source="vitdyn's notes",
    note="claims.md#reduction",
    assumptions=(
        SIMULATED_FIRST,
        assume.THEORYS_DATA,
        assume.clusters_exactly(1),
        assume.MASKS_OF_HALF,
        assume.FRESH_BATCHES,
    ),
    surrogate="The largest deviation of φ_1 and φ_a of a local query at 16 time points up to 1.5 times the time of the "
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
        _beside_reduction(patches, simulated=False) for patches in _SEEDS if scale == "full" or patches > 64
    )


_RATE_CONSTANT = (0.15, 0.3)


def _inverse_size(case: Case) -> Interval:
    low, high = _RATE_CONSTANT
    return low / _local_size(case), high / _local_size(case)


def _inverse_root(case: Case) -> Interval:
    """Return the same interval at P = 64, falling from there like C_s^{−1/2}."""
    smallest = _local_size(_beside_reduction(64, simulated=False))
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
            Control(name=f"{case.name}, falling like C_s^(−1/2)", runs=case.runs, predicted=_inverse_root)
            for case in _reduced_and_limit("quick")[1:]
        ),
        one_more(_reduced_and_limit("quick")[0]),
    ),
)
