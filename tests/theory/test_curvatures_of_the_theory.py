"""Curvature to leading order: proofs that must cancel, and exact classes at large P (exact, limits by P)."""

import doctest
from math import log, sqrt

import numpy as np
import pytest

import vitdyn
from vitdyn.data import AreaSizes, Constant, Uniform
from vitdyn.theory import (
    Regime,
    curvature,
    curvature_after,
    hessian,
    own_area_curvature,
    reconstruction_hessian,
    start_curvatures,
)

LATENTS = Uniform(low=1.0, high=1.5)
OTHERS = {"own keys": "the own area", "global keys": "the global area", "other keys": "another local area"}


def exact_curvatures(patches, kappa_c, kappa_s):
    sizes = AreaSizes.from_exponents(patches, kappa_c, kappa_s)
    symmetric, *others = reconstruction_hessian(sizes, LATENTS)
    found = {name: symmetric.along(f"Φ {name}")[1] for name in ("own", "global")}
    for name, words in OTHERS.items():
        (found[name],) = (float(each.eigenvalues[0]) for each in others if each.name.endswith(words))
    found["global query"] = reconstruction_hessian(sizes, LATENTS, "global")[0].along("Φ global")[1]
    return found


@pytest.mark.parametrize("kappa", [(0.75, 0.2), (0.55, 0.45)], ids=["gap-positive", "gap-negative"])
def test_exact_curvatures_come_to_their_leading_order(kappa):
    """At P = 1e16 and 1e20: signs, exponents by the slope between the two, and values."""
    found = [exact_curvatures(patches, *kappa) for patches in (1e16, 1e20)]
    leading = start_curvatures(Regime(patches=1e20, kappa_c=kappa[0], kappa_s=kappa[1]), LATENTS)
    for name, each in leading.items():
        values = [of[name] for of in found]
        slope = log(values[1] / values[0]) / log(1e4)
        assert slope == pytest.approx(each.exponent, abs=5e-3), name
        assert values[1] == pytest.approx(each.value, rel=0.02), name
    assert leading["other keys"].value * (1 - kappa[1] - 2 * (1 - kappa[0])) < 0  # the sign of −Δ


def test_curvatures_are_derived():
    pytest.importorskip("sympy")
    from vitdyn.theory.derivations import hessian as derived
    from vitdyn.theory.derivations.asymptotics import ALPHA, MASKED, RHO, VISIBLE, P
    from vitdyn.theory.derivations.start import MOMENTS

    assert derived.closed_form_holds()
    moments = [(1.5 ** (k + 1) - 1) / (0.5 * (k + 1)) for k in range(1, 7)]
    values = {ALPHA: 0.25, RHO: 0.55, MASKED: 0.25, VISIBLE: 0.75, P: 1e12}
    values |= dict(zip(MOMENTS, moments, strict=True))
    leading = start_curvatures(Regime(patches=1e12, kappa_c=0.75, kappa_s=0.2), LATENTS, mask_ratio=0.25)
    for name in leading.keys() - {"global query"}:
        area, *keys = name.split()
        total = sum(float(term.subs(values)) for term in derived.start_curvature(area, keys=bool(keys)))
        assert leading[name].value == pytest.approx(total, rel=1e-10), name


def test_curvature_along_the_own_area_is_derived():
    sp = pytest.importorskip("sympy")
    from vitdyn.theory.derivations import hessian as derived

    expected = derived.own_curvature().subs({derived.phases.Z: 1.3, derived.SHARE: 0.2, derived.MASKED: 0.25})
    assert own_area_curvature(1.3, 0.2, 0.25) == pytest.approx(float(expected))
    assert derived.extremes() == ((9 - sp.sqrt(33)) / 24, (9 + sp.sqrt(33)) / 24)
    least, most = (own_area_curvature(1.0, (9 + sign * sqrt(33)) / 24) for sign in (-1, 1))
    assert (least, most) == pytest.approx((-0.0601 / 2, 0.0770 / 2), abs=5e-5)
    assert own_area_curvature(1.0, 1 / 3) == pytest.approx(0, abs=1e-17)


def test_the_clock_is_derived():
    pytest.importorskip("sympy")
    from vitdyn.theory.derivations import hessian as derived

    assert derived.clock_holds()
    assert derived.takeover_is_the_reciprocal() == 1
    assert derived.tail_curvature() == 1
    # by steps of descent on an exponential
    phi, rate, steps = 0.3, 1.7, 4000
    start = curvature = rate**2 * np.exp(rate * phi)
    for _ in range(steps):
        phi -= 1e-3 * rate * np.exp(rate * phi)
    curvature = rate**2 * np.exp(rate * phi)
    assert curvature == pytest.approx(curvature_after(start, 1e-3 * steps), rel=1e-2)
    assert curvature_after(-0.1, 5.0) == pytest.approx(-0.2) and curvature_after(0.0, 3.0) == 0


def test_what_it_cannot_speak_of_is_refused(complaint):
    regime = Regime(patches=64, kappa_c=0.9, kappa_s=0.4)
    for field, call in (
        ("time", lambda: curvature_after(-0.1, 10.0)),
        ("attention", lambda: own_area_curvature(1.0, 1.5)),
        ("mask_ratio", lambda: start_curvatures(regime, LATENTS, mask_ratio=0)),
        ("regime", lambda: start_curvatures(None, Constant())),
    ):
        with complaint(field):
            call()


@pytest.mark.parametrize("module", [curvature, hessian], ids=lambda module: module.__name__)
def test_the_examples_run(module):
    found = doctest.testmod(module, extraglobs={"vd": vitdyn})
    assert found.attempted and not found.failed
