"""Rates as functions of the regime (exact)."""

from math import inf

import pytest

from vitdyn.data import Constant, Uniform
from vitdyn.theory import (
    Rate,
    Regime,
    contrastive_time,
    global_area_time,
    local_area_time,
    local_area_time_bound,
    own_area_level,
    phase_one_level,
    phase_one_start,
    phases,
    position_correlation_exponent,
    tail_exponent,
)

TWO, ONE = (Regime(patches=1e200, kappa_c=c, kappa_s=0.3) for c in (0.9, 0.6))


@pytest.mark.parametrize(
    ("rate", "expected"),
    [
        (local_area_time, 0.7),
        (global_area_time, 0.1),
        (contrastive_time, 1.2),
        (phase_one_start, 0.2),
        (position_correlation_exponent, -0.3),
        (tail_exponent, -2.0),
    ],
)
def test_exponents(rate, expected):
    found = rate(TWO)
    assert found.exponent == pytest.approx(expected)
    assert found.variable == ("ε" if rate is tail_exponent else "P")
    assert ".md#" in found.note


def test_the_recalled_bound_is_above_our_exponent_and_open_where_latents_can_vanish():
    narrow, wide = Uniform(low=1.0, high=1.5), Uniform(low=1.0, high=3.0)
    assert local_area_time_bound(TWO, narrow).exponent == local_area_time(TWO).exponent
    assert local_area_time_bound(TWO, wide).exponent == pytest.approx(4 * 0.7)
    assert local_area_time_bound(TWO, Uniform(low=0.0, high=1.0)).exponent == inf


def test_two_phases_where_the_gap_is_positive():
    distribution = Uniform()
    first, second = phases(TWO, distribution)
    assert first.level == phase_one_level(TWO, distribution)
    assert second.level == own_area_level(TWO, distribution)
    assert first.duration.exponent == pytest.approx(second.duration.exponent)
    assert first.duration.exponent == pytest.approx(phase_one_start(TWO).exponent + TWO.information_gap)


def test_one_phase_where_it_is_negative(complaint):
    (only,) = phases(ONE, Constant(value=1.2))
    assert only.level == own_area_level(ONE, Constant(value=1.2))
    with complaint("information_gap", "no first phase"):
        phase_one_start(ONE)


def test_complaints(complaint):
    with complaint("exponent", "a number"):
        Rate(symbol="T", exponent=float("nan"), statement="", source="", note="")
    with complaint("variable", "one of"):
        Rate(symbol="T", exponent=1.0, statement="", source="", note="", variable="N")
    for patches in (1, inf, "many"):
        with complaint("patches", "must be a number"):
            Regime(patches=patches, kappa_c=0.9, kappa_s=0.3)
