from itertools import combinations
from math import exp, inf, log

import mpmath
import numpy as np
import pytest
import sympy as sp

from vitdyn.data import Constant, Custom, PatchLayout, TwoPoint, Uniform
from vitdyn.theory import (
    Phase,
    Prediction,
    Rate,
    Regime,
    collapse_loss,
    collapse_threshold,
    contrastive_level,
    first_lead,
    global_query_level,
    mixture_threshold,
    own_area_level,
    phase_one_level,
    position_correlation_ratio,
    reconstruction_infimum,
    take_over_level,
)
from vitdyn.theory.derivations import phases as derived

POSITIVE, NEGATIVE = (Regime(patches=10**4, kappa_c=c, kappa_s=s) for c, s in ((0.9, 0.3), (0.6, 0.3)))


def test_levels_are_their_formulas():
    distribution = Uniform(low=1.0, high=1.5)
    phase_one = phase_one_level(POSITIVE, distribution)
    depth = 0.5 * log(1e4) + log(1 / 3)
    assert (phase_one.low, phase_one.high) == pytest.approx((-depth / 2, -depth / 3))
    take_over = take_over_level(POSITIVE, distribution)
    assert (take_over.low, take_over.high) == pytest.approx((-0.25 * log(1e4), -0.25 / 1.5 * log(1e4)))
    masked = take_over_level(POSITIVE, distribution, 0.75)
    assert masked.low == pytest.approx(-(0.5 * log(1e4) + log(0.5)) / 2)
    own = own_area_level(POSITIVE, distribution)
    assert (own.low, own.high) == pytest.approx((0.7 / 1.5 * log(1e4), 0.7 * log(1e4)))
    centre = global_query_level(POSITIVE, distribution)
    assert (centre.low, centre.high) == pytest.approx((0.1 / 1.5 * log(1e4), 0.1 * log(1e4)))
    assert contrastive_level(POSITIVE, distribution) == centre


def test_there_is_no_first_phase_where_the_gap_is_negative():
    for level_of in (phase_one_level, take_over_level):
        level = level_of(NEGATIVE, Uniform(), 0.01)  # its constant alone would be positive
        assert level.low == level.high == 0


def test_the_levels_are_the_derived_ones():
    """For a constant latent each level is the one of the derivations."""
    z, distribution = 1.3, Constant(value=1.3)
    _, lift = derived.phase_one_end()
    for level_of, depth in (
        (take_over_level, derived.pushed_level_at_takeover()),
        (phase_one_level, sp.log(lift) / (2 * derived.Z)),
    ):
        found = level_of(POSITIVE, distribution, 0.6)
        values = {"P": 1e4, "gamma": 0.6, "nu": 0.4, "z": z, "alpha": 0.1, "rho": 0.6, "Delta": 0.5}
        number = depth.subs({symbol: values[str(symbol)] for symbol in depth.free_symbols})
        assert -found.low == pytest.approx(float(number), rel=1e-9)
        assert found.low == found.high


def test_what_is_ours_is_not_ascribed_to_the_paper():
    assert own_area_level(POSITIVE, Uniform()).source == "vitdyn's notes"
    assert "constant" in phase_one_level(POSITIVE, Uniform()).source


def test_a_collapse_holds_where_contrast_outweighs_reconstruction_at_the_least_latent():
    """For constant latents by hand, and for K → ∞ no negative shares a feature."""
    e, many, clusters, tau = exp(1.2**2 / 0.7), 50, 8, 0.7
    total = e + many / clusters * e + many * (1 - 1 / clusters)
    pull = (1 - e / total - many / clusters * e / total) / tau
    found = collapse_threshold(Constant(value=1.2), tau, many, clusters)
    assert found == pytest.approx(1 / (1 + pull), rel=1e-12)
    far = collapse_threshold(Uniform(low=0.9, high=1.4), tau, many, 10**9)
    e = exp(0.81 / tau)
    assert far == pytest.approx(1 / (1 + many / (e + many) / tau), rel=1e-6)


