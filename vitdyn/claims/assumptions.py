"""What claims assume of the runs they are read off: each condition a sentence and a predicate, decided in one place."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from math import inf

import numpy as np

from vitdyn.claims.claim import Assumption, Case
from vitdyn.data import AreaSizes, Distribution
from vitdyn.dynamics import Training
from vitdyn.models import Transformer
from vitdyn.models.model import CLOSED_FORMS
from vitdyn.reduced import ExactReduction, MeanField

Spec = Training | MeanField | ExactReduction


def every_run(sentence: str, met: Callable[[Spec], bool]) -> Assumption:
    """Return the assumption that each run of a case meets a condition."""
    return Assumption(sentence=sentence, holds=lambda case: all(met(spec) for spec in case.specs))


def sizes_of(spec: Spec) -> AreaSizes:
    """Return the sizes of the areas of a run of either kind."""
    return spec.sizes if isinstance(spec, MeanField) else AreaSizes.of(spec.generator.layout)


def exponents_of(spec: Spec) -> tuple[float, float]:
    """Return (κ_c, κ_s): those that were asked for, else the measured ones."""
    # A finite layout rounds sizes: exponents that were asked for are the theory's own.
    sizes = sizes_of(spec)
    return sizes.exponents or (sizes.kappa_c, sizes.kappa_s)


def distribution_of(spec: Spec) -> Distribution:
    """Return the distribution of the latents."""
    return spec.latents if isinstance(spec, MeanField) else spec.generator.latents


def clusters_of(spec: Spec) -> int:
    """Return K."""
    return spec.clusters if isinstance(spec, MeanField) else spec.generator.layout.clusters


def negatives_of(spec: Spec) -> int:
    """Return the number of negatives of a sample: in a full simulation the other samples of its batch."""
    return spec.negatives if isinstance(spec, MeanField) else spec.batch_size - 1


ONE_RUN = Assumption(sentence="One run.", holds=lambda case: len(case.runs) == 1)
FULL_SIMULATION = every_run("Full simulation.", lambda spec: isinstance(spec, Training))
MEAN_FIELD = every_run("Mean field.", lambda spec: isinstance(spec, MeanField))
# A flow has no data set: its batches are as fresh as can be.
FRESH_BATCHES = every_run("Fresh batches.", lambda spec: getattr(spec, "dataset_size", None) is None)


def _holds_contents(spec: Spec) -> bool:
    """Return whether queries hold contents: of a flow never, of the layer as the run says, else as its model does."""
    return any(getattr(each, "content_queries", False) for each in (spec, getattr(spec, "model", None)))


POSITION_QUERIES = every_run("Queries are positions alone.", lambda spec: not _holds_contents(spec))
CONTENT_QUERIES = every_run("Queries hold contents too.", _holds_contents)
THEORYS_LAYER = every_run(
    "The model is the theory's layer.",
    lambda spec: not isinstance(spec, Training) or CLOSED_FORMS in spec.offers,
)
# A mean field and a reduction have no other data.
THEORYS_DATA = every_run(
    "Data are the theory's, with nothing added to a layout and a distribution of latents.",
    lambda spec: not isinstance(spec, Training) or not spec.generator.departures,
)
LATENTS_BOUNDED = every_run("Latents are bounded away from 0.", lambda spec: distribution_of(spec).low > 0)
LATENTS_VARY = every_run("Latents vary.", lambda spec: distribution_of(spec).low < distribution_of(spec).high)
# A full simulation always moves Υ; a mean field may hold it at 0.
POSITIONS_MOVE = every_run(
    "Position correlations move too.", lambda spec: getattr(spec, "position_correlations", True)
)


def steps_at_most(most: int) -> Assumption:
    """Return the assumption that no run takes more steps than this; a flow takes none."""
    return every_run(f"At most {most} steps.", lambda spec: getattr(spec, "steps", inf) <= most)


def transformer_of(spec: Spec) -> Transformer | None:
    """Return the ``Transformer`` that a run names, None where it names none."""
    model = getattr(spec, "model", None)
    return model if isinstance(model, Transformer) else None


def of_transformer(sentence: str, met: Callable[[Transformer], bool]) -> Assumption:
    """Return the assumption that every run trains a ``Transformer`` that meets a condition."""

    def holds(spec: Spec) -> bool:
        model = transformer_of(spec)
        return model is not None and met(model)

    return every_run(sentence, holds)


WRITTEN_PLAINLY = of_transformer(
    "The theory's layer, written plainly: Φ is read off its last state.", lambda model: model == Transformer()
)


def latents_of_kind(*kinds: type, words: str) -> Assumption:
    """Return the assumption that the latents follow one of these distributions."""
    return every_run(f"Latents: {words}.", lambda spec: isinstance(distribution_of(spec), kinds))


def latents_spread(at_most: float) -> Assumption:
    """Return the assumption that U/L is no larger than this."""

    def met(spec: Spec) -> bool:
        return (
            distribution_of(spec).low > 0
            and distribution_of(spec).high <= at_most * distribution_of(spec).low
        )

    return every_run(f"U/L is at most {at_most:g}.", met)


def clusters_at_least(least: int) -> Assumption:
    """Return the assumption that K is no smaller than this."""
    return every_run(f"At least {least} clusters.", lambda spec: clusters_of(spec) >= least)


GAP_POSITIVE = every_run("Δ > 0.", lambda spec: sizes_of(spec).information_gap > 0)
GAP_NEGATIVE = every_run("Δ < 0.", lambda spec: sizes_of(spec).information_gap < 0)
# Negatives of the own cluster stop the collapse where there are few others.
CONTRAST_HAS_CLUSTERS = every_run(
    "Contrast has at least three clusters.",
    lambda spec: not hasattr(spec.objective, "temperature") or clusters_of(spec) >= 3,
)
ENOUGH_CLUSTERS = every_run(
    "At least three clusters, or two and P at most 1e12 (at 1e16 contrast stops short with two).",
    lambda spec: clusters_of(spec) > 2 or (clusters_of(spec) == 2 and sizes_of(spec).patches <= 1e12),
)


def clusters_exactly(number: int) -> Assumption:
    """Return the assumption that K is this number."""
    words = "One cluster." if number == 1 else f"{number} clusters."
    return every_run(words, lambda spec: clusters_of(spec) == number)


def negatives_at_least(least: int) -> Assumption:
    """Return the assumption that a sample has no fewer negatives than this."""
    return every_run(f"At least {least} negatives.", lambda spec: negatives_of(spec) >= least)


def patches_at_least(least: float) -> Assumption:
    """Return the assumption that P is no smaller than this."""
    return every_run(f"P is at least {least:g}.", lambda spec: sizes_of(spec).patches >= least)


THEORYS_RANGE = every_run(
    "κ_s ≤ 1/2 < κ_c.", lambda spec: exponents_of(spec)[1] <= 0.5 < exponents_of(spec)[0]
)


def global_exponent(low: float, high: float) -> Assumption:
    """Return the assumption that κ_c lies in [low, high]."""
    return every_run(f"κ_c in [{low:g}, {high:g}].", lambda spec: low <= exponents_of(spec)[0] <= high)


MASKS_OF_HALF = every_run("Mask ratio 0.5.", lambda spec: getattr(spec.objective, "mask_ratio", None) == 0.5)
SIMULATED = FULL_SIMULATION, FRESH_BATCHES, LATENTS_BOUNDED, POSITION_QUERIES, MASKS_OF_HALF
"""What claims on simulations in the theory's setting have in common."""
CONTRASTING = every_run(
    "Objectives contrast, at some τ.", lambda spec: hasattr(spec.objective, "temperature")
)


