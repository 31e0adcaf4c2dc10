"""The derivations: proofs that must cancel, and their numeric form against the code (exact: float64 round-off).

Expansions are held against exact rational arithmetic over all masks, with errors that must shrink at the
stated power of P; times and levels against a mean-field integration.
"""

from fractions import Fraction
from itertools import product
from math import exp, log

import numpy as np
import pytest
import torch

from vitdyn.dynamics import loss_gradient
from vitdyn.models import area_attention
from vitdyn.objectives import Contrastive, MaskedReconstruction

sp = pytest.importorskip("sympy")

from vitdyn.theory import Regime, contrastive_time, global_area_time, local_area_time, phase_one_start  # noqa: E402
from vitdyn.theory.derivations import contrast, phases, reconstruction, start  # noqa: E402
from vitdyn.theory.derivations.asymptotics import ALPHA, GAP, MASKED, RHO, VISIBLE, P, exponent, leading_term  # noqa: E402
from vitdyn.theory.derivations.asymptotics import leading_terms as leading  # noqa: E402
from vitdyn.theory.derivations.model import Query, vanishes  # noqa: E402

FOUR = pytest.mark.parametrize("case", range(4))
TAU = 0.7
LEVEL_GAP = GAP * sp.log(P)


def symbol_form(problem, view, seed, sample, query):
    """(z, φ, n, n_0) of one query: weights are sums of e^Υ over the visible keys of each area."""
    batch, model, layout = problem.batch, problem.correlations, problem.batch.layout
    cluster = int(batch.cluster[seed, sample])
    weights = model.position_position[seed, query].exp().numpy()
    shown = problem.views[view][seed, sample].numpy()
    area = np.asarray(layout.partition[cluster])
    visible = [float(weights[shown & (area == j)].sum()) for j in range(layout.areas)]
    phi = model.feature_position[seed, query, cluster].tolist()
    return batch.latents[seed, sample].tolist(), phi, visible, float(weights[~shown].sum())


class TestProofs:
    def test_reconstruction(self):
        assert reconstruction.closed_form_holds(3)
        assert reconstruction.position_closed_form_holds(2)

    def test_contrast(self):
        assert contrast.pulls_hold(2, 4)
        assert contrast.closed_form_holds(2, 3)

    def test_a_wrong_sign_does_not_vanish(self):
        query = Query.symbols(2)
        assert not vanishes(reconstruction.push(query, 0, 1) + reconstruction.closed_form(query, 0, 1))
        anchor = contrast.Anchor.symbols(2, 2)
        wrong = contrast.closed_form(anchor, 0) * (1 + sp.Rational(1, 10))
        assert not vanishes(contrast.push(anchor, 0) - wrong)


@FOUR
def test_attention_in_symbols_is_that_of_the_layer(case, make_problem):
    problem = make_problem(scale=1.0)
    found = area_attention(problem.correlations, *problem.arguments())
    query = Query.symbols(problem.batch.layout.areas)
    value = sp.lambdify(query.arguments, query.attention(), "math")
    for sample, p in product(range(problem.batch.count), range(problem.batch.layout.patches)):
        expected = value(*symbol_form(problem, 0, 0, sample, p))
        np.testing.assert_allclose(found[0, sample, :, p], expected, rtol=1e-10, atol=1e-14)


@FOUR
def test_reconstruction_differentiated_is_the_gradient_of_the_code(case, make_problem, close):
    problem = make_problem(scale=1.0, samples=4, seeds=1)
    batch, layout = problem.batch, problem.batch.layout
    gradient, _ = loss_gradient(problem.correlations, MaskedReconstruction(), batch, problem.views[:1], {})
    phi, upsilon = (torch.zeros_like(g) for g in (gradient.feature_position, gradient.position_position))
    owns = range(layout.areas)
    push = {(own, j): reconstruction.numeric_push(layout.areas, own, j) for own in owns for j in owns}
    pull = {
        (own, j): reconstruction.numeric_position_push(layout.areas, own, j)
        for own in owns
        for j in (*owns, None)
    }
    for sample, p in product(range(batch.count), range(layout.patches)):
        if problem.views[0][0, sample, p]:
            continue
        cluster = int(batch.cluster[0, sample])
        area = layout.partition[cluster]
        z, correlation, shown, hidden = symbol_form(problem, 0, 0, sample, p)
        for j in owns:
            phi[0, p, cluster, j] -= push[area[p], j](z, correlation, shown, hidden) / batch.count
        for q in range(layout.patches):
            position = float(problem.correlations.position_position[0, p, q])
            rest, other, j = list(shown), hidden, None
            if problem.views[0][0, sample, q]:
                j = area[q]
                rest[j] = shown[j] - exp(position)
            else:
                other = hidden - exp(position)
            upsilon[0, p, q] -= pull[area[p], j](z, correlation, rest, other, position) / batch.count
    close(gradient.feature_position, phi)
    close(gradient.position_position, upsilon)