@pytest.mark.parametrize("temperature", [0.1, 1e-3, 1e-6, 1e-12])
def test_no_weight_keeps_a_collapse_where_contrast_itself_ends_it(temperature):
    """λ(1 + κ_L) > 1 has no solution where κ_L ≤ −1: 1/(1 + κ_L) would be a weight below 0, which all exceed."""
    assert collapse_threshold(Uniform(), temperature, 64, 1) == inf


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("clusters", [1, 8])
@pytest.mark.parametrize("temperature", [2.0, 1e-3, 1e-12])
def test_a_collapsed_loss_is_a_number_at_any_temperature(temperature, clusters):
    """Against 60 digits, for latents that take four values alike."""
    values = (1.0, 1.1, 1.3, 1.5)
    distribution = Custom(draw=lambda generator, shape: np.resize(values, shape), low=1.0, high=1.5)
    with mpmath.workdps(60):
        z, tau, share = (
            [mpmath.mpf(value) for value in values],
            mpmath.mpf(temperature),
            64 / mpmath.mpf(clusters),
        )
        total = 0
        for own in z:
            same = sum(mpmath.exp((own * other - own**2) / tau) for other in z) / 4
            total += mpmath.log1p((64 - share) * mpmath.exp(-(own**2) / tau) + share * same) / 4
        assert collapse_loss(distribution, temperature, 64, clusters) == pytest.approx(
            float(total), rel=1e-12
        )


def test_a_phase_is_made_of_a_level_and_a_rate(complaint):
    with complaint("level"):
        Phase(name="one", level=None, duration=None)
    with complaint("exponent"):
        Rate(symbol="T", exponent=-inf, statement="", source="", note="")


def test_one_key_of_an_area_has_its_share_of_the_work():
    distribution = TwoPoint(low=1.0, high=2.0)
    assert position_correlation_ratio(distribution, 5.0) == pytest.approx(2.5 / 4.5 / 4, rel=5e-3)


@pytest.mark.parametrize(
    ("wrong", "field"),
    [
        (lambda: collapse_threshold(Uniform(), 0.0, 64, 16), "temperature"),
        (lambda: collapse_threshold(Uniform(), 1.0, 0, 16), "negatives"),
        (lambda: mixture_threshold(Uniform(), 1.0, 64, 0), "clusters"),
        (lambda: mixture_threshold(Uniform(), float("nan"), 64, 16), "temperature"),
        (lambda: collapse_loss(Uniform(), 1.0, 2.5, 16), "negatives"),
        (lambda: collapse_threshold(Uniform(low=0.0, high=1.0), 1.0, 64, 16), "distribution.low"),
        (lambda: position_correlation_ratio(Uniform(), 1.0), "local_size"),
        (lambda: take_over_level(POSITIVE, Uniform(), 1.0), "mask_ratio"),
        (lambda: phase_one_level(POSITIVE, Uniform(), float("nan")), "mask_ratio"),
        (lambda: first_lead(POSITIVE, 0.0), "mask_ratio"),
        (lambda: Regime(patches=1e4, kappa_c=float("nan"), kappa_s=0.3), "kappa_c"),
        (lambda: Regime(patches=1e4, kappa_c="0.9", kappa_s=0.3), "kappa_c"),
        (lambda: Regime(patches=1e4, kappa_c=0.9, kappa_s=-0.1), "kappa_s"),
        (lambda: Regime(patches=True, kappa_c=0.9, kappa_s=0.3), "patches"),
        (lambda: Prediction(symbol="x", low=float("nan"), high=1.0, statement="", source="", note=""), "low"),
    ],
)
def test_complaints(wrong, field, complaint):
    with complaint(field):
        wrong()


def test_latents_that_can_vanish_leave_the_far_end_open():
    level = own_area_level(POSITIVE, Uniform(low=0.0, high=2.0))
    assert level.high == float("inf")
    assert level.low == pytest.approx(0.35 * log(1e4))


def test_an_interval_must_be_in_order():
    with pytest.raises(ValueError, match="must not exceed"):
        Prediction(symbol="x", low=1.0, high=0.0, statement="", source="", note="")


@pytest.mark.parametrize("distribution", [Constant(value=1.3), TwoPoint(low=0.5, high=2.0)])
@pytest.mark.parametrize("sizes", [[[4, 1, 3]], [[4, 1, 3], [5, 2, 1]]])
def test_infimum_counts_wholly_masked_areas_over_all_masks(sizes, distribution):
    layout = PatchLayout.from_sizes(sizes, seed=3)
    lost = []
    for areas in layout.area_of_patch:
        for masked in combinations(range(8), 4):
            hidden = set(masked)
            lost.append(sum(set(np.flatnonzero(areas == areas[patch])) <= hidden for patch in masked))
    expected = 0.5 * distribution.second_moment * np.mean(lost)
    assert reconstruction_infimum(layout, 0.5, distribution) == pytest.approx(expected, rel=1e-12)
