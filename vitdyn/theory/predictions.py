"""Predictions: levels that correlations should reach, and the least loss, each with its source."""

from __future__ import annotations

from dataclasses import dataclass
from math import exp, lgamma

import numpy as np

from vitdyn.data import Law, PatchLayout, masked_count
from vitdyn.seeds import stream
from vitdyn.theory.regime import Regime

PAPER, OURS = "Huang et al. (2025), as recalled", "vitdyn's notes"


@dataclass(frozen=True, kw_only=True)
class Prediction:
    """A predicted value, or an interval where the theory leaves a constant open.

    ``symbol`` is what is predicted, ``statement`` says it in words, ``source`` whose claim it is, and
    ``note`` where it is derived.
    """

    symbol: str
    low: float
    high: float
    statement: str
    source: str
    note: str

    def __post_init__(self) -> None:
        if not self.low <= self.high:
            raise ValueError(f"low = {self.low!r}: must not exceed high = {self.high!r}")


def _over_latents(coefficient: float, regime: Regime, law: Law) -> tuple[float, float]:
    """Return the ends of coefficient / z · log P for z between L and U; L = 0 leaves the far end open."""
    near = coefficient / law.high * regime.log_patches
    far = coefficient / law.low * regime.log_patches if law.low else near * float("inf") if near else 0.0
    return min(near, far), max(near, far)


def phase_one_level(regime: Regime, law: Law) -> Prediction:
    """φ_1 of a local query at the end of phase I: −(Δ/2)/z · log P for some z in [L, U]; 0 where Δ ≤ 0."""
    low, high = _over_latents(-max(regime.information_gap, 0.0) / 2, regime, law)
    return Prediction(
        symbol="φ_1",
        low=low,
        high=high,
        statement="level of a local query's correlation with the global area when its own begins to grow",
        source=PAPER,
        note="predictions.md#phases-of-a-local-query",
    )


def own_area_level(regime: Regime, law: Law) -> Prediction:
    """φ_a of a local query when it attends to its own area: (1 − κ_s)/z · log P for some z in [L, U]."""
    low, high = _over_latents(1 - regime.kappa_s, regime, law)
    return Prediction(
        symbol="φ_a",
        low=low,
        high=high,
        statement="level at which a local query's own area takes over, to leading order in log P",
        source=PAPER,
        note="predictions.md#phases-of-a-local-query",
    )


def global_query_level(regime: Regime, law: Law) -> Prediction:
    """φ_1 of a global query when it attends to its own area: (1 − κ_c)/z · log P for some z in [L, U]."""
    low, high = _over_latents(1 - regime.kappa_c, regime, law)
    return Prediction(
        symbol="φ_1",
        low=low,
        high=high,
        statement="level at which the global area takes over, to leading order in log P",
        source=OURS,
        note="predictions.md#cl-global-limit",
    )


contrastive_level = global_query_level
"""In contrastive training every query, local or global, crosses the same level on its way to the global area."""


def reconstruction_infimum(layout: PatchLayout, mask_ratio: float, law: Law) -> float:
    """Return the infimum of the masked-reconstruction loss over all correlations.

        inf L = ½ E[z²] · mean over clusters of Σ_j C_j · C(P − C_j, m − C_j) / C(P, m),   m = γP masked patches

    An area that is wholly masked cannot be reconstructed; all else can, in the limit of diverging
    correlations. Source: our notes, gradients.md.
    """
    patches, masked = layout.patches, masked_count(layout.patches, mask_ratio)
    total = 0.0
    for sizes in layout.sizes:
        for size in sizes[(sizes > 0) & (sizes <= masked)].tolist():
            total += size * exp(_log_choose(patches - size, masked - size) - _log_choose(patches, masked))
    return 0.5 * law.second_moment * total / layout.clusters


def _log_choose(total: int, chosen: int) -> float:
    return lgamma(total + 1) - lgamma(chosen + 1) - lgamma(total - chosen + 1)


def collapse_loss(law: Law, temperature: float, negatives: int, clusters: int) -> float:
    """Return the InfoNCE loss when every query gives all its attention to the global area.

        L = E log(1 + M (1 − 1/K) e^{−z²/τ} + (M/K) E' e^{(zz' − z²)/τ}),   M = ``negatives``, K = ``clusters``

    with z and z' the global latents of a sample and of a negative of its cluster. The expectations are means over
    2^12 quantiles of a fixed sample of the law. Source: our notes, claims.md (CL-LOSS).
    """
    z = np.sort(law.sample(stream(0, "user"), (2**18,)))[2**5 :: 2**6]
    positive = z**2 / temperature
    same = np.exp((z[:, None] * z - z[:, None] ** 2) / temperature).mean(1)
    return float(np.log1p(negatives * ((1 - 1 / clusters) * np.exp(-positive) + same / clusters)).mean())


def mixture_threshold(law: Law, temperature: float, negatives: int, clusters: int) -> float:
    """Return λ* = 1/(1 + κ), at which the first drifts of φ_1 under reconstruction and contrast cancel (Δ > 0).

        κ = (1 − π_+)/τ · (1 − E[z²] E[z]/(K E[z³])),   1 − π_+ = M/(M + 1) at Q = 0

    with both losses per patch, (1 − λ)·MAE + λ·CL. Leading order. Source: our notes, claims.md.
    """
    z = law.sample(stream(0, "user"), (2**18,))
    third = float((z**3).mean())
    pull = negatives / (negatives + 1) / temperature
    kappa = pull * (1 - law.second_moment * law.mean / (clusters * third))
    return 1 / (1 + kappa)
