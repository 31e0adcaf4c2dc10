"""The backend of matrix products, in torch: for any device, and the reference of the compiled kernels.

Two matrix products of P·P·samples multiplications each, with area sums and weights of every (sample, area, query) in
memory. Where correlations are large (|zΦ| beyond 12 or |Υ| beyond 2), or a sample shows over 90 % of its patches,
W_0 = Σ_q E_pq − Σ_j W_j would lose digits: there W_0 is a product of its own, and exponents are shifted.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import inf

import torch
from jaxtyping import Float
from torch import Tensor

from vitdyn.data import PatchBatch, PatchLayout
from vitdyn.kernels.geometry import Arrangement, arrangement
from vitdyn.kernels.parameters import Correlations
from vitdyn.kernels.workspace import Workspace

_MODERATE_EXPONENT, _MODERATE_SPREAD, _MODERATE_SHARE = 12.0, 2.0, 0.9


@dataclass(frozen=True)
class Saved:
    """What the forward leaves for one ``backward``: samples in the order of their clusters.

    ``visible`` holds the view sorted by area, each block in the order of its own cluster; R and R_0 (``exp_shifted``,
    ``exp_minus_shift``) are still to be multiplied by ``inverse`` = 1/Z.
    """

    layout: PatchLayout
    workspace: Workspace
    by_cluster: Arrangement
    exp_logits: Float[Tensor, "seed query key"]
    visible: Float[Tensor, "seed sample key"]
    latents: Float[Tensor, "seed sample area"]
    area_sums: Float[Tensor, "seed sample area query"]
    attention: Float[Tensor, "seed sample area query"]
    exp_shifted: Float[Tensor, "seed sample area query"]
    exp_minus_shift: Float[Tensor, "seed sample query"] | None
    inverse: Float[Tensor, "seed sample query"]


def name() -> str:
    """Name what computes."""
    return "plain torch"


def supports(layout: PatchLayout, dtype: torch.dtype) -> bool:
    """Return True: products take any layout and type."""
    return True


def forward(
    parameters: Correlations, batch: PatchBatch, view: Tensor, workspace: Workspace
) -> tuple[Float[Tensor, "seed sample area query"], Saved]:
    """Return area attention and what ``backward`` needs."""
    work, layout, by_cluster = workspace, batch.layout, arrangement(batch.layout, batch.cluster)
    phi, upsilon = parameters.feature_position, parameters.position_position
    latents, shown = by_cluster.arrange(batch.latents), by_cluster.arrange(view)
    # on CUDA always: to ask would wait for the device
    careful = phi.is_cuda or _loses_digits(phi, upsilon, latents, shown)

    exp_logits = work.take("exp_logits", phi, *upsilon.shape)
    if careful:
        torch.sub(upsilon, upsilon.amax(-1, keepdim=True), out=exp_logits).exp_()
    else:
        torch.exp(upsilon, out=exp_logits)
    visible = work.take("visible", phi, *shown.shape).copy_(shown)
    masked_sums = torch.bmm(1 - visible, exp_logits.transpose(1, 2)) if careful else None
    area_sums = work.take("area_sums", phi, *latents.shape, layout.patches)
    _fill_area_sums(by_cluster, exp_logits, visible, area_sums)
    # queries last, as in A: each (cluster, area) is then one contiguous row to multiply by latents
    by_query = phi.permute(0, 2, 3, 1).contiguous()
    found = _weights(
        by_cluster, by_query, latents.contiguous(), area_sums, masked_sums, exp_logits.sum(-1), work
    )
    saved = Saved(layout, work, by_cluster, exp_logits, visible, latents, area_sums, *found)
    return by_cluster.restore(saved.attention), saved


def mean_pooled(
    parameters: Correlations, batch: PatchBatch, view: Tensor, workspace: Workspace
) -> tuple[Float[Tensor, "seed sample area"], Saved]:
    """Return the mean of area attention over queries, by way of attention in memory, and what ``backward`` needs."""
    attention, saved = forward(parameters, batch, view, workspace)
    return attention.mean(-1), saved


def backward(saved: Saved, cotangent: Float[Tensor, "seed sample area #query"]) -> Correlations:
    """Return ∂L/∂(Φ, Υ) where ∂L/∂A = ``cotangent``; what the forward saved is used up."""
    # The keys' gradient is the same array for all keys of an area: masks multiply it, as they did forward.
    phi, gradient, masked = _backward(saved, saved.by_cluster.arrange(cotangent))
    upsilon = _collect_keys(saved, gradient).sub_(masked[:, :, None]).mul_(saved.exp_logits)
    return Correlations(phi.permute(0, 3, 1, 2), upsilon)


def residual_gradient(
    parameters: Correlations,
    batch: PatchBatch,
    view: Tensor,
    scale: float | Float[Tensor, " seed"],
    workspace: Workspace,
) -> Correlations:
    """Return ∂L/∂(Φ, Υ) where ∂L/∂A_{p→j} = scale z_j² (A_{p→j} − 1{j = a(p)}) at masked queries p, else 0."""
    attention, saved = forward(parameters, batch, view, workspace)
    residual = torch.sub(
        attention, batch.membership, out=workspace.take("residual", attention, *attention.shape)
    )
    column = scale[:, None, None] if isinstance(scale, Tensor) else scale
    # In place throughout: the array of (sample, area, query) is the largest there is.
    residual.mul_((column * batch.latents.square())[..., None])
    return backward(saved, residual.mul_(~view.bool()[:, :, None]))


def _loses_digits(phi: Tensor, upsilon: Tensor, latents: Tensor, shown: Tensor) -> bool:
    """Return whether exponents could overflow, or W_0 as a difference could lose its digits."""
    least, most = torch.aminmax(upsilon)
    large = (-least > _MODERATE_SPREAD) | (most > _MODERATE_SPREAD)
    few_masked = shown.sum(-1).amax() > _MODERATE_SHARE * shown.shape[-1]
    return bool(large | few_masked | (phi.abs().amax() * latents.amax() > _MODERATE_EXPONENT))


def _fill_area_sums(by_cluster: Arrangement, exp_logits: Tensor, visible: Tensor, area_sums: Tensor) -> None:
    """Write W into ``area_sums``, block by block, and sort ``visible`` by area on the way."""
    by_cluster_logits = {}
    for block in by_cluster.blocks:
        areas, member, own_sums = block.areas, block.of(visible), block.of(area_sums)
        # in place: the backward wants the masks in this order too
        member.copy_(areas.sort(member))
        if areas.cluster not in by_cluster_logits:
            by_cluster_logits[areas.cluster] = areas.sort(exp_logits)
        by_key = by_cluster_logits[areas.cluster][block.seeds].transpose(1, 2)
        for area, (start, stop) in enumerate(areas.spans):
            torch.bmm(member[:, :, start:stop], by_key[:, start:stop], out=own_sums[:, :, area])
        own_sums[:, :, len(areas.spans) :].zero_()


def _weights(
    by_cluster: Arrangement,
    phi: Float[Tensor, "seed cluster area query"],
    latents: Float[Tensor, "seed sample area"],
    area_sums: Float[Tensor, "seed sample area query"],
    masked_sums: Float[Tensor, "seed sample query"] | None,
    total: Float[Tensor, "seed query"],
    work: Workspace,
) -> tuple[Tensor, Tensor, Tensor | None, Tensor]:
    """Return A = e^{zΦ} W / Z, R and R_0 times Z, and 1/Z.

    With ``masked_sums`` None it is taken as ``total`` − Σ_j W_j, and exponents are taken as they are;
    else they are shifted.
    """
    rest = (*area_sums.shape[:2], area_sums.shape[3])
    exp_shifted = work.take("exp_shifted", area_sums, *area_sums.shape)
    for block in by_cluster.blocks:
        weights = phi[block.seeds, block.areas.cluster][:, None]
        torch.mul(block.of(latents)[..., None], weights, out=block.of(exp_shifted))
    exp_minus_shift = None
    if masked_sums is None:
        inverse = _over_areas(area_sums, work.take("inverse", area_sums, *rest))
        torch.sub(total[:, None], inverse, out=inverse).clamp_min_(0)
    else:
        exp_minus_shift = _shift(exp_shifted, area_sums, masked_sums, work)
        inverse = torch.mul(masked_sums, exp_minus_shift, out=work.take("inverse", area_sums, *rest))
    attention = torch.mul(
        exp_shifted.exp_(), area_sums, out=work.take("attention", area_sums, *area_sums.shape)
    )
    inverse.add_(_over_areas(attention, work.take("means", area_sums, *rest))).reciprocal_()
    attention.mul_(inverse[:, :, None])
    return attention, exp_shifted, exp_minus_shift, inverse


def _backward(saved: Saved, cotangent: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return ∂L/∂Φ (seed, cluster, area, query), the gradient of visible keys, and that of masked keys.

    The second is R_j (G_j − Ḡ) + R_0 Ḡ (seed, sample, area, query); the third Σ_b R_0 Ḡ (seed, query), to be
    subtracted for every key.
    """
    attention, work, inverse = saved.attention, saved.workspace, saved.inverse
    product = torch.mul(attention, cotangent, out=work.take("product", attention, *attention.shape))
    masked = _over_areas(product, work.take("means", attention, *inverse.shape)).mul_(inverse)
    gradient = torch.addcmul(-masked[:, :, None], cotangent, inverse[:, :, None], out=product)
    gradient.mul_(saved.exp_shifted)
    # in the memory of the area sums, which are used up
    by_feature = saved.area_sums.mul_(gradient).mul_(saved.latents[..., None])
    if saved.exp_minus_shift is not None:
        masked.mul_(saved.exp_minus_shift)
    phi = attention.new_zeros(len(attention), saved.layout.clusters, *attention.shape[2:])
    for block in saved.by_cluster.blocks:
        phi[block.seeds, block.areas.cluster] = block.of(by_feature).sum(1)
    return phi, gradient.add_(masked[:, :, None]), masked.sum(1)


