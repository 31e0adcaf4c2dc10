"""The drifts near Q = 0, from the exact gradients, with visible counts at their means.

    A_1 = (1 − γ) P^{−(1−κ_c)} ℓ_1,   A_a = (1 − γ) P^{−(1−κ_s)} ℓ_a,   N = P^{1−κ_s} − P^{κ_c−κ_s} local areas

The lifts ℓ_j are 1 at Q = 0; while attention is small and latents are constant they are e^{zφ_j}. Drifts of
masked reconstruction carry the share γ of masks that cover the query. One cluster; with K clusters every
drift has a further factor 1/K. Moments m_k = E z^k.
"""

from __future__ import annotations

from collections.abc import Callable

import sympy as sp

from vitdyn.theory.derivations import contrast, reconstruction
from vitdyn.theory.derivations.asymptotics import (
    ALPHA,
    MASKED,
    RHO,
    VISIBLE,
    P,
    expectation,
    leading_term,
    leading_terms,
)

MOMENTS = sp.symbols("m_1:7", positive=True)
LATENTS = Z_OWN, Z_GLOBAL, Z_OTHER = sp.symbols("z_a z_1 z_o", positive=True)
LIFT_OWN, LIFT_GLOBAL = sp.symbols("ell_a ell_1", positive=True)
TAU, CLUSTERS = sp.symbols("tau K", positive=True)
LOCAL_AREAS = P ** (ALPHA + RHO) - P**RHO
# Attention at the start: each of P keys weighs 1, and a share 1 − γ of an area's keys is visible.
OWN = VISIBLE * P ** (-ALPHA - RHO) * LIFT_OWN
GLOBAL = VISIBLE * P ** (-ALPHA) * LIFT_GLOBAL
OTHER = VISIBLE * P ** (-ALPHA - RHO)


def _mean(expression: sp.Expr) -> sp.Expr:
    return expectation(expression, LATENTS, MOMENTS)


def _reconstruction_pulls() -> tuple[tuple[sp.Expr, ...], sp.Expr]:
    """Return g of (own, global, one other local area) of a masked local query, and ḡ over all areas."""
    shares = (OWN, GLOBAL, OTHER)
    values, _ = reconstruction.pulls(LATENTS, shares, own=0)
    # The own area, the global one, and all other local areas, which are alike.
    counts = (1, 1, LOCAL_AREAS - 1)
    return values, sum(n * A * g for n, A, g in zip(counts, shares, values, strict=True))


def own_drift() -> sp.Expr:
    """Return dφ_a/dt of a local query, every term: γ E[z_a A_a (g_a − ḡ)]."""
    values, mean = _reconstruction_pulls()
    return MASKED * _mean(Z_OWN * OWN * (values[0] - mean))


def global_drift() -> sp.Expr:
    """Return dφ_1/dt of a local query, every term: γ E[z_1 A_1 (g_1 − ḡ)]."""
    values, mean = _reconstruction_pulls()
    return MASKED * _mean(Z_GLOBAL * GLOBAL * (values[1] - mean))


def global_query_drift() -> sp.Expr:
    """Return dφ_1/dt of a query of the global area, every term."""
    shares = (GLOBAL, OTHER)
    values, _ = reconstruction.pulls((Z_GLOBAL, Z_OTHER), shares, own=0)
    mean = GLOBAL * values[0] + LOCAL_AREAS * OTHER * values[1]
    return MASKED * _mean(Z_GLOBAL * GLOBAL * (values[0] - mean))


def position_drift() -> sp.Expr:
    """Return dΥ/dt of a local query and one key of its own area, every term.

    The key is visible in a share 1 − γ of the masks, with attention A_a/n_a = ℓ_a/P and pull g_a − ḡ; in
    the rest it is masked, with attention 1/P and pull −ḡ.
    """
    values, mean = _reconstruction_pulls()
    return MASKED / P * _mean(VISIBLE * LIFT_OWN * (values[0] - mean) - MASKED * mean)


