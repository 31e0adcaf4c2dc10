"""How many directions a representation uses: RankMe, NESum, participation ratio, and the decay α-ReQ."""

from __future__ import annotations

from dataclasses import dataclass
from math import inf, nan

import torch
from jaxtyping import Float
from torch import Tensor

from vitdyn._errors import invalid_value, require_integer
from vitdyn.metrics.arrays import Array, as_float64
from vitdyn.metrics.measured import Convention, Measured, centred, number, one_of, over, resolve
from vitdyn.metrics.spectra import covariance_spectrum

GUARDS = ("none", "added", "renormalised", "mixed", "inside")


@dataclass(frozen=True, kw_only=True)
class EntropyGuard(Convention):
    """How ε enters the exponential of the entropy of weights λ with sum s.

    "none"          p = λ/s
    "added"         p = λ/s + ε, which no longer sums to 1
    "renormalised"  p = λ/s + ε, divided by its sum
    "mixed"         p = (λ + ε)/Σ(λ + ε)
    "inside"        p = λ/(s + ε), and the entropy is −Σ p log(p + ε)
    """

    guard: str = one_of(*GUARDS)
    epsilon: float = number(0.0, 1)

    def __post_init__(self) -> None:
        super().__post_init__()
        if (self.guard == "none") != (self.epsilon == 0):
            raise invalid_value(
                "epsilon", self.epsilon, "must be 0 with the guard none and more than 0 with another"
            )


@dataclass(frozen=True, kw_only=True)
class RankConvention(EntropyGuard):
    """The guard, whether features are ``centred``, and the weights: singular values or their squares."""

    centred: bool = False
    weights: str = one_of("singular", "variance")


@dataclass(frozen=True, kw_only=True)
class DecayConvention(Convention):
    """Weights of the least squares in the logarithm of the index j: 1/j, or equal."""

    weights: str = one_of("1/j", "equal")


RANK = {
    "exact": RankConvention(),
    "paper": RankConvention(guard="added", epsilon=1e-7),
    "stable-pretraining": RankConvention(guard="added", epsilon=1e-5),
    "stable-pretraining-jax": RankConvention(guard="added", epsilon=1e-7),
    "reptrix": RankConvention(centred=True, weights="variance", guard="added", epsilon=1e-7),
    "req-metrics": RankConvention(centred=True),
}
COVARIANCE = {"exact": Convention()}
DECAY = {"exact": DecayConvention(), "equal": DecayConvention(weights="equal")}


def rank_me(
    features: Float[Array, "*batch sample feature"], *, convention: str | RankConvention = "exact"
) -> Measured:
    """RankMe, the exponential of the entropy of normalised singular values: exp(−Σ p_i log p_i). Value: (*batch).

    p_i = σ_i/‖σ‖₁ with σ the singular values of the *uncentred* features. From 1 to min(sample, feature), and 0 if
    all features are 0 (the formula says 0/0). Invariant to rotations and scale; r equal σ give r.

    Conventions (Garrido et al. 2023 is ``paper``: p_i + ε, ε = 1e-7): see :class:`RankConvention`. ``reptrix`` and
    ``req-metrics`` centre, and ``reptrix`` weights by variance: neither is RankMe as published.
    """
    convention = resolve(convention, RANK)
    rows = as_float64("features", features, "sample feature", (1 + convention.centred, 1))
    values = torch.linalg.svdvals(centred(rows) if convention.centred else rows)
    values = values.square() if convention.weights == "variance" else values
    return Measured(effective_rank(values, convention), convention)