@FOUR
def test_contrast_differentiated_is_the_gradient_of_the_code(case, make_problem, close):
    problem = make_problem(scale=1.0, samples=4, seeds=1)
    batch, layout = problem.batch, problem.batch.layout
    gradient, forward = loss_gradient(
        problem.correlations, Contrastive(temperature=TAU), batch, problem.views, {}
    )
    second = batch.latents[0] * forward.attention[1][0].mean(-1)
    expected = torch.zeros_like(gradient.feature_position)
    push = [contrast.numeric_push(layout.areas, batch.count, j) for j in range(layout.areas)]
    for b in range(batch.count):
        cluster = int(batch.cluster[0, b])
        order = [b, *(c for c in range(batch.count) if c != b)]
        seen = [(second[c] * (int(batch.cluster[0, c]) == cluster)).tolist() for c in order]
        shares = forward.attention[0][0, b]
        for p, j in product(range(layout.patches), range(layout.areas)):
            others = (shares.sum(-1) - shares[:, p]).tolist()
            values = symbol_form(problem, 0, 0, b, p)
            found = push[j](*values, others, seen, TAU, layout.patches)
            expected[0, p, cluster, j] -= found / batch.count
    close(gradient.feature_position, expected)


# ---- expansions at Q = 0 -----------------------------------------------------------------------------------

MOMENTS = tuple(
    (Fraction(3, 2) ** (k + 1) - 1) / (Fraction(k + 1, 2)) for k in range(1, 7)
)  # uniform [1, 3/2]
KAPPA_C, KAPPA_S, HIDDEN = Fraction(4, 5), Fraction(2, 5), Fraction(3, 4)


def falling(number, power):
    total = 1
    for step in range(power):
        total *= number - step
    return total


def count_moment(patches, masked, sizes_and_powers):
    """E Π n_j^{r_j} of the visible counts given one hidden patch, r ≤ 3, from factorial moments."""
    stirling = ((1,), (0, 1), (0, 1, 1), (0, 1, 3, 1))
    total = Fraction(0)
    for powers in product(*(range(r + 1) for _, r in sizes_and_powers)):
        weight = Fraction(1)
        for (size, r), power in zip(sizes_and_powers, powers, strict=True):
            weight *= stirling[r][power] * falling(size, power)
        every = sum(powers)
        total += weight * falling(patches - masked, every) / falling(patches - 1, every)
    return total


def exact_drifts(scale):
    """(dφ_a/dt, dφ_1/dt) of a hidden local query at Q = 0 over all masks, P = 10^{5·scale}, in rationals."""
    patches, centre, local = 10 ** (5 * scale), 10 ** (4 * scale), 10 ** (2 * scale)
    areas, masked = (patches - centre) // local, int(HIDDEN * patches)
    own, one, other = local - 1, centre, local
    m1, m2, m3 = MOMENTS[:3]

    def mean(*pairs):
        return count_moment(patches, masked, pairs) / patches ** sum(power for _, power in pairs)

    rest = mean((own, 1), (one, 2)) + (areas - 1) * mean((own, 1), (other, 2))
    towards = m3 * (mean((own, 1)) - 2 * mean((own, 2)) + mean((own, 3))) + m1 * m2 * rest
    away = m3 * (mean((one, 2)) - mean((one, 3)))
    away += m1 * m2 * (mean((one, 1), (own, 1)) - mean((one, 1), (own, 2)))
    away -= m1 * m2 * (areas - 1) * mean((one, 1), (other, 2))
    return HIDDEN * towards, -HIDDEN * away


@pytest.mark.parametrize(
    ("which", "rate"), [(0, min(KAPPA_S, 2 * (1 - KAPPA_C))), (1, min(1 - KAPPA_C, KAPPA_C - KAPPA_S))]
)
def test_leading_drifts_against_all_masks(which, rate):
    """The relative error falls like P^−rate, the largest neglected term."""
    drift = (start.own_drift, start.global_drift)[which]()
    value = start.numeric_drift(leading_term(drift))
    errors = []
    for scale in (3, 5):
        found = value(10.0 ** (5 * scale), float(KAPPA_C), float(KAPPA_S), float(HIDDEN), MOMENTS)
        errors.append(abs(float(Fraction(found) / exact_drifts(scale)[which] - 1)))
    assert errors[0] < 1e-2
    assert log(errors[0] / errors[1]) / log(1e10) == pytest.approx(float(rate), abs=0.01)


