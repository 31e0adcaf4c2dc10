"""Summaries over positions against loops over positions (exact: float64 round-off)."""

from itertools import product

import numpy as np
import pytest
import torch

from vitdyn.observables.by_area import over_pairs, over_positions

CASES = pytest.mark.parametrize("case", range(5))
PATCHES, AREAS = 9, 4


def statistics(values):
    """Mean, minimum and maximum of the values that are numbers; three NaN where there is none."""
    kept = [value for value in values if not np.isnan(value)]
    return [np.mean(kept), min(kept), max(kept)] if kept else [np.nan] * 3


@pytest.fixture
def areas(rng):
    """Every position has an area; area 3 has none, area 2 one position."""
    drawn = rng.permutation([0, 0, 0, 0, 1, 1, 1, 1, 2])
    return torch.from_numpy(drawn)


def some_missing(rng, *shape):
    values = rng.standard_normal(shape)
    values[rng.random(shape) < 0.3] = np.nan
    return torch.from_numpy(values)


@CASES
@pytest.mark.parametrize("rest", [(), (2,), (2, 3)])
def test_over_positions(case, rest, rng, areas):
    values = some_missing(rng, 2, PATCHES, *rest)
    found = over_positions(values, areas, AREAS)
    assert found.shape == (2, AREAS, *rest, 3)
    for seed, area, *at in product(range(2), range(AREAS), *map(range, rest)):
        members = [values[(seed, p, *at)].item() for p in range(PATCHES) if areas[p] == area]
        np.testing.assert_allclose(found[(seed, area, *at)], statistics(members), rtol=1e-13)


def test_an_area_whose_values_are_all_missing_is_missing(areas):
    values = torch.ones(1, PATCHES).masked_fill(areas == 1, torch.nan)
    found = over_positions(values, areas, AREAS)[0]
    assert torch.equal(found[[0, 2]], torch.ones(2, 3))
    assert found[[1, 3]].isnan().all()


@CASES
def test_over_pairs_of_distinct_positions(case, rng, areas):
    values = torch.from_numpy(rng.standard_normal((2, PATCHES, PATCHES)))
    found = over_pairs(values, areas, AREAS)
    assert found.shape == (2, AREAS, AREAS, 3)
    for seed, first, second in product(range(2), range(AREAS), range(AREAS)):
        pairs = [
            values[seed, p, q].item()
            for p, q in product(range(PATCHES), range(PATCHES))
            if p != q and areas[p] == first and areas[q] == second
        ]
        np.testing.assert_allclose(found[seed, first, second], statistics(pairs), rtol=1e-12)
    assert found[:, 2, 2].isnan().all(), "a position alone in its area forms no pair"


def test_the_diagonal_does_not_count(rng, areas):
    values = torch.from_numpy(rng.standard_normal((1, PATCHES, PATCHES)))
    loud = values + 1e3 * torch.eye(PATCHES)
    torch.testing.assert_close(
        over_pairs(values, areas, AREAS), over_pairs(loud, areas, AREAS), equal_nan=True, rtol=0, atol=1e-12
    )


@pytest.mark.parametrize("count", [3, 5])
@pytest.mark.parametrize("patches", [20, 37])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_seed_has_the_bits_that_it_has_alone(patches, count, dtype):
    """Sums by matrix products fail here, on machines with AVX2 at least; counts of 2 or 4 areas did not show it."""
    draws = torch.Generator().manual_seed(patches)
    areas = torch.randint(count, (patches,), generator=draws)
    values = torch.randn(12, patches, patches, generator=draws, dtype=dtype)
    for summary in (over_pairs, over_positions):
        alone = torch.cat([summary(one, areas, count) for one in values.split(1)])
        torch.testing.assert_close(summary(values, areas, count), alone, rtol=0, atol=0, equal_nan=True)
