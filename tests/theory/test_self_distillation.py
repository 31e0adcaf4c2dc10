"""Thresholds of a centred teacher: proofs that must cancel, and their numbers (exact; the third moment is sampled)."""

import pytest

from vitdyn.data import AreaSizes, Constant, PatchLayout, Uniform
from vitdyn.theory import centre_threshold, uniform_threshold

SIZES = AreaSizes.of(PatchLayout.from_sizes([42, 6, 6, 5, 5]))


def test_the_centre_threshold_is_derived():
    pytest.importorskip("sympy")
    from vitdyn.theory.derivations.self_distillation import CLUSTERS, STUDENT, centre_threshold_holds

    assert centre_threshold_holds(2)
    expected = (STUDENT * (1 - 1 / CLUSTERS)).subs({STUDENT: 0.2, CLUSTERS: 5})
    assert centre_threshold(5, 0.2) == pytest.approx(float(expected))


def test_the_uniform_threshold_is_derived():
    pytest.importorskip("sympy")
    from vitdyn.theory.derivations import self_distillation as derived

    law, local, patches = Uniform(low=0.5, high=1.5), SIZES.local_size, SIZES.patches
    noise = (0.25 / 0.75) * (patches - local) / (local * (patches - 1))
    third = (1.5**4 - 0.5**4) / 4
    moments = dict(zip(derived.MOMENTS, (law.mean, law.second_moment, third), strict=True))
    expected = derived.uniform_threshold().subs({**moments, derived.NOISE: noise, derived.STUDENT: 0.2})
    found = uniform_threshold(SIZES, law, student_temperature=0.2, mask_ratio=0.25)
    assert found == pytest.approx(float(expected), rel=5e-3)  # the third moment is sampled


def test_limits_of_the_thresholds():
    """No cluster but one's own leaves nothing; latents that do not vary carry no signal."""
    assert centre_threshold(1) == 0
    assert centre_threshold(10**9, 0.3) == pytest.approx(0.3)
    assert uniform_threshold(SIZES, Constant(value=1.2)) == pytest.approx(0, abs=1e-9)
    rates = [
        uniform_threshold(SIZES, Uniform(low=0.5, high=1.5), mask_ratio=ratio) for ratio in (1e-6, 0.5, 0.9)
    ]
    assert rates[0] == pytest.approx(0.1, rel=1e-4) and rates[0] > rates[1] > rates[2]


def test_complaints(complaint):
    for field, call in (
        ("clusters", lambda: centre_threshold(0)),
        ("student_temperature", lambda: centre_threshold(2, 0.0)),
        ("sizes", lambda: uniform_threshold(None, Uniform())),
        ("distribution", lambda: uniform_threshold(SIZES, None)),
        ("mask_ratio", lambda: uniform_threshold(SIZES, Uniform(), mask_ratio=1.0)),
    ):
        with complaint(field):
            call()