def test_ratio_of_the_first_drifts_has_the_exponent_of_the_gap():
    assert sp.expand(exponent(start.drift_ratio()) - GAP) == 0
    assert sp.simplify(start.drift_ratio() / P**GAP - VISIBLE) == 0
    own, centre = exact_drifts(5)
    predicted = float(1 - HIDDEN) * 1e25 ** float(2 * KAPPA_C - 1 - KAPPA_S)
    assert float(-centre / own) == pytest.approx(predicted, rel=1e-4)


def test_position_correlations_grow_slower_by_the_size_of_an_area():
    one_key = leading_term(start.position_drift()) / leading_term(start.own_drift())
    m2, m3 = start.MOMENTS[1:3]
    assert sp.simplify(start.position_ratio() - one_key) == 0
    assert sp.simplify(start.position_ratio() / (m2 / m3 * P ** (ALPHA + RHO - 1)) - 1) == 0


@pytest.mark.parametrize("clusters", [1, 2])
def test_leading_drift_of_contrast_against_the_gradient_over_all_samples(clusters):
    """Two areas, a two-point distribution, B = 2: every latent of anchor and negative, and both kinds of negative.

    As attention shrinks, E push / [(κ/P) A_1² (E z³ − E z² E z/K)] → 1 with an error of the order of A_1.
    """
    ends, patches = (1.0, 1.7), 50
    push = contrast.numeric_push(2, 2, 0)
    m1, m2, m3 = (sum(z**k for z in ends) / 2 for k in (1, 2, 3))
    errors = []
    for size in (1e-2, 1e-4):
        weights = (size, 0.1 * size)
        shares = [w / (1 + sum(weights)) for w in weights]
        total = 0.0
        for *latents, draw in product(*[ends] * 4, range(clusters)):
            z, far = latents[:2], latents[2:]
            seen = [[s * x for s, x in zip(shares, values, strict=True)] for values in (z, far)]
            seen[1] = [0.0, 0.0] if draw else seen[1]
            others = [(patches - 1) * share for share in shares]
            total += push(z, (0.0, 0.0), weights, 1.0, others, seen, TAU, patches)
        expected = 0.5 / TAU / patches * shares[0] ** 2 * (m3 - m2 * m1 / clusters)
        errors.append(abs(total / (16 * clusters) / expected - 1))
    assert errors[0] < 0.1
    assert errors[1] == pytest.approx(errors[0] / 100, rel=0.3)


def test_leading_drift_of_contrast():
    for views in (2, 3, 5):
        kappa = sp.Rational(views - 1, views) / start.TAU
        m1, m2, m3, *_ = start.MOMENTS
        expected = kappa / P * start.GLOBAL**2 * (m3 - m2 * m1 / start.CLUSTERS)
        assert sp.simplify(leading_term(start.contrast_global_drift(views)) - expected) == 0
    towards, away = sorted(
        leading(start.contrast_local_drift()), key=lambda term: term.has(start.LIFT_GLOBAL)
    )
    assert sp.expand(exponent(towards / -away) + GAP) == 0


# ---- times and levels --------------------------------------------------------------------------------------


def mean_field(patches, kappa_c, kappa_s, gamma, z, path):
    """Follow a hidden local query with counts at their means; φ_a is the clock. Returns t, φ_1, 1 − A_a at ``path``."""
    from scipy.integrate import solve_ivp

    centre, local = patches**kappa_c, patches**kappa_s
    number = (patches - centre) / local - 1
    counts = (1 - gamma) * np.array([local, centre, local])

    def shares(own, one, other):
        parts = counts * np.exp(z * np.array([own, one, other]))
        return parts / (gamma * patches + parts[0] + parts[1] + number * parts[2])

    def slope(own, state):
        A, B, O = shares(own, state[1], state[2])  # noqa: E741
        missing = (
            gamma * patches + counts[1] * exp(z * state[1]) + number * counts[2] * exp(z * state[2])
        ) / (counts[0] * exp(z * own))
        missing = missing / (1 + missing)
        mean = z**2 * (A * missing - B**2 - number * O**2)
        rate = gamma * z * A * (z**2 * missing - mean)
        return [
            1 / rate,
            gamma * z * B * (-(z**2) * B - mean) / rate,
            gamma * z * O * (-(z**2) * O - mean) / rate,
        ]

    solved = solve_ivp(
        slope, (0, path[-1]), [0.0, 0.0, 0.0], t_eval=path, rtol=1e-9, atol=1e-9, method="LSODA"
    )
    missing = [1 - shares(own, one, other)[0] for own, one, other in zip(path, *solved.y[1:], strict=True)]
    return solved.y[0], solved.y[1], np.array(missing)


