"""Nodes and weights that integrate over the law of the latents."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from vitdyn._errors import require_integer, require_kind, wrong
from vitdyn.data import Beta, Law, TruncatedNormal, TwoPoint, Uniform
from vitdyn.data.latents import is_ours

MOST_NODES = 512
"""Rules of more nodes take minutes to find and are exact far beyond round-off; the mean field has nodes² of a kind."""


class Quadrature(NamedTuple):
    """E f(z) ≈ Σ_i w_i f(z_i); the weights add up to 1."""

    nodes: Float[np.ndarray, " node"]
    weights: Float[np.ndarray, " node"]


def quadrature(law: Law, count: int) -> Quadrature:
    """Return the rule of a law: Gauss-Legendre, Gauss-Jacobi (beta), or exact where the law has atoms only.

    With ``count`` nodes polynomials up to degree 2 · count − 1 are integrated exactly (truncated normal: the
    density is a factor of the weights). Raises ``ValueError`` for a law without a rule.
    """
    require_kind("latents", law, Law)
    require_integer("nodes", count, at_least=1, at_most=MOST_NODES)
    if law.low == law.high:
        return Quadrature(np.array([law.high]), np.ones(1))
    if type(law) not in (TwoPoint, Beta, Uniform, TruncatedNormal) or not is_ours(law):
        raise wrong(
            "latents", type(law).__name__, "the mean field has rules for uniform, two-point, beta, "
            "truncated-normal and constant latents, and for no class made from these",
        )  # fmt: skip
    if isinstance(law, TwoPoint):
        mass = np.array([1 - law.probability_high, law.probability_high])
        kept = mass > 0
        return Quadrature(np.array([law.low, law.high])[kept], mass[kept])
    if isinstance(law, Beta):
        from scipy.special import roots_jacobi

        x, weights = roots_jacobi(count, law.beta - 1, law.alpha - 1)
    else:
        x, weights = np.polynomial.legendre.leggauss(count)
    nodes = law.low + (law.high - law.low) * (x + 1) / 2
    if isinstance(law, TruncatedNormal):
        exponent = -(((nodes - law.location) / law.scale) ** 2) / 2
        weights = weights * np.exp(exponent - exponent.max())
    return Quadrature(nodes, weights / weights.sum())
