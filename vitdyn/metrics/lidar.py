"""LiDAR: how many directions separate objects, against the spread of the views of one object."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from vitdyn.metrics.arrays import Array, real
from vitdyn.metrics.measured import ROUND_OFF, Measured, centred, number, one_by_one, resolve, without_error
from vitdyn.metrics.rank import EntropyGuard, effective_rank

_ROWS = 2048  # views centred at a time: 12 MiB at 768 dimensions


@dataclass(frozen=True, kw_only=True)
class LidarConvention(EntropyGuard):
    """The guard of the entropy, and what is added to the within-object covariance.

    ``delta`` is added to its diagonal as it stands, or, where ``relative``, times its mean eigenvalue (so that the
    scale of the embeddings does not matter). Denominators are n(q − 1) within and n − 1 between, or, without
    ``unbiased``, nq and n; they matter through δ only.
    """

    delta: float = number(0.0, 1e9)
    relative: bool = False
    unbiased: bool = True


LIDAR = {
    "exact": LidarConvention(),
    "paper": LidarConvention(delta=1e-4, guard="added", epsilon=1e-7),
    "relative": LidarConvention(delta=1e-4, relative=True),
    "stable-pretraining": LidarConvention(delta=1e-4, guard="mixed", epsilon=1e-8),
    "stable-pretraining-jax": LidarConvention(delta=1e-4, guard="renormalised", epsilon=1e-12),
    "stable-ssl": LidarConvention(delta=1e-3, guard="inside", epsilon=1e-7),
    "req-metrics": LidarConvention(delta=1e-4),
}


def lidar(
    embeddings: Float[Array, "*batch object view dimension"],
    *,
    convention: str | LidarConvention = "exact",
) -> Measured:
    """LiDAR: exp(−Σ p_i log p_i), p = λ/‖λ‖₁, λ the eigenvalues of S_w^{−1/2} S_b S_w^{−1/2}. Value: (*batch).

    For n objects x with q views each, e_i(x) their embeddings, μ_x the mean of an object's and μ of all:

        S_b = 1/(n−1) Σ_x (μ_x − μ)(μ_x − μ)ᵀ
        S_w = 1/(n(q−1)) Σ_x Σ_i (e_i(x) − μ_x)(e_i(x) − μ_x)ᵀ + δ I

    From 1 to min(dimension, n − 1), and 0 if all objects have the same mean. At δ = 0 it does not change under
    invertible linear maps of the embeddings while S_w is invertible; an absolute δ breaks this, and scale too; a
    relative δ keeps scale and rotations. A direction of pure noise keeps an expected λ of about 1/q.

    Views of one object stand along their own axis: nothing is guessed from the order of a queue. Where S_w is
    singular at δ = 0 the value is the limit δ → 0: directions without spread within objects outweigh all others if
    objects differ along them, and do not count if they do not.

    Conventions differ in δ and in ε (:class:`EntropyGuard`). ``paper`` is Thilak et al. (2024), of whose constants
    only the places are at hand: δ = 1e-4 is that of most implementations, ε = 1e-7 that of RankMe. Raises
    ``ValueError`` for fewer than two objects or views.
    """
    convention = resolve(convention, LIDAR)
    embeddings = real("embeddings", embeddings, "object view dimension", (2, 2, 1))
    weights = one_by_one(lambda one: _discriminability(one, convention), [embeddings], [3])
    return Measured(effective_rank(weights, convention) if weights.numel() else weights, convention)


def _discriminability(
    embeddings: Float[Tensor, "object view dimension"], convention: LidarConvention
) -> Float[Tensor, " dimension"]:
    """Return the eigenvalues λ, padded with 0 to the dimension."""
    objects = embeddings.shape[0]
    within, means = _scatter(embeddings, convention)
    spread, axes = torch.linalg.eigh(within)
    delta = convention.delta * (spread.mean() if convention.relative else 1.0)
    # In the eigenvectors of S_w its inverse root is a division.
    between = centred(means) @ axes / (objects - convention.unbiased) ** 0.5
    spread = spread.clamp_min(0) + delta
    if not bool(delta > 0):
        between, spread = _limit(between, spread)
    between = between / torch.sqrt(spread)
    # The two Gram matrices share their nonzero eigenvalues: the smaller one is taken.
    gram = between @ between.mT if objects < between.shape[1] else between.mT @ between
    values = torch.linalg.eigvalsh(gram).clamp_min(0)
    return torch.nn.functional.pad(values, (0, embeddings.shape[-1] - len(values)))


def _limit(between: Tensor, spread: Tensor) -> tuple[Tensor, Tensor]:
    """Return what counts as δ → 0: directions of no spread within if objects differ there, else the others."""
    tolerance = 16 * max(16, len(spread)) * ROUND_OFF
    without = spread <= tolerance * spread.max()
    total = between.square().sum()
    if bool(between[:, without].square().sum() > tolerance * total):
        return between[:, without], torch.ones_like(spread[without])
    return between[:, ~without], spread[~without]


def _scatter(embeddings: Tensor, convention: LidarConvention) -> tuple[Tensor, Tensor]:
    """Return S_w without δ, and the objects' means, a few objects at a time."""
    objects, views, dimension = embeddings.shape
    within = embeddings.new_zeros(dimension, dimension, dtype=torch.float64)
    means, largest = [], embeddings.new_zeros((), dtype=torch.float64)
    # A few objects at a time: copies in float64 stay small, whatever the number of objects.
    for part in embeddings.split(max(1, _ROWS // views)):
        part = part.to(torch.float64)
        means.append(part.mean(1))
        largest = torch.maximum(largest, part.abs().max())
        rows = centred(part).flatten(0, 1)
        within.addmm_(rows.mT, rows)
    within = within / (objects * (views - convention.unbiased))
    return within, without_error(torch.cat(means), largest, views)
