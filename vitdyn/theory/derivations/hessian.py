"""Second derivatives: the closed form of one query, powers of P at Q = 0, the way of curvature along training.

Powers of P are for visible counts at their means, as in ``start``.
"""

from __future__ import annotations

import sympy as sp

from vitdyn.theory.derivations import phases, reconstruction
from vitdyn.theory.derivations.asymptotics import ALPHA, MASKED, RHO, P, expectation, leading_terms
from vitdyn.theory.derivations.model import Query, vanishes
from vitdyn.theory.derivations.start import (
    GLOBAL,
    LATENTS,
    LIFT_GLOBAL,
    LIFT_OWN,
    LOCAL_AREAS,
    MOMENTS,
    OTHER,
    OWN,
)

AREAS = ("own", "global", "other")
KEYS = (P ** (1 - ALPHA - RHO), P ** (1 - ALPHA), P ** (1 - ALPHA - RHO))
"""Keys of each."""
Z_REST = sp.Symbol("z_r", positive=True)
"""Latent of the local areas that a derivative does not move."""
SHARE, TIME, RATE, SCALE = sp.symbols("A t k c", positive=True)


def closed_form(query: Query, own: int, first: int, second: int) -> tuple[sp.Expr, sp.Expr]:
    """Return Σ_j z_j² Cov(1_j, x) Cov(1_j, y) and −E[(g − ḡ)(x − x̄)(y − ȳ)], x and y = z on one area each."""
    shares, latents = query.attention(), query.strength
    values, mean = reconstruction.pulls(latents, shares, own)
    areas = range(len(shares))

    def covariance(area: int, moved: int) -> sp.Expr:
        return latents[moved] * shares[moved] * (int(area == moved) - shares[area])

    positive = sum(latents[j] ** 2 * covariance(j, first) * covariance(j, second) for j in areas)
    x, y = ([latents[moved] * int(j == moved) for j in areas] for moved in (first, second))
    x_mean, y_mean = (sum(A * each for A, each in zip(shares, of, strict=True)) for of in (x, y))
    terms = zip(shares, values, x, y, strict=True)
    rest = sum(A * (g - mean) * (a - x_mean) * (b - y_mean) for A, g, a, b in terms)
    return positive, -(rest - (1 - sum(shares)) * mean * x_mean * y_mean)


def closed_form_holds(areas: int = 2) -> bool:
    """Prove ∂²L/∂φ_i∂φ_j = the two terms, for every pair; the own area is the first, for areas may be renamed."""
    query = Query.symbols(areas)
    pairs = ((i, j) for i in range(areas) for j in range(i + 1))
    return all(
        vanishes(
            sp.diff(-reconstruction.push(query, 0, i), query.correlation[j])
            - sum(closed_form(query, 0, i, j))
        )
        for i, j in pairs
    )


def start_curvature(area: str, *, keys: bool = False) -> tuple[sp.Expr, ...]:
    """Return the leading terms of ∂²L/∂Φ² of a local query to an area at Q = 0; of Υ between its keys with ``keys``."""
    place = AREAS.index(area)
    at_zero = {LIFT_OWN: 1, LIFT_GLOBAL: 1}
    shares = [share.subs(at_zero) for share in (OWN, GLOBAL, OTHER)]
    pulls, _ = reconstruction.pulls(LATENTS, tuple(shares), own=0)
    squares = [z**2 * A**2 for z, A in zip((*LATENTS[:2], Z_REST), shares, strict=True)]
    total = squares[0] + squares[1] + LOCAL_AREAS * squares[2]
    mean = LATENTS[0] ** 2 * shares[0] - total
    z, A = LATENTS[place], shares[place]
    lifted, square = A * (pulls[place] - mean), z**2 * A**2
    if keys:
        # one key alone, less what all keys of the area do together
        value = ((KEYS[place] / P - A) * mean - lifted) / KEYS[place]
    else:
        value = z**2 * (square - lifted) + 2 * z**2 * A * (lifted - square) + total * (z * A) ** 2
    return leading_terms(MASKED * expectation(value, (*LATENTS, Z_REST), MOMENTS))


def own_curvature() -> sp.Expr:
    """Return ∂²L/∂φ_a² as a function of A, the rest of attention on masked keys: −γ z⁴ A (1 − A)² (1 − 3A)."""
    z, phi = phases.Z, sp.Symbol("phi", real=True)
    level = sp.Function("A")(phi)
    slope = z * level * (1 - level)
    first = sp.diff(z**2 * (1 - level) ** 2 / 2, phi).subs(level.diff(phi), slope)
    second = sp.diff(first, phi).subs(level.diff(phi), slope)
    return sp.factor(MASKED * second.subs(level, SHARE))


def extremes() -> tuple[sp.Expr, ...]:
    """Return the A at which that curvature is least and largest, ascending, between 0 and 1."""
    return tuple(
        sorted((x for x in sp.solve(sp.diff(own_curvature(), SHARE), SHARE) if 0 < x < 1), key=float)
    )


def clock_holds() -> bool:
    """Prove d(1/λ)/dt = 1 along gradient flow of L = c e^{kφ}, of either sign."""
    phi = sp.Function("phi")(TIME)
    for sign in (1, -1):
        loss = sign * SCALE * sp.exp(RATE * phi)
        slope, curvature = RATE * loss, RATE**2 * loss
        moved = sp.diff(1 / curvature, TIME).subs(phi.diff(TIME), -slope)
        if not vanishes(moved - 1):
            return False
    return True


def takeover_is_the_reciprocal() -> sp.Expr:
    """Return T · |λ_a(0)| at constant latents, T the blow-up time of φ_a: 1."""
    (curvature,) = start_curvature("own")
    fixed = curvature.subs({moment: phases.Z**k for k, moment in enumerate(MOMENTS, 1)})
    return sp.simplify(-fixed * phases.local_area_time())


def tail_curvature() -> sp.Expr:
    """Return lim t λ_a late in training, at ε(t) of ``phases.tail_path``: 1, whatever γ, z and P."""
    epsilon = phases.tail_path()
    late = own_curvature().subs(SHARE, 1 - epsilon)
    return sp.limit(sp.simplify(late * phases.TIME), phases.TIME, sp.oo)