def _is_on_square_grid(spec: Spec) -> bool:
    grid = None if isinstance(spec, MeanField) else spec.generator.layout.grid
    return grid is not None and grid[0] == grid[1]


SQUARE_GRID = every_run("Patches lie on a square grid.", _is_on_square_grid)


def _is_behind_a_coarser(case: Case) -> bool:
    specs = [run.training for run in case.runs if isinstance(run.training, MeanField)]
    if not len(specs) == len(case.runs) == 2:
        return False
    coarse, fine = specs
    # Nothing but tolerance and nodes may differ, or their difference is no error of integration.
    alike = replace(fine, tolerance=coarse.tolerance, nodes=coarse.nodes) == coarse
    return alike and coarse.tolerance > fine.tolerance and coarse.nodes <= fine.nodes


BEHIND_A_COARSER = Assumption(
    sentence="Mean field: a flow behind the same flow, more coarsely integrated.", holds=_is_behind_a_coarser
)


def _have_the_same_data(case: Case) -> bool:
    specs = [run.training for run in case.runs]
    # Paired by seed: what is compared differs by the objective alone.
    first = specs[0]
    return isinstance(first, Training) and all(
        isinstance(spec, Training)
        and spec.generator == first.generator
        and spec.seed_numbers == first.seed_numbers
        for spec in specs
    )


SAME_DATA = Assumption(sentence="Runs have the same data and seeds.", holds=_have_the_same_data)
CONTRAST_FIRST = Assumption(
    sentence="Two runs, contrast and masked reconstruction in this order.",
    holds=lambda case: [spec.objective.name for spec in case.specs] == ["cl", "mae"],
)


def recording(*names: str) -> Assumption:
    """Return the assumption that every run records these observables: it names them, and its model has them."""

    def met(spec: Spec) -> bool:
        recorded = {each.name for each in getattr(spec, "recorded", ())}
        return recorded.issuperset(names)

    return every_run(f"Recorded: {', '.join(names)}.", met)


def _is_connected(spec: Spec) -> bool:
    """Return whether each area is one region of the grid, by steps along rows and columns."""
    from scipy.ndimage import label

    layout = None if isinstance(spec, MeanField) else spec.generator.layout
    if layout is None or layout.grid is None:
        return False
    grids = [np.reshape(areas, layout.grid) for areas in layout.partition]
    return all(label(grid == area)[1] == 1 for grid in grids for area in np.unique(grid))


CONNECTED_AREAS = every_run("Every area is a connected region of the grid.", _is_connected)


def sweep(count: int, top: float) -> Assumption:
    """Return the assumption that the runs differ in P alone, rising to no less than ``top``."""

    def met(case: Case) -> bool:
        specs = case.specs
        heights = [sizes_of(spec).patches for spec in specs]
        # Runs of one kind, or the slope in log P would mix two laws.
        alike = {
            (exponents_of(spec), spec.objective, distribution_of(spec), clusters_of(spec)) for spec in specs
        }
        rising = all(low < high for low, high in pairwise(heights))
        return len(specs) >= count and rising and heights[-1] >= top and len(alike) == 1

    return Assumption(
        sentence=f"At least {count} runs that differ in P alone, which rises to {top:g} or more.", holds=met
    )
