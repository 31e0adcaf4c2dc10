"""The first move of losses of cosines: which areas a row of Q turns to, by differentiating and expanding at Q = 0.

    ℓ = −⟨u, w⟩ + q ⟨u, ω⟩,   u = f/‖f‖,   f_j = z_j n_j e^{z_j φ_j}

w is the other view of the sample, ω the mean of samples of its cluster, q how strongly these repel for each unit of
attraction; other clusters are orthogonal. The denominator of attention is common to all f_j and drops out of u. Two
limits: the global area has nearly all of ‖f‖² (Δ > 0), or the many local ones have (Δ < 0), and ‖f‖ is constant.
Visible counts n vary by masks alone, by a relative variance v, independently in the two views.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache

import sympy as sp

REPULSION, NOISE, LOCAL_AREAS = sp.symbols("q v N", positive=True)
Z_GLOBAL, Z_LOCAL, FIRST, SECOND = sp.symbols("z_1 z_o x y", positive=True)
SMALL, GLOBAL_LEVEL, LOCAL_LEVEL = sp.symbols("epsilon phi_1 phi_o", real=True)


def moment(power: int) -> sp.Expr:
    """Return the symbol of E z^k: m_k, of a negative power i_k, 1 of power 0."""
    return (
        sp.Integer(1) if not power else sp.Symbol(f"{'m' if power > 0 else 'i'}_{abs(power)}", positive=True)
    )


def mean(expression: sp.Expr, noise: sp.Expr = NOISE) -> sp.Expr:
    """Return the expectation of a sum of powers of independent z_1, z_o and relative counts x, y (mean 1)."""
    counts = {0: sp.Integer(1), 1: sp.Integer(1), 2: 1 + noise}
    total = sp.Integer(0)
    for term in sp.Add.make_args(sp.expand(expression)):
        powers: Mapping[sp.Expr, sp.Expr] = term.as_powers_dict()
        drawn = {each: int(powers.get(each, 0)) for each in (Z_GLOBAL, Z_LOCAL, FIRST, SECOND)}
        rest = term / sp.prod([each**power for each, power in drawn.items()])
        latents = moment(drawn[Z_GLOBAL]) * moment(drawn[Z_LOCAL])
        total += rest * latents * counts[drawn[FIRST]] * counts[drawn[SECOND]]
    return total


def _unit(vector: tuple[sp.Expr, ...]) -> tuple[sp.Expr, ...]:
    length = sp.sqrt(sum(each**2 for each in vector))
    return tuple(each / length for each in vector)


def _expanded(expression: sp.Expr) -> sp.Expr:
    """Return the terms of an expression up to ε²."""
    # by derivatives, which take sympy a tenth of the time of its series
    terms = [sp.diff(expression, SMALL, k).subs(SMALL, 0) * SMALL**k / sp.factorial(k) for k in range(3)]
    return sp.expand(sum(terms))


@cache
def _drifts() -> tuple[sp.Expr, sp.Expr]:
    """Return −E ∂ℓ/∂φ at Q = 0 for the global area, by local area, and for a local one, in units of ε²."""
    # one local area is enough: at this order each adds its own term
    first = _unit(
        (Z_GLOBAL * sp.exp(Z_GLOBAL * GLOBAL_LEVEL), SMALL * Z_LOCAL * FIRST * sp.exp(Z_LOCAL * LOCAL_LEVEL))
    )
    second = _unit((Z_GLOBAL, SMALL * Z_LOCAL * SECOND))
    others = [mean(_expanded(each)) for each in second]
    drifts = []
    for level in (GLOBAL_LEVEL, LOCAL_LEVEL):
        total = sp.Integer(0)
        for u, w, omega in zip(first, second, others, strict=True):
            slope = sp.diff(u, level).subs({GLOBAL_LEVEL: 0, LOCAL_LEVEL: 0})
            total += _expanded(slope * (w - REPULSION * omega))
        drifts.append(sp.expand(mean(_expanded(total)).coeff(SMALL, 2)))
    return drifts[0], drifts[1]


def global_drift() -> sp.Expr:
    """Return dφ_1/dt of every query where Δ > 0, over the squared ratio ε² of a local area to the global one."""
    return sp.factor(LOCAL_AREAS * _drifts()[0])


def local_drift() -> sp.Expr:
    """Return dφ_o/dt of every query and one local area where Δ > 0, over ε²."""
    return sp.factor(_drifts()[1])


def threshold() -> sp.Expr:
    """Return the q at which φ_1 does not move where Δ > 0: v m_2/(v m_2 + m_2 − m_1²), noise over noise and signal."""
    (found,) = sp.solve(global_drift(), REPULSION)
    return sp.simplify(found)


def local_threshold() -> sp.Expr:
    """Return the q above which local areas gain where Δ > 0."""
    (found,) = sp.solve(local_drift(), REPULSION)
    return sp.simplify(found)


def drift_among_many(noise: sp.Expr) -> sp.Expr:
    """Return dφ_m/dt of an area with relative count noise ``noise`` where many local areas have all of ‖f‖² (Δ < 0).

    Over the squared ratio ε² of that area's attention to ‖f‖. Sums over local areas are at their means.
    """
    alike, other = 1 / (1 + NOISE), moment(1) ** 2 / moment(2) / (1 + NOISE)  # E⟨u, w⟩ and E⟨u, ω⟩
    # the area beside the bulk of all others, which has length 1 and the products above with w and ω
    own = SMALL * Z_LOCAL * FIRST * sp.exp(Z_LOCAL * LOCAL_LEVEL)
    length = sp.sqrt(1 + own**2)
    attracted = (own * SMALL * Z_LOCAL * SECOND + alike) / length
    repelled = (own * SMALL * moment(1) + other) / length
    slope = sp.diff(attracted - REPULSION * repelled, LOCAL_LEVEL).subs(LOCAL_LEVEL, 0)
    drift = _expanded(slope).coeff(SMALL, 2)
    # x and y are this area's own counts here: their variance is not that of the bulk
    return sp.expand(mean(drift, noise))


def threshold_among_many() -> sp.Expr:
    """Return the q at which φ_1 does not move where Δ < 0, the global area's own count noise left out; above 1."""
    (found,) = sp.solve(drift_among_many(sp.Integer(0)), REPULSION)
    return sp.simplify(found)