@pytest.mark.parametrize(("kappa_c", "gamma", "z"), [(0.9, 0.5, 1.0), (0.9, 0.75, 1.4), (0.8, 0.75, 1.0)])
def test_time_and_levels_of_a_local_query_with_constant_latents(kappa_c, gamma, z):
    patches, kappa_s = 1e40, 0.3
    at = (patches, kappa_c, kappa_s, gamma, z)
    end = (1 - kappa_s) / z * log(patches)
    time, pushed, _ = mean_field(*at, np.array([log(1.5) / z, end]))
    blow_up = phases.numeric(phases.local_area_time())(*at)
    share, lift = phases.phase_one_end()
    assert time[-1] == pytest.approx(blow_up, rel=1e-2)
    assert time[0] == pytest.approx(float(share) * blow_up, rel=1e-2)
    assert -pushed[0] == pytest.approx(log(phases.numeric(lift)(*at)) / (2 * z), abs=0.01)
    takeover = phases.numeric(phases.pushed_level_at_takeover())(*at)
    assert -pushed[-1] == pytest.approx(takeover, abs=0.02)


def test_levels_are_half_the_gap_over_the_latent():
    for level in (phases.phase_one_level(), phases.pushed_level_at_takeover()):
        constant = sp.simplify(2 * phases.Z * level - LEVEL_GAP)
        assert not constant.has(P)
    assert sp.simplify(2 * phases.Z * phases.phase_one_level() - LEVEL_GAP - sp.log(VISIBLE)) == 0
    assert sp.simplify(phases.phase_one_time() / phases.local_area_time() - sp.Rational(1, 2)) == 0


@pytest.mark.parametrize(
    ("derived", "rate"),
    [
        (phases.local_area_time, local_area_time),
        (phases.phase_one_time, local_area_time),
        (phases.global_area_time, global_area_time),
        (phases.contrastive_time, contrastive_time),
        (phases.phase_one_start, phase_one_start),
    ],
)
def test_rates_are_the_exponents_derived(derived, rate):
    regime = Regime(patches=1e6, kappa_c=0.85, kappa_s=0.35)
    value = exponent(derived()).subs({ALPHA: 1 - regime.kappa_c, RHO: regime.kappa_c - regime.kappa_s})
    assert float(value) == pytest.approx(rate(regime).exponent, abs=1e-12)


def test_tail_of_reconstruction():
    """From A_a = 1/2 on, t ε² → 1/(2 γ z⁴): the same power and constant as the mean-field integration."""
    patches, gamma, z = 1e12, 0.6, 1.3
    end = 0.7 / z * log(patches)
    time, _, missing = mean_field(patches, 0.9, 0.3, gamma, z, end + np.array([6.0, 8.0, 10.0]) / z)
    tail = np.diff(time) / np.diff(missing**-2.0)
    np.testing.assert_allclose(tail, 1 / (2 * gamma * z**4), rtol=0.02)
    first, late = sp.Symbol("epsilon_0", positive=True), phases.TIME
    path = phases.tail_path()
    assert path.subs(late, 0) == first
    assert sp.limit(path * sp.sqrt(2 * MASKED * phases.Z**4 * late), late, sp.oo) == 1


def test_tail_keeps_its_power_where_latents_vary():
    """Uniform latents: the drift over (E ε)² φ_a tends to a positive constant, by quadrature too."""
    low, high, gamma, level = 1.0, 1.5, 0.6, 400.0
    nodes, weights = np.polynomial.legendre.leggauss(2000)
    z = low + (high - low) * (nodes + 1) / 2
    gap = np.exp(-(z - low) * level)
    ratio = gamma * (weights @ (z**3 * gap**2)) / 2 / ((weights @ gap) / 2) ** 2 / level
    constant = float(phases.tail_constant().subs({phases.LOW: low, phases.HIGH: high, MASKED: gamma}))
    assert ratio == pytest.approx(constant, rel=0.01)
