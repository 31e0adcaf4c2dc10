"""The spectrum of areas' indicator functions, by hand and beside numpy's transform (exact)."""

from math import inf, log

import numpy as np
import pytest

from vitdyn.data import PatchLayout
from vitdyn.theory import areas_log_amplitude


def test_of_layouts_by_hand():
    """Side 3, one wave along the diagonal: a row of three has none, a single cell all, two neighbours half."""
    rows = PatchLayout(partition=((0,) * 6 + (1,) * 3,), grid=(3, 3))
    assert areas_log_amplitude(rows) == -inf
    alone = PatchLayout(partition=((0,) * 8 + (1,),), grid=(3, 3))
    assert areas_log_amplitude(alone) == pytest.approx((log(1 / 8) + log(1)) / 2)
    pair = PatchLayout(partition=((0,) * 7 + (1,) * 2,), grid=(3, 3))
    assert areas_log_amplitude(pair) == pytest.approx((log(1 / 7) + log(1 / 2)) / 2)


@pytest.mark.parametrize("side", [5, 7, 12])
@pytest.mark.parametrize("arrangement", ["contiguous", "scattered"])
def test_is_numpys_transform_of_the_indicators(side, arrangement):
    layout = PatchLayout.from_sizes(
        [side * side - 5, 3, 2], clusters=3, arrangement=arrangement, grid=(side, side), seed=4
    )
    frequency = (side + 1) // 2 - 1
    found = []
    for areas in layout.partition:
        for area in range(3):
            spectrum = np.abs(np.fft.fft2(np.reshape(np.equal(areas, area), (side, side))))
            share = spectrum[frequency, frequency] / spectrum[0, 0]
            found.append(np.log(share) if share > 1e-12 else -inf)
    assert areas_log_amplitude(layout) == pytest.approx(np.mean(found))


@pytest.mark.parametrize("grid", [None, (3, 4)])
def test_needs_a_square_grid(grid, complaint):
    with complaint("layout.grid", "square"):
        areas_log_amplitude(PatchLayout.from_sizes([8, 4], patches=12, grid=grid))
