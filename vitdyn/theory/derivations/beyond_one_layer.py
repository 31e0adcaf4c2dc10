"""Heads, trained values and depth: what is conserved, which curvature differences feel, and the mean that layers add.

An area has n visible keys of latent z, all else the weight r: A = n e^{zφ}/(n e^{zφ} + r), with odds o = A/(1 − A).
"""

from __future__ import annotations

import sympy as sp

from vitdyn.theory.derivations.model import vanishes

N, R, Z, PHI = sp.symbols("n r z phi", positive=True)
PULL, HEADS, PATCHES, VALUE = sp.symbols("g H P w", positive=True)
LIFT = N * sp.exp(Z * PHI)
ATTENTION = LIFT / (LIFT + R)
ODDS = ATTENTION / (1 - ATTENTION)


def head_law_holds() -> bool:
    """Prove that Ψ = o − 1/o + 2 log o moves by z² g/H in a head: by what all heads share."""
    # −∂/∂φ_h of a loss of (1/H) Σ_h z A_h, whose slope along the mean's A is −g
    drift = PULL / HEADS * sp.diff(ATTENTION, PHI)
    invariant = ODDS - 1 / ODDS + 2 * sp.log(ODDS)
    return vanishes(sp.diff(invariant, PHI) * drift - Z**2 * PULL / HEADS)


def differences_feel_the_residual() -> bool:
    """Prove that of L = ℓ((f(a) + f(b))/2) the second derivative along (1, −1)/√2 is ½ ℓ' f'' where a = b."""
    a, b, x = sp.symbols("a b x")
    f, loss = sp.Function("f"), sp.Function("l")
    total = loss((f(a) + f(b)) / 2)
    along = (sp.diff(total, a, 2) + sp.diff(total, b, 2) - 2 * sp.diff(total, a, b)) / 2
    residual = sp.diff(loss(x), x).subs(x, f(a)) * sp.diff(f(a), a, 2) / 2
    return sp.expand((along.subs(b, a) - residual).doit()) == 0


def value_law_holds() -> bool:
    """Prove that w² − (2P/z²)(zφ + o) stays where w and P equal rows follow one pull on w z A, that of their mean."""
    pooled = VALUE * Z * ATTENTION
    rates = {VALUE: PULL * sp.diff(pooled, VALUE), PHI: PULL * sp.diff(pooled, PHI) / PATCHES}
    law = VALUE**2 - 2 * PATCHES / Z**2 * (Z * PHI + ODDS)
    return vanishes(sum(sp.diff(law, each) * rate for each, rate in rates.items()))


def shift_of_layer(layer: int) -> sp.Expr:
    """Return c of t_p = u_p X_p + c s after layers of uniform attention with a residual, s the mean of u X."""
    mean = sp.Symbol("s")
    shift = sp.Integer(0)
    for _ in range(layer):
        # what is added to every token is the mean of all: that of u X, and the shift they share
        shift = sp.expand(shift + mean + shift)
    return shift / mean