def _over_areas(values: Tensor, out: Tensor) -> Tensor:
    """Sum over the areas into ``out``: as a product with ones, which is twice as fast on CPU as a sum."""
    rows = values.flatten(0, 1)
    torch.bmm(rows.new_ones(len(rows), 1, rows.shape[1]), rows, out=out.view(len(rows), 1, -1))
    return out


def _shift(exp_shifted: Tensor, area_sums: Tensor, masked_sums: Tensor, work: Workspace) -> Tensor:
    """Subtract from the exponents, in place, the largest that counts (c); return e^{−c}, the factor of masked keys."""
    some_masked = masked_sums > 0
    exp_shifted.masked_fill_(area_sums == 0, -inf)
    shift = torch.amax(exp_shifted, 2, out=work.take("shift", exp_shifted, *masked_sums.shape))
    torch.maximum(shift, torch.where(some_masked, 0.0, -inf).to(shift), out=shift)
    exp_shifted.sub_(shift[:, :, None])
    return shift.neg_().masked_fill_(~some_masked, -inf).exp_()  # not exp times 0: exp may be infinite


def _collect_keys(saved: Saved, gradient: Tensor) -> Float[Tensor, "seed query key"]:
    """Return Σ_b u_bq gradient_{b a(q) p}, the keys in their own order."""
    seeds, patches, several = len(gradient), gradient.shape[-1], saved.layout.clusters > 1
    total = saved.workspace.take("gradient", gradient, seeds, patches, patches)
    if several:
        total.zero_()
    for block in saved.by_cluster.blocks:
        areas, target = block.areas, total[block.seeds]
        direct = areas.order is None and not several
        part = target if direct else saved.workspace.take("part", gradient, *target.shape)
        member, by_area = block.of(saved.visible), block.of(gradient)
        for area, (start, stop) in enumerate(areas.spans):
            torch.bmm(
                by_area[:, :, area].transpose(1, 2), member[:, :, start:stop], out=part[:, :, start:stop]
            )
        if several:
            target.add_(areas.unsort(part))
        elif not direct:
            target.copy_(areas.unsort(part))
    return total