def drift_ratio() -> sp.Expr:
    """Return the leading |dφ_1/dt| / (dφ_a/dt) at Q = 0: (1 − γ) P^Δ.

    The factor E z_1³/E z_a³ is 1, since all areas have one distribution.
    """
    at_zero = {LIFT_OWN: 1, LIFT_GLOBAL: 1}
    ratio = -leading_term(global_drift()) / leading_term(own_drift())
    return sp.powsimp(ratio.subs(at_zero), force=True)


def position_ratio() -> sp.Expr:
    """Return the leading (dΥ_a/dt) / (dφ_a/dt): E z²/E z³ · P^{−κ_s}."""
    return sp.powsimp(leading_term(position_drift()) / leading_term(own_drift()), force=True)


def contrast_pull(z: sp.Expr, share: sp.Expr, views: int) -> sp.Expr:
    """Return h_j at vanishing similarity with B = ``views``: κ z_j A_j (z_j − E z/K), κ = (1 − 1/B)/τ.

    Similarities at the start are small (``similarity``), so the differentiated loss is taken at f = 0. A
    negative lies in the anchor's cluster with probability 1/K and has a latent of its own.
    """
    f = sp.Symbol("f", real=True)
    positive, *negatives = sp.symbols(f"g_1:{views + 1}", real=True)
    value = contrast.loss((f,), tuple((g,) for g in (positive, *negatives)), TAU)
    slope = -sp.diff(value, f).subs(f, 0)
    # At f = 0 the slope is linear in the second views: the mean of a negative can stand for it.
    slope = slope.subs({positive: z * share, **dict.fromkeys(negatives, MOMENTS[0] / CLUSTERS * share)})
    return z * slope


def similarity() -> tuple[sp.Expr, ...]:
    """Return the leading terms of E s_{bb} at Q = 0; which of the two is larger depends on Δ."""
    total = _mean(Z_OWN**2 * OTHER**2 * LOCAL_AREAS + Z_GLOBAL**2 * GLOBAL**2)
    return leading_terms(total.subs(LIFT_GLOBAL, 1))


def _contrast_drift(z: sp.Symbol, share: sp.Expr, views: int) -> sp.Expr:
    pulls = [contrast_pull(latent, A, views) for latent, A in ((Z_GLOBAL, GLOBAL), (Z_OTHER, OTHER))]
    own = contrast_pull(z, share, views)
    # h̄ = Σ A_j h_j: the area itself, then all others by their number.
    mean = share * own
    if z == Z_GLOBAL:
        mean += LOCAL_AREAS * OTHER * pulls[1]
    else:
        mean += GLOBAL * pulls[0] + (LOCAL_AREAS - 1) * OTHER * pulls[1]
    return _mean(z * share * (own - mean)) / P


def contrast_global_drift(views: int = 3) -> sp.Expr:
    """Return dφ_1/dt of every query in contrast, all terms at vanishing similarity."""
    return _contrast_drift(Z_GLOBAL, GLOBAL, views)


def contrast_local_drift(views: int = 3) -> sp.Expr:
    """Return dφ_o/dt of every query and a local area o in contrast, all terms at vanishing similarity."""
    return _contrast_drift(Z_OWN, OTHER, views)


def numeric_drift(expression: sp.Expr) -> Callable[..., float]:
    """Return a drift as a function of (P, κ_c, κ_s, γ, (m_1, …, m_6)), at lifts 1, K = 2 and τ = 1."""
    kappa_c, kappa_s = sp.symbols("kappa_c kappa_s", positive=True)
    fixed = expression.subs({LIFT_OWN: 1, LIFT_GLOBAL: 1, CLUSTERS: 2, TAU: 1})
    fixed = fixed.subs({ALPHA: 1 - kappa_c, RHO: kappa_c - kappa_s, VISIBLE: 1 - MASKED}, simultaneous=True)
    return sp.lambdify((P, kappa_c, kappa_s, MASKED, MOMENTS), fixed, "math", cse=True)
