"""Predictions: levels that correlations should reach, and the least loss, each with its source."""

from __future__ import annotations

from dataclasses import dataclass
from math import exp, inf, isnan, lgamma, log
from numbers import Real

import numpy as np

from vitdyn._errors import invalid_value, require_integer, require_real
from vitdyn.data import Distribution, PatchLayout
from vitdyn.data.masking import masked_count
from vitdyn.theory.regime import Regime, checked, drawn_latents

PAPER, OURS = "Huang et al. (2025), as recalled", "vitdyn's notes"


def require_number(field: str, value: object) -> None:
    """Raise unless ``value`` is a real number; an infinite one stands for an end that is open."""
    if not isinstance(value, Real) or isinstance(value, bool) or isnan(value):
        raise invalid_value(field, value, "must be a number")


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
        require_number("low", self.low)
        require_number("high", self.high)
        if not self.low <= self.high:
            raise invalid_value("low", self.low, f"must not exceed high = {self.high!r}")


def _over_latents(coefficient: float, regime: Regime, distribution: Distribution) -> tuple[float, float]:
    """Return the ends of coefficient / z · log P for z between L and U; L = 0 leaves the far end open."""
    if not coefficient:  # 0/0 where L = 0
        return coefficient, coefficient
    near = coefficient / distribution.high * regime.log_patches
    far = coefficient / distribution.low * regime.log_patches if distribution.low else near * inf
    return min(near, far), max(near, far)


@checked
def phase_one_level(regime: Regime, distribution: Distribution, mask_ratio: float = 0.5) -> Prediction:
    """φ_1 of a local query at the end of phase I, where its own correlation begins to move as fast.

        φ_1 = −(Δ log P + log(2(1 − γ)/3)) / (2z)   for some z in [L, U];   0 where that is positive

    Corrections are of relative order P^{−(1−κ_c)}: many per cent at any size that can be simulated. Source: the term
    (Δ/2)/z · log P from the paper, as recalled; the constant from our notes.
    """
    return _fallen(
        regime, distribution, log(2 * _visible_share(mask_ratio) / 3), "when its own begins to move as fast"
    )


@checked
def take_over_level(regime: Regime, distribution: Distribution, mask_ratio: float = 0.5) -> Prediction:
    """φ_1 of a local query when its own area takes over, where it stays.

        φ_1 = −(Δ log P + log(2(1 − γ))) / (2z)   for some z in [L, U];   0 where that is positive

    It is lower than ``phase_one_level`` by log 3/(2z): φ_1 goes on falling while φ_a grows. Corrections and source are
    the same.
    """
    return _fallen(regime, distribution, log(2 * _visible_share(mask_ratio)), "when its own area takes over")


def _visible_share(mask_ratio: float) -> float:
    require_real("mask_ratio", mask_ratio, low=0.0, high=1.0, open_low=True, open_high=True)
    return 1 - mask_ratio


def _fallen(regime: Regime, distribution: Distribution, constant: float, when: str) -> Prediction:
    """Return how low φ_1 is where 2z|φ_1| = Δ log P + constant."""
    # A positive level would be one that φ_1 has not fallen to: it is still near 0.
    depth = max(regime.information_gap + constant / regime.log_patches, 0.0)
    low, high = _over_latents(-depth / 2 if regime.information_gap > 0 else 0.0, regime, distribution)
    return Prediction(
        symbol="φ_1",
        low=low,
        high=high,
        statement=f"level of a local query's correlation with the global area {when}",
        source=f"{PAPER}, to leading order; the constant is {OURS}'",
        note="derivations.md#level-of-phase-one",
    )


@checked
def own_area_level(regime: Regime, distribution: Distribution) -> Prediction:
    """φ_a of a local query when it attends to its own area: (1 − κ_s)/z · log P for some z in [L, U]."""
    ends = _over_latents(1 - regime.kappa_s, regime, distribution)
    return _level_of("φ_a", ends, "a local query's own area", "predictions.md#phases-of-a-local-query")


@checked
def global_query_level(regime: Regime, distribution: Distribution) -> Prediction:
    """φ_1 of a global query when it attends to its own area: (1 − κ_c)/z · log P for some z in [L, U]."""
    ends = _over_latents(1 - regime.kappa_c, regime, distribution)
    return _level_of("φ_1", ends, "the global area", "predictions.md#cl-global-limit")


def _level_of(symbol: str, ends: tuple[float, float], area: str, note: str) -> Prediction:
    low, high = ends
    statement = f"level at which {area} takes over, to leading order in log P"
    return Prediction(symbol=symbol, low=low, high=high, statement=statement, source=OURS, note=note)


contrastive_level = global_query_level
"""In contrastive training with enough clusters every query crosses the same level on its way to the global area."""


@checked
def reconstruction_infimum(layout: PatchLayout, mask_ratio: float, distribution: Distribution) -> float:
    """Return the infimum of the masked-reconstruction loss over all correlations.

        inf L = ½ E[z²] · mean over clusters of Σ_j C_j · C(P − C_j, m − C_j) / C(P, m),   m = γP masked patches

    An area that is wholly masked cannot be reconstructed; all else can, in the limit of diverging
    correlations. Source: our notes, gradients.md.
    """
    patches, masked = layout.patches, masked_count(layout.patches, mask_ratio)
    total = 0.0
    for sizes in layout.sizes:
        # A larger area is never masked as a whole.
        for size in sizes[(sizes > 0) & (sizes <= masked)].tolist():
            # A difference of logarithms: the binomials themselves overflow.
            total += size * exp(_log_choose(patches - size, masked - size) - _log_choose(patches, masked))
    return 0.5 * distribution.second_moment * total / layout.clusters


