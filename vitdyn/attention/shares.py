"""What is left between the two matrix products: from masses to shares of attention, and back. In torch.

``fused`` does the same in one pass over the arrays; this is the way on CUDA and where numba is missing.
"""

from __future__ import annotations

from math import inf
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from vitdyn.attention.geometry import Arrangement
from vitdyn.attention.workspace import Workspace


class Shares(NamedTuple):
    """A, R and R_0 of ``factored``, the latter two still to be multiplied by ``inverse`` = 1/Z."""

    attention: Float[Tensor, "seed sample area query"]
    ratios: Float[Tensor, "seed sample area query"]
    masked_ratio: Float[Tensor, "seed sample query"] | None
    inverse: Float[Tensor, "seed sample query"]


def shares(
    by_cluster: Arrangement,
    phi: Float[Tensor, "seed cluster area query"],
    latents: Float[Tensor, "seed sample area"],
    masses: Float[Tensor, "seed sample area query"],
    masked_mass: Float[Tensor, "seed sample query"] | None,
    total: Float[Tensor, "seed query"],
    work: Workspace,
) -> Shares:
    """Return A = e^{zΦ} W / Z and what its pull-back needs.

    With ``masked_mass`` None it is taken as ``total`` − Σ_j W_j, and exponents are taken as they are;
    else they are shifted.
    """
    rest = (*masses.shape[:2], masses.shape[3])
    ratios = work.take("ratios", masses, *masses.shape)
    for block in by_cluster.blocks:
        weights = phi[block.seeds, block.areas.cluster][:, None]
        torch.mul(block.of(latents)[..., None], weights, out=block.of(ratios))
    masked_ratio = None
    if masked_mass is None:
        inverse = _over_areas(masses, work.take("inverse", masses, *rest))
        torch.sub(total[:, None], inverse, out=inverse).clamp_min_(0)
    else:
        masked_ratio = _shift(ratios, masses, masked_mass, work)
        inverse = torch.mul(masked_mass, masked_ratio, out=work.take("inverse", masses, *rest))
    attention = torch.mul(ratios.exp_(), masses, out=work.take("attention", masses, *masses.shape))
    inverse.add_(_over_areas(attention, work.take("means", masses, *rest))).reciprocal_()
    attention.mul_(inverse[:, :, None])
    return Shares(attention, ratios, masked_ratio, inverse)


def pull(
    found: Shares,
    by_cluster: Arrangement,
    latents: Float[Tensor, "seed sample area"],
    masses: Float[Tensor, "seed sample area query"],
    adjoint: Float[Tensor, "seed sample area #query"],
    weight: Float[Tensor, "seed sample query"] | None,
    clusters: int,
    work: Workspace,
) -> tuple[Tensor, Tensor, Tensor]:
    """Return ∂L/∂Φ (seed, cluster, area, query), what visible keys are pulled by, and what masked keys are.

    The second is R_j (G_j − Ḡ) + R_0 Ḡ (seed, sample, area, query); the third Σ_b R_0 Ḡ (seed, query), to be
    subtracted for every key.
    """
    attention, ratios, masked_ratio, inverse = found
    scale = inverse if weight is None else inverse.mul_(weight)
    weighted = torch.mul(attention, adjoint, out=work.take("weighted", attention, *attention.shape))
    masked = _over_areas(weighted, work.take("means", attention, *scale.shape)).mul_(scale)
    pulled = torch.addcmul(-masked[:, :, None], adjoint, scale[:, :, None], out=weighted).mul_(ratios)
    by_feature = masses.mul_(pulled).mul_(latents[..., None])
    if masked_ratio is not None:
        masked.mul_(masked_ratio)
    phi = attention.new_zeros(len(attention), clusters, *attention.shape[2:])
    for block in by_cluster.blocks:
        phi[block.seeds, block.areas.cluster] = block.of(by_feature).sum(1)
    return phi, pulled.add_(masked[:, :, None]), masked.sum(1)


def _over_areas(values: Tensor, out: Tensor) -> Tensor:
    """Sum over the areas into ``out``: as a product with ones, which is twice as fast on CPU as a sum."""
    rows = values.flatten(0, 1)
    torch.bmm(rows.new_ones(len(rows), 1, rows.shape[1]), rows, out=out.view(len(rows), 1, -1))
    return out


def _shift(ratios: Tensor, masses: Tensor, masked_mass: Tensor, work: Workspace) -> Tensor:
    """Subtract from the exponents, in place, the largest that counts; return what masked keys are left with."""
    some_masked = masked_mass > 0
    ratios.masked_fill_(masses == 0, -inf)
    shift = torch.amax(ratios, 2, out=work.take("shift", ratios, *masked_mass.shape))
    torch.maximum(shift, torch.where(some_masked, 0.0, -inf).to(shift), out=shift)
    ratios.sub_(shift[:, :, None])
    return shift.neg_().masked_fill_(~some_masked, -inf).exp_()  # not exp times 0: exp may be infinite