def effective_rank(
    weights: Float[Tensor, "*batch direction"], guard: EntropyGuard
) -> Float[Tensor, "*batch"]:
    """Return the exponential of the entropy of normalised weights; 0 where a sum of 0 leaves no weights."""
    total = weights.sum(-1, keepdim=True)
    p = weights / torch.where(total > 0, total, 1.0)
    epsilon = guard.epsilon
    if guard.guard == "inside":
        p = weights / (total + epsilon)
        return torch.exp(-(p * torch.log(p + epsilon)).sum(-1))
    if guard.guard == "mixed":
        p = (weights + epsilon) / (weights + epsilon).sum(-1, keepdim=True)
        return torch.special.entr(p).sum(-1).exp()
    p = p + epsilon
    if guard.guard == "renormalised":
        p = p / p.sum(-1, keepdim=True)
    return torch.where(total[..., 0] > 0, torch.special.entr(p).sum(-1).exp(), 0.0)


def ne_sum(
    features: Float[Array, "*batch sample feature"], *, convention: str | Convention = "exact"
) -> Measured:
    """NESum, Σ λ / λ_max over the eigenvalues of the centred covariance; 0 if nothing varies. Value: (*batch).

    r equal eigenvalues give r. Source: He and Ozay (2022).
    """
    convention = resolve(convention, COVARIANCE)
    values = covariance_spectrum(as_float64("features", features, "sample feature", (2, 1)))
    return Measured(over(values.sum(-1), values[..., 0], 0.0), convention)


def participation_ratio(
    features: Float[Array, "*batch sample feature"], *, convention: str | Convention = "exact"
) -> Measured:
    """Participation ratio, (Σ λ)² / Σ λ², of the centred covariance; 0 if nothing varies. Value: (*batch).

    r equal eigenvalues give r.
    """
    convention = resolve(convention, COVARIANCE)
    values = covariance_spectrum(as_float64("features", features, "sample feature", (2, 1)))
    values = over(values, values[..., :1], 0.0)  # squares of λ neither overflow nor vanish
    return Measured(over(values.sum(-1).square(), values.square().sum(-1), 0.0), convention)


def spectral_decay(
    features: Float[Array, "*batch sample feature"],
    *,
    first: int = 11,
    last: int = 100,
    convention: str | DecayConvention = "exact",
) -> Measured:
    """α-ReQ: the exponent of λ_j ~ j^−α, eigenvalues of the centred covariance, largest first. Value: (*batch).

    Minus the slope of the least squares of log λ_j on log j with weights 1/j, over j = ``first`` ... ``last`` counted
    from 1 (and at most min(sample − 1, feature)). The value depends strongly on that range. A range that ends in
    eigenvalues of 0 (below round-off of the largest) has α = ∞; one of 0 only has no slope, NaN.

    Source: Agrawal et al. (2022), in the range that reptrix uses (indices 10 to 99 from 0). Raises ``ValueError`` if
    fewer than two eigenvalues are in the range.
    """
    convention = resolve(convention, DECAY)
    require_integer("first", first, at_least=1)
    require_integer("last", last, at_least=int(first) + 1)
    values = covariance_spectrum(as_float64("features", features, "sample feature", (2, 1)))[
        ..., int(first) - 1 : last
    ]
    return Measured(power_law(values, first, convention), convention)


def power_law(
    values: Float[Tensor, "*batch index"], first: int, convention: DecayConvention
) -> Float[Tensor, "*batch"]:
    """Return α of values ~ j^−α at j = ``first``, ``first`` + 1, ...; ∞ where the last is 0, NaN where all are."""
    if values.shape[-1] < 2:
        raise invalid_value("first", first, "must leave at least two eigenvalues to fit")
    index = torch.arange(int(first), int(first) + values.shape[-1], dtype=torch.float64, device=values.device)
    # 1/j makes points even in log j: else the many small eigenvalues would rule the fit.
    weight = 1 / index if convention.weights == "1/j" else torch.ones_like(index)
    weight = weight / weight.sum()
    x = index.log() - (weight * index.log()).sum()
    positive = values > 0
    slope = (weight * x * torch.where(positive, values, 1.0).log()).sum(-1) / (weight * x.square()).sum()
    vanished = torch.where(positive.any(-1), inf, nan)
    return torch.where(positive.all(-1), -slope, vanished)
