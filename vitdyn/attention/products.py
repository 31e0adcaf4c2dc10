"""The engine of matrix products, in torch: for any device, and the oracle of the engines that are compiled.

Two matrix products of P·P·samples multiplications each, with masses and shares of every (sample, area, query)
in memory. Where correlations are large (|zΦ| beyond 12 or |Υ| beyond 2), or a sample shows over 90 % of its
patches, W_0 = Σ_q E_pq − Σ_j W_j would lose digits: there W_0 is a product of its own, and exponents are shifted.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import inf

import torch
from jaxtyping import Float, Int
from torch import Tensor

from vitdyn.attention.correlations import Correlations
from vitdyn.attention.geometry import Arrangement, arrangement
from vitdyn.attention.workspace import Workspace
from vitdyn.data import PatchBatch, PatchLayout

_MODERATE_EXPONENT, _MODERATE_SPREAD, _MODERATE_SHARE = 12.0, 2.0, 0.9


@dataclass(frozen=True)
class Saved:
    """What the forward leaves for one pull-back: samples in the order of their clusters.

    ``seen`` holds the visible patches sorted by area, each block in the order of its own cluster; R and R_0
    (``ratios``, ``masked_ratio``) are still to be multiplied by ``inverse`` = 1/Z.
    """

    layout: PatchLayout
    workspace: Workspace
    by_cluster: Arrangement
    kernel: Float[Tensor, "seed query key"]
    seen: Float[Tensor, "seed sample key"]
    latents: Float[Tensor, "seed sample area"]
    masses: Float[Tensor, "seed sample area query"]
    attention: Float[Tensor, "seed sample area query"]
    ratios: Float[Tensor, "seed sample area query"]
    masked_ratio: Float[Tensor, "seed sample query"] | None
    inverse: Float[Tensor, "seed sample query"]


def supports(layout: PatchLayout, dtype: torch.dtype) -> bool:
    """Say that products take any layout and type."""
    return True


def forward(
    correlations: Correlations,
    latents: Float[Tensor, "seed sample area"],
    cluster: Int[Tensor, "seed sample"],
    visible: Tensor,
    layout: PatchLayout,
    workspace: Workspace,
) -> tuple[Float[Tensor, "seed sample area query"], Saved]:
    """Return area attention and what ``pullback`` needs."""
    work, by_cluster = workspace, arrangement(layout, cluster)
    phi, upsilon = correlations.feature_position, correlations.position_position
    latents, shown = by_cluster.arrange(latents), by_cluster.arrange(visible)
    careful = phi.is_cuda or _loses_digits(phi, upsilon, latents, shown)

    kernel = work.take("kernel", phi, *upsilon.shape)
    if careful:
        torch.sub(upsilon, upsilon.amax(-1, keepdim=True), out=kernel).exp_()
    else:
        torch.exp(upsilon, out=kernel)
    seen = work.take("seen", phi, *shown.shape).copy_(shown)
    masked_mass = torch.bmm(1 - seen, kernel.transpose(1, 2)) if careful else None
    masses = work.take("masses", phi, *latents.shape, layout.patches)
    _fill_masses(by_cluster, kernel, seen, masses)
    by_query = phi.permute(0, 2, 3, 1).contiguous()
    found = _shares(by_cluster, by_query, latents.contiguous(), masses, masked_mass, kernel.sum(-1), work)
    saved = Saved(layout, work, by_cluster, kernel, seen, latents, masses, *found)
    return by_cluster.restore(saved.attention), saved


def pullback(
    saved: Saved,
    adjoint: Float[Tensor, "seed sample area #query"],
    weight: Float[Tensor, "seed sample query"] | None = None,
) -> Correlations:
    """Return ∂L/∂(Φ, Υ) where ∂L/∂A = ``weight`` · ``adjoint``; what the forward saved is used up."""
    by_cluster = saved.by_cluster
    weight = None if weight is None else by_cluster.arrange(weight)
    phi, pulled, masked = _pull(saved, by_cluster.arrange(adjoint), weight)
    upsilon = _collect_keys(saved, pulled).sub_(masked[:, :, None]).mul_(saved.kernel)
    return Correlations(phi.permute(0, 3, 1, 2), upsilon)


def residual_gradient(
    correlations: Correlations,
    latents: Float[Tensor, "seed sample area"],
    cluster: Int[Tensor, "seed sample"],
    visible: Tensor,
    layout: PatchLayout,
    scale: float | Float[Tensor, " seed"],
    workspace: Workspace,
) -> Correlations:
    """Return ∂L/∂(Φ, Υ) where ∂L/∂A_{p→j} = scale z_j² (A_{p→j} − 1{j = a(p)}) at masked queries p, else 0."""
    attention, saved = forward(correlations, latents, cluster, visible, layout, workspace)
    membership = PatchBatch(layout, (), cluster, latents).membership
    residual = torch.sub(attention, membership, out=workspace.take("residual", attention, *attention.shape))
    column = scale[:, None, None] if isinstance(scale, Tensor) else scale
    return pullback(saved, residual.mul_((column * latents.square())[..., None]), ~visible.bool())


def _loses_digits(phi: Tensor, upsilon: Tensor, latents: Tensor, shown: Tensor) -> bool:
    """Say whether exponents could overflow, or a difference of masses could lose its digits."""
    least, most = torch.aminmax(upsilon)
    large = (-least > _MODERATE_SPREAD) | (most > _MODERATE_SPREAD)
    few_masked = shown.sum(-1).amax() > _MODERATE_SHARE * shown.shape[-1]
    return bool(large | few_masked | (phi.abs().amax() * latents.amax() > _MODERATE_EXPONENT))


def _fill_masses(by_cluster: Arrangement, kernel: Tensor, seen: Tensor, masses: Tensor) -> None:
    """Write W into ``masses``, block by block, and sort ``seen`` by area on the way."""
    kernels = {}
    for block in by_cluster.blocks:
        areas, member, mass = block.areas, block.of(seen), block.of(masses)
        member.copy_(areas.sort(member))
        if areas.cluster not in kernels:
            kernels[areas.cluster] = areas.sort(kernel)
        by_key = kernels[areas.cluster][block.seeds].transpose(1, 2)
        for area, (start, stop) in enumerate(areas.spans):
            torch.bmm(member[:, :, start:stop], by_key[:, start:stop], out=mass[:, :, area])
        mass[:, :, len(areas.spans) :].zero_()


def _shares(
    by_cluster: Arrangement,
    phi: Float[Tensor, "seed cluster area query"],
    latents: Float[Tensor, "seed sample area"],
    masses: Float[Tensor, "seed sample area query"],
    masked_mass: Float[Tensor, "seed sample query"] | None,
    total: Float[Tensor, "seed query"],
    work: Workspace,
) -> tuple[Tensor, Tensor, Tensor | None, Tensor]:
    """Return A = e^{zΦ} W / Z, R and R_0 times Z, and 1/Z.

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
    return attention, ratios, masked_ratio, inverse