def _log_choose(total: int, chosen: int) -> float:
    return lgamma(total + 1) - lgamma(chosen + 1) - lgamma(total - chosen + 1)


@checked
def collapse_loss(distribution: Distribution, temperature: float, negatives: int, clusters: int) -> float:
    """Return the InfoNCE loss when every query gives all its attention to the global area.

        L = E log(1 + M (1 − 1/K) e^{−z²/τ} + (M/K) E' e^{(zz' − z²)/τ}),   M = ``negatives``, K = ``clusters``

    with z and z' the global latents of a sample and of a negative of its cluster. The expectations are means over
    2^12 quantiles of a fixed sample of the distribution. Source: our notes, claims.md (CL-LOSS).
    """
    _check_contrast(temperature, negatives, clusters)
    # Every 64th order statistic of a fixed sample: quantiles, so that the loss is a number and no draw.
    z = np.sort(drawn_latents(distribution))[2**5 :: 2**6]
    exponents = (z[:, None] * z - z[:, None] ** 2) / temperature
    # log E e^x without overflow: less the largest exponent, which is added to the logarithm.
    largest = exponents.max(1)
    same = np.log(np.exp(exponents - largest[:, None]).mean(1)) + largest + log(negatives / clusters)
    other = log(negatives * (1 - 1 / clusters)) - z**2 / temperature if clusters > 1 else -inf
    return float(np.logaddexp(0.0, np.logaddexp(same, other)).mean())


@checked
def mixture_threshold(distribution: Distribution, temperature: float, negatives: int, clusters: int) -> float:
    """Return 1/(1 + κ), the weight at which the first drifts of φ_1 under reconstruction and contrast cancel (Δ > 0).

        κ = (1 − π_+)/τ · (1 − E[z²] E[z]/(K E[z³])),   1 − π_+ = M/(M + 1) at Q = 0

    with both losses per patch, (1 − λ)·MAE + λ·CL. Leading order. It says which area has attention
    *first*: in the mean field that border moves from below 0.50 (P = 1e4) to 0.536 (1e16) where this is 0.520. Which
    area keeps it is decided by ``collapse_threshold``. Source: our notes, claims.md.
    """
    _check_contrast(temperature, negatives, clusters)
    z = drawn_latents(distribution)
    third = float((z**3).mean())
    # 1 − π_+ where all similarities are alike, as at Q = 0.
    pull = negatives / (negatives + 1) / temperature
    kappa = pull * (1 - distribution.second_moment * distribution.mean / (clusters * third))
    return 1 / (1 + kappa)


@checked
def collapse_threshold(
    distribution: Distribution, temperature: float, negatives: int, clusters: int
) -> float:
    """Return λ* = 1/(1 + κ_L), the weight of contrast above which a collapsed state keeps its attention (Δ > 0).

        κ_L = (1 − π_L − w_L/L)/τ,   π_L = e^{L²/τ}/S,   w_L = (M/K) E[z e^{Lz/τ}]/S,
        S = e^{L²/τ} + (M/K) E[e^{Lz/τ}] + M (1 − 1/K)

    With all attention on the global area, what is missing of it is missing in samples whose global latent is L, the
    least; κ_L is the ratio of the two pulls on φ_1 there. Where κ_L ≤ −1 no weight keeps it: λ* is inf. Source: our
    notes, claims.md.
    """
    _check_contrast(temperature, negatives, clusters)
    if distribution.low == 0:
        raise invalid_value(
            "distribution.low",
            distribution.low,
            "must be positive: samples without a global feature cannot collapse onto it",
        )
    z, low = drawn_latents(distribution), distribution.low
    shift = low * max(low, float(z.max())) / temperature  # no exponent is larger
    own, same = exp(low * low / temperature - shift), np.exp(low * z / temperature - shift)
    total = own + negatives / clusters * same.mean() + negatives * (1 - 1 / clusters) * exp(-shift)
    repelled = negatives / clusters * (same * z).mean() / (low * total)
    pulled = 1 + (1 - own / total - repelled) / temperature
    return float(1 / pulled) if pulled > 0 else inf


@checked
def position_correlation_ratio(distribution: Distribution, local_size: float) -> float:
    """Return Υ_a/φ_a = E[z²]/(E[z³] (C_s − 1)): correlation with one key of the own area, over that with the area.

    The ratio of the drifts at Q = 0; a masked query has C_s − 1 other keys in its area. Source: our notes,
    derivations.md.
    """
    require_real("local_size", local_size, low=1.0, high=1e300, open_low=True)
    z = drawn_latents(distribution)
    return distribution.second_moment / float((z**3).mean()) / (local_size - 1)


def _check_contrast(temperature: float, negatives: int, clusters: int) -> None:
    require_real("temperature", temperature, low=1e-290, high=1e290)
    require_integer("negatives", negatives, at_least=1, at_most=10**15)
    require_integer("clusters", clusters, at_least=1, at_most=10**15)
