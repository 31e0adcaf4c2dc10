"""The scale of contrast where values are trained: it takes the pull that would have moved attention.

Derived in the notes, beyond_one_layer.md.
"""

from __future__ import annotations

from math import expm1, inf, log, sqrt

import numpy as np
from scipy.optimize import brentq
from scipy.special import expi, logsumexp

from vitdyn._errors import invalid_value, require_integer, require_real
from vitdyn.data import AreaSizes, Distribution
from vitdyn.theory.query_at_start import require_start
from vitdyn.theory.regime import checked, drawn_latents


@checked
def contrast_value_at(
    sizes: AreaSizes, distribution: Distribution, logit: float, *, value: float = 1.0, mask_ratio: float = 0.5
) -> float:
    """Return w_1 under contrast when a query's logit zφ_1 to the global area has moved by ``logit`` from Q = 0.

        w_1² = w_0² + (2P/m_2) (u + o_0 (e^u − 1)),   u = zφ_1,   o_0 the odds of A_1 = νC_1/P

    w_1 and all P rows follow one pull on w_1 z A_1, so this is conserved whatever the loss: attention moves by order 1
    only when w_1 ≃ √(2P/m_2), and similarities are then 2P A_1². Constant z, counts at their means, no decay, no local
    areas. Source: ours.
    """
    require_start(sizes, mask_ratio, 1)
    require_real("logit", logit, low=0.0, high=500.0)
    require_real("value", value, low=0.0, high=1e6)
    share = (1 - mask_ratio) * sizes.global_size / sizes.patches
    moved = logit + share / (1 - share) * expm1(logit)
    return sqrt(value**2 + 2 * sizes.patches / distribution.second_moment * moved)


@checked
def contrast_scale_time(
    sizes: AreaSizes,
    distribution: Distribution,
    similarity: float,
    *,
    value: float = 1.0,
    temperature: float = 1.0,
    negatives: int = 31,
    clusters: int = 8,
    mask_ratio: float = 0.5,
) -> float:
    """Return the time at which w_1² c, the similarity of two views, reaches ``similarity`` under contrast at Q = 0.

        t = (Kτ/2c) [(1 + M/K)/(M − M/K) (Ei(s/τ) − Ei(s_0/τ)) + log(s/s_0)],   c = m_2 (νC_1/P)²,   s_0 = w² c

    The scale grows without bound, w_1 ≃ √(τ log t/c), after a time P^{2(1−κ_c)} log. Latents at their root mean
    square (for varied ones see ``contrast_scale_limit``); local areas, (C_s/C_1)² slower, left out. 0 if it is there
    already.
    """
    require_start(sizes, mask_ratio, clusters)
    require_real("temperature", temperature, low=1e-3, high=1e6)
    require_integer("negatives", negatives, at_least=1, at_most=10**15)
    require_real("value", value, low=0.0, high=1e6, open_low=True)
    require_real("similarity", similarity, low=0.0, high=500 * temperature)
    if clusters < 2:
        raise invalid_value("clusters", clusters, "must be 2 or more: one cluster has no other direction")
    c = distribution.second_moment * ((1 - mask_ratio) * sizes.global_size / sizes.patches) ** 2
    start = value**2 * c / temperature
    end = similarity / temperature
    if end <= start:
        return 0.0
    tied = (1 + negatives / clusters) / (negatives * (1 - 1 / clusters))
    return clusters * temperature / (2 * c) * (tied * float(expi(end) - expi(start)) + log(end / start))


@checked
def contrast_scale_limit(
    distribution: Distribution, temperature: float, negatives: int, clusters: int
) -> float:
    """Return w_1² A_1², the scale at which repulsion within the cluster stops w_1; inf at constant latents.

    The a τ at which E log(1 + M(1 − 1/K) e^{−az²} + (M/K) E' e^{az(z'−z)}) is least: a negative of the same cluster
    and a larger latent is more similar than the positive, at any scale. Values of local areas, which tell such
    samples apart, left out. Means over 2^8 quantiles of a fixed sample. Source: ours.
    """
    require_real("temperature", temperature, low=1e-290, high=1e290)
    require_integer("negatives", negatives, at_least=1, at_most=10**15)
    require_integer("clusters", clusters, at_least=1, at_most=10**15)
    z = np.sort(drawn_latents(distribution))[2**9 :: 2**10]
    if z[-1] - z[0] <= 1e-9 * z[-1]:
        return inf
    gaps = np.concatenate([z[:, None] * (z - z[:, None]), np.zeros((len(z), 1)), -(z[:, None] ** 2)], 1)
    same, other = negatives / clusters / len(z), negatives * (1 - 1 / clusters)
    with np.errstate(divide="ignore"):
        weights = np.log(np.concatenate([np.full(len(z), same), [1.0], [other]]))

    def slope(log_scale: float) -> float:
        exponents = weights + np.exp(log_scale) * gaps
        return float((gaps * np.exp(exponents - logsumexp(exponents, axis=1, keepdims=True))).sum(1).mean())

    ends = -30 - 2 * log(z[-1]), 30 - log(z[-1] * (z[-1] - z[0]))
    return float(np.exp(brentq(slope, *ends)) * temperature)
