"""Losses of cosines: how strongly samples of one cluster must repel for a row of Q to leave the global area."""

from __future__ import annotations

from math import exp, inf

from vitdyn._errors import require_integer, require_kind, require_real
from vitdyn.data import AreaSizes, Distribution
from vitdyn.theory.regime import checked, drawn_latents


def count_noise(size: float, patches: float, mask_ratio: float) -> float:
    """Return the relative variance of the number of visible patches of an area: γ/(1 − γ) (P − C)/(C (P − 1))."""
    return mask_ratio / (1 - mask_ratio) * (patches - size) / (size * (patches - 1))


@checked
def repulsion_threshold(sizes: AreaSizes, distribution: Distribution, mask_ratio: float = 0.5) -> float:
    """Return q*, the repulsion per unit of attraction above which φ_1 falls from Q = 0, in losses of cosines.

        Δ > 0:  q* = v E[z²]/(v E[z²] + Var z),            v = γ/(1 − γ) P/(P − 1) (1/C_1 + 1/C_s)
        Δ < 0:  q* = v E[z³]/((1 + v) E[z] E[z²] − E[z³] E[z]²/E[z²]),   v of a local area's count alone

    Attraction rewards the area whose share of an output masks change least, the global one; repulsion, samples of a
    cluster in other directions, rewards areas in proportion to how their latents vary. Leading order in the part that
    is not the area's (or areas') which dominate ‖F‖². For Δ < 0 the second exceeds 1 unless Var z outweighs v; no
    repulsion then turns attention away (inf). Source: our notes, derivations.md.
    """
    require_kind("sizes", sizes, AreaSizes)
    require_real("mask_ratio", mask_ratio, low=0.0, high=1.0, open_low=True, open_high=True)
    patches, second, mean = sizes.patches, distribution.second_moment, distribution.mean
    if sizes.information_gap > 0:
        noise = mask_ratio / (1 - mask_ratio) * patches / (patches - 1)
        noise *= 1 / sizes.global_size + 1 / sizes.local_size
        return noise * second / (noise * second + second - mean**2)
    # all moments of one draw: of them only the difference counts
    z = drawn_latents(distribution)
    mean, second, third = (float((z**power).mean()) for power in (1, 2, 3))
    noise = count_noise(sizes.local_size, patches, mask_ratio)
    repelled = (1 + noise) * mean * second - third * mean**2 / second
    return noise * third / repelled if repelled > 0 else inf


def own_cluster_share(clusters: int, temperature: float) -> float:
    """Return q = 1/(1 + (K − 1) e^{−1/τ}): the weight of the own cluster among the negatives of InfoNCE of cosines.

    Cosines are near 1 within a cluster and 0 between two. Source: our notes, derivations.md.

    >>> round(vd.theory.own_cluster_share(8, 0.5), 2)
    0.51
    """
    require_integer("clusters", clusters, at_least=1, at_most=10**15)
    require_real("temperature", temperature, low=1e-3, high=1e290)
    return 1 / (1 + (clusters - 1) * exp(-1 / temperature))


@checked
def critical_clusters(
    sizes: AreaSizes, distribution: Distribution, temperature: float, mask_ratio: float = 0.5
) -> float:
    """Return K* = 1 + (1/q* − 1) e^{1/τ}: with fewer clusters InfoNCE of cosines turns away from the global area.

    1 where q* ≥ 1 (Δ < 0): any number turns to it. Source: our notes, derivations.md.
    """
    require_real("temperature", temperature, low=1e-3, high=1e290)
    return 1 + max(1 / repulsion_threshold(sizes, distribution, mask_ratio) - 1, 0) * exp(1 / temperature)