def _pull(saved: Saved, adjoint: Tensor, weight: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
    """Return ∂L/∂Φ (seed, cluster, area, query), what visible keys are pulled by, and what masked keys are.

    The second is R_j (G_j − Ḡ) + R_0 Ḡ (seed, sample, area, query); the third Σ_b R_0 Ḡ (seed, query), to be
    subtracted for every key.
    """
    attention, work = saved.attention, saved.workspace
    scale = saved.inverse if weight is None else saved.inverse.mul_(weight)
    weighted = torch.mul(attention, adjoint, out=work.take("weighted", attention, *attention.shape))
    masked = _over_areas(weighted, work.take("means", attention, *scale.shape)).mul_(scale)
    pulled = torch.addcmul(-masked[:, :, None], adjoint, scale[:, :, None], out=weighted).mul_(saved.ratios)
    by_feature = saved.masses.mul_(pulled).mul_(saved.latents[..., None])
    if saved.masked_ratio is not None:
        masked.mul_(saved.masked_ratio)
    phi = attention.new_zeros(len(attention), saved.layout.clusters, *attention.shape[2:])
    for block in saved.by_cluster.blocks:
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


def _collect_keys(saved: Saved, pulled: Tensor) -> Float[Tensor, "seed query key"]:
    """Return Σ_b u_bq pulled_{b a(q) p}, the keys in their own order."""
    seeds, patches, several = len(pulled), pulled.shape[-1], saved.layout.clusters > 1
    total = saved.workspace.take("gradient", pulled, seeds, patches, patches)
    if several:
        total.zero_()
    for block in saved.by_cluster.blocks:
        areas, target = block.areas, total[block.seeds]
        direct = areas.order is None and not several
        part = target if direct else saved.workspace.take("part", pulled, *target.shape)
        member, pull = block.of(saved.seen), block.of(pulled)
        for area, (start, stop) in enumerate(areas.spans):
            torch.bmm(pull[:, :, area].transpose(1, 2), member[:, :, start:stop], out=part[:, :, start:stop])
        if several:
            target.add_(areas.unsort(part))
        elif not direct:
            target.copy_(areas.unsort(part))
    return total
