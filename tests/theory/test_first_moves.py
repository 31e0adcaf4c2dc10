"""Other losses of masked patches: what moves first, by sympy and as a rate, and where they stop (exact)."""

from math import log

import pytest

from vitdyn.data import Constant, Uniform
from vitdyn.theory import (
    Regime,
    class_temperature,
    first_lead,
    frozen_teacher_attention,
    lead_of_loss,
    student_pace,
)

sp = pytest.importorskip("sympy")

from vitdyn.theory.derivations import first_moves, start  # noqa: E402
from vitdyn.theory.derivations.asymptotics import (  # noqa: E402
    ALPHA,
    MASKED,
    RHO,
    VISIBLE,
    P,
    exponent,
    leading_term,
    leading_terms,
)

REGIME, LATENTS = Regime(patches=1e12, kappa_c=0.7, kappa_s=0.4), Uniform(low=1.0, high=1.5)
AT_ZERO = {start.LIFT_OWN: 1, start.LIFT_GLOBAL: 1}


@pytest.mark.parametrize(
    ("name", "loss", "power"),
    [
        ("absolute", first_moves.absolute_error, RHO),
        ("class", first_moves.cross_entropy, -ALPHA),
    ],
)
def test_the_lead_of_a_loss_is_its_leading_order(name, loss, power):
    found = first_moves.lead(loss)
    assert sp.expand(exponent(found) - power) == 0
    m1, m2 = LATENTS.mean, LATENTS.second_moment
    moments = dict(zip(start.MOMENTS, (m1, m2), strict=False))
    values = {ALPHA: 0.3, RHO: 0.3, VISIBLE: 0.25, start.CLUSTERS: 3, P: 1e12, **moments}
    rate = lead_of_loss(REGIME, LATENTS, name, mask_ratio=0.75, clusters=3)
    hidden = log(1 - 1e12**-0.4)
    assert rate.exponent * log(1e12) + hidden == pytest.approx(log(float(found.subs(values))), rel=1e-12)


def test_the_squared_error_leads_as_reconstruction_does():
    rate = lead_of_loss(REGIME, LATENTS, "squared", mask_ratio=0.25)
    hidden = log(1 - 1e12**-0.4) / log(1e12)
    assert rate.exponent + hidden == pytest.approx(first_lead(REGIME, 0.25).exponent, rel=1e-12)


def test_a_teacher_of_the_whole_sample_reverses_the_first_drift():
    """φ_1 is pushed up by γ/(1 − γ) of what reconstruction pushes it down; φ_a goes down where Δ > 0."""
    own, towards = first_moves.drifts(first_moves.teacher_error)
    away = leading_term(start.global_drift().subs(AT_ZERO))
    ratio = sp.simplify(leading_term(towards) / away)
    assert sp.simplify(ratio + (1 - VISIBLE) / VISIBLE) == 0
    m1, m2, m3 = start.MOMENTS[:3]
    scale = MASKED * VISIBLE * (1 - VISIBLE)
    up = scale * (m3 - VISIBLE * m1 * m2) * P ** (-2 * ALPHA - 2 * RHO)
    down = scale * VISIBLE * m1 * m2 * P ** (-3 * ALPHA - RHO)
    assert sp.simplify(sum(leading_terms(own)) - up + down) == 0


def test_where_they_stop():
    assert class_temperature(Constant(value=1.2), 11, 100) == pytest.approx(0.6 / log(1000))
    assert frozen_teacher_attention(1.0, 0.0).low == 0.5
    assert frozen_teacher_attention(3.0, 0.2).high == pytest.approx(0.4)
    assert frozen_teacher_attention(0.0, 0.2).low == 1.0
    assert student_pace(Constant(value=2.0), 0.25) == pytest.approx(4.0)


def test_what_they_cannot_speak_of_is_refused(complaint):
    with complaint("loss", "squared, absolute, class"):
        lead_of_loss(REGIME, LATENTS, "huber")
    with complaint("kappa_s", "(0"):
        lead_of_loss(Regime(patches=64, kappa_c=0.9, kappa_s=0.0), LATENTS, "absolute")
    with complaint("steps", "2 or more"):
        class_temperature(LATENTS, 4, 1)
    with complaint("attention", "[0, 1]"):
        student_pace(LATENTS, 1.5)
