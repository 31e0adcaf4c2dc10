import pytest

from vitdyn.data import PatchLayout
from vitdyn.theory import Regime


@pytest.mark.parametrize(
    ("kappa_c", "kappa_s", "gap", "case"),
    [(0.9, 0.4, 0.4, "two phases"), (0.6, 0.5, -0.3, "one phase"), (0.75, 0.5, 0.0, "boundary")],
)
def test_the_sign_of_the_gap_decides_the_case(kappa_c, kappa_s, gap, case):
    regime = Regime(patches=256, kappa_c=kappa_c, kappa_s=kappa_s)
    assert regime.information_gap == pytest.approx(gap, abs=1e-12)
    assert regime.case == case


def test_a_layout_from_exponents_keeps_them_and_one_from_sizes_is_measured():
    exact = Regime.of(PatchLayout.from_exponents(256, 0.9, 0.4))
    assert (exact.kappa_c, exact.kappa_s) == (0.9, 0.4)
    measured = Regime.of(PatchLayout.from_sizes([16, *[2] * 120]))
    assert measured.kappa_c == pytest.approx(0.5)
    assert measured.kappa_s == pytest.approx(1 / 8)
