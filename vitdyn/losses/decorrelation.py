"""Decorrelation: views agree, coordinates vary and do not vary together; no negatives."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from vitdyn._errors import require_choice, require_real
from vitdyn.losses.vectors import require_pairs

Embeddings = Float[Tensor, "*batch sample dimension"]
Values = Float[Tensor, "*batch"]
Weight = float | Tensor

CONVENTIONS = ("paper", "code")
BARLOW_WEIGHT = {"paper": 0.005, "code": 0.0051}
_BATCH_NORM = {"paper": 0.0, "code": 1e-5}


def vicreg(
    first: Embeddings,
    second: Embeddings,
    *,
    invariance: Weight = 25.0,
    variance: Weight = 25.0,
    covariance: Weight = 1.0,
    target: Weight = 1.0,
    epsilon: float = 1e-4,
    convention: str = "paper",
) -> Values:
    """Return VICReg, λ s(X, Y) + μ [v(X) + v(Y)] + ν [c(X) + c(Y)], weights λ, μ, ν in the order of the arguments.

        s = E_b ‖x_b − y_b‖²,  v = (1/d) Σ_j max(0, γ − √(Var_j + ε)),  c = (1/d) Σ_{i≠j} Cov_ij²

    Var and Cov have the denominator B − 1; γ = ``target``. The "code" convention of the authors divides s by d as well
    and halves v. Source: Bardes, Ponce and LeCun (2022).
    """
    require_choice("convention", convention, CONVENTIONS)
    require_real("epsilon", epsilon, low=0.0, high=1.0)
    require_pairs("second", first, second)
    samples, size = first.shape[-2:]
    halved, shared = (0.5, size) if convention == "code" else (1.0, 1)
    distance = (first - second).square().sum((-2, -1), keepdim=True) / (samples * shared)
    total = invariance * distance
    for embeddings in (first, second):
        centred = embeddings - embeddings.mean(-2, keepdim=True)
        covariances = centred.mT @ centred / (samples - 1)
        variances = covariances.diagonal(dim1=-2, dim2=-1)[..., None]
        hinge = torch.relu(target - torch.sqrt(variances + epsilon)).mean((-2, -1), keepdim=True)
        total = total + variance * halved * hinge + covariance * _off_diagonal(covariances) / size
    return total[..., 0, 0]


def barlow_twins(
    first: Embeddings, second: Embeddings, *, weight: Weight | None = None, convention: str = "paper"
) -> Values:
    """Return Σ_i (1 − C_ii)² + λ Σ_{i≠j} C_ij², C the correlation of the coordinates of two views over the batch.

    λ = ``weight``; None is that of the convention, 0.005 of the "paper" or 0.0051 of the authors' "code", whose batch
    normalisation (variance with denominator B) adds 1e-5 to each variance. A coordinate that does not vary correlates
    with none. Source: Zbontar et al. (2021).
    """
    require_choice("convention", convention, CONVENTIONS)
    require_pairs("second", first, second)
    x, y = (_standardised(each, _BATCH_NORM[convention]) for each in (first, second))
    correlation = x.mT @ y / first.shape[-2]
    own = (1 - correlation.diagonal(dim1=-2, dim2=-1)).square().sum(-1)[..., None, None]
    total = own + (BARLOW_WEIGHT[convention] if weight is None else weight) * _off_diagonal(correlation)
    return total[..., 0, 0]


def _standardised(embeddings: Embeddings, epsilon: float) -> Embeddings:
    """Return coordinates of mean 0 and variance 1 over the batch; those that do not vary stay at 0."""
    centred = embeddings - embeddings.mean(-2, keepdim=True)
    variance = centred.square().mean(-2, keepdim=True) + epsilon
    return centred / torch.sqrt(torch.where(variance == 0, 1.0, variance))


def _off_diagonal(square: Float[Tensor, "*batch row row"]) -> Float[Tensor, "*batch 1 1"]:
    """Return the sum of squares off the diagonal."""
    own = torch.eye(square.shape[-1], dtype=torch.bool, device=square.device)
    return square.square().masked_fill(own, 0.0).sum((-2, -1), keepdim=True)
