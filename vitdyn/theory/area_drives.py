"""Drives at Q = 0 between areas of any sizes: nothing is assumed of κ_c, κ_s or of which area is the largest.

Exact, by the first three moments of visible counts under uniform masks. Derived in the notes, beyond_one_layer.md.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import inf, log, sqrt
from numbers import Integral

import numpy as np
from jaxtyping import Bool, Float
from numpy.typing import ArrayLike

from vitdyn._errors import as_numbers, as_tuple, invalid_value, require_integer, require_real
from vitdyn.data import Distribution, PatchLayout
from vitdyn.data.masking import masked_count
from vitdyn.theory.regime import checked
from vitdyn.theory.visible_counts import latent_moments

Sizes = Float[np.ndarray, " area"]


@checked
def reconstruction_drives(
    layout: PatchLayout, distribution: Distribution, mask_ratio: float = 0.5
) -> Float[np.ndarray, "cluster query_area area"]:
    """Return dφ_b/dt at Q = 0 of a masked query of area a to each area b, (cluster, a, b); 0 for absent areas.

    To leading order, ν = 1 − γ, γνm_3 C_a/P to its own area and

        −γν² C_b/P² (m_3 C_b + m_1m_2 (C_a − ν Σ_i C_i²/P))

    to another, below 0 for the largest. So a query of a drops b before it finds its own where νC_b² > P C_a
    (``competitor_gap``); Δ is that of a local a and the global b. Each is divided by K. Exact. Source: ours.

    >>> drives = vd.theory.reconstruction_drives(vd.PatchLayout.from_sizes([4, 48, 48]), vd.Constant(value=1.0))
    >>> bool(-drives[0, 0, 1] > drives[0, 0, 0])  # a query of the small area 0 drops a larger one first
    True
    """
    m, hidden, P = _moments(distribution), _masked(layout, mask_ratio), layout.patches
    found = np.zeros((layout.clusters, layout.areas, layout.areas))
    for cluster, own in zip(*np.nonzero(layout.sizes), strict=True):
        keys = layout.sizes[cluster].astype(float)
        keys[own] -= 1  # the query is hidden
        first, second, third = _counts(keys, P - hidden, P - 1)
        mixed = np.full(second.shape, m[1] * m[2])
        np.fill_diagonal(mixed, m[3])
        # E z_b A_b Σ_j z_j² A_j², then −z_b² of g_b and −z_a² A_a of the mean pull
        drive = (
            (mixed * third).sum(1) / P**3 - m[3] * second.diagonal() / P**2 - (mixed * second)[:, own] / P**2
        )
        drive[own] += m[3] * first[own] / P
        found[cluster, own] = np.where(layout.sizes[cluster] > 0, drive, 0) * hidden / P / layout.clusters
    return found


@checked
def contrast_drives(
    layout: PatchLayout,
    distribution: Distribution,
    mask_ratio: float = 0.5,
    *,
    cluster_probabilities: ArrayLike | None = None,
    shared_areas: Sequence[int] = (),
) -> Float[np.ndarray, "cluster area"]:
    """Return dφ_{k,j}/dt at Q = 0 of every query under contrast at vanishing similarity, in units of κ/P.

    ``cluster_probabilities`` π_k are alike unless given; areas in ``shared_areas`` have one feature in all clusters,
    and one φ: their rows are equal. With f_{k,j} the mean of that feature in the other view of all samples, m_1 π_k
    νC_j/P of a private one and m_1 νC_j/P of a shared one, the pull is h = z (z νC_j/P − f). To leading order

        private  ν² π_k C_j/P² ((m_3 − π_k m_1m_2) C_j − c̄),    shared  ν² C_1/P² ((m_3 − m_1m_2) C_1 − c̄)

    c̄ = νm_1 Σ_i (m_2 − m_1² π_i) C_i²/P, π_i = 1 for shared ones. The largest private area leads, whichever it is;
    what is shared counts by the variance of its latents alone. Areas that tie leave it to chance which takes all.
    Independent views. Exact. Source: ours.

    >>> drives = vd.theory.contrast_drives(vd.PatchLayout.from_sizes([4, 24, 8], clusters=2), vd.Constant(value=1.0))
    >>> int(drives[0].argmax())
    1
    """
    m, hidden, P = _moments(distribution), _masked(layout, mask_ratio), layout.patches
    weights, shared = _weights(layout, cluster_probabilities), _shared(layout, shared_areas)
    pull = (P - hidden) / P * layout.sizes / P  # the other view's share, its counts at their means
    negative = np.where(shared, weights @ pull, weights[:, None] * pull)
    found = np.zeros(layout.sizes.shape)
    for cluster, sizes in enumerate(layout.sizes.astype(float)):
        first, second, _ = _counts(sizes, P - hidden, P)
        own = m[3] * pull[cluster] - m[1] * m[2] * negative[cluster]
        others = np.tile(m[1] * (m[2] * pull[cluster] - m[1] ** 2 * negative[cluster]), (len(sizes), 1))
        np.fill_diagonal(others, own)
        found[cluster] = weights[cluster] * (own * first / P - (others * second).sum(1) / P**2)
    return np.where(shared, found.sum(0), found)


@checked
def discriminating_size_ratio(
    distribution: Distribution, probability: float = 0.5, *, mask_ratio: float = 0.5
) -> float:
    """Return the C_1/C_s below which contrast drives local areas' private features faster than a shared global one.

    The larger root r of r (r c_1 − c̄) = π (c_s − c̄) with π the cluster's ``probability``, c_1 = m_3 − m_1m_2, c_s =
    m_3 − π m_1m_2, c̄ = (1 − γ) m_1 (m_2 − π m_1²), about c̄/c_1; inf at constant latents, where a shared feature
    cannot help and its correlation falls. Neither temperature nor the number of negatives enters to first order.
    Leading order at Q = 0, for C_1 ≪ P. Source: ours.

    >>> round(vd.theory.discriminating_size_ratio(vd.Uniform(low=1.0, high=1.5)), 1)
    10.1
    """
    require_real("probability", probability, low=0.0, high=1.0, open_low=True)
    require_real("mask_ratio", mask_ratio, low=0.0, high=1.0, open_low=True, open_high=True)
    _, mean, second, third = _moments(distribution)
    shared, private = third - mean * second, third - probability * mean * second
    if shared <= 1e-12 * third:
        return inf
    lost = (1 - mask_ratio) * mean * (second - probability * mean**2)
    return (lost + sqrt(lost**2 + 4 * shared * probability * (private - lost))) / (2 * shared)


def competitor_gap(own_size: float, other_size: float, patches: float) -> float:
    """Return log(C_b²/(P C_a))/log P, the gap of a query of area a and an area b; Δ for a local and the global one.

    Above 0 a masked query of a drops b before it finds its own area, whatever the exponents. With C_1 < C_s a query
    of the small area 1 has the gap 2κ_s − 1 − κ_c to each local area. Leading order. Source: ours.

    >>> round(vd.theory.competitor_gap(1e16**0.3, 1e16**0.9, 1e16), 3)  # Δ of κ_c = 0.9, κ_s = 0.3
    0.5
    """
    require_real("patches", patches, low=2.0, high=1e300)
    for name, size in {"own_size": own_size, "other_size": other_size}.items():
        require_real(name, size, low=1.0, high=patches)
    return (2 * log(other_size) - log(own_size)) / log(patches) - 1


def _moments(distribution: Distribution) -> tuple[float, ...]:
    return tuple(map(float, latent_moments(distribution, 3)))


def _weights(layout: PatchLayout, probabilities: ArrayLike | None) -> Float[np.ndarray, " cluster"]:
    if probabilities is None:
        return np.full(layout.clusters, 1 / layout.clusters)
    weights = as_numbers("cluster_probabilities", probabilities)
    if len(weights) != layout.clusters or not (weights > 0).all() or abs(weights.sum() - 1) > 1e-9:
        words = f"must be {layout.clusters} positive numbers, one a cluster, that add up to 1"
        raise invalid_value("cluster_probabilities", weights.tolist(), words)
    return weights


def _shared(layout: PatchLayout, areas: Sequence[int]) -> Bool[np.ndarray, " area"]:
    shared = np.zeros(layout.areas, bool)
    for area in as_tuple("shared_areas", areas, Integral):
        require_integer("shared_areas", area, at_least=0, at_most=layout.areas - 1)
        shared[area] = True
    return shared


def _masked(layout: PatchLayout, mask_ratio: float) -> int:
    require_real("mask_ratio", mask_ratio, low=0.0, high=1.0, open_low=True, open_high=True)
    hidden = masked_count(layout.patches, mask_ratio)
    require_integer("mask_ratio · patches", hidden, at_least=1, at_most=layout.patches - 1)
    return hidden


def _counts(
    keys: Sizes, visible: int, total: int
) -> tuple[Sizes, Float[np.ndarray, "area area"], Float[np.ndarray, "area area"]]:
    """Return E V_b, E V_b V_j and E V_b V_j² where ``visible`` of ``total`` keys are shown, all sets alike."""
    one, two, three = np.cumprod([max(visible - r, 0) / max(total - r, 1) for r in range(3)])
    pairs, apart = keys * (keys - 1), np.outer(keys, keys)
    second = two * apart
    np.fill_diagonal(second, one * keys + two * pairs)
    third = two * apart + three * np.outer(keys, pairs)
    np.fill_diagonal(third, one * keys + 3 * two * pairs + three * pairs * (keys - 2))
    return one * keys, second, third
