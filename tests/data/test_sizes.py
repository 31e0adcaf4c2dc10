"""Sizes without positions: exact."""

import pytest

from vitdyn.data import AreaSizes, PatchLayout


def test_sizes_follow_the_exponents_without_rounding():
    sizes = AreaSizes.from_exponents(1e40, 0.9, 0.4)
    assert sizes.global_size == pytest.approx(1e36, rel=1e-12)
    assert sizes.local_size == pytest.approx(1e16, rel=1e-12)
    assert sizes.local_areas == pytest.approx((1e40 - 1e36) / 1e16, rel=1e-12)
    assert sizes.exponents == (0.9, 0.4)
    assert sizes.kappa_c == pytest.approx(0.9, rel=1e-12) and sizes.kappa_s == pytest.approx(0.4, rel=1e-12)
    assert sizes.information_gap == pytest.approx(0.6 - 0.2, rel=1e-12)


def test_a_global_area_that_is_a_fraction():
    sizes = AreaSizes.from_exponents(1e6, 1.0, 0.3, global_fraction=0.25)
    assert sizes.global_size == 0.25e6
    assert sizes.information_gap == pytest.approx(0.7), (
        "the exponents that were asked for count, not the measured"
    )
    assert sizes.kappa_c < 1


def test_sizes_of_a_layout():
    layout = PatchLayout.from_exponents(256, 0.9, 0.4)
    sizes = AreaSizes.of(layout)
    assert (sizes.patches, sizes.global_size, sizes.local_size) == (
        256,
        layout.global_size,
        layout.local_size,
    )
    assert sizes.local_areas == pytest.approx(layout.areas - 1)
    assert sizes.information_gap == pytest.approx(layout.information_gap)
    plain = AreaSizes.of(PatchLayout.from_sizes([8, 4, 4]))
    assert plain.exponents is None and plain.local_areas == 2
    assert plain.information_gap == pytest.approx((1 - plain.kappa_s) - 2 * (1 - plain.kappa_c))


@pytest.mark.parametrize(
    ("arguments", "field", "remedy"),
    [
        ((1e6, 0.4, 0.3), "kappa_c", ""),
        ((1e6, 1.1, 0.3), "kappa_c", ""),
        ((1e6, 0.9, 0.6), "kappa_s", ""),
        ((1e6, 0.9, 0.0), "kappa_s", ""),
        ((1.0, 0.9, 0.3), "patches", ""),
        ((1e61, 0.9, 0.3), "patches", ""),
        ((float("nan"), 0.9, 0.3), "patches", ""),
        ((3.0, 0.99, 0.5), "patches", "no room for a local area"),
    ],
)
def test_sizes_out_of_range(arguments, field, remedy, complaint):
    with complaint(field, remedy):
        AreaSizes.from_exponents(*arguments)


def test_global_fraction_out_of_range(complaint):
    with complaint("global_fraction"):
        AreaSizes.from_exponents(1e6, 1.0, 0.3, global_fraction=1.0)


def test_exponents_outside_the_theory_only_where_asked():
    sizes = AreaSizes.from_exponents(1e6, 0.3, 0.7, outside=True)
    assert sizes.global_size < sizes.local_size


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"local_size": 0.5}, "local_size"),
        ({"global_size": 20.0}, "global_size"),
        ({"local_size": 6.0}, "patches"),
    ],
)
def test_sizes_that_do_not_fit(changes, field, complaint):
    with complaint(field):
        AreaSizes(**{"patches": 10.0, "global_size": 5.0, "local_size": 2.0} | changes)
