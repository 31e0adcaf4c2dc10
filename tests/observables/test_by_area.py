"""Summaries over positions against loops over positions (exact: float64 round-off)."""

from itertools import product

import numpy as np
import pytest
import torch

from vitdyn.data import PatchLayout
from vitdyn.observables.by_area import over_pairs, over_positions, pairs_by_torch, positions_by_torch

CASES = pytest.mark.parametrize("case", range(3))
LAYOUT = PatchLayout.from_sizes([[4, 3, 2], [3, 3, 2, 1]], arrangement="scattered")
"""A cluster that lacks an area, and one that has an area of one position."""

POSITIONS = pytest.mark.parametrize("over_positions", [over_positions, positions_by_torch])
PAIRS = pytest.mark.parametrize("over_pairs", [over_pairs, pairs_by_torch])


def statistics(values):
    """Mean, minimum and maximum of the values that are numbers; three NaN where there is none."""
    kept = [value for value in values if not np.isnan(value)]
    return [np.mean(kept), min(kept), max(kept)] if kept else [np.nan] * 3


def some_missing(rng, *shape):
    values = rng.standard_normal(shape)
    values[rng.random(shape) < 0.3] = np.nan
    return torch.from_numpy(values)


def positions(cluster, area):
    return np.flatnonzero(LAYOUT.area_of_patch[cluster] == area)


@CASES
@POSITIONS
def test_over_positions(over_positions, case, rng):
    values = some_missing(rng, 2, 2, 9, 3)
    found = over_positions(values, LAYOUT)
    assert found.shape == (2, 2, 4, 3, 3)
    for seed, cluster, area, row in product(range(2), range(2), range(4), range(3)):
        members = values[seed, cluster, positions(cluster, area), row].tolist()
        np.testing.assert_allclose(found[seed, cluster, area, row], statistics(members), rtol=1e-13)


@POSITIONS
def test_an_area_whose_values_are_all_missing_is_missing(over_positions):
    values = torch.ones(1, 2, 9, 1)
    values[0, 1, positions(1, 2)] = torch.nan
    found = over_positions(values, LAYOUT)[0, :, :, 0]
    assert found[0, 3].isnan().all() and found[1, 2].isnan().all()
    assert torch.equal(found[[0, 0, 0, 1, 1, 1], [0, 1, 2, 0, 1, 3]], torch.ones(6, 3))


@CASES
@PAIRS
def test_over_pairs_of_distinct_positions(over_pairs, case, rng):
    values = torch.from_numpy(rng.standard_normal((2, 9, 9)))
    loud = values + 1e3 * torch.eye(9)
    found = over_pairs(loud, LAYOUT)
    assert found.shape == (2, 2, 4, 4, 3)
    for seed, cluster, first, second in product(range(2), range(2), range(4), range(4)):
        both = product(positions(cluster, first), positions(cluster, second))
        pairs = [values[seed, p, q].item() for p, q in both if p != q]
        np.testing.assert_allclose(found[seed, cluster, first, second], statistics(pairs), rtol=1e-12)


@pytest.mark.parametrize("sizes", [[[9, 5, 6], [10, 5, 5]], [[20, 7, 7, 3]]])
@pytest.mark.parametrize("rows", [1, 11])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_seed_has_the_bits_that_it_has_alone(sizes, rows, dtype):
    """Sums by matrix products fail here, on machines with AVX2 at least."""
    layout, draws = PatchLayout.from_sizes(sizes), torch.Generator().manual_seed(rows)
    patches, clusters = layout.patches, layout.clusters
    pairs = torch.randn(12, patches, patches, generator=draws, dtype=dtype)
    by_position = torch.randn(12, clusters, patches, rows, generator=draws, dtype=dtype)
    forms = [(form, pairs) for form in (over_pairs, pairs_by_torch)]
    forms += [(form, by_position) for form in (over_positions, positions_by_torch)]
    for summary, values in forms:
        alone = torch.cat([summary(one, layout) for one in values.split(1)])
        torch.testing.assert_close(summary(values, layout), alone, rtol=0, atol=0, equal_nan=True)
