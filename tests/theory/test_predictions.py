from itertools import combinations
from math import log

import numpy as np
import pytest

from vitdyn.data import Constant, PatchLayout, TwoPoint, Uniform
from vitdyn.theory import (
    Prediction,
    Regime,
    contrastive_level,
    global_query_level,
    own_area_level,
    phase_one_level,
    reconstruction_infimum,
)

POSITIVE, NEGATIVE = (Regime(patches=10**4, kappa_c=c, kappa_s=s) for c, s in ((0.9, 0.3), (0.6, 0.3)))


def test_levels_are_their_formulas():
    law = Uniform(low=1.0, high=1.5)
    phase_one = phase_one_level(POSITIVE, law)
    assert (phase_one.low, phase_one.high) == pytest.approx((-0.25 * log(1e4), -0.25 / 1.5 * log(1e4)))
    own = own_area_level(POSITIVE, law)
    assert (own.low, own.high) == pytest.approx((0.7 / 1.5 * log(1e4), 0.7 * log(1e4)))
    centre = global_query_level(POSITIVE, law)
    assert (centre.low, centre.high) == pytest.approx((0.1 / 1.5 * log(1e4), 0.1 * log(1e4)))
    assert contrastive_level(POSITIVE, law) == centre


def test_there_is_no_first_phase_where_the_gap_is_negative():
    level = phase_one_level(NEGATIVE, Uniform())
    assert level.low == level.high == 0


def test_latents_that_can_vanish_leave_the_far_end_open():
    level = own_area_level(POSITIVE, Uniform(low=0.0, high=2.0))
    assert level.high == float("inf")
    assert level.low == pytest.approx(0.35 * log(1e4))


def test_an_interval_must_be_in_order():
    with pytest.raises(ValueError, match="must not exceed"):
        Prediction(symbol="x", low=1.0, high=0.0, statement="", source="", note="")


@pytest.mark.parametrize("law", [Constant(value=1.3), TwoPoint(low=0.5, high=2.0)])
@pytest.mark.parametrize("sizes", [[[4, 1, 3]], [[4, 1, 3], [5, 2, 1]]])
def test_infimum_counts_wholly_masked_areas_over_all_masks(sizes, law):
    layout = PatchLayout.from_sizes(sizes, seed=3)
    lost = []
    for areas in layout.area_of_patch:
        for masked in combinations(range(8), 4):
            hidden = set(masked)
            lost.append(sum(set(np.flatnonzero(areas == areas[patch])) <= hidden for patch in masked))
    expected = 0.5 * law.second_moment * np.mean(lost)
    assert reconstruction_infimum(layout, 0.5, law) == pytest.approx(expected, rel=1e-12)
