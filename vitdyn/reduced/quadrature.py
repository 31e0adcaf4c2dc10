"""Nodes and weights that integrate over the distribution of the latents."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from vitdyn._errors import invalid_value, require_integer, require_kind
from vitdyn.data import Beta, Distribution, TruncatedNormal, TwoPoint, Uniform
from vitdyn.data.latents import is_ours

MOST_NODES = 512
"""Rules of more nodes take minutes to find and are exact far beyond round-off; the mean field has nodes² of a kind."""


class Quadrature(NamedTuple):
    """E f(z) ≈ Σ_i w_i f(z_i); the weights add up to 1."""

    nodes: Float[np.ndarray, " node"]
    weights: Float[np.ndarray, " node"]


def quadrature(distribution: Distribution, count: int) -> Quadrature:
    """Return the rule of a distribution: Gauss-Legendre, Gauss-Jacobi (beta), or exact where it has atoms only.

    With ``count`` nodes polynomials up to degree 2 · count − 1 are integrated exactly (truncated normal: the
    density is a factor of the weights). Raises ``ValueError`` for a distribution without a rule.
    """
    require_kind("latents", distribution, Distribution)
    require_integer("nodes", count, at_least=1, at_most=MOST_NODES)
    if distribution.low == distribution.high:
        return Quadrature(np.array([distribution.high]), np.ones(1))
    if type(distribution) not in (TwoPoint, Beta, Uniform, TruncatedNormal) or not is_ours(distribution):
        raise invalid_value(
            "latents", type(distribution).__name__, "the mean field has rules for uniform, two-point, beta, "
            "truncated-normal and constant latents, and for no class made from these",
        )  # fmt: skip
    # An atom of no mass would cost a node and tell nothing.
    if isinstance(distribution, TwoPoint):
        mass = np.array([1 - distribution.probability_high, distribution.probability_high])
        kept = mass > 0
        return Quadrature(np.array([distribution.low, distribution.high])[kept], mass[kept])
    if isinstance(distribution, Beta):
        from scipy.special import roots_jacobi

        # On [−1, 1] the density of a beta distribution is the weight of Gauss-Jacobi itself.
        x, weights = roots_jacobi(count, distribution.beta - 1, distribution.alpha - 1)
    else:
        x, weights = np.polynomial.legendre.leggauss(count)
    nodes = distribution.low + (distribution.high - distribution.low) * (x + 1) / 2
    if isinstance(distribution, TruncatedNormal):
        # Less its largest: far from the location all densities underflow, of which only ratios count.
        exponent = -(((nodes - distribution.location) / distribution.scale) ** 2) / 2
        weights = weights * np.exp(exponent - exponent.max())
    return Quadrature(nodes, weights / weights.sum())
